//! A node that gets too little: descriptors, threads, memory, processor time.

use std::fs;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::evidence::within;
use super::machine::Strike;
use super::{FaultKind, Nemesis};
use crate::PATIENCE;
use crate::fleet::{Shortage, Starved};
use crate::http::Connection;
use crate::tool::tool;

/// Beyond those that are open when the limit comes.
const DESCRIPTORS_MORE: usize = 3;
const DESCRIPTORS: &str = "4096";
/// A node that has a descriptor for a connection answers it sooner.
const ANSWERED: Duration = Duration::from_secs(2);
/// A node that begins takes more than so many.
const MORE_THREADS: u64 = 1;
/// What it has stays; this is for what it wants from then on.
const MORE_MEMORY_BYTES: u64 = 2 << 20;
/// Of 100 ms.
const CPU_US: u64 = 5_000;

/// What a kind of fault takes away.
pub(super) fn shortage(kind: FaultKind) -> Shortage {
    match kind {
        FaultKind::Threads => Shortage::MoreThreads(MORE_THREADS),
        FaultKind::OutOfMemory => Shortage::MoreMemoryBytes(MORE_MEMORY_BYTES),
        _ => Shortage::CpuUs(CPU_US),
    }
}

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    match strike.kind {
        FaultKind::Descriptors => descriptors(nemesis, strike).await,
        kind => starve(nemesis, strike, shortage(kind)).await,
    }
}

fn limit(process: u32, limit: &str) -> Result<(), String> {
    // The hard limit stays, or it could not be raised again.
    tool("prlimit", &["--pid", &process.to_string(), &format!("--nofile={limit}:")]).map(drop)
}

async fn descriptors(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let mut processes = Vec::new();
    for id in &strike.nodes {
        let process = nemesis.fleet.process(*id)?;
        let open = fs::read_dir(format!("/proc/{process}/fd")).map_err(|it| it.to_string())?;
        limit(process, &(open.count() + DESCRIPTORS_MORE).to_string())?;
        processes.push(process);
    }
    for id in &strike.nodes {
        until_refused(nemesis, *id).await?;
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    for (id, process) in strike.nodes.iter().zip(processes) {
        // It may have chosen to end: without descriptors it cannot make files.
        if !nemesis.fleet.has_ended(*id) {
            limit(process, DESCRIPTORS)?;
        }
    }
    Ok(())
}

/// Connects until a connection is not answered, or the node has ended.
async fn until_refused(nemesis: &mut Nemesis<'_>, id: u64) -> Result<(), String> {
    let (endpoint, admin) = (nemesis.fleet.endpoint(id), nemesis.fleet.admin(id));
    #[expect(clippy::collection_is_never_read, reason = "they are open for as long")]
    let mut idle = Vec::new();
    let is_refused = within(PATIENCE, async || {
        // It keeps them until they say something.
        if let Ok(Ok(stream)) = timeout(ANSWERED, TcpStream::connect(&endpoint)).await {
            idle.push(stream);
        }
        let mut connection = Connection::new(admin.as_str());
        let answer = connection.request("GET /health HTTP/1.1", "", ANSWERED).await;
        answer.is_err() || nemesis.fleet.has_ended(id)
    });
    match is_refused.await {
        true => Ok(()),
        false => Err(format!("node {id} answers whoever comes")),
    }
}

async fn starve(
    nemesis: &mut Nemesis<'_>,
    strike: &Strike,
    shortage: Shortage,
) -> Result<(), String> {
    let mut starved = Vec::new();
    for id in &strike.nodes {
        if matches!(shortage, Shortage::MoreThreads(_)) {
            // One that runs has all that it needs.
            nemesis.fleet.kill9(*id);
            nemesis.fleet.launch(*id);
        }
        starved.push(nemesis.fleet.starve(*id, shortage)?);
    }
    let is_hungry = within(PATIENCE, async || {
        starved.iter().all(|it| nemesis.fleet.hits(it).is_ok_and(|hits| hits > 0))
    });
    if !is_hungry.await {
        let _ = relieve(nemesis, starved);
        return Err("the node never wanted more".to_owned());
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    relieve(nemesis, starved)?;
    if matches!(shortage, Shortage::MoreMemoryBytes(_)) {
        for id in &strike.nodes {
            nemesis.fleet.kill9(*id);
            nemesis.fleet.launch(*id);
        }
    }
    Ok(())
}

fn relieve(nemesis: &mut Nemesis<'_>, starved: Vec<Starved>) -> Result<(), String> {
    starved.into_iter().try_for_each(|it| nemesis.fleet.relieve(it))
}
