//! Empty answers while one message is there: how often, for which sample and how many shards.

use super::api::Ask;
use super::context::{Cluster, Context, Shape};
use super::stats::{Share, by_luck};
use super::theory;
use super::trial::Trial;
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot, Point};
use crate::section::{Section, Table, number, percent};

/// Trials at a time, where it does not matter on which shard a message is.
const AT_ONCE: u32 = 4;

/// One share of empty answers, and where it belongs.
struct Measured {
    x: f64,
    share: Share,
}

/// Whether the first poll of a queue with one message, sent through one node, was empty.
pub(super) async fn first_polls(
    context: &Context,
    cluster: &Cluster,
    (sender, poller): (usize, usize),
    (sample, trials, at_once): (usize, u32, u32),
    what: &str,
) -> anyhow::Result<Share> {
    let trial = |_| {
        let trial = Trial {
            senders: vec![cluster.node(sender).to_owned()],
            poller: cluster.node(poller).to_owned(),
            queue_name: context.queue_name(),
            depth: 1,
            together: false,
        };
        async move {
            let mut filled = trial.fill().await?;
            let answer = filled.poll(Ask::SHORT).await?;
            filled.end().await;
            // Where a shard did not answer, as while its leader changes, that was no sample.
            let whole = answer.asked.len() >= sample;
            Ok(whole.then_some(answer.letters.is_empty()))
        }
    };
    let mut share = Share::default();
    for empty in context.trials(what, trials, at_once, trial).await?.into_iter().flatten() {
        share.count(empty);
    }
    Ok(share)
}

/// Shards of a cluster, and how many of them a poll asks.
type Size = (usize, usize);

/// All that was measured.
struct Measurements {
    /// Which one is spoken of.
    main: Size,
    shares: Vec<(Size, Share)>,
    trials: u32,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let trials = context.pick(60, 500);
    let default = Shape::default();
    let mut all =
        Measurements { main: (default.shards, default.sample), shares: Vec::new(), trials };
    if !context.has_own_clusters() {
        let cluster = context.cluster(&default).await;
        all.main = (cluster.shape.shards, cluster.shape.sample);
        all.measure(context, &cluster, all.main).await?;
        return Ok(section(&all));
    }
    let samples: &[usize] = context.pick(&[1, 3, 8], &[1, 2, 3, 4, 6, 8]);
    let shards: &[usize] = context.pick(&[4, 16], &[3, 4, 8, 16, 32, 64]);
    let sizes = samples.iter().map(|k| (8, *k));
    for (n, k) in sizes.chain(shards.iter().filter(|n| **n != 8).map(|n| (*n, 3))) {
        let shape = Shape { shards: n, sample: k, weights: "uniform", ..Shape::default() };
        let cluster = context.cluster(&shape).await;
        all.measure(context, &cluster, (n, k)).await?;
    }
    Ok(section(&all))
}

impl Measurements {
    async fn measure(
        &mut self,
        context: &Context,
        cluster: &Cluster,
        (n, k): Size,
    ) -> anyhow::Result<()> {
        let what = format!("samples of {k} of {n} shards");
        let share = first_polls(context, cluster, (0, 1), (k, self.trials, AT_ONCE), &what).await?;
        self.shares.push(((n, k), share));
        Ok(())
    }

    fn find(&self, size: Size) -> Option<Share> {
        self.shares.iter().find(|(one, _)| *one == size).map(|(_, share)| *share)
    }

    fn words(&self, size: Size) -> String {
        self.find(size).map_or("unknown".to_owned(), |share| percent(share.value()))
    }

    fn value(&self, size: Size) -> f64 {
        self.find(size).map_or(f64::NAN, Share::value)
    }

    /// How many have the theory in their interval.
    fn within(&self) -> usize {
        self.shares.iter().filter(|((n, k), share)| share.agrees(theory::miss(*n, *k))).count()
    }

    fn findings(&self) -> Vec<String> {
        let (n, k) = self.main;
        let mut findings = vec![format!(
            "With samples of {k} of {n} shards {} of the polls were empty.",
            self.words((n, k))
        )];
        if k < n
            && let Some(all) = self.find((n, n))
        {
            findings[0].push_str(&format!(" With all {n} asked it was {}.", percent(all.value())));
        }
        let with_k = || self.shares.iter().filter(|((_, one), _)| *one == k);
        let few = with_k().min_by_key(|((n, _), _)| *n);
        let many = with_k().max_by_key(|((n, _), _)| *n);
        if let (Some(((few, _), least)), Some(((many, _), most))) = (few, many)
            && few < many
        {
            let (least, most) = (least.value(), most.value());
            let verdict = if least < most {
                "More shards with the same sample mean more empty answers"
            } else {
                "More shards with the same sample did not mean more empty answers, which should not be"
            };
            findings.push(format!(
                "{verdict}: a poll that asks {k} of {few} misses a lone message in {} of all cases, one that asks \
                 {k} of {many} in {}.",
                percent(least),
                percent(most)
            ));
        }
        findings
    }

    fn table(&self) -> Table {
        let header = ["shards", "sample", "trials", "empty", "share", "low", "high", "theory"];
        let mut table = Table::new("misses", &header);
        for ((n, k), share) in &self.shares {
            let (low, high) = share.interval();
            let cells = [share.value(), low, high, theory::miss(*n, *k)].map(number);
            let [value, low, high, theory] = &cells;
            table.row(&[n, k, &share.trials, &share.hits, value, low, high, theory]);
        }
        table
    }

    fn figure(&self) -> Figure {
        let (main_n, main_k) = self.main;
        let pick = |of: &dyn Fn(Size) -> Option<usize>| {
            let mut picked: Vec<Measured> = self
                .shares
                .iter()
                .filter_map(|(size, share)| Some(Measured { x: of(*size)? as f64, share: *share }))
                .collect();
            picked.sort_by(|one, two| one.x.total_cmp(&two.x));
            picked
        };
        let by_sample = pick(&|(n, k)| (n == main_n).then_some(k));
        let by_shards = pick(&|(n, k)| (k == main_k).then_some(n));
        let asked: Vec<f64> = (1..=main_n).map(|k| k as f64).collect();
        let shards: Vec<f64> = by_shards.iter().map(|one| one.x).collect();
        let most = shards.last().copied().unwrap_or(1.0) * 1.17;
        let grid = |i: i32| main_k as f64 * (most / main_k as f64).powf(f64::from(i) / 100.0);
        let plots = vec![
            share_plot(
                &format!("By sample size, of {main_n} shards"),
                Axis::linear("shards asked by a poll")
                    .range(0.5, main_n as f64 + 0.5)
                    .ticks_at(&asked),
                &by_sample,
                &(1..=main_n).map(|k| (k as f64, theory::miss(main_n, k))).collect::<Vec<_>>(),
            ),
            share_plot(
                &format!("By number of shards, {main_k} asked"),
                Axis::log("shards of the cluster").range(2.6, most).ticks_at(&shards),
                &by_shards,
                &(0..=100).map(|i| (grid(i), 1.0 - main_k as f64 / grid(i))).collect::<Vec<_>>(),
            ),
        ];
        let title = format!(
            "A short poll of {main_k} in {main_n} shards misses a lone message {} of the time",
            self.words(self.main)
        );
        let subtitle = format!(
            "One message in a queue, sent through one node and polled once, without waiting, through another; \
             {} fresh queues for each dot, bars: 95 % confidence",
            self.trials
        );
        Figure::new(title, subtitle, plots)
    }
}

fn section(all: &Measurements) -> Section {
    let (within, count) = (all.within(), all.shares.len());
    let everybody = all.shares.iter().filter(|((n, k), share)| k >= n && share.hits > 0);
    Section {
        name: "misses",
        question: "How often is a short poll empty although a message is there?".to_owned(),
        method: format!(
            "Each trial has a queue of its own, so that the polled node remembers nothing: {} trials for each of {count} \
             settings. Clusters that the study started have uniform weights.",
            all.trials
        ),
        findings: all.findings(),
        theory: vec![format!(
            "A sample of k of n shards does not contain a certain one with the chance 1 − k/n. {within} of \
             {count} measured shares have it in their 95 % interval{}.",
            by_luck(
                within,
                count,
                "the first poll of a queue was not drawn evenly, or not of so many shards"
            )
        )],
        figures: vec![("misses".to_owned(), all.figure())],
        tables: vec![all.table()],
        broken: everybody
            .map(|((n, _), all)| {
                format!(
                    "a poll of all {n} shards was empty {} times with a message there",
                    all.hits
                )
            })
            .collect(),
        values: vec![
            ("3 of 8", all.value((8, 3))),
            ("8 of 8", all.value((8, 8))),
            ("3 of 16", all.value((16, 3))),
            ("3 of 4", all.value((4, 3))),
        ],
        ..Section::default()
    }
}

/// Dots with error bars on the line of the theory.
fn share_plot(title: &str, x: Axis, measured: &[Measured], line: &[(f64, f64)]) -> Plot {
    let dots = measured.iter().map(|one| {
        let (low, high) = one.share.interval();
        Point { x: one.x, y: 100.0 * one.share.value(), range: Some((100.0 * low, 100.0 * high)) }
    });
    let theory = line.iter().map(|(x, y)| (*x, 100.0 * y));
    let layers = vec![
        Layer::new("theory: 1 − k/n", Colour::Vermilion, Mark::Line(Dash::Dashed), theory),
        Layer::new("measured", Colour::Blue, Mark::Dots(Dot::Circle), dots),
    ];
    Plot::new(title, x, Axis::linear("empty answers (%)").range(0.0, 100.0), layers)
}
