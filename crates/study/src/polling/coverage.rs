//! Polls until every message of a small queue was seen.

use super::api::{Answer, Ask};
use super::context::{Context, Shape};
use super::stats::{mean, quantile};
use super::trial::Trial;
use super::{deck, theory};
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot, Point};
use crate::section::{Section, Table, number};

const N: usize = 8;
/// Whose distribution is shown.
const K: usize = 3;
const FEW: u32 = 10;
const MANY: u32 = 999;

/// One queue, polled until all was seen.
#[derive(Clone, Debug)]
struct Sweep {
    polls: usize,
    /// Shards that had messages.
    occupied: usize,
}

/// All trials of one setting.
struct Setting {
    k: usize,
    depth: u32,
    sweeps: Vec<Sweep>,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let sizes: &[usize] = context.pick(&[1, 3, 8], &[1, 2, 3, 4, 6, 8]);
    let mut settings = Vec::new();
    for k in sizes.iter().copied() {
        let cluster = context.cluster(&Shape { sample: k, ..Shape::default() }).await;
        for (depth, trials) in [(FEW, context.pick(50, 300)), (MANY, context.pick(3, 20))] {
            let trial = |_| {
                let trial = Trial {
                    senders: vec![cluster.node(0).to_owned()],
                    poller: cluster.node(1).to_owned(),
                    queue_name: context.queue_name(),
                    depth,
                };
                sweep(trial, limit(k, depth))
            };
            let what = format!("{depth} messages, samples of {k}");
            let sweeps = context.trials(&what, trials, 4, trial).await?;
            settings.push(Setting { k, depth, sweeps });
        }
    }
    Ok(section(&settings))
}

/// Polls within which all must be seen. A poll that is not full asks k shards and empties them; a full one may ask
/// fewer, but there are no more of those than tens of messages, and between two turns of a shard fit no more
/// polls that are not full than the bound says.
fn limit(k: usize, depth: u32) -> usize {
    let full = (depth as usize / 10).saturating_sub(1);
    full + (full + 1) * theory::deck_bound(N, k)
}

async fn sweep(trial: Trial, limit: usize) -> anyhow::Result<Sweep> {
    let mut filled = trial.fill().await?;
    let mut answers = Vec::new();
    let mut seen = 0;
    while seen < trial.depth as usize && answers.len() <= limit {
        let answer = filled.poll(Ask::SHORT).await?;
        seen += answer.letters.len();
        answers.push(answer);
    }
    filled.end().await;
    Ok(judge(&answers))
}

fn judge(answers: &[Answer]) -> Sweep {
    let mut occupied = std::collections::BTreeSet::new();
    for (shard, count) in answers.iter().flat_map(|answer| &answer.asked) {
        if *count > 0 {
            occupied.insert(*shard);
        }
    }
    Sweep { polls: answers.len(), occupied: occupied.len() }
}

impl Setting {
    fn polls(&self) -> Vec<f64> {
        self.sweeps.iter().map(|sweep| sweep.polls as f64).collect()
    }

    fn most(&self) -> usize {
        self.sweeps.iter().map(|sweep| sweep.polls).max().unwrap_or(0)
    }

    /// Polls for ten messages: without memory, and with the server's.
    fn expected(&self) -> (f64, f64) {
        let each = |of: fn(usize, usize, usize) -> f64| {
            // Few different numbers of occupied shards come up.
            let mut known = std::collections::BTreeMap::new();
            let values: Vec<f64> = self
                .sweeps
                .iter()
                .map(|sweep| {
                    *known.entry(sweep.occupied).or_insert_with(|| of(N, self.k, sweep.occupied))
                })
                .collect();
            mean(&values).0
        };
        (
            each(theory::coverage_mean),
            each(|n, k, occupied| deck::mean(&deck::covered(n, k, occupied))),
        )
    }

    /// The share of queues that are covered within so many polls, by a theory for one number of occupied shards.
    fn expected_cdf(&self, of: impl Fn(usize) -> Vec<f64>) -> Vec<(f64, f64)> {
        let bound = theory::deck_bound(N, self.k) + 5;
        let mut sums = vec![0.0; bound];
        let mut known = std::collections::BTreeMap::new();
        for sweep in &self.sweeps {
            let shares = known.entry(sweep.occupied).or_insert_with(|| of(sweep.occupied));
            for (polls, sum) in sums.iter_mut().enumerate() {
                *sum += shares.get(polls).copied().unwrap_or(1.0);
            }
        }
        let count = self.sweeps.len() as f64;
        steps(sums.into_iter().enumerate().map(|(polls, sum)| (polls as f64, 100.0 * sum / count)))
    }

    fn broken(&self) -> Option<String> {
        let limit = limit(self.k, self.depth);
        let broken = self.most() > limit;
        broken.then(|| {
            let (depth, k) = (self.depth, self.k);
            format!("{depth} messages were not all seen within {limit} polls of {k} shards")
        })
    }
}

/// A line of steps through points.
fn steps(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = Vec::new();
    for (x, y) in points {
        if let Some((_, before)) = line.last().copied() {
            line.push((x, before));
        }
        line.push((x, y));
    }
    line
}

fn section(settings: &[Setting]) -> Section {
    let header = [
        "messages",
        "sample",
        "trials",
        "mean_polls",
        "error",
        "p99_polls",
        "most_polls",
        "memoryless_mean",
        "with_memory_mean",
        "bound",
    ];
    let mut table = Table::new("coverage", &header);
    for setting in settings {
        let polls = setting.polls();
        let (middle, error) = mean(&polls);
        let (without, with) =
            if setting.depth == FEW { setting.expected() } else { (f64::NAN, f64::NAN) };
        table.row(&[
            &setting.depth,
            &setting.k,
            &polls.len(),
            &number(middle),
            &number(error),
            &number(quantile(&polls, 0.99)),
            &setting.most(),
            &number(without),
            &number(with),
            &limit(setting.k, setting.depth),
        ]);
    }
    let find = |k, depth| settings.iter().find(|one| one.k == k && one.depth == depth);
    let of = |k, depth| find(k, depth).map_or(f64::NAN, |setting| mean(&setting.polls()).0);
    let (without, with) = find(K, FEW).map_or((f64::NAN, f64::NAN), Setting::expected);
    let most = find(K, FEW).map_or(0, Setting::most);
    let wasted = of(K, MANY) - f64::from(MANY.div_ceil(10));
    Section {
        name: "coverage",
        question: "How many polls until all of fewer than 1,000 messages were seen?".to_owned(),
        method: format!(
            "8 shards, default weights; messages are sent through one node, then another node is polled without \
             waiting, ten at most, until all were seen. {} queues of ten messages and {} of 999 for each sample size.",
            find(K, FEW).map_or(0, |setting| setting.sweeps.len()),
            find(K, MANY).map_or(0, |setting| setting.sweeps.len())
        ),
        findings: vec![
            format!(
                "Ten messages are all seen after {:.1} polls of three shards on average and after {most} at most: the \
                 promised bound is {}.",
                of(K, FEW),
                theory::deck_bound(N, K)
            ),
            format!(
                "999 messages need at least 100 polls of ten; with samples of three it were {:.0} on average ({wasted:.0} \
                 polls more), with samples of one {:.0}, with all shards asked {:.0}.",
                of(K, MANY),
                of(1, MANY),
                of(N, MANY)
            ),
        ],
        theory: vec![format!(
            "Ten messages lie on a few shards, which a coupon collector who draws three different ones at once would \
             have after {without:.2} polls on average. The server is a little better ({with:.2} in a model of its \
             memory, {:.2} measured), because it asks first whom it passed over, and no run is longer than \
             the bound of 3⌈n/k⌉ polls, where the collector has none.",
            of(K, FEW)
        )],
        figures: vec![
            ("coverage-few".to_owned(), few_figure(settings, most)),
            ("coverage-many".to_owned(), many_figure(settings)),
        ],
        tables: vec![table],
        broken: settings.iter().filter_map(Setting::broken).collect(),
        values: vec![
            ("bound", theory::deck_bound(N, K) as f64),
            ("most polls for ten", most as f64),
            ("999, one", of(1, MANY)),
            ("999, three", of(K, MANY)),
            ("999, all", of(N, MANY)),
        ],
        skipped: None,
    }
}

fn few_figure(settings: &[Setting], most: usize) -> Figure {
    let mut distribution = Vec::new();
    let bound = theory::deck_bound(N, K) as f64;
    if let Some(setting) = settings.iter().find(|one| one.k == K && one.depth == FEW) {
        let memoryless =
            |occupied| (0..40).map(|polls| theory::covered(N, K, occupied, polls)).collect();
        let lines = [
            (
                "coupon collector (no memory)",
                Colour::Vermilion,
                Dash::Dashed,
                setting.expected_cdf(memoryless),
            ),
            (
                "model of the server's memory",
                Colour::Green,
                Dash::Dotted,
                setting.expected_cdf(|occupied| deck::covered(N, K, occupied)),
            ),
        ];
        for (name, colour, dash, points) in lines {
            distribution.push(Layer::new(name, colour, Mark::Line(dash), points));
        }
        let polls = setting.polls();
        let share = |at: usize| {
            let within = polls.iter().filter(|one| **one <= at as f64).count();
            (at as f64, 100.0 * within as f64 / polls.len() as f64)
        };
        let measured = steps((0..=bound as usize + 4).map(share));
        distribution.push(Layer::new("measured", Colour::Blue, Mark::Line(Dash::Solid), measured));
    }
    let promised = [(bound, 0.0), (bound, 100.0)];
    distribution.push(Layer::new(
        "promised bound",
        Colour::Black,
        Mark::Line(Dash::Solid),
        promised,
    ));
    let few: Vec<&Setting> = settings.iter().filter(|one| one.depth == FEW).collect();
    let line = |of: fn(&Setting) -> f64| {
        few.iter().map(move |one| (one.k as f64, of(one))).collect::<Vec<_>>()
    };
    let measured = few.iter().map(|one| {
        let (middle, error) = mean(&one.polls());
        Point { x: one.k as f64, y: middle, range: Some((middle - error, middle + error)) }
    });
    let means = vec![
        Layer::new(
            "coupon collector (no memory)",
            Colour::Vermilion,
            Mark::Line(Dash::Dashed),
            line(|one| one.expected().0),
        ),
        Layer::new(
            "model of the server's memory",
            Colour::Green,
            Mark::Line(Dash::Dotted),
            line(|one| one.expected().1),
        ),
        Layer::new("measured mean", Colour::Blue, Mark::Dots(Dot::Circle), measured),
        Layer::new(
            "promised bound",
            Colour::Black,
            Mark::Line(Dash::Solid),
            line(|one| theory::deck_bound(N, one.k) as f64),
        ),
    ];
    let plots = vec![
        Plot::new(
            "Samples of 3",
            Axis::linear("polls").range(0.0, bound + 4.0),
            Axis::linear("queues seen whole (%)").range(0.0, 102.0),
            distribution,
        ),
        Plot::new(
            "Every sample size",
            Axis::linear("shards asked by a poll")
                .range(0.5, 8.5)
                .ticks_at(&[1., 2., 3., 4., 5., 6., 7., 8.]),
            Axis::log("polls until all were seen")
                .range(0.8, 30.0)
                .ticks_at(&[1., 2., 5., 10., 20.]),
            means,
        ),
    ];
    Figure::new(
        format!(
            "Ten messages were all seen within {most} polls of 3 in 8 shards; {bound} are promised"
        ),
        "Polled without waiting through a node that knows nothing of the queue".to_owned(),
        plots,
    )
}

fn many_figure(settings: &[Setting]) -> Figure {
    let many: Vec<&Setting> = settings.iter().filter(|one| one.depth == MANY).collect();
    let names = many.iter().map(|one| format!("{} of {N}", one.k));
    let columns = many.iter().enumerate().map(|(x, one)| {
        let (middle, error) = mean(&one.polls());
        Point { x: x as f64, y: middle, range: Some((middle - error, middle + error)) }
    });
    let count = many.len() as f64;
    let least = [(-0.5, 100.0), (count - 0.5, 100.0)];
    let empties = many.iter().map(|one| one.polls()).map(|polls| mean(&polls).0 - 100.0);
    let most = empties.fold(0.0, f64::max);
    let layers = vec![
        Layer::new("measured mean", Colour::Blue, Mark::Columns(0, 1), columns),
        Layer::new("least possible: 100", Colour::Vermilion, Mark::Line(Dash::Dashed), least),
    ];
    let plot = Plot::new(
        "",
        Axis::names("shards asked by a poll", names),
        Axis::linear("polls until all were seen"),
        layers,
    );
    Figure::new(
        format!("999 messages cost up to {most:.0} polls more than the least possible 100"),
        "Sent through one node in batches of ten, polled through another without waiting, ten at most; bars: 95 % \
         confidence"
            .to_owned(),
        vec![plot],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_counts_the_shards_that_had_something() {
        let answer = |asked: &[(u32, u32)]| Answer { letters: Vec::new(), asked: asked.to_vec() };
        let sweep = judge(&[answer(&[(1, 4), (2, 0)]), answer(&[(3, 1), (1, 0)])]);
        assert_eq!((sweep.polls, sweep.occupied), (2, 2));
    }

    #[test]
    fn a_few_messages_are_seen_within_the_bound_itself() {
        assert_eq!(limit(3, FEW), 9);
        assert_eq!(limit(8, 999), 98 + 99 * 3);
    }
}
