//! Which wait time, sample and number of shards for which use, each with the numbers that it follows from.

use super::advice::value;
use super::theory;
use crate::section::{Section, Table, duration, percent};

/// What the server does by itself: three of eight shards for a short poll, and no wait.
const DEFAULT_SAMPLE: &str = "3";
const DEFAULT_SHARDS: &str = "8";
/// What no setting of the server can change.
const ANY: &str = "any: all are asked";

/// Times as many polls as with all shards asked.
pub(super) const HARDLY_MORE: f64 = 1.5;

/// One use.
struct Choice {
    who: &'static str,
    wait: &'static str,
    sample: &'static str,
    shards: String,
    because: String,
}

/// The uses of which the experiments that were run know something.
pub(super) fn choices(sections: &[Section]) -> Table {
    let known = [
        waiting(sections),
        busy(sections),
        many_queues(sections),
        idle(sections),
        must_find(sections),
        drains(sections),
        one_machine(sections),
        own_machines(sections),
    ];
    let header = ["use", "wait time", "sample", "shards", "because"];
    let mut table = Table::new("choices", &header);
    for Choice { who, wait, sample, shards, because } in known.into_iter().flatten() {
        table.row(&[&who, &wait, &sample, &shards, &because]);
    }
    table
}

fn waiting(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "cost", name);
    let (long, short) = (of("long 20 s, requests")?, of("short 1 s, requests")?);
    let (long_ms, short_ms) = (of("long 20 s, p50 ms")?, of("short 1 s, p50 ms")?);
    let rate = of("rate")?;
    (long < short && long_ms < short_ms).then(|| Choice {
        who: "a worker that takes what comes",
        wait: "20 s",
        sample: ANY,
        shards: DEFAULT_SHARDS.to_owned(),
        because: format!(
            "{long:.1} requests per message instead of {short:.1} with short polls every second, at {rate} messages per second; half \
             come within {} instead of {}",
            duration(long_ms),
            duration(short_ms)
        ),
    })
}

/// Messages gather in pauses, between short polls or after each answer of a long one.
fn busy(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "cost", name);
    let (rate, long) = (of("busy rate")?, of("busy, long 20 s, requests")?);
    let pauses = (of("busy, pauses, requests")?, of("busy, pauses, p99 ms")?);
    let short = (of("busy, short 1 s, requests")?, of("busy, short 1 s, p99 ms")?);
    let (wait, sample, (requests, p99_ms)) = match short.1 <= pauses.1 {
        true => ("0, and a poll every second", DEFAULT_SAMPLE, short),
        false => ("20 s, and a pause of 1 s after each answer", ANY, pauses),
    };
    (requests < long).then(|| Choice {
        who: "many messages that may wait for a second or two",
        wait,
        sample,
        shards: DEFAULT_SHARDS.to_owned(),
        because: format!(
            "{requests:.2} receive requests per message instead of {long:.2} with long polls without pauses, at {rate:.0} messages per second; \
             99 % come within {}",
            duration(p99_ms)
        ),
    })
}

fn many_queues(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "many", name);
    let (queues, at_once) = (of("queues")?, of("at once, p50 ms")?);
    let (turn, short) = (of("in turn, p50 ms")?, of("short in turn, p50 ms")?);
    (at_once < turn.min(short)).then(|| Choice {
        who: "one worker of many queues",
        wait: "20 s, a poll waiting at each queue",
        sample: ANY,
        shards: DEFAULT_SHARDS.to_owned(),
        because: format!(
            "of {queues:.0} queues half of the messages come within {} instead of {} with long polls of a second in turn, or {} with short ones",
            duration(at_once),
            duration(turn),
            duration(short)
        ),
    })
}

fn idle(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "idle", name);
    let (nobody, long, short) = (of("nobody")?, of("long")?, of("short 0.1 s")?);
    let added = |cores: f64| 100.0 * (cores - nobody).max(0.0);
    (long < short).then(|| Choice {
        who: "hundreds of workers with little to do",
        wait: "20 s",
        sample: ANY,
        shards: DEFAULT_SHARDS.to_owned(),
        because: format!(
            "200 of them take {:.1} % of a core instead of {:.0} % in short polls every 0.1 s",
            added(long),
            added(short)
        ),
    })
}

fn must_find(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "misses", name);
    let (three, all) = (of("3 of 8")?, of("8 of 8")?);
    (all < three).then(|| Choice {
        who: "a job or a test that asks once whether there is something, and must not wait",
        wait: "0",
        sample: "all",
        shards: DEFAULT_SHARDS.to_owned(),
        because: format!(
            "a sample of three misses a lone message of another node in {} of all polls, all shards in {}; whoever may wait for a \
             second misses nothing either, with any sample",
            percent(three),
            percent(all)
        ),
    })
}

fn drains(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "coverage", name);
    let (three, all) = (of("999, three")?, of("999, all")?);
    // Those of a cluster that was given are its own.
    let is_default = of("sample").is_some_and(|sample| sample.to_string() == DEFAULT_SAMPLE);
    (is_default && three < HARDLY_MORE * all).then(|| Choice {
        who: "emptying a backlog with short polls",
        wait: "0, and 20 s for the last poll",
        sample: DEFAULT_SAMPLE,
        shards: DEFAULT_SHARDS.to_owned(),
        because: format!(
            "{three:.0} polls see all of 999 messages, {all:.0} with all shards asked; one empty answer of a sample does not mean that nothing is left, one of \
             a long poll does"
        ),
    })
}

fn one_machine(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "shards", name);
    let (few, few_rate, rate) = (of("few")?, of("few, rate")?, of("rate")?);
    // Within the intervals it is no difference.
    let is_slower = of("few, rate high")? < of("rate low")?;
    let is_cheaper = of("few, idle % high")? < of("idle % low")?;
    let (few_idle, idle) = (of("few, idle %")?, of("idle %")?);
    let cheaper = match is_cheaper {
        true => format!(", idle nodes take {few_idle:.0} % of a core instead of {idle:.0} %"),
        false => String::new(),
    };
    let missed = |shards: f64| percent(theory::miss(shards as usize, 3));
    (few < 8.0 && !is_slower).then(|| Choice {
        who: "all nodes on one machine",
        wait: "20 s",
        sample: DEFAULT_SAMPLE,
        shards: format!("{few:.0}"),
        because: format!(
            "{:.2} times as many messages go through as with eight{cheaper}, and a short poll misses a lone message in {} of all cases instead \
             of {}",
            few_rate / rate,
            missed(few),
            missed(8.0)
        ),
    })
}

fn own_machines(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "shards", name);
    let (most, most_idle, most_rate) = (of("most")?, of("most, idle %")?, of("most, rate")?);
    let (idle, rate) = (of("idle %")?, of("rate")?);
    let verdict = match of("most, rate low")? > of("rate high")? {
        true => "more shards may bring more",
        false => "more than the cores need only cost",
    };
    Some(Choice {
        who: "nodes on machines of their own (not measured here: everything ran on one)",
        wait: "20 s",
        sample: "three eighths of the shards",
        shards: "8, or a few for each core that is to work".to_owned(),
        because: format!(
            "the number cannot be changed later; here {most:.0} take {most_idle:.0} % of a core when idle instead of {idle:.0} %, and {:.2} times as \
             many messages go through as with eight: {verdict}",
            most_rate / rate
        ),
    })
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
