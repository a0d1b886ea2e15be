//! Which wait time, sample and number of shards for which use, each with the numbers that it follows from.

use super::advice::value;
use crate::section::{Section, Table, duration, percent};

/// What the server does by itself: three of eight shards for a short poll, and no wait.
const DEFAULT_SAMPLE: &str = "3";
const DEFAULT_SHARDS: &str = "8";
/// What no setting of the server can change.
const ANY: &str = "any: all are asked";

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
    (long < short && long_ms < short_ms).then(|| Choice {
        who: "a worker that takes what comes",
        wait: "20 s",
        sample: ANY,
        shards: DEFAULT_SHARDS.to_owned(),
        because: format!(
            "{long:.1} requests per message instead of {short:.1} with short polls every second, at a message in five seconds; half \
             come within {} instead of {}",
            duration(long_ms),
            duration(short_ms)
        ),
    })
}

fn busy(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "cost", name);
    let (rate, long) = (of("busy rate")?, of("busy, long 20 s, requests")?);
    let (pauses, p99_ms) = (of("busy, pauses, requests")?, of("busy, pauses, p99 ms")?);
    (pauses < long).then(|| Choice {
        who: "many messages that may wait for a second or two",
        wait: "20 s, and a pause of 1 s after each answer",
        sample: ANY,
        shards: DEFAULT_SHARDS.to_owned(),
        because: format!(
            "{pauses:.2} receive requests per message instead of {long:.2} without pauses, at {rate:.0} messages per second; 99 % come within {}",
            duration(p99_ms)
        ),
    })
}

fn many_queues(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "many", name);
    let (queues, turn, at_once) = (of("queues")?, of("in turn, p50 ms")?, of("at once, p50 ms")?);
    (at_once < turn).then(|| Choice {
        who: "one worker of many queues",
        wait: "20 s, a poll waiting at each queue",
        sample: ANY,
        shards: DEFAULT_SHARDS.to_owned(),
        because: format!(
            "of {queues:.0} queues half of the messages come within {} instead of {} with long polls in turn",
            duration(at_once),
            duration(turn)
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
    Some(Choice {
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
    let (few, few_idle, few_rate) = (of("few")?, of("few, idle %")?, of("few, rate")?);
    let (idle, rate) = (of("idle %")?, of("rate")?);
    (few_idle < idle).then(|| Choice {
        who: "all nodes on one machine",
        wait: "20 s",
        sample: DEFAULT_SAMPLE,
        shards: format!("{few:.0}"),
        because: format!(
            "an idle cluster takes {few_idle:.0} % of a core instead of {idle:.0} %, and {:.2} times as many messages go through as with eight",
            few_rate / rate
        ),
    })
}

fn own_machines(sections: &[Section]) -> Option<Choice> {
    let of = |name| value(sections, "shards", name);
    let (most, most_idle, most_rate) = (of("most")?, of("most, idle %")?, of("most, rate")?);
    let (idle, rate) = (of("idle %")?, of("rate")?);
    Some(Choice {
        who: "nodes on machines of their own (not measured here: everything ran on one)",
        wait: "20 s",
        sample: "three eighths of the shards",
        shards: "8, or a few for each core that is to work".to_owned(),
        because: format!(
            "the number cannot be changed later; here {most:.0} take {most_idle:.0} % of a core when idle instead of {idle:.0} %, and {:.2} times as \
             many messages go through as with eight, so more than the cores need only cost",
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
    fn shards_are_chosen_by_what_they_cost() {
        let shards = |few_idle| {
            let few = [("few", 4.0), ("few, idle %", few_idle), ("few, rate", 110.0)];
            let rest = [("idle %", 6.0), ("rate", 100.0), ("most", 64.0)];
            let most = [("most, idle %", 20.0), ("most, rate", 60.0)];
            [section("shards", &[&few[..], &rest, &most].concat())]
        };
        let found = rows(&shards(4.0));
        assert_eq!(found[0][3], "4");
        assert!(found[0][4].contains("1.10 times"), "{found:?}");
        assert!(found[1][4].contains("64 take 20 % of a core"), "{found:?}");
        assert_eq!(rows(&shards(6.0)).len(), 1, "four are no cheaper");
    }
}
