//! The verdict for a terminal.

use std::fmt::Write as _;

use crate::around::Scene;
use crate::verdict::{Answer, Finding, Tally, Verdict};
use crate::words::{line, seconds};

/// Writes everything: the answer, what was seen, each invariant, and the findings with the requests
/// around them. `scenes` may be those of only some findings, or none.
pub fn report(verdict: &Verdict, scenes: &[Scene]) -> String {
    let mut text = String::new();
    let answer = match verdict.answer {
        Answer::Pass => "PASS",
        Answer::Unknown => "UNKNOWN (counts as a failure)",
        Answer::Fail => "FAIL",
    };
    let label =
        if verdict.label.is_empty() { String::new() } else { format!(": {}", verdict.label) };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{answer}{label}");
    for doubt in &verdict.doubts {
        let _ = writeln!(text, "  doubt: {doubt}");
    }
    for loss in &verdict.losses {
        let _ = writeln!(text, "  loss: {loss}");
    }
    let it = &verdict.coverage;
    let _ = writeln!(
        text,
        "  {} requests in {} s through {} nodes; outcomes {} ok, {} fail, {} info\n  {} messages, {} \
         acknowledged sends, {} deliveries ({} again), {} deletes, {} empty receives, {} faults",
        it.records,
        seconds(it.duration_us),
        it.nodes,
        it.ok,
        it.fail,
        it.info,
        it.messages,
        it.sends,
        it.deliveries,
        it.redeliveries,
        it.deletes,
        it.empty_receives,
        it.faults
    );
    for (name, seen) in &it.faults_by_name {
        let (times, requests) = (seen.times, seen.requests_min);
        let _ = writeln!(
            text,
            "  fault {name}: {times} times, each met by {requests} requests or more"
        );
    }
    for (when, wakes) in [("", it.wakes), (" in or near faults", it.wakes_faulty)] {
        if wakes.count > 0 || wakes.missed_us > 0 {
            let _ = writeln!(
                text,
                "  long polls{when}: {} messages seen after {} s (median), {} s (p99), {} s (longest); \
                 {} s visible to one that ended empty",
                wakes.count,
                seconds(wakes.median_us),
                seconds(wakes.p99_us),
                seconds(wakes.max_us),
                seconds(wakes.missed_us)
            );
        }
    }
    let _ = writeln!(text, "\n     found  examined  undecided");
    verdict.tallies.iter().for_each(|tally| row(&mut text, tally));
    for tally in verdict.tallies.iter().filter(|tally| tally.found > 0) {
        let _ = writeln!(text, "\n{} {}", tally.invariant, tally.invariant.title());
        for found in &tally.findings {
            finding(&mut text, found, scenes.iter().find(|scene| scene.finding == *found));
        }
        let kept = tally.findings.len() as u64;
        if tally.found > kept {
            let _ = writeln!(text, "  and {} more", tally.found - kept);
        }
    }
    text
}

fn row(text: &mut String, tally: &Tally) {
    let why = tally.skipped.as_ref().map_or(String::new(), |why| format!(" (skipped: {why})"));
    let _ = writeln!(
        text,
        "{:>3} {:>6} {:>9} {:>10}  {}{why}",
        tally.invariant,
        tally.found,
        tally.examined,
        tally.undecided,
        tally.invariant.title()
    );
}

fn finding(text: &mut String, finding: &Finding, scene: Option<&Scene>) {
    let _ = writeln!(text, "  {}", finding.what);
    let mut place = Vec::new();
    place.extend(finding.queue.as_ref().map(|it| format!("queue {it}")));
    place.extend(finding.group.as_ref().map(|it| format!("group {it}")));
    place.extend(finding.shard.map(|it| format!("shard {it}")));
    place.extend(finding.writer.map(|it| format!("writer {it}")));
    if !finding.nodes.is_empty() {
        let nodes: Vec<String> = finding.nodes.iter().map(u32::to_string).collect();
        place.push(format!("nodes {}", nodes.join(", ")));
    }
    let records: Vec<String> = finding.records.iter().take(12).map(u32::to_string).collect();
    place.push(format!("records {}", records.join(", ")));
    let _ = writeln!(text, "    {}", place.join(", "));
    for shown in scene.map_or(&[][..], |scene| &scene.shown) {
        let _ = writeln!(
            text,
            "    {} {:>14} - {:>14} client {} node {}: {}",
            if shown.proof { '>' } else { ' ' },
            seconds(shown.record.invoked_us),
            seconds(shown.record.returned_us),
            shown.record.process,
            shown.record.node,
            line(&shown.record)
        );
    }
}
