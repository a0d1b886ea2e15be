//! What follows from the numbers.

use super::choices::HARDLY_MORE;
use crate::section::{Section, duration, percent};

/// A value that an experiment brought home.
pub(super) fn value(sections: &[Section], section: &str, name: &str) -> Option<f64> {
    let section = sections.iter().find(|one| one.name == section)?;
    let found = section.values.iter().find(|(one, _)| *one == name);
    found.map(|(_, value)| *value).filter(|value| value.is_finite())
}

/// As far as the experiments were run: what follows from several of them, and what each says
/// itself.
pub(super) fn advice(sections: &[Section]) -> Vec<String> {
    let of = |name: &str| {
        let section = sections.iter().find(|one| one.name == name);
        section.map(|section| section.advice.clone()).unwrap_or_default()
    };
    let mut all: Vec<String> = wait(sections).into_iter().collect();
    all.extend(of("cost"));
    all.extend(
        [rounds(sections), idle(sections), sample(sections), shards(sections)]
            .into_iter()
            .flatten(),
    );
    all.extend(of("shards"));
    all.extend([weights(sections), scaling(sections)].into_iter().flatten());
    all
}

/// Long polls of 20 s beside short ones every second, of a slow queue: requests per message, and half of the latencies.
pub(super) struct Waiting {
    pub(super) rate: f64,
    pub(super) long: f64,
    pub(super) short: f64,
    pub(super) long_ms: f64,
    pub(super) short_ms: f64,
}

impl Waiting {
    pub(super) fn of(sections: &[Section]) -> Option<Self> {
        let of = |name| value(sections, "cost", name);
        Some(Self {
            rate: of("rate")?,
            long: of("long 20 s, requests")?,
            short: of("short 1 s, requests")?,
            long_ms: of("long 20 s, p50 ms")?,
            short_ms: of("short 1 s, p50 ms")?,
        })
    }

    pub(super) fn is_better(&self) -> bool {
        self.long < self.short && self.long_ms < self.short_ms
    }
}

fn wait(sections: &[Section]) -> Option<String> {
    let waiting = Waiting::of(sections)?;
    let verdict = if waiting.is_better() {
        "Where messages are rare, or wanted at once, wait 20 s (ReceiveMessageWaitTimeSeconds of the queue, or WaitTimeSeconds of the \
         call)"
    } else {
        "Here short polls of a slow queue were cheaper or faster than waits of 20 s, which should not be: look at the errors"
    };
    let Waiting { rate, long, short, long_ms, short_ms } = waiting;
    Some(format!(
        "{verdict}. At {rate} messages per second it took {long:.2} receive requests per message instead of {short:.1} with short polls \
         every second, and half of the messages came within {} instead of {}. A shorter wait buys nothing, because an answer \
         is sent when a message comes, not when the wait is over. (The default for a queue stays 0, as SQS has it: applications rely \
         on what a queue without the attribute does.) Where many messages come and may wait, a pause between polls is \
         cheaper:",
        duration(long_ms),
        duration(short_ms)
    ))
}

/// One consumer of many queues: half of the latencies, with a long poll at each, with long polls in turn, and short ones.
pub(super) struct Rounds {
    pub(super) queues: f64,
    pub(super) at_once: f64,
    pub(super) turn: f64,
    pub(super) short: f64,
}

impl Rounds {
    pub(super) fn of(sections: &[Section]) -> Option<Self> {
        let of = |name| value(sections, "many", name);
        Some(Self {
            queues: of("queues")?,
            at_once: of("at once, p50 ms")?,
            turn: of("in turn, p50 ms")?,
            short: of("short in turn, p50 ms")?,
        })
    }

    pub(super) fn is_best_at_once(&self) -> bool {
        self.at_once < self.turn.min(self.short)
    }
}

fn rounds(sections: &[Section]) -> Option<String> {
    let rounds = Rounds::of(sections)?;
    let verdict = if rounds.is_best_at_once() {
        "For several queues, keep one long poll waiting at each"
    } else {
        "For several queues, one long poll waiting at each should be fastest, and was not here: look at the errors"
    };
    let Rounds { queues, at_once, turn, short } = rounds;
    let better = if short < turn { "not wait" } else { "wait for a second" };
    Some(format!(
        "{verdict}. With {queues:.0} of them, half of the messages waited {} at most, {} where one thread took them in turn with long polls of \
         a second, and {} with short polls: a thread that must go in turn had better {better}.",
        duration(at_once),
        duration(turn),
        duration(short)
    ))
}

/// What 200 idle consumers add, percent of a core: in long polls, and in short ones every 0.1 s.
pub(super) fn idle_percent(sections: &[Section]) -> Option<(f64, f64)> {
    let of = |name| value(sections, "idle", name);
    let nobody = of("nobody")?;
    let added = |cores: f64| 100.0 * (cores - nobody).max(0.0);
    Some((added(of("long")?), added(of("short 0.1 s")?)))
}

fn idle(sections: &[Section]) -> Option<String> {
    let (long, short) = idle_percent(sections)?;
    Some(format!(
        "Let idle consumers wait: 200 of them added {long:.1} % of a core to the three nodes in long polls of 20 s, and {short:.0} % in short polls \
         every 0.1 s."
    ))
}

fn sample(sections: &[Section]) -> Option<String> {
    let (miss, none) = (value(sections, "misses", "3 of 8")?, value(sections, "misses", "8 of 8")?);
    let of = |name| value(sections, "coverage", name);
    let (bound, most) = (of("bound")?, of("most polls for ten")?);
    let (three, all) = (of("999, three")?, of("999, all")?);
    let cheap = three < HARDLY_MORE * all;
    let verdict =
        if cheap && most <= bound { "keeps what is promised" } else { "should be looked at again" };
    Some(format!(
        "The default sample of 3 in 8 shards was chosen to be like SQS, where short polls miss messages, and not for its cost; it {verdict}: a short poll misses a \
         lone message of another node in {} of all cases, all of ten messages are seen within {bound:.0} polls ({most:.0} at most were \
         needed), and 999 cost {three:.0} polls against {all:.0} with all shards asked. Who short-polls small queues and wants no misses \
         sets `sample = \"all\"`: {} misses{}. Long polls ask all shards anyway.",
        percent(miss),
        percent(none),
        cost_of_all(sections)
            .unwrap_or_else(|| ", for a question to every shard's leader per poll".to_owned())
    ))
}

/// What short polls of all shards cost more than those of a sample.
fn cost_of_all(sections: &[Section]) -> Option<String> {
    let of = |name| value(sections, "idle", name);
    let nobody = of("nobody")?;
    let (some, all) = (of("short 0.1 s")? - nobody, of("short 0.1 s, all")? - nobody);
    let (some_ms, all_ms) = (of("poll ms")?, of("poll ms, all")?);
    Some(format!(
        ", for {:.2} times the processor time and {all_ms:.2} ms instead of {some_ms:.2} for each poll of an empty queue, on one machine; \
         with nodes apart a poll that asks every leader waits for the slowest of them",
        all / some
    ))
}

fn shards(sections: &[Section]) -> Option<String> {
    let of = |name| value(sections, "misses", name);
    let (eight, sixteen, four) = (of("3 of 8")?, of("3 of 16")?, of("3 of 4")?);
    let verdict = if four < eight && eight < sixteen {
        "miss more"
    } else {
        "did not miss more here, as they should"
    };
    Some(format!(
        "More shards want a sample that grows with them (three eighths), or short polls {verdict}: with samples of three, a lone message was \
         missed in {} of all cases with 4 shards, in {} with 8 and in {} with 16. Long polls do not care.",
        percent(four),
        percent(eight),
        percent(sixteen)
    ))
}

fn weights(sections: &[Section]) -> Option<String> {
    let of = |name| value(sections, "weights", name);
    let (backlog, uniform) = (of("backlog, same node")?, of("uniform, same node")?);
    let (other, locality) = (of("backlog, another node")?, of("locality, another node")?);
    let right = backlog < uniform && other <= locality + 0.1;
    let verdict = if right { "are right as the default" } else { "should not be the default" };
    Some(format!(
        "Weights by backlog {verdict}: they find what the same node took in ({} misses instead of {}) and cost nothing elsewhere \
         ({} misses; locality: {}). `uniform` is for demonstrations, `locality` for queues that are sent to and polled through the \
         same node.",
        percent(backlog),
        percent(uniform),
        percent(other),
        percent(locality)
    ))
}

fn scaling(sections: &[Section]) -> Option<String> {
    let of = |name| value(sections, "scaling", name);
    let (started, count_started) = (of("started")?, of("count alone, started")?);
    let (p99, count_p99) = (of("p99 s")?, of("count alone, p99 s")?);
    let (mean, count_mean) = (of("mean s")?, of("count alone, mean s")?);
    let (hours, count_hours) = (of("hours")?, of("count alone, hours")?);
    let verdict = match (started < count_started, p99 < count_p99) {
        (true, true) => {
            "Scale workers by the backlog of each (`flotilla autoscale`) and not by the number of messages"
        }
        (true, false) => {
            "Scale workers by the backlog of each (`flotilla autoscale`) where starting them costs something or a latency is promised"
        }
        (false, _) => {
            "Here the number of messages alone started no more instances than the backlog of each, which should not be: look at the charts"
        }
    };
    let seconds = |value| duration(1_000.0 * value);
    Some(format!(
        "{verdict}. In the simulation the number alone started {count_started:.0} instances instead of {started:.0}, and took \
         {count_hours:.1} instance-hours instead of {hours:.1}; 99 % of its messages came within {} instead of {}, on average within {} instead of {}.",
        seconds(count_p99),
        seconds(p99),
        seconds(count_mean),
        seconds(mean)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &'static str, values: &[(&'static str, f64)]) -> Section {
        Section { name, values: values.to_vec(), ..Section::default() }
    }

    #[test]
    fn advice_follows_the_numbers() {
        let cost = |long, short| {
            [section(
                "cost",
                &[
                    ("long 20 s, requests", long),
                    ("short 1 s, requests", short),
                    ("long 20 s, p50 ms", 2.0),
                    ("short 1 s, p50 ms", 900.0),
                    ("rate", 0.2),
                ],
            )]
        };
        assert!(advice(&cost(1.0, 6.0))[0].contains("wait 20 s"));
        assert!(advice(&cost(6.0, 1.0))[0].starts_with("Here short polls"));
        assert!(advice(&[]).is_empty());
        let mut own = cost(1.0, 6.0);
        own[0].advice = vec!["of its own".to_owned()];
        assert_eq!(advice(&own)[1], "of its own");
    }
}
