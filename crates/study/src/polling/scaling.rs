//! How many should poll: workers scaled by the backlog of each, beside the number of messages alone.

use std::fs::File;

use anyhow::Context as _;
use flotilla_client::Endpoint;

use super::context::{Context, Shape};
use crate::autoscale::{Comparison, LIVE, LiveArgs, MODEL, Seen, observe};
use crate::section::{Section, duration, percent};

/// Messages that take longer than so many times the acceptable latency are late.
const LATE: f64 = 1.5;

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    context.tell("simulating both rules");
    let model = Comparison::new(context.seed);
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
    let seen = observe(&args, file.into(), &|what| context.tell(what)).await;
    let seen = seen.with_context(|| format!("more is in {}", log.display()))?;
    Ok(section(&model, &seen, context.quick))
}

fn seconds(value: f64) -> String {
    duration(1_000.0 * value)
}

/// What the model says of both rules.
fn modelled(model: &Comparison) -> Vec<String> {
    let Comparison { good, naive, .. } = model;
    let acceptable = model.acceptable_s();
    vec![
        format!(
            "Scaled by the number of messages alone, {:.1} times as many instances are started as by backlog per instance ({} instead of {}), \
             and the slowest message takes {} instead of {}; {} are acceptable. Simulated: {:.0} minutes of the same load.",
            f64::from(naive.started) / f64::from(good.started),
            naive.started,
            good.started,
            seconds(naive.quantile_s(1.0)),
            seconds(good.quantile_s(1.0)),
            seconds(acceptable),
            model.seconds() / 60.0
        ),
        format!(
            "By the number alone all instances together run for {:.0} hours, and {} of the messages take more than {LATE} times the \
             acceptable latency; by backlog per instance it is {:.0} hours and {}.",
            naive.instance_hours,
            percent(naive.late(LATE * acceptable)),
            good.instance_hours,
            percent(good.late(LATE * acceptable))
        ),
    ]
}

/// What real workers did.
fn observed(seen: &Seen) -> String {
    format!(
        "With real workers, driven by `flotilla autoscale`, {} of {} messages were lost, and {} were worked on more than once. Half of the messages \
         took {}, 99 % at most {}, the slowest {}; {} are acceptable. At most {:.0} instances ran at once, {:.0} were started beside the \
         first, and the backlog per instance was below twice its target {} of the time.",
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

fn section(model: &Comparison, seen: &Seen, quick: bool) -> Section {
    let lost = seen.lost();
    let shorter = if quick {
        " In a quick run it takes a third of the time, with half of the messages a second and half of the acceptable latency."
    } else {
        ""
    };
    Section {
        name: "scaling",
        question: "How many consumers should poll, and why does the number of messages alone not say it?".to_owned(),
        method: format!(
            "First chart: a simulated queue; both rules get the same readings, tolerance, cooldowns and bounds, and differ in what is \
             tracked. Second chart: `flotilla autoscale` and real processes, each of which works {:.0} ms on a message, at a standard queue; each \
             message is numbered, and workers write down which they did; `{LIVE}.log` has the decisions.{shorter}",
            seen.work_ms
        ),
        findings: modelled(model).into_iter().chain([observed(seen)]).collect(),
        theory: vec![
            "The acceptable backlog per instance is the acceptable latency divided by the mean time that a message takes. Tracking it is a lag \
             of first order: it settles, with the acceptable latency as its time constant, whatever the load is. The number of messages \
             says nothing of how many instances there are to work on them. Instances are added for as long as there are too many \
             messages and ended for as long as there are too few, so the two swing like prey and predators; and the right number is another \
             one for each load."
                .to_owned(),
            "The target holds for messages in the middle. A standard queue keeps no order, so that single messages are overtaken and take \
             longer than all that wait would need: who needs a bound for each leaves room for that."
                .to_owned(),
        ],
        figures: vec![(MODEL.to_owned(), model.figure()), (LIVE.to_owned(), seen.figure())],
        tables: vec![model.table(), seen.table()],
        broken: (lost > 0)
            .then(|| format!("{lost} of {} messages were lost while workers were scaled", seen.sent))
            .into_iter()
            .collect(),
        values: vec![
            ("started", f64::from(model.good.started)),
            ("count alone, started", f64::from(model.naive.started)),
            ("slowest s", model.good.quantile_s(1.0)),
            ("count alone, slowest s", model.naive.quantile_s(1.0)),
        ],
        advice: Vec::new(),
        skipped: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_message_is_a_broken_promise() {
        let model = Comparison::new(1);
        let mut seen = Seen::nothing();
        let sound = section(&model, &seen, true);
        assert!(sound.broken.is_empty() && sound.findings[2].contains("0 of 0 messages were lost"));
        seen.sent = 2;
        let unsound = section(&model, &seen, false);
        assert_eq!(unsound.broken, ["2 of 2 messages were lost while workers were scaled"]);
    }
}
