//! How the writer begins: with what recovery has read.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use flotilla_types::ids::GroupId;

use super::super::engine::{OnFatal, Shared};
use super::super::format::{BLOCK_BYTES, BatchBuilder, padded};
use super::super::group::Group;
use super::super::index::{GroupIndex, Place};
use super::super::recovery::{Recovered, Tail};
use super::super::recycle::Recycling;
use super::super::segment::{AlignedBlocks, Segment, SegmentFile, Spares};
use super::super::slots::TwoSlots;
use super::Writer;

impl Writer {
    /// Takes over what recovery has found; when this returns, all of it is durable. Only
    /// the last batch can have been read from memory without being on disk, also when an earlier
    /// process saw its sync fail: it is written again.
    pub(in crate::log) fn start(
        shared: Arc<Shared>,
        spares: Arc<Spares>,
        on_fatal: OnFatal,
        recovered: Recovered,
        watermark: TwoSlots,
        votes: TwoSlots,
    ) -> io::Result<Writer> {
        let mut writer = Writer {
            shared,
            spares,
            on_fatal,
            log_id: recovered.log_id,
            live: VecDeque::new(),
            active: None,
            offset: 0,
            next_generation: recovered.next_generation,
            next_sequence: recovered.next_sequence,
            views: BTreeMap::new(),
            batch: BatchBuilder::default(),
            aligned: AlignedBlocks::default(),
            open: false,
            opens_segment: false,
            batch_limit: 0,
            dones: Vec::new(),
            runs: Vec::new(),
            places: Vec::new(),
            committed: BTreeMap::new(),
            moved: Vec::new(),
            votes_changed: false,
            orphans: Vec::new(),
            watermark,
            votes,
            synced: recovered.next_sequence - 1,
            marked: 0,
            marked_at: Instant::now(),
            idle_since: Instant::now(),
            is_used: false,
            recycling: Recycling::default(),
        };
        let lost = !recovered.damage.is_empty();
        writer.adopt(recovered.chain, recovered.groups);
        if lost {
            writer.rewrite_survivors()?;
        } else if let (Some(tail), Some(last)) = (recovered.tail, writer.live.back().cloned()) {
            writer.rewrite_tail(&tail, last)?;
        }
        // Twice, so that both slots of each are good and about this log.
        for _ in 0..2 {
            writer.mark()?;
            writer.watermark.sync()?;
            writer.save_votes()?;
        }
        Ok(writer)
    }

    /// What recovery has read, as if this writer had written it.
    fn adopt(&mut self, chain: Vec<(SegmentFile, u64)>, groups: BTreeMap<GroupId, GroupIndex>) {
        for (file, generation) in chain {
            let segment = Arc::new(Segment::new(file, generation));
            self.shared.segments.write().insert(generation, segment.clone());
            self.live.push_back(segment);
        }
        for (id, index) in groups {
            self.views.insert(id, index.meta().clone());
            let segments = self.shared.segments.read();
            for (_, place) in index.places() {
                if let Place::At { generation, .. } = place
                    && let Some(segment) = segments.get(generation)
                {
                    segment.add_live(1, place.bytes());
                }
            }
            drop(segments);
            self.shared.groups.write().insert(id, Arc::new(Group::new(id, index)));
        }
    }

    /// Writes the last batch again and goes on behind it.
    fn rewrite_tail(&mut self, tail: &Tail, last: Arc<Segment>) -> io::Result<()> {
        last.file.file.write_all_at(&tail.batch, tail.offset)?;
        self.offset = tail.offset + padded(tail.batch.len()) as u64;
        // A torn batch may have its header there, and the next one may not fit and go elsewhere,
        // under the same number: both would be read at the next start. Of a file that lost its end
        // part of a block may be left there, in which nothing is written any more.
        let left = last.file.file.len()?.saturating_sub(self.offset);
        let zeros = [0; BLOCK_BYTES];
        last.file.file.write_all_at(&zeros[..zeros.len().min(left as usize)], self.offset)?;
        last.file.file.sync_data()?;
        self.active = Some(last);
        Ok(())
    }
}
