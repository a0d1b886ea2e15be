//! From the acknowledgement of a send to the answer of a consumer who waits for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::api::{Api, Ask};
use super::context::{Cluster, Context, Shape};
use super::stats::{Estimate, cdf, quantile, quantile_between};
use super::trial::bodies;
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot};
use crate::section::{Section, Table, duration, number};

/// How long a poll is left to park on all shards.
const PARK: Duration = Duration::from_millis(60);
/// Longer than any trial takes.
const WAIT_S: u32 = 20;

/// One way to wait.
struct Case {
    name: &'static str,
    long: bool,
    /// Whether the sender's node was polled.
    same: bool,
    /// From the acknowledgement; below nothing when the message was there first.
    after_ack_ms: Vec<f64>,
    after_send_ms: Vec<f64>,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let cluster = context.cluster(&Shape::default()).await;
    let count = context.pick(40, 520);
    let kinds = [
        ("long poll, through the sender's node", true, true),
        ("long poll, through another node", true, false),
        ("short polls back to back, sender's node", false, true),
        ("short polls back to back, another node", false, false),
    ];
    let mut cases: Vec<Case> = kinds
        .into_iter()
        .map(|(name, long, same)| Case {
            name,
            long,
            same,
            after_ack_ms: Vec::new(),
            after_send_ms: Vec::new(),
        })
        .collect();
    // In turn, so that a disturbance of the machine hits all alike.
    for round in 0..4 {
        for case in &mut cases {
            measure(context, &cluster, case, count / 4, round).await?;
        }
    }
    Ok(section(&cases))
}

/// From acknowledgements to the answers of a consumer that waits at another node, ms.
pub(super) async fn parked(
    context: &Context,
    cluster: &Cluster,
    count: u32,
) -> anyhow::Result<Vec<f64>> {
    let mut case = Case {
        name: "long poll, through another node",
        long: true,
        same: false,
        after_ack_ms: Vec::new(),
        after_send_ms: Vec::new(),
    };
    measure(context, cluster, &mut case, count, 0).await?;
    Ok(case.after_ack_ms)
}

async fn measure(
    context: &Context,
    cluster: &Cluster,
    case: &mut Case,
    count: u32,
    round: u32,
) -> anyhow::Result<()> {
    let mut sender = Api::new(cluster.node(0));
    let poller = cluster.node(usize::from(!case.same)).to_owned();
    let queue = context.queue(&mut sender).await?;
    for number in 0..count {
        context.tell(&format!("{}: {} of {}", case.name, number, count));
        let body = format!("{round}-{number}");
        let waiting = wait_for(poller.clone(), queue.clone(), body.clone(), case.long);
        let waiting = tokio::spawn(waiting);
        sleep(PARK).await;
        let sent = Instant::now();
        sender.send(&queue, &body).await?;
        let acknowledged = Instant::now();
        let received = waiting.await??;
        let ms = |since: Instant| {
            let later = received.saturating_duration_since(since).as_secs_f64();
            1_000.0 * (later - since.saturating_duration_since(received).as_secs_f64())
        };
        case.after_ack_ms.push(ms(acknowledged));
        case.after_send_ms.push(ms(sent));
    }
    sender.delete_queue(&queue).await?;
    Ok(())
}

/// When the message comes.
async fn wait_for(
    node: String,
    queue: String,
    body: String,
    long: bool,
) -> anyhow::Result<Instant> {
    let mut api = Api::new(&node);
    let ask = if long { Ask::long(WAIT_S) } else { Ask::SHORT };
    loop {
        let answer = api.receive(&queue, ask).await?;
        let now = Instant::now();
        let found = bodies(&answer.letters).any(|one| one == body);
        if !answer.letters.is_empty() {
            api.delete(&queue, &answer.letters).await?;
        }
        if found {
            return Ok(now);
        }
    }
}

impl Case {
    fn ack(&self, share: f64) -> Estimate {
        quantile_between(&self.after_ack_ms, share)
    }

    fn send(&self, share: f64) -> Estimate {
        quantile_between(&self.after_send_ms, share)
    }
}

fn table(cases: &[Case]) -> Table {
    let mut header: Vec<String> = vec!["consumer".into(), "trials".into()];
    for name in ["p50", "p99", "from_send_p50", "from_send_p99"] {
        header.extend(["ms", "low", "high"].map(|part| format!("{name}_{part}")));
    }
    header.extend(["max_ms".to_owned(), "before_ack_share".to_owned()]);
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new("wake", &header);
    for case in cases {
        let ack = &case.after_ack_ms;
        let early = ack.iter().filter(|ms| **ms < 0.0).count() as f64 / ack.len() as f64;
        let mut row = vec![case.name.to_owned(), ack.len().to_string()];
        for one in [case.ack(0.5), case.ack(0.99), case.send(0.5), case.send(0.99)] {
            row.extend(one.cells());
        }
        row.extend([number(quantile(ack, 1.0)), number(early)]);
        table.rows.push(row);
    }
    table
}

/// In milliseconds.
fn of(cases: &[Case], long: bool, same: bool, share: f64) -> f64 {
    let case = cases.iter().find(|case| case.long == long && case.same == same);
    case.map_or(f64::NAN, |case| quantile(&case.after_ack_ms, share))
}

fn figure(cases: &[Case]) -> Figure {
    let looks = [
        (Colour::Blue, Dash::Solid, Dot::Circle),
        (Colour::Sky, Dash::Dashed, Dot::Circle),
        (Colour::Vermilion, Dash::Solid, Dot::Square),
        (Colour::Orange, Dash::Dashed, Dot::Square),
    ];
    let layers = cases.iter().zip(looks).map(|(case, (colour, dash, _))| {
        Layer::new(case.name, colour, Mark::Line(dash), cdf(&case.after_ack_ms, 200))
    });
    let slow = cases.iter().map(|case| quantile(&case.after_ack_ms, 0.97)).fold(1.0, f64::max);
    let early = cases.iter().map(|case| quantile(&case.after_ack_ms, 0.01)).fold(0.0, f64::min);
    let distribution = Plot::new(
        "All of them",
        Axis::linear("from acknowledgement to answer (ms)").range(early, slow * 1.1),
        Axis::linear("messages received (%)").range(0.0, 102.0),
        layers.collect(),
    );
    let dots = cases.iter().zip(looks).enumerate().map(|(number, (case, (colour, _, dot)))| {
        let beside = (number as f64 - 1.5) * 0.14;
        let points = [(0.0, 0.5), (1.0, 0.99)].map(|(x, share)| case.ack(share).at(x + beside));
        Layer::new("", colour, Mark::Dots(dot), points)
    });
    let quantiles = Plot::new(
        "With 95 % confidence",
        Axis::names("", ["half within", "99 % within"]),
        Axis::linear("from acknowledgement to answer (ms)"),
        dots.collect(),
    );
    Figure::new(
        format!(
            "A parked long poll answers {} after the send is acknowledged (median)",
            duration(of(cases, true, false, 0.5))
        ),
        "An idle queue; single messages while one consumer waits".to_owned(),
        vec![distribution, quantiles],
    )
    .height(320.0)
}

/// How long half of the sends took into queues with a long poll.
fn send_ms(cases: &[Case], same: bool) -> f64 {
    let case = cases.iter().find(|case| case.long && case.same == same);
    let took = |case: &Case| {
        let both = case.after_send_ms.iter().zip(&case.after_ack_ms);
        quantile(&both.map(|(send, ack)| send - ack).collect::<Vec<_>>(), 0.5)
    };
    case.map_or(f64::NAN, took)
}

/// What waiting costs beside looking all the time.
fn verdict(cases: &[Case]) -> &'static str {
    let later = |same| of(cases, true, same, 0.5) - of(cases, false, same, 0.5);
    match later(true).max(later(false)) {
        // Less than anybody's network takes.
        later if later < 0.5 => "waiting costs nothing in latency",
        later if later.is_nan() => "nothing else was measured",
        _ => "here waiting cost latency, which should not be",
    }
}

fn section(cases: &[Case]) -> Section {
    let words = |long, same, share| duration(of(cases, long, same, share));
    Section {
        name: "wake",
        question: "How soon does a waiting consumer wake up?".to_owned(),
        method: format!(
            "Single messages into an idle queue, {} for each line; a consumer has been waiting for {} ms in a long poll, \
             or polls without waiting as fast as answers come.",
            cases.first().map_or(0, |case| case.after_ack_ms.len()),
            PARK.as_millis()
        ),
        findings: vec![
            format!(
                "A long poll through the sender's node is answered {} after the acknowledgement (p99 {}), through another node {} \
                 (p99 {}).",
                words(true, true, 0.5),
                words(true, true, 0.99),
                words(true, false, 0.5),
                words(true, false, 0.99)
            ),
            format!(
                "Short polls back to back, which keep processors busy all the time, take {} (p99 {}) and {} (p99 {}): {}.",
                words(false, true, 0.5),
                words(false, true, 0.99),
                words(false, false, 0.5),
                words(false, false, 0.99),
                verdict(cases)
            ),
        ],
        theory: vec![format!(
            "A wake-up is one round trip to the shard that has the message and one entry of its log for the receipt; \
             through another node there is one hop more. So it should take about what a send takes, which is a request and an entry: {} \
             through the same node, {} through another one (medians of the sends of these trials). The sender's answer and the wake-up set \
             off at the same moment, so an answer may come before the acknowledgement: values below nothing are real.",
            duration(send_ms(cases, true)),
            duration(send_ms(cases, false))
        )],
        figures: vec![("wake".to_owned(), figure(cases))],
        tables: vec![table(cases)],
        ..Section::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_judged_by_the_numbers() {
        let case = |long, same, ms| Case {
            name: "",
            long,
            same,
            after_ack_ms: vec![ms; 9],
            after_send_ms: vec![ms; 9],
        };
        let cases = |ms| {
            [
                case(true, true, ms),
                case(true, false, 1.0),
                case(false, true, 1.0),
                case(false, false, 1.0),
            ]
        };
        assert!(verdict(&cases(1.2)).contains("nothing in latency"));
        assert!(verdict(&cases(3.0)).contains("should not be"));
    }
}
