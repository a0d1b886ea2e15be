//! Makes a fault.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use flotilla_probe::Point;
use flotilla_storage::log::{Damage, DamagedGroups};
use flotilla_types::ids::GroupId;
use rand::RngExt as _;

use super::evidence::{Before, Late};
use super::{Fault, Nemesis, Phase, links};
use crate::audit::recovered;
use crate::cluster::SimCluster;
use crate::disk::{Change, Cut};
use crate::fault::FaultKind;
use crate::knobs::{JUMP_MS, pick};
use crate::node::{FREE_BYTES_MIN, Member};
use crate::probes::{self, Order};

/// What was on its way when a majority went may still arrive and be decided.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A disk is put back to so long ago at least: what was written shortly before need not be noticed.
const ROLLBACK_MS: (u64, u64) = (1_500, 4_000);
/// For so long nobody may decide anything.
const REFUSAL_MS: (u64, u64) = (4_000, 8_000);
/// So often nodes come to a failpoint before it does something.
const TIMES_MAX: u64 = 20;

impl Nemesis {
    pub(super) fn strike(
        &mut self,
        cluster: &mut SimCluster<'_>,
        kind: FaultKind,
    ) -> Result<(), String> {
        if kind.loses() && !(self.ended.is_empty() && cluster.is_ready()) {
            // Only one may have forgotten something: first all others are whole.
            self.todo.push(kind);
            self.phase = Phase::Recovery { since: cluster.now() };
            return Ok(());
        }
        let all = cluster.members.len();
        let majority = all / 2 + 1;
        let count = match kind {
            FaultKind::CutMajority | FaultKind::DamageAway | FaultKind::LoseMajority => majority,
            FaultKind::CutAll | FaultKind::Loss | FaultKind::Delay | FaultKind::Ring => all,
            FaultKind::Crash | FaultKind::Fail => 0,
            _ => 1,
        };
        let nodes = cluster.choose(count, &mut self.dice);
        self.note(cluster, &format!("{} {nodes:?}", kind.name()));
        let cut = match kind {
            FaultKind::KillOne
            | FaultKind::ReadError
            | FaultKind::FlushError
            | FaultKind::NoRoom => Cut::Process,
            _ => Cut::Power { keep: *pick(&mut self.dice, &[0, 10, 50, 90, 100]) },
        };
        self.times.entry(kind).or_default().asked += 1;
        self.fault = Some(Fault {
            kind,
            cut,
            disk_ms: cluster.knobs.disk_ms,
            copies: BTreeMap::new(),
            struck_us: self.ledger.now_us(),
            before: Before::now(cluster, &nodes),
            late: Late::default(),
            jump_ms: 0,
            has_fired: false,
            is_shown: false,
            is_crash: false,
            nodes: nodes.clone(),
        });
        let hold = match kind {
            FaultKind::Rollback => ROLLBACK_MS,
            FaultKind::DamageAway | FaultKind::LoseMajority => REFUSAL_MS,
            _ => cluster.knobs.hold_ms,
        };
        self.phase = Phase::Fault { until: cluster.now() + self.between(hold) };
        if self.make(cluster, kind, &nodes, cut)? {
            self.note_fired();
        } else if kind.stops_nodes() {
            // Whatever else was meant did not take place, or they were down already; they are away all the same.
            self.ledger.fired(FaultKind::Crash.name(), &nodes, self.ledger.now_us());
            if let Some(fault) = &mut self.fault {
                fault.is_crash = true;
            }
        }
        Ok(())
    }

    /// Whether it took place already.
    fn make(
        &mut self,
        cluster: &mut SimCluster<'_>,
        kind: FaultKind,
        nodes: &[u64],
        cut: Cut,
    ) -> Result<bool, String> {
        match kind {
            FaultKind::Crash | FaultKind::Fail => self.tell_failpoint(cluster, kind),
            FaultKind::Ring => links::ring(cluster, true),
            FaultKind::Loss => {
                let rate = *pick(&mut self.dice, &[0.002, 0.01, 0.03]);
                cluster.sim.set_fail_rate(rate);
            }
            FaultKind::Delay => {
                let most_ms = self.dice.random_range(100..600);
                cluster.sim.set_max_message_latency(Duration::from_millis(most_ms));
            }
            FaultKind::KillOne | FaultKind::CutOne | FaultKind::CutMajority | FaultKind::CutAll => {
                let were_up = nodes.iter().all(|id| !cluster.is_down(*id));
                nodes.iter().for_each(|id| self.stop(cluster, *id));
                return Ok(were_up);
            }
            FaultKind::FlipBit
            | FaultKind::Shorten
            | FaultKind::LoseSegment
            | FaultKind::SmallFile
            | FaultKind::LoseDisk => {
                self.stop(cluster, nodes[0]);
                return Ok(self.damage(cluster, kind, nodes[0], cut)?.is_some());
            }
            FaultKind::DamageAway | FaultKind::LoseMajority => {
                return self.take_majority(cluster, kind, nodes, cut);
            }
            _ => return Ok(self.trouble(cluster, kind, nodes[0])),
        }
        Ok(false)
    }

    /// What is done to a node that goes on; whether it took place already.
    fn trouble(&mut self, cluster: &SimCluster<'_>, kind: FaultKind, id: u64) -> bool {
        let disk = &cluster.member(id).disk;
        match kind {
            FaultKind::TearOne => disk.cut_at_next_write(),
            FaultKind::WriteError => disk.fail_write_after(self.dice.random_range(0..20)),
            FaultKind::ReadError => disk.fail_read_after(self.dice.random_range(0..20)),
            FaultKind::FlushError => disk.fail_next_flush(),
            FaultKind::SlowDisk => {
                let before = disk.set_latency_ms((50, 600));
                if let Some(fault) = &mut self.fault {
                    fault.disk_ms = before;
                }
            }
            FaultKind::FullDisk => disk.set_room(Some(FREE_BYTES_MIN / 2)),
            FaultKind::NoRoom => disk.set_room(Some(self.dice.random_range(0..200 << 10))),
            FaultKind::Rollback => {
                let copy = disk.copy();
                if let Some(fault) = &mut self.fault {
                    fault.copies.insert(id, copy);
                }
            }
            FaultKind::ClockJump => {
                let skew_ms = self.dice.random_range(-JUMP_MS..=JUMP_MS);
                let jump_ms = cluster.member(id).clock.jump(skew_ms);
                if let Some(fault) = &mut self.fault {
                    fault.jump_ms = jump_ms;
                }
                return jump_ms > 0;
            }
            _ => links::cut_off(cluster, kind, id),
        }
        false
    }

    fn stop(&mut self, cluster: &mut SimCluster<'_>, id: u64) {
        cluster.stop(id);
        // It does not come back before this is undone.
        if let Some(kind) = self.ended.remove(&id).and_then(|ended| ended.kind) {
            self.ledger.healed(kind.name(), &[id]);
        }
    }

    /// Leaves no majority that has what it had; whether any group misses it.
    fn take_majority(
        &mut self,
        cluster: &mut SimCluster<'_>,
        kind: FaultKind,
        nodes: &[u64],
        cut: Cut,
    ) -> Result<bool, String> {
        nodes.iter().for_each(|id| self.stop(cluster, *id));
        let mut losses = BTreeMap::new();
        if kind == FaultKind::DamageAway {
            let kinds = [FaultKind::FlipBit, FaultKind::Shorten, FaultKind::LoseDisk];
            let kind = *pick(&mut self.dice, &kinds);
            losses.insert(nodes[0], self.damage(cluster, kind, nodes[0], cut)?);
            cluster.start(nodes[0], Cut::Process)?;
        } else {
            for id in nodes {
                cluster.member(*id).disk.restart(cut);
                let copy = cluster.member(*id).disk.copy();
                let loss = self.damage(cluster, FaultKind::LoseDisk, *id, Cut::Process)?;
                losses.insert(*id, loss);
                if let Some(fault) = &mut self.fault {
                    fault.copies.insert(*id, copy);
                }
                cluster.start(*id, Cut::Process)?;
            }
        }
        let has = |node: u64, group: GroupId| match losses.get(&node) {
            // Its damage is of no consequence, or of others only.
            Some(loss) => !loss.iter().flatten().any(|damage| damage.covers(group)),
            None => !nodes.contains(&node),
        };
        let groups = self.oracle.freeze(has, cluster.now() + LAST_WORDS);
        self.note(cluster, &format!("{groups} groups may not decide anything"));
        Ok(groups > 0)
    }

    /// Damages the disk of a node that does not run. What its log says of that then; `None` when there
    /// was nothing to damage.
    fn damage(
        &mut self,
        cluster: &SimCluster<'_>,
        kind: FaultKind,
        id: u64,
        cut: Cut,
    ) -> Result<Option<Vec<Damage>>, String> {
        let member = cluster.member(id);
        member.disk.restart(cut);
        self.oracle.excuse(id);
        self.damaged.insert(id);
        self.forgetful.push(id);
        let segment = |path: &Path| is_segment(member, path);
        let small = |path: &Path| is_small(member, path);
        let changes = [Change::Flip, Change::Shorten, Change::Remove];
        let done = match kind {
            FaultKind::FlipBit => member.disk.damage(segment, Change::Flip),
            FaultKind::Shorten => member.disk.damage(segment, Change::Shorten),
            FaultKind::LoseSegment => member.disk.damage(segment, Change::Remove),
            FaultKind::SmallFile => member.disk.damage(small, *pick(&mut self.dice, &changes)),
            _ => member.disk.lose().then(|| "the whole disk".to_owned()),
        };
        let damage = match kind {
            // Its log is an empty one.
            FaultKind::LoseDisk => {
                vec![Damage { groups: DamagedGroups::All, what: "it is gone".to_owned() }]
            }
            _ => recovered(member)?.1,
        };
        member.disk.switch_off();
        let what = done.as_deref().unwrap_or("nothing to damage");
        let noticed: Vec<&str> = damage.iter().map(|damage| damage.what.as_str()).collect();
        self.note(cluster, &format!("node {id}: {what}; its log says: {}", noticed.join(", ")));
        Ok(done.map(|_| damage))
    }

    fn tell_failpoint(&mut self, cluster: &SimCluster<'_>, kind: FaultKind) {
        let fails = kind == FaultKind::Fail;
        let points: Vec<Point> =
            Point::ALL.iter().copied().filter(|point| !fails || point.can_fail()).collect();
        let (point, times) =
            (*pick(&mut self.dice, &points), self.dice.random_range(1..=TIMES_MAX));
        self.note(cluster, &format!("{} at {}, time {times}", kind.name(), point.name()));
        probes::tell(Some(Order { point, fails, times }));
    }
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn is_segment(member: &Member, path: &Path) -> bool {
    path.parent() == Some(&*member.log_dir()) && name(path).starts_with("segment-")
}

/// Marks and votes beside the log, and the node's memory of its peers.
fn is_small(member: &Member, path: &Path) -> bool {
    let beside = path.parent() == Some(&*member.log_dir()) && !name(path).starts_with("segment-");
    beside || path.parent() == Some(&*member.memory_dir())
}
