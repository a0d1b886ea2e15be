//! A node that gets too little: descriptors, memory, processor time.

use std::fs;
use std::time::Instant;

use tokio::time::sleep;

use super::machine::Strike;
use super::{FaultKind, LOOK_AGAIN, Nemesis};
use crate::PATIENCE;
use crate::cgroup::Cgroup;
use crate::loop_disk::tool;

/// Beyond those that are open when the limit comes.
const DESCRIPTORS_MORE: usize = 3;
const DESCRIPTORS: &str = "4096";
/// What it has stays; this is for what it wants from then on.
const MEMORY_BYTES: &str = "2097152";
/// Of 100 ms.
const CPU_US: &str = "5000";

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    match strike.kind {
        FaultKind::Descriptors => descriptors(nemesis, strike).await,
        FaultKind::OutOfMemory => memory(nemesis, strike).await,
        _ => cpu(nemesis, strike).await,
    }
}

fn limit(process: u32, limit: &str) -> Result<(), String> {
    // The hard limit stays, or it could not be raised again.
    tool("prlimit", &["--pid", &process.to_string(), &format!("--nofile={limit}:")]).map(|_| ())
}

async fn descriptors(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let mut processes = Vec::new();
    for id in &strike.nodes {
        let process = nemesis.fleet.process(*id)?;
        let open = fs::read_dir(format!("/proc/{process}/fd")).map_err(|it| it.to_string())?;
        limit(process, &(open.count() + DESCRIPTORS_MORE).to_string())?;
        processes.push(process);
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

async fn memory(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let mut groups = Vec::new();
    for id in &strike.nodes {
        let group = Cgroup::hold("memory", nemesis.fleet.process(*id)?)?;
        group.set("memory.limit_in_bytes", MEMORY_BYTES)?;
        groups.push(group);
    }
    let begin = Instant::now();
    while groups.iter().any(|group| group.get("memory.failcnt").trim() == "0") {
        if begin.elapsed() > PATIENCE {
            return Err("the node never wanted more".to_owned());
        }
        sleep(LOOK_AGAIN).await;
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    for id in &strike.nodes {
        nemesis.fleet.kill9(*id);
        nemesis.fleet.launch(*id);
    }
    Ok(())
}

async fn cpu(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let mut groups = Vec::new();
    for id in &strike.nodes {
        let group = Cgroup::hold("cpu", nemesis.fleet.process(*id)?)?;
        group.set("cpu.cfs_quota_us", CPU_US)?;
        groups.push(group);
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    drop(groups);
    Ok(())
}
