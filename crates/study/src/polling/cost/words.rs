//! What it says.

use super::{
    BACK_TO_BACK, COLLECT, Cell, Cells, DOLLARS_PER_MILLION, LONG, LONG_ONE, SHORT_FIVE, SHORT_ONE,
    SHORT_TENTH, kinds,
};
use crate::plot::number as tick;
use crate::polling::model::FAR;
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
         bootstrap for quantiles. The 99th percentile is told from 100 messages on and the 99.9th from 4,000: slow rates and short \
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

/// The model's mean, as a multiple of which the measured one is.
fn agreement(cells: &Cells) -> String {
    let ratio = |cell: &Cell| cell.seen.mean_ms().value / cell.expected_mean_ms();
    let of = |is_wanted: fn(&Cell) -> bool| {
        let known = cells.all.iter().filter(|cell| is_wanted(cell) && ratio(cell).is_finite());
        let mut known: Vec<&Cell> = known.collect();
        known.sort_by(|one, two| ratio(one).total_cmp(&ratio(two)));
        known.first().copied().zip(known.last().copied())
    };
    let mut said = String::new();
    let paused = of(|cell| cell.kind.is_short() && !cell.kind.is_greedy());
    for (name, found) in [
        ("short polls with a pause", paused),
        (COLLECT, of(|cell| cell.kind.name == COLLECT)),
        (BACK_TO_BACK, of(|cell| cell.kind.is_greedy())),
    ] {
        let Some((least, most)) = found else { continue };
        let (least_ratio, most_ratio) = (ratio(least), ratio(most));
        said.push_str(&format!(
            "Measured means of {name} are {least_ratio:.2} to {most_ratio:.2} times the model's. "
        ));
        for cell in
            [least, most].into_iter().filter(|cell| !(1.0 / FAR..=FAR).contains(&ratio(cell)))
        {
            said.push_str(&format!(
                "At {} messages per second they are {} in the model and {} here, from {} messages{}. ",
                tick(cell.rate_per_s),
                duration(cell.expected_mean_ms()),
                duration(cell.seen.mean_ms().value),
                cell.seen.delivered.len(),
                why_far(cell)
            ));
        }
    }
    said.trim_end().to_owned()
}

/// Means of fewer messages may be far off by chance.
const FEW: usize = 100;

/// Why a measurement is not what the model says.
fn why_far(cell: &Cell) -> &'static str {
    match cell.kind.style {
        Style::Short { pause } if pause.is_zero() => {
            ": a poller that never rests keeps a processor busy, and messages wait for processors that the nodes lack meanwhile"
        }
        // Of so few, the mean is not known to that.
        Style::Short { .. } if cell.seen.delivered.len() < FEW => ": so few tell little",
        Style::Short { .. } => {
            ": the model takes every request and every send for as long as half of them take, and here they share processors"
        }
        Style::Collect { .. } | Style::Long { .. } => {
            ": the mean depends on which shards the others' messages came to while it paused, and so few messages tell little of it"
        }
    }
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
             at which they did come, and requests and sends that take as long as measured. {}",
            agreement(cells)
        ),
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
