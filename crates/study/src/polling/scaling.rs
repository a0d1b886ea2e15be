//! How many should poll: workers scaled by the backlog of each, beside the number of messages
//! alone.

use std::fs::File;

use anyhow::Context as _;
use flotilla_client::Endpoint;

use super::context::{Context, Shape};
use super::stats::{Estimate, mean};
use crate::autoscale::{Comparison, LATE, LIVE, LiveArgs, MODEL, Scaling, Seen, Summary, observe};
use crate::section::{Section, duration, percent};

/// Of the second run of real workers.
const COUNTED: &str = "autoscale-live-count";

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    context.tell("simulating both rules");
    let model = Comparison::new(context.seed, context.pick(2, 20));
    let cluster = context.cluster(&Shape::default()).await;
    let nodes = cluster.nodes.iter().map(|node| format!("http://{node}").parse::<Endpoint>());
    let args = LiveArgs::new(
        nodes.collect::<Result<_, _>>()?,
        flotilla_tests::binary(),
        context.out.clone(),
    );
    let args = if context.quick { args.short() } else { args };
    let log = args.out.join(format!("{LIVE}.log"));
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let seen = observe(&args, Scaling::Backlog(file.into()), &|what| context.tell(what)).await;
    let seen = seen.with_context(|| format!("more is in {}", log.display()))?;
    // It is only of use when something failed.
    std::fs::remove_file(&log)?;
    let counted = match context.quick {
        true => None,
        false => Some(observe(&args, Scaling::Count, &|what| context.tell(what)).await?),
    };
    Ok(section(&model, &seen, counted.as_ref(), context.quick))
}

fn seconds(value: f64) -> String {
    duration(1_000.0 * value)
}

/// A number of each run, on average.
fn of(runs: &[Summary], value: fn(&Summary) -> f64) -> Estimate {
    mean(&runs.iter().map(value).collect::<Vec<_>>())
}

/// With its interval.
fn words(one: Estimate, say: impl Fn(f64) -> String) -> String {
    if one.low.is_finite() {
        format!("{} ({} to {})", say(one.value), say(one.low), say(one.high))
    } else {
        say(one.value)
    }
}

/// What the model says of both rules.
fn modelled(model: &Comparison) -> Vec<String> {
    let whole = |value: f64| format!("{value:.0}");
    let tenth = |value: f64| format!("{value:.1}");
    let both = |value: fn(&Summary) -> f64| (of(&model.naive, value), of(&model.good, value));
    let (count_started, started) = both(|one| one.started);
    let (count_hours, hours) = both(|one| one.instance_hours);
    let (count_mean, mean) = both(|one| one.mean_s);
    let (count_p99, p99) = both(|one| one.p99_s);
    let (count_slowest, slowest) = both(|one| one.slowest_s);
    let (count_late, late) = both(|one| one.late);
    let quicker = if count_mean.value < mean.value {
        "By the number alone most messages wait for less, because it swings between too many instances and too few; "
    } else {
        ""
    };
    vec![
        format!(
            "The number alone, which is to be the {:.0} messages that may wait when it is busiest, starts {} instances for {} \
             instance-hours; the backlog per instance starts {} for {}. Simulated: {:.0} minutes of the same load, {} seeds.",
            model.count,
            words(count_started, whole),
            words(count_hours, tenth),
            words(started, whole),
            words(hours, tenth),
            model.seconds() / 60.0,
            model.good.len()
        ),
        format!(
            "{quicker}the mean latency is {} and {}, 99 % come within {} and {}, the slowest message takes {} and {}; {} are acceptable, \
             and {} and {} of the messages take more than {LATE} times that (the number alone first, each time).",
            words(count_mean, seconds),
            words(mean, seconds),
            words(count_p99, seconds),
            words(p99, seconds),
            words(count_slowest, seconds),
            words(slowest, seconds),
            seconds(model.acceptable_s()),
            percent(count_late.value),
            percent(late.value)
        ),
    ]
}

/// What real workers did.
fn observed(seen: &Seen) -> String {
    format!(
        "With real workers, driven by `flotilla autoscale`, {} of {} messages were lost, and {} were worked on more than once. Half of the messages \
         took {}, 99 % at most {}, the slowest {}; {} are acceptable. At most {:.0} instances ran at once, {:.0} were started beside the \
         first. From when one instance is not enough until the load falls, the backlog per instance was within half of its target, above \
         or below, {} of the time.",
        seen.lost(),
        seen.sent,
        seen.doubled(),
        seconds(seen.latency_s(0.5)),
        seconds(seen.latency_s(0.99)),
        seconds(seen.latency_s(1.0)),
        seconds(seen.acceptable_latency_s),
        seen.most_instances(),
        seen.started(),
        percent(seen.near())
    )
}

/// What they did when only messages were counted.
fn counted(seen: &Seen, counted: &Seen) -> String {
    let hours = |seen: &Seen| 3_600.0 * seen.instance_hours();
    format!(
        "Scaled by the number of messages alone (which is to be what is right when it is busiest), the same workers under the same load were started \
         {:.0} times beside the first instead of {:.0}, ran for {} in all instead of {}, and messages took {} instead of {} on \
         average, 99 % at most {} instead of {}; {} of them more than {LATE} times what is acceptable instead of {}. {} were lost. One run of \
         each.",
        counted.started(),
        seen.started(),
        seconds(hours(counted)),
        seconds(hours(seen)),
        seconds(counted.mean_latency_s()),
        seconds(seen.mean_latency_s()),
        seconds(counted.latency_s(0.99)),
        seconds(seen.latency_s(0.99)),
        percent(counted.late(LATE * counted.acceptable_latency_s)),
        percent(seen.late(LATE * seen.acceptable_latency_s)),
        counted.lost()
    )
}

fn section(model: &Comparison, seen: &Seen, other: Option<&Seen>, quick: bool) -> Section {
    let shorter = if quick {
        " In a quick run it takes a third of the time, with half of the messages a second and half of the acceptable latency, and \
         once only."
    } else {
        ""
    };
    let mut tables = vec![model.seeds_table(), model.table(), seen.table(LIVE)];
    tables.extend(other.map(|other| other.table(COUNTED)));
    let mut findings = modelled(model);
    findings.push(observed(seen));
    findings.extend(other.map(|other| counted(seen, other)));
    let lost = |seen: &&Seen| seen.lost() > 0;
    let say = |seen: &Seen| {
        format!("{} of {} messages were lost while workers were scaled", seen.lost(), seen.sent)
    };
    Section {
        name: "scaling",
        question: "How many consumers should poll, and why does the number of messages alone not say it?".to_owned(),
        method: format!(
            "First chart: a simulated queue; both rules get the same readings, tolerance, cooldowns and bounds, and differ in what is \
             tracked; the number of messages that is tracked alone is what comes in the acceptable latency when it is busiest. Second chart: \
             real processes, each of which works {:.0} ms on a message, at a standard queue, scaled by `flotilla autoscale` and by the \
             number of visible messages; each message is numbered, and workers write down which they did.{shorter}",
            seen.work_ms
        ),
        findings,
        theory: vec![
            "The acceptable backlog per instance is the acceptable latency divided by the mean time that a message takes. Tracking it is a lag \
             of first order: it settles, with the acceptable latency as its time constant, whatever the load is. The number of messages \
             says nothing of how many instances there are to work on them. Instances are added for as long as there are too many \
             messages and ended for as long as there are too few, so the two swing like prey and predators; and the right number is another \
             one for each load."
                .to_owned(),
            "The target holds for messages in the middle. A standard queue keeps no order, so that single messages are overtaken and take \
             longer than all that wait would need: who needs a bound for each leaves room for that. After a burst there are more \
             instances than are needed, until the scale-in cooldown is over, and the backlog of each is smaller."
                .to_owned(),
        ],
        figures: vec![(MODEL.to_owned(), model.figure()), (LIVE.to_owned(), seen.figure(other))],
        tables,
        broken: [Some(seen), other].into_iter().flatten().filter(lost).map(say).collect(),
        values: vec![
            ("started", of(&model.good, |one| one.started).value),
            ("count alone, started", of(&model.naive, |one| one.started).value),
            ("p99 s", of(&model.good, |one| one.p99_s).value),
            ("count alone, p99 s", of(&model.naive, |one| one.p99_s).value),
            ("mean s", of(&model.good, |one| one.mean_s).value),
            ("hours", of(&model.good, |one| one.instance_hours).value),
            ("count alone, hours", of(&model.naive, |one| one.instance_hours).value),
            ("count alone, mean s", of(&model.naive, |one| one.mean_s).value),
        ],
        ..Section::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_message_is_a_broken_promise() {
        let model = Comparison::new(1, 1);
        let mut seen = Seen::nothing();
        let sound = section(&model, &seen, None, true);
        assert!(sound.broken.is_empty() && sound.findings[2].contains("0 of 0 messages were lost"));
        seen.sent = 2;
        let unsound = section(&model, &Seen::nothing(), Some(&seen), false);
        assert_eq!(unsound.broken, ["2 of 2 messages were lost while workers were scaled"]);
    }
}
