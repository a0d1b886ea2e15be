//! What a node's replicas hold, as one number each: for whoever compares nodes. It is computed when
//! somebody asks, by reading everything, checksums included.

use std::io;

use flotilla_types::ids::GroupId;

use crate::codec;
use crate::host::Host;

/// One replica at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Its group.
    pub group: GroupId,
    /// The last entry that it has applied; 0 for none.
    pub applied: u64,
    /// Of all of its rows.
    pub bytes: u64,
    /// Replicas that have applied the same entries hold the same rows, and have the same.
    pub checksum: u32,
}

impl Host {
    /// Reads all replicas, one after the other. Takes as long as the disk takes.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn digests(&self) -> io::Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for group in self.groups() {
            let (id, state) = (group.id(), group.state().clone());
            digests.push(self.off_thread().run(move || digest(id, &state)).await??);
        }
        Ok(digests)
    }
}

/// Of what a snapshot would be made of.
fn digest(group: GroupId, state: &flotilla_storage::state::GroupState) -> io::Result<Digest> {
    let export = state.export()?;
    let applied = match export.applied() {
        None => 0,
        Some(record) => {
            let record = codec::decode_applied(record.clone());
            let record = record.map_err(|error| codec::invalid("applied record", error))?;
            record.0.map_or(0, |last| last.index)
        }
    };
    let (mut hasher, mut bytes) = (crc32fast::Hasher::new(), 0);
    for chunk in export {
        let chunk = chunk?;
        hasher.update(&chunk);
        bytes += chunk.len() as u64;
    }
    Ok(Digest { group, applied, bytes, checksum: hasher.finalize() })
}
