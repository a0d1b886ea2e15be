//! What it says.

use super::{
    BACK_TO_BACK, COLLECT, Cell, Cells, DOLLARS_PER_MILLION, LONG, LONG_ONE, SHORT_FIVE, SHORT_ONE,
    SHORT_TENTH, kinds,
};
use crate::plot::number as tick;
use crate::polling::stats::{Estimate, quantile};
use crate::polling::traffic::Style;
use crate::section::duration;

fn requests(cell: &Cell) -> f64 {
    cell.requests().value
}

fn dollars(cell: &Cell) -> f64 {
    cell.dollars().value
}

pub(super) fn method(cells: &Cells) -> String {
    format!(
        "Messages arrive by chance (Poisson), sent through all nodes in turn; one consumer polls one of the nodes, ten messages \
         at most, and deletes what it gets. After an answer with messages it polls again at once, after an empty one it \
         pauses (short) or polls again (long). One more way, \"{COLLECT}\", waits in long polls and pauses after an answer \
         with fewer than ten messages, so that what comes meanwhile comes together. Everything is run {} times by turns, each \
         time with new queues and {:.0} s for each slow rate (four queues at once below one message per second). Intervals \
         are made of these runs, each in parts where there are fewer than ten of them: Student's for rates and means, a \
         bootstrap for quantiles; what differs from run to run more than within one is not in the latter. The 99th percentile is told from 100 messages on and the 99.9th from 4,000: slow rates and short \
         runs do not have so many.",
        cells.turns, cells.seconds
    )
}

pub(super) fn findings(cells: &Cells) -> Vec<String> {
    let (slow, last) = (cells.slow(), cells.last());
    let of = |name, value: fn(&Cell) -> f64| cells.of(name, slow, value);
    let at = |name, rate, share| duration(cells.of(name, rate, |cell| cell.latency_ms(share)));
    vec![
        format!(
            "At {slow} messages per second, long polls of 20 s need {:.2} receive requests per message, those of 1 s {:.1}; \
             short polls every second {:.1}, every 0.1 s {:.0}, and back to back {:.0}.",
            of(LONG, requests),
            of(LONG_ONE, requests),
            of(SHORT_ONE, requests),
            of(SHORT_TENTH, requests),
            of(BACK_TO_BACK, requests)
        ),
        format!(
            "At {DOLLARS_PER_MILLION:.2} dollars per million requests (AWS's list price for standard queues), receiving a million \
             messages that arrive at that rate costs {:.2} dollars with long polls of 20 s, {:.2} with short polls every second, \
             {:.0} with short ones every 0.1 s. Sending and deleting are not counted.",
            of(LONG, dollars),
            of(SHORT_ONE, dollars),
            of(SHORT_TENTH, dollars)
        ),
        format!(
            "From send to receive: long polls of 20 s {} (p99 {}); short polls every second {} (p99 {}); every 0.1 s {} (p99 {}). \
             At {last} messages per second: {}, {} and {} (medians); 99.9 % within {}, {} and {}. It takes 4,000 messages to tell \
             that: more than come at the slowest rates.",
            at(LONG, slow, 0.5),
            at(LONG, slow, 0.99),
            at(SHORT_ONE, slow, 0.5),
            at(SHORT_ONE, slow, 0.99),
            at(SHORT_TENTH, slow, 0.5),
            at(SHORT_TENTH, slow, 0.99),
            at(LONG, last, 0.5),
            at(SHORT_ONE, last, 0.5),
            at(SHORT_TENTH, last, 0.5),
            at(LONG, last, 0.999),
            at(SHORT_ONE, last, 0.999),
            at(SHORT_TENTH, last, 0.999)
        ),
        pauses(cells),
    ]
}

/// What it brings to let messages gather.
fn pauses(cells: &Cells) -> String {
    let last = cells.last();
    let of = |name, value: fn(&Cell) -> f64| cells.of(name, last, value);
    let half = |name| duration(cells.of(name, last, |cell| cell.latency_ms(0.5)));
    let most = |name| duration(cells.of(name, last, |cell| cell.latency_ms(0.99)));
    let cheaper = of(SHORT_FIVE, requests) < of(LONG, requests);
    let why = if cheaper { ", because a pause lets messages gather" } else { "" };
    let gathered = of(COLLECT, requests) < 0.9 * of(LONG, requests);
    let (collect, short) = (
        cells.of(COLLECT, last, |cell| cell.latency_ms(0.99)),
        cells.of(SHORT_ONE, last, |cell| cell.latency_ms(0.99)),
    );
    let worth = match (gathered, collect > 1.2 * short) {
        (true, false) => "that is as good a way to collect",
        (true, true) => {
            "who wants to collect had better pause between short polls, which brought the slowest messages sooner"
        }
        (false, _) => "a pause after a long poll collected little here",
    };
    format!(
        "What many messages cost depends on how many come at once: at {last} messages per second, long polls of 20 s need {:.2} \
         requests per message, short polls every second {:.2} and every 5 s {:.2}{why}; half of the messages wait for {}, {} and {}. \
         Long polls with a pause of a second need {:.2} ({}; p99 {}, short polls every second {}): {worth}.",
        of(LONG, requests),
        of(SHORT_ONE, requests),
        of(SHORT_FIVE, requests),
        half(LONG),
        half(SHORT_ONE),
        half(SHORT_FIVE),
        of(COLLECT, requests),
        half(COLLECT),
        most(COLLECT),
        most(SHORT_ONE)
    )
}

/// A kind of ways, what is compared of them, and with what.
struct Compared {
    name: &'static str,
    is_one: fn(&Cell) -> bool,
    measured: fn(&Cell) -> Estimate,
    expected: fn(&Cell) -> f64,
    say: fn(f64) -> String,
}

fn empties(value: f64) -> String {
    format!("{value:.3}")
}

const COMPARED: [Compared; 5] = [
    Compared {
        name: "mean latencies of short polls with a pause have the model's",
        is_one: |cell| cell.kind.is_short() && !cell.kind.is_greedy(),
        measured: |cell| cell.seen.mean_ms(),
        expected: |cell| cell.model.mean_ms(),
        say: duration,
    },
    Compared {
        name: "of their numbers of empty answers per message",
        is_one: |cell| cell.kind.is_short() && !cell.kind.is_greedy(),
        measured: Cell::empties,
        expected: |cell| cell.model.empties_per_message(),
        say: empties,
    },
    Compared {
        name: "mean latencies of long polls that pause",
        is_one: |cell| cell.kind.name == COLLECT,
        measured: |cell| cell.seen.mean_ms(),
        expected: |cell| cell.model.mean_ms(),
        say: duration,
    },
    Compared {
        name: "numbers of empty answers of long polls that do not",
        is_one: |cell| matches!(cell.kind.style, Style::Long { .. }),
        measured: Cell::empties,
        expected: |cell| cell.kind.expected(cell.seen.rate_per_s()),
        say: empties,
    },
    Compared {
        name: "mean latencies of short polls back to back",
        is_one: |cell| cell.kind.is_greedy(),
        measured: |cell| cell.seen.mean_ms(),
        expected: |cell| cell.model.mean_ms(),
        say: duration,
    },
];

/// How what was measured agrees with what should be, and why it does not where it does not.
fn agreement(cells: &Cells) -> String {
    let mut said = Vec::new();
    for Compared { name, is_one, measured, expected, say } in &COMPARED {
        let known = |cell: &&Cell| measured(cell).low.is_finite() && expected(cell).is_finite();
        let all: Vec<&Cell> = cells.all.iter().filter(|cell| is_one(cell)).filter(known).collect();
        let outside: Vec<&&Cell> =
            all.iter().filter(|cell| !measured(cell).covers(expected(cell))).collect();
        let one = |cell: &&&Cell| {
            let seen = measured(cell);
            format!(
                "{} at {}/s ({} here, {} to {}; {} in theory)",
                cell.kind.name,
                tick(cell.rate_per_s),
                say(seen.value),
                say(seen.low),
                say(seen.high),
                say(expected(cell))
            )
        };
        let list: Vec<String> = outside.iter().map(one).collect();
        let list =
            if list.is_empty() { String::new() } else { format!(", and not {}", list.join(", ")) };
        let within = all.len() - outside.len();
        said.push(format!("{within} of {} {name}{list}", all.len()));
    }
    format!(
        "In their 95 % intervals: {}. {}",
        said.join("; "),
        "What makes a difference beyond luck (one interval in twenty): the model takes every request and every send for as long as half of \
         them take; where polls and messages share processors, at many messages or without a pause, some take much longer. A message that \
         comes while others are answered goes with the next answer, which is one for both. And intervals are of what differs within runs."
    )
}

fn long_half(cells: &Cells) -> String {
    let of = |value: &dyn Fn(&Cell) -> f64| {
        let long = cells.all.iter().filter(|cell| matches!(cell.kind.style, Style::Long { .. }));
        let all: Vec<f64> = long.map(value).filter(|ms| ms.is_finite()).collect();
        (quantile(&all, 0.0), quantile(&all, 1.0))
    };
    let (least, most) = of(&|cell| cell.latency_ms(0.5));
    let (model_least, model_most) = of(&|cell| cell.model.quantile_ms(0.5));
    format!(
        "A long poll that waits brings a message after the send and an answer with messages have taken their time, each with an entry of the \
         log that a majority has: {} to {} in the model (half of the messages), {} to {} here.",
        duration(model_least),
        duration(model_most),
        duration(least),
        duration(most)
    )
}

pub(super) fn theory(cells: &Cells) -> Vec<String> {
    let (n, k) = cells.size;
    vec![
        "Empty answers per message: a short poller that pauses T makes 1/(λT); a long poll of W is empty with the chance \
         p = e^(−λW), so there are p/(1 − p) before each message. Short polls lie below the line where the \
         polling itself takes a good part of the time, because there are many messages."
            .to_owned(),
        format!(
            "How long messages wait for short polls has a closed form only while they are rare (half a pause, and a whole one \
             for each poll that misses): after an answer with messages the consumer polls again at once, and finds what it \
             had missed before. So the lines are a model's: {k} of {n} shards, the server's memory of whom it passed over \
             and of what went through it, nine of ten messages on shards of the sender's node, messages by chance at the rate \
             at which they did come, runs as long as the measured ones, and requests and sends that take as long as measured. {}",
            agreement(cells)
        ),
        long_half(cells),
    ]
}

/// How long 99 % of the messages may take, ms, in words.
const NEEDS: [(f64, &str); 3] = [(100.0, "0.1 s"), (2_000.0, "2 s"), (10_000.0, "10 s")];
/// Ways whose costs differ by less are equal; the later one in the list is less trouble.
const ALIKE: f64 = 1.05;

/// For each rate, which way is cheapest of those that are fast enough.
pub(super) fn advice(cells: &Cells) -> Vec<String> {
    let rates = cells.rates.iter().filter_map(|rate| {
        let mut said: Vec<(String, String)> = Vec::new();
        for (need_ms, need) in NEEDS {
            let Some(cell) = cheapest(cells, *rate, need_ms) else { continue };
            let words = format!("{} ({:.2} dollars per million)", name(cell), dollars(cell));
            match said.last_mut() {
                Some((needs, last)) if *last == words => needs.push_str(&format!(" or {need}")),
                _ => said.push((need.to_owned(), words)),
            }
        }
        let said: Vec<String> =
            said.into_iter().map(|(need, words)| format!("within {need}: {words}")).collect();
        let rate = tick(*rate);
        (!said.is_empty()).then(|| {
            format!(
                "At {rate} messages per second and consumer, the cheapest way that brings 99 % of them {}.",
                said.join("; ")
            )
        })
    });
    rates.collect()
}

fn name(cell: &Cell) -> String {
    match cell.kind.style {
        Style::Long { wait_s } => format!("long polls of {wait_s} s"),
        Style::Short { pause } if pause.is_zero() => "short polls back to back".to_owned(),
        Style::Short { pause } => format!("short polls every {} s", pause.as_secs_f64()),
        Style::Collect { wait_s, pause } => {
            format!("long polls of {wait_s} s with pauses of {} s", pause.as_secs_f64())
        }
    }
}

fn cheapest(cells: &Cells, rate: f64, need_ms: f64) -> Option<&Cell> {
    let fit: Vec<&Cell> = kinds()
        .iter()
        .filter_map(|kind| cells.find(kind.name, rate))
        .filter(|cell| cell.latency_ms(0.99) <= need_ms && dollars(cell).is_finite())
        .collect();
    let least = fit.iter().map(|cell| dollars(cell)).fold(f64::INFINITY, f64::min);
    fit.into_iter().rev().find(|cell| dollars(cell) <= ALIKE * least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polling::model::Forecast;
    use crate::polling::traffic::{Delivery, Outcome, Request, Seen};

    /// So many requests for each message, which take so long.
    fn cell(name: &str, requests: usize, ms: f64) -> Cell {
        let at = |message: u32| f64::from(message) / 100.0;
        let request = |end_s| Request { run: 0, begin_s: end_s, end_s, outcome: Outcome::Messages };
        let seen = Seen {
            seconds: 20.0,
            runs: 1,
            requests: (0..1_000).flat_map(|i| vec![request(at(i)); requests]).collect(),
            delivered: (0..1_000).map(|i| Delivery { run: 0, due_s: at(i), ms }).collect(),
            ..Seen::default()
        };
        let kind = kinds().into_iter().find(|kind| kind.name == name).unwrap();
        Cell { kind, rate_per_s: 10.0, seen, model: Forecast::default() }
    }

    #[test]
    fn advice_is_the_cheapest_way_that_is_fast_enough() {
        let all = vec![
            cell(LONG_ONE, 4, 2.0),
            cell(LONG, 4, 2.0),
            cell(SHORT_ONE, 2, 1_500.0),
            cell(SHORT_FIVE, 1, 9_000.0),
        ];
        let cells = Cells { all, rates: vec![10.0], size: (8, 3), seconds: 20.0, turns: 1 };
        let said = advice(&cells).remove(0);
        for words in [
            "within 0.1 s: long polls of 20 s (1.60",
            "within 2 s: short polls every 1 s (0.80",
            "within 10 s: short polls every 5 s (0.40",
        ] {
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn one_way_for_several_needs_is_said_once() {
        let cells = Cells {
            all: vec![cell(LONG, 1, 2.0)],
            rates: vec![10.0],
            size: (8, 3),
            seconds: 1.0,
            turns: 1,
        };
        assert!(advice(&cells)[0].contains("within 0.1 s or 2 s or 10 s: long polls of 20 s"));
    }
}
