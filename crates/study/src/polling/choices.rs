//! Which wait time, sample and number of shards for which use, each with the numbers that it follows from.

use super::advice::{Rounds, Waiting, idle_percent, value};
use super::context::Shape;
use super::shards::{DEFAULT, missed};
use crate::section::{Section, Table, duration, percent};

/// What no setting of the server can change.
const ANY: &str = "any: all are asked";

/// Times as many polls as with all shards asked.
pub(super) const HARDLY_MORE: f64 = 1.5;

/// One use.
struct Choice {
    who: &'static str,
    wait: &'static str,
    sample: String,
    shards: String,
    because: String,
}

impl Choice {
    /// With what the server does by itself.
    fn new(who: &'static str, wait: &'static str, because: String) -> Self {
        let Shape { sample, shards, .. } = Shape::default();
        Self { who, wait, sample: sample.to_string(), shards: shards.to_string(), because }
    }

    fn sample(self, sample: &str) -> Self {
        Self { sample: sample.to_owned(), ..self }
    }

    fn shards(self, shards: impl ToString) -> Self {
        Self { shards: shards.to_string(), ..self }
    }
}

/// The uses of which the experiments that were run know something.
pub(super) fn choices(sections: &[Section]) -> Table {
    let known = [
        waiting(sections),
        busy(sections),
        many_consumers(sections),
        many_queues(sections),
        idle(sections),
        must_find(sections),
        drains(sections),
        one_machine(sections),
        own_machines(sections),
        ordered(sections),
    ];
    let header = ["use", "wait time", "sample", "shards", "because"];
    let mut table = Table::new("choices", &header);
    for Choice { who, wait, sample, shards, because } in known.into_iter().flatten() {
        table.row(&[&who, &wait, &sample, &shards, &because]);
    }
    table
}

fn waiting(sections: &[Section]) -> Option<Choice> {
    let waiting = Waiting::of(sections).filter(Waiting::is_better)?;
    let Waiting { rate, long, short, long_ms, short_ms } = waiting;
    let because = format!(
        "{long:.1} requests per message instead of {short:.1} with short polls every second, at {rate} messages per second; half \
         come within {} instead of {}",
        duration(long_ms),
        duration(short_ms)
    );
    Some(Choice::new("a worker that takes what comes", "20 s", because).sample(ANY))
}

/// Messages gather in pauses, between short polls or after each answer of a long one.
fn busy(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "cost", name);
    let (rate, long) = (of("busy rate")?, of("busy, long 20 s, requests")?);
    let pauses = (of("busy, pauses, requests")?, of("busy, pauses, p99 ms")?);
    let short = (of("busy, short 1 s, requests")?, of("busy, short 1 s, p99 ms")?);
    let is_short = short.1 <= pauses.1;
    let (requests, p99_ms) = if is_short { short } else { pauses };
    if requests >= long {
        return None;
    }
    let because = format!(
        "{requests:.2} receive requests per message instead of {long:.2} with long polls without pauses, at {rate:.0} messages per second; \
         99 % come within {}",
        duration(p99_ms)
    );
    let choice =
        |wait| Choice::new("many messages that may wait for a second or two", wait, because);
    Some(match is_short {
        true => choice("0, and a poll every second"),
        false => choice("20 s, and a pause of 1 s after each answer").sample(ANY),
    })
}

fn many_consumers(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "many", name);
    let (consumers, long, short) = (of("consumers")?, of("long, empties")?, of("short, empties")?);
    let (long_ms, short_ms) = (of("long, p50 ms")?, of("short, p50 ms")?);
    let because = format!(
        "{consumers:.0} of them have {long:.2} empty answers for each message instead of {short:.0} with short polls every 0.1 s, and half of the \
         messages come within {} instead of {}",
        duration(long_ms),
        duration(short_ms)
    );
    let who = "many workers of one queue with few messages";
    (long < short && long_ms < short_ms).then(|| Choice::new(who, "20 s", because).sample(ANY))
}

fn many_queues(sections: &[Section]) -> Option<Choice> {
    let rounds = Rounds::of(sections).filter(Rounds::is_best_at_once)?;
    let Rounds { queues, at_once, turn, short } = rounds;
    let because = format!(
        "of {queues:.0} queues half of the messages come within {} instead of {} with long polls of a second in turn, or {} with short ones",
        duration(at_once),
        duration(turn),
        duration(short)
    );
    let wait = "20 s, a poll waiting at each queue";
    Some(Choice::new("one worker of many queues", wait, because).sample(ANY))
}

fn idle(sections: &[Section]) -> Option<Choice> {
    let (long, short) = idle_percent(sections).filter(|(long, short)| long < short)?;
    let because = format!(
        "200 of them take {long:.1} % of a core instead of {short:.0} % in short polls every 0.1 s"
    );
    Some(Choice::new("hundreds of workers with little to do", "20 s", because).sample(ANY))
}

fn must_find(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "misses", name);
    let (three, all) = (of("3 of 8")?, of("8 of 8")?);
    let who = "a job or a test that asks once whether there is something, and must not wait";
    let because = format!(
        "a sample of three misses a lone message of another node in {} of all polls, all shards in {}; whoever may wait for a \
         second misses nothing either, with any sample",
        percent(three),
        percent(all)
    );
    (all < three).then(|| Choice::new(who, "0", because).sample("all"))
}

fn drains(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "coverage", name);
    let (three, all) = (of("999, three")?, of("999, all")?);
    // Those of a cluster that was given are its own.
    let is_default = of("sample")? == Shape::default().sample as f64;
    let because = format!(
        "{three:.0} polls see all of 999 messages, {all:.0} with all shards asked; one empty answer of a sample does not mean that nothing is \
         left, one of a long poll does"
    );
    let wait = "0, and 20 s for the last poll";
    (is_default && three < HARDLY_MORE * all)
        .then(|| Choice::new("emptying a backlog with short polls", wait, because))
}

fn one_machine(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "shards", name);
    let (few, few_rate, rate) = (of("few")? as usize, of("few, rate")?, of("rate")?);
    // Within the intervals it is no difference.
    let is_slower = of("few, rate high")? < of("rate low")?;
    let is_cheaper = of("few, idle % high")? < of("idle % low")?;
    let (few_idle, idle) = (of("few, idle %")?, of("idle %")?);
    let cheaper = match is_cheaper {
        true => format!(", idle nodes take {few_idle:.0} % of a core instead of {idle:.0} %"),
        false => String::new(),
    };
    let because = format!(
        "{:.2} times as many messages go through as with eight{cheaper}, and a short poll misses a lone message in {} of all cases instead \
         of {}",
        few_rate / rate,
        percent(missed(few)),
        percent(missed(DEFAULT))
    );
    (few < DEFAULT && !is_slower)
        .then(|| Choice::new("all nodes on one machine", "20 s", because).shards(few))
}

fn own_machines(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "shards", name);
    let (most, most_idle, most_rate) = (of("most")?, of("most, idle %")?, of("most, rate")?);
    let (idle, rate) = (of("idle %")?, of("rate")?);
    let verdict = match of("most, rate low")? > of("rate high")? {
        true => "more shards may bring more",
        false => "more than the cores need only cost",
    };
    let because = format!(
        "the number cannot be changed later; here {most:.0} take {most_idle:.0} % of a core when idle instead of {idle:.0} %, and {:.2} times as \
         many messages go through as with eight: {verdict}",
        most_rate / rate
    );
    let who = "nodes on machines of their own (not measured here: everything ran on one)";
    let choice = Choice::new(who, "20 s", because).sample("three eighths of the shards");
    Some(choice.shards(format!("{DEFAULT}, or a few for each core that is to work")))
}

/// They are polled like others, and no experiment has them.
fn ordered(sections: &[Section]) -> Option<Choice> {
    Waiting::of(sections).filter(Waiting::is_better)?;
    let because = "not measured here: short polls of them ask where the queue lives and then all shards, so they miss nothing, and long \
                   ones save the same empty answers; a queue lives on one shard unless its limit is perMessageGroupId, and a \
                   message group always does"
        .to_owned();
    Some(Choice::new("FIFO queues", "20 s", because).sample(ANY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &'static str, values: &[(&'static str, f64)]) -> Section {
        Section { name, values: values.to_vec(), ..Section::default() }
    }

    fn rows(sections: &[Section]) -> Vec<Vec<String>> {
        choices(sections).rows
    }

    #[test]
    fn a_choice_is_made_where_the_numbers_make_it() {
        assert!(rows(&[]).is_empty());
        let misses = |three, all| [section("misses", &[("3 of 8", three), ("8 of 8", all)])];
        let found = rows(&misses(0.58, 0.0));
        assert_eq!(found[0][1..4], ["0", "all", "8"]);
        assert!(found[0][4].contains("in 58 % of all polls, all shards in 0 %"), "{found:?}");
        assert!(rows(&misses(0.1, 0.1)).is_empty(), "nothing is gained");
    }

    #[test]
    fn who_may_wait_pauses_where_the_slowest_message_comes_sooner() {
        let cost = |short_p99_ms| {
            let pauses = [("busy, pauses, requests", 0.11), ("busy, pauses, p99 ms", 7_000.0)];
            let short =
                [("busy, short 1 s, requests", 0.12), ("busy, short 1 s, p99 ms", short_p99_ms)];
            let rest = [("busy rate", 100.0), ("busy, long 20 s, requests", 0.98)];
            [section("cost", &[pauses, short, rest].concat())]
        };
        assert_eq!(rows(&cost(1_700.0))[0][1], "0, and a poll every second");
        assert!(rows(&cost(8_000.0))[0][1].starts_with("20 s"));
    }

    #[test]
    fn crowds_wait_where_that_saves_answers_and_time() {
        let many = |long_ms| {
            let short = [("short, empties", 31.1), ("short, p50 ms", 5.0)];
            let long = [("long, empties", 0.0), ("long, p50 ms", long_ms)];
            [section("many", &[&[("consumers", 64.0)][..], &short, &long].concat())]
        };
        let found = rows(&many(1.6));
        assert_eq!(found[0][..2], ["many workers of one queue with few messages", "20 s"]);
        assert!(found[0][4].starts_with("64 of them have 0.00 empty answers"), "{found:?}");
        assert!(rows(&many(6.0)).is_empty(), "waiting takes longer");
    }

    #[test]
    fn shards_are_chosen_by_what_they_cost() {
        let shards = |few_rate: f64, most_rate: f64| {
            let of = |names: [&'static str; 3], value: f64, by: f64| {
                [(names[0], value), (names[1], value - by), (names[2], value + by)]
            };
            let few_idle = of(["few, idle %", "few, idle % low", "few, idle % high"], 4.0, 0.5);
            let few = of(["few, rate", "few, rate low", "few, rate high"], few_rate, 5.0);
            let idle = of(["idle %", "idle % low", "idle % high"], 6.0, 0.5);
            let rate = of(["rate", "rate low", "rate high"], 100.0, 5.0);
            let most = of(["most, rate", "most, rate low", "most, rate high"], most_rate, 5.0);
            let rest = [("few", 4.0), ("most", 64.0), ("most, idle %", 20.0)];
            [section("shards", &[&few_idle[..], &few, &idle, &rate, &most, &rest].concat())]
        };
        let found = rows(&shards(95.0, 60.0));
        assert_eq!(found[0][3], "4");
        for words in
            ["0.95 times", "4 % of a core instead of 6 %", "in 25 % of all cases instead of 62 %"]
        {
            assert!(found[0][4].contains(words), "{found:?}");
        }
        assert!(found[1][4].contains("64 take 20 % of a core"), "{found:?}");
        assert!(found[1][4].ends_with("only cost"), "{found:?}");
        let found = rows(&shards(80.0, 120.0));
        assert_eq!(found.len(), 1, "four are slower");
        assert!(found[0][4].ends_with("may bring more"), "{found:?}");
    }
}
