//! What the numbers say.

use super::{CROWD, Case, ROUND, empties, find, half_ms, most};
use crate::polling::model::FAR;
use crate::section::duration;

pub(super) fn findings(crowds: &[Case], rounds: &[Case]) -> Vec<String> {
    let (consumers, queues) = (most(crowds), most(rounds));
    let p = |way, share| {
        let case = find(crowds, way, consumers);
        duration(case.map_or(f64::NAN, |case| case.latency(share).value))
    };
    let one = half_ms(crowds, CROWD[1], 1);
    let many = half_ms(crowds, CROWD[1], consumers);
    let shared = if many < one {
        format!(
            "one short poller alone needs {}: who polls with others finds more, and pays for it",
            duration(one)
        )
    } else {
        format!(
            "one short poller alone needs {}, so others did not help, which they should",
            duration(one)
        )
    };
    let round = |way| half_ms(rounds, way, queues);
    let best = round(ROUND[2]) < round(ROUND[0]).min(round(ROUND[1]));
    vec![
        format!(
            "{consumers} consumers in long polls: half of the messages within {}, 99 % within {}, and {:.2} empty answers per \
             message. In short polls every 0.1 s: {}, {} and {:.0}; {shared}.",
            p(CROWD[0], 0.5),
            p(CROWD[0], 0.99),
            empties(crowds, CROWD[0], consumers),
            p(CROWD[1], 0.5),
            p(CROWD[1], 0.99),
            empties(crowds, CROWD[1], consumers)
        ),
        format!(
            "One consumer who takes {queues} queues in turn: half of the messages wait longer than {} with short polls and {} with \
             long polls of one second; with one long poll for each queue {}{}.",
            duration(round(ROUND[0])),
            duration(round(ROUND[1])),
            duration(round(ROUND[2])),
            if best { "" } else { ", which is not less, as it should be" }
        ),
    ]
}

/// How the models did with short polls, and why they did not do better.
pub(super) fn agreement(crowds: &[Case], rounds: &[Case]) -> String {
    let short = || crowds.iter().chain(rounds).filter(|it| [CROWD[1], ROUND[0]].contains(&it.way));
    let of = |share: f64| {
        let ratio = move |case: &Case| case.latency(share).value / case.model.quantile_ms(share);
        let known = short().map(move |case| (ratio(case), case));
        let mut known: Vec<_> = known.filter(|(ratio, _)| ratio.is_finite()).collect();
        known.sort_by(|one, two| one.0.total_cmp(&two.0));
        known
    };
    let (mut said, mut is_slow) = (String::new(), false);
    for (share, name) in [(0.5, "medians"), (0.99, "99th percentiles")] {
        let known = of(share);
        let (Some((least, first)), Some((most, last))) = (known.first(), known.last()) else {
            continue;
        };
        let within = |case: &&Case| case.latency(share).covers(case.model.quantile_ms(share));
        said.push_str(&format!(
            "Measured {name} of short polls are {least:.2} to {most:.2} times the model's, which is in the 95 % interval of {} of {}. ",
            known.iter().map(|it| it.1).filter(within).count(),
            known.len()
        ));
        if *most > FAR {
            is_slow = true;
            said.push_str(&format!("The farthest is that of {} ({}). ", last.count, last.way));
        }
        if *least < 1.0 / FAR {
            said.push_str(&format!(
                "That of {} ({}) is less than the model's, and why is not known. ",
                first.count, first.way
            ));
        }
    }
    if is_slow {
        said.push_str(
            "So many polls, the nodes and the consumers share the machine's processors, and a poll that finds a message waits \
             for the others' in between; the model knows how long requests take, half of the times.",
        );
    }
    said.trim_end().to_owned()
}
