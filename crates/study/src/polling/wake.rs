//! From the acknowledgement of a send to the answer of a consumer who waits for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::api::{Api, Ask};
use super::context::{Cluster, Context, Shape};
use super::stats::{cdf, quantile};
use super::trial::bodies;
use crate::plot::{Axis, Colour, Dash, Figure, Layer, Mark, Plot};
use crate::section::{Section, Table, duration, number};

/// How long a poll is left to park on all shards.
const PARK: Duration = Duration::from_millis(60);
/// Longer than any trial takes.
const WAIT_S: u32 = 20;

/// One way to wait.
struct Case {
    name: &'static str,
    long: bool,
    same: bool,
    /// From the acknowledgement; below nothing when the message was there first.
    after_ack_ms: Vec<f64>,
    after_send_ms: Vec<f64>,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let cluster = context.cluster(&Shape::default()).await;
    let count = context.pick(40, 800);
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

fn section(cases: &[Case]) -> Section {
    let mut table = Table::new(
        "wake",
        &[
            "consumer",
            "trials",
            "p50_ms",
            "p99_ms",
            "max_ms",
            "before_ack_share",
            "from_send_p50_ms",
            "from_send_p99_ms",
        ],
    );
    for case in cases {
        let ack = &case.after_ack_ms;
        let early = ack.iter().filter(|ms| **ms < 0.0).count() as f64 / ack.len() as f64;
        let numbers = [
            quantile(ack, 0.5),
            quantile(ack, 0.99),
            quantile(ack, 1.0),
            early,
            quantile(&case.after_send_ms, 0.5),
            quantile(&case.after_send_ms, 0.99),
        ]
        .map(number);
        let [p50, p99, max, early, send_p50, send_p99] = &numbers;
        table.row(&[
            &case.name.replace(',', ";"),
            &ack.len(),
            p50,
            p99,
            max,
            early,
            send_p50,
            send_p99,
        ]);
    }
    let of = |long, same, share| {
        let case = cases.iter().find(|case| case.long == long && case.same == same);
        duration(case.map_or(f64::NAN, |case| quantile(&case.after_ack_ms, share)))
    };
    let looks = [
        (Colour::Blue, Dash::Solid),
        (Colour::Sky, Dash::Dashed),
        (Colour::Vermilion, Dash::Solid),
        (Colour::Orange, Dash::Dashed),
    ];
    let layers = cases.iter().zip(looks).map(|(case, (colour, dash))| {
        Layer::new(case.name, colour, Mark::Line(dash), cdf(&case.after_ack_ms, 200))
    });
    let slow = cases.iter().map(|case| quantile(&case.after_ack_ms, 0.97)).fold(1.0, f64::max);
    let early = cases.iter().map(|case| quantile(&case.after_ack_ms, 0.01)).fold(0.0, f64::min);
    let plot = Plot::new(
        "",
        Axis::linear("from the send's acknowledgement to the consumer's answer (ms)")
            .range(early, slow * 1.1),
        Axis::linear("messages received (%)").range(0.0, 102.0),
        layers.collect(),
    );
    let figure = Figure::new(
        format!(
            "A parked long poll answers {} after the send is acknowledged (median)",
            of(true, false, 0.5)
        ),
        "An idle queue; 8 shards; single messages while one consumer waits".to_owned(),
        vec![plot],
    )
    .height(360.0);
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
                of(true, true, 0.5),
                of(true, true, 0.99),
                of(true, false, 0.5),
                of(true, false, 0.99)
            ),
            format!(
                "Short polls back to back, which keep processors busy all the time, take {} (p99 {}) and {} (p99 {}): waiting \
                 costs nothing in latency.",
                of(false, true, 0.5),
                of(false, true, 0.99),
                of(false, false, 0.5),
                of(false, false, 0.99)
            ),
        ],
        theory: vec![
            "A wake-up is one round trip to the shard that has the message and one entry of its log for the receipt; \
             through another node there is one hop more. The sender's answer and the wake-up set off at the same moment, so an \
             answer may come before the acknowledgement: values below nothing are real."
                .to_owned(),
        ],
        figures: vec![("wake".to_owned(), figure)],
        tables: vec![table],
        broken: Vec::new(),
        values: cases
            .iter()
            .filter(|case| case.long && !case.same)
            .map(|case| ("p99 ms", quantile(&case.after_ack_ms, 0.99)))
            .collect(),
        skipped: None,
    }
}
