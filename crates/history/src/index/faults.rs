//! Faults: when they were there, what was tried after them, and what they leave open.

use std::collections::BTreeMap;

use crate::index::build::Builder;
use crate::index::rows::{FAILURES_KEPT_MAX, FaultWindow, Known, Lost, Recovery};
use crate::index::{NEVER, Span};
use crate::record::{Fault, FaultPhase, Record};

/// No node answers sooner: what is unknown by then never reached it.
const STALE_US: u64 = 20;

/// Faults that keep a node's process from running.
const STANDSTILLS: [&str; 4] = ["pause", "pause-long", "pause-all", "starve-cpu"];

impl FaultWindow {
    /// Whether nodes that it is about may not have run.
    pub(super) fn stops_nodes(&self) -> bool {
        STANDSTILLS.contains(&self.name.as_str())
    }

    /// Whether it was there, or not all was well again, at some moment of a span.
    fn disturbs(&self, span: Span) -> bool {
        self.from <= span.ret && span.inv <= self.ready
    }
}

/// Whether one of these faults was there at some moment of a span, or not everything was well again.
pub(super) fn disturbed(faults: &[FaultWindow], span: Span) -> bool {
    faults.iter().any(|it| it.disturbs(span))
}

impl Builder {
    pub(super) fn fault(&mut self, at: Span, fault: &Fault) {
        match fault.phase {
            FaultPhase::Fired => {
                self.coverage.faults += 1;
                self.open_faults.push((fault.name.clone(), fault.nodes.clone(), at.inv));
                if let Some(recovery) = self.recovery.take() {
                    self.recoveries.push(Recovery { until: at.inv, ..recovery });
                }
            }
            FaultPhase::Healed => {
                let same = |it: &(String, Vec<u32>, u64)| it.0 == fault.name && it.1 == fault.nodes;
                if let Some(open) = self.open_faults.iter().position(same) {
                    let (name, nodes, from) = self.open_faults.swap_remove(open);
                    let (to, ready, requests) = (at.ret, NEVER, 0);
                    self.faults.push(FaultWindow { name, nodes, from, to, ready, requests });
                }
                if self.open_faults.is_empty() {
                    let (since, until, trials) = (at.ret, NEVER, BTreeMap::new());
                    self.recovery = Some(Recovery { since, until, trials });
                }
            }
            FaultPhase::Ready => {
                let healed = self.faults.iter_mut().filter(|it| it.ready == NEVER);
                let mut same = healed.filter(|it| it.name == fault.name && it.nodes == fault.nodes);
                if let Some(fault) = same.next() {
                    fault.ready = at.ret;
                }
            }
        }
    }

    /// Whether something works again; `gone`: the answer was that there is no such queue.
    pub(super) fn note_trial(
        &mut self,
        record: &Record,
        at: Span,
        kind: &'static str,
        known: Known,
        gone: bool,
    ) {
        let Some(recovery) = self.recovery.as_mut().filter(|it| at.inv >= it.since) else { return };
        let trials = recovery.trials.entry((record.node, kind)).or_default();
        if known == Known::Ok || gone {
            trials.first_ok = Some(trials.first_ok.map_or(at.ret, |ret| ret.min(at.ret)));
        }
        // A refusal that is the client's own fault is neither.
        let fault = record.status.is_none_or(|status| status >= 500);
        // A connection that turns out to have been closed since its last request says nothing of now.
        let stale = at.ret - at.inv < STALE_US;
        let failed = (known == Known::Info && !stale) || (known == Known::Fail && !gone && fault);
        // A batch that fails as a whole is one.
        let is_another = trials.failures.last().is_none_or(|(_, of)| *of != self.record);
        if failed && is_another && trials.failures.len() < FAILURES_KEPT_MAX {
            trials.failures.push((at, self.record));
        }
    }

    /// What is known of the faults when everything is known.
    pub(super) fn close_faults(&mut self) -> Vec<String> {
        let unhealed = self.open_faults.iter().map(|fault| fault.0.clone()).collect();
        for (name, nodes, from) in std::mem::take(&mut self.open_faults) {
            let (to, ready, requests) = (NEVER, NEVER, 0);
            self.faults.push(FaultWindow { name, nodes, from, to, ready, requests });
        }
        let recovery_us = self.header.options.bounds.liveness_us;
        for fault in self.faults.iter_mut().filter(|it| it.ready == NEVER) {
            fault.ready = fault.to.saturating_add(recovery_us);
        }
        self.recoveries.extend(self.recovery.take());
        self.count_requests_in_faults();
        self.note_late_nodes();
        self.note_lost_receives();
        unhealed
    }

    fn count_requests_in_faults(&mut self) {
        let (begins, ends) = &mut self.requests;
        begins.sort_unstable();
        ends.sort_unstable();
        for fault in &mut self.faults {
            let begun = begins.partition_point(|begin| *begin <= fault.to);
            let over = ends.partition_point(|end| *end < fault.from);
            fault.requests = begun.saturating_sub(over) as u64;
        }
    }

    /// A node that a fault is about hears of a deletion some time after its answer; also of one right before
    /// the fault: a process that ends knows the last decisions again when it hears of their leader.
    fn note_late_nodes(&mut self) {
        let recovery_us = self.header.options.bounds.liveness_us;
        let settle_us = self.header.options.bounds.settle_us;
        for queue in &mut self.queues {
            for clearing in queue.clearings.iter_mut().filter(|it| it.deletes_queue) {
                for fault in &self.faults {
                    let heard = fault.to.saturating_add(recovery_us);
                    let known = clearing.at.ret.saturating_add(settle_us);
                    if fault.from <= known && clearing.at.inv <= heard {
                        clearing.late.extend(fault.nodes.iter().map(|node| (*node, heard)));
                    }
                }
            }
        }
    }

    fn note_lost_receives(&mut self) {
        for (number, receive) in (0u32..).zip(&self.receives).filter(|it| it.1.lost) {
            let until = self.settled(Span { inv: receive.at.inv, ret: receive.gave_up });
            let lost = Lost { inv: receive.at.inv, until, receive: number };
            self.queues[receive.queue as usize].lost_receives.push(lost);
        }
        for queue in &mut self.queues {
            queue.lost_receives.sort_unstable_by_key(|it| it.inv);
        }
    }

    /// When a request that nobody waits for any more has taken effect, or never will.
    fn settled(&self, at: Span) -> u64 {
        let mut well = at.ret;
        // What began before all was well again may keep it open.
        while let Some(fault) = self
            .faults
            .iter()
            .find(|it| it.ready > well && it.disturbs(Span { inv: at.inv, ret: well }))
        {
            well = fault.ready;
        }
        well.saturating_add(self.header.options.bounds.settle_us)
    }
}
