//! Polls until every message of a small queue was seen.

mod draw;

use std::collections::BTreeMap;

use super::api::{Answer, Ask};
use super::context::{Context, Shape};
use super::deck::{self, Emptying, LONG_RUNS, RUNS};
use super::stats::{Estimate, by_luck, mean, quantile};
use super::theory;
use super::trial::Trial;
use crate::section::{Section, Table, number};

const FEW: u32 = 10;
const MANY: u32 = 999;
/// Messages of an answer, and of a batch in which many are sent.
const MAX: usize = 10;
/// Trials at a time of queues with few messages. With many it is one: a node that has several sends in work
/// gathers them on one of its shards, and the model places each batch by itself.
const FEW_AT_ONCE: u32 = 4;
/// More polls than anybody needs: a sweep that takes so many is given up.
const POLLS_MAX: usize = 3_000;

/// One queue, polled until all was seen.
#[derive(Clone, Debug)]
struct Sweep {
    polls: usize,
    /// How many messages each shard had that had any.
    placement: Vec<usize>,
    complete: bool,
    /// A poll did not hear every shard that it asked.
    missed: bool,
}

/// All trials of one setting.
struct Setting {
    n: usize,
    k: usize,
    depth: u32,
    leaders: Vec<usize>,
    sweeps: Vec<Sweep>,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let shape = Shape::default();
    let own: &[usize] = context.pick(&[1, 3, 8], &[1, 2, 3, 4, 6, 8]);
    let sizes = if context.has_own_clusters() { own } else { &[0] };
    let mut settings = Vec::new();
    let mut main = shape.sample;
    for sample in sizes.iter().copied() {
        let cluster = context.cluster(&Shape { sample, ..shape.clone() }).await;
        let (n, k) = (cluster.shape.shards, cluster.shape.sample);
        if !context.has_own_clusters() {
            main = k;
        }
        for (depth, trials) in [(FEW, context.pick(50, 300)), (MANY, context.pick(3, 20))] {
            let trial = |_| {
                let trial = Trial {
                    senders: vec![cluster.node(0).to_owned()],
                    poller: cluster.node(1).to_owned(),
                    queue_name: context.queue_name(),
                    depth,
                    together: false,
                };
                sweep(trial, k)
            };
            let what = format!("{depth} messages, samples of {k}");
            let at_once = if depth == FEW { FEW_AT_ONCE } else { 1 };
            let sweeps = context.trials(&what, trials, at_once, trial).await?;
            // Where a shard did not answer, as while its leader changes, a poll was none of that size.
            let sweeps = sweeps.into_iter().filter(|sweep| !sweep.missed).collect();
            settings.push(Setting { n, k, depth, leaders: cluster.leaders().await, sweeps });
        }
    }
    Ok(section(&Settings { all: settings, main }))
}

async fn sweep(trial: Trial, sample: usize) -> anyhow::Result<Sweep> {
    let mut filled = trial.fill().await?;
    let mut answers = Vec::new();
    let mut seen = 0;
    while seen < trial.depth as usize && answers.len() < POLLS_MAX {
        let answer = filled.poll(Ask::SHORT).await?;
        seen += answer.letters.len();
        answers.push(answer);
    }
    filled.end().await;
    Ok(judge(&answers, trial.depth as usize, sample))
}

fn judge(answers: &[Answer], messages: usize, sample: usize) -> Sweep {
    let mut placement = BTreeMap::<u32, usize>::new();
    for (shard, count) in answers.iter().flat_map(|answer| &answer.asked) {
        *placement.entry(*shard).or_default() += *count as usize;
    }
    let placement: Vec<usize> = placement.into_values().filter(|count| *count > 0).collect();
    let complete = placement.iter().sum::<usize>() >= messages;
    // One that is full need not have asked them all.
    let is_partial = |answer: &Answer| answer.letters.len() < MAX && answer.asked.len() < sample;
    let missed = answers.iter().any(is_partial);
    Sweep { polls: answers.len(), placement, complete, missed }
}

impl Setting {
    fn polls(&self) -> Vec<f64> {
        self.sweeps.iter().map(|sweep| sweep.polls as f64).collect()
    }

    fn mean(&self) -> Estimate {
        mean(&self.polls())
    }

    fn most(&self) -> usize {
        self.sweeps.iter().map(|sweep| sweep.polls).max().unwrap_or(0)
    }

    /// The mean of what a theory says for each number of occupied shards that came up.
    fn each(&self, of: impl Fn(usize) -> f64) -> f64 {
        let mut known = BTreeMap::new();
        let occupied = self.sweeps.iter().map(|sweep| sweep.placement.len());
        let values: Vec<f64> = occupied
            .map(|occupied| *known.entry(occupied).or_insert_with(|| of(occupied)))
            .collect();
        mean(&values).value
    }

    /// Without memory, and without an end to it.
    fn memoryless(&self) -> f64 {
        match self.depth {
            FEW => self.each(|occupied| theory::coverage_mean(self.n, self.k, occupied)),
            _ => f64::NAN,
        }
    }

    /// With the server's.
    fn with_memory(&self) -> f64 {
        match self.depth {
            FEW => self.each(|occupied| deck::mean(&deck::covered(self.n, self.k, occupied))),
            _ => mean(&deck::emptied(self.emptying(), 0)).value,
        }
    }

    fn emptying(&self) -> Emptying<'_> {
        Emptying {
            leaders: &self.leaders,
            k: self.k,
            messages: self.depth as usize,
            batch: MAX,
            max: MAX,
        }
    }

    /// What no luck may exceed, of the queue for which it is most.
    fn bound(&self) -> usize {
        self.sweeps.iter().map(|sweep| self.bound_of(sweep)).max().unwrap_or(0)
    }

    fn bound_of(&self, sweep: &Sweep) -> usize {
        theory::whole_bound(self.n, self.k, &sweep.placement, MAX)
    }

    /// The share of queues that are covered within so many polls, by a theory for one number of
    /// occupied shards.
    fn expected_cdf(&self, of: impl Fn(usize) -> Vec<f64>) -> Vec<(f64, f64)> {
        let bound = theory::deck_bound(self.n, self.k) + 5;
        let mut sums = vec![0.0; bound];
        let mut known = BTreeMap::new();
        for sweep in &self.sweeps {
            let occupied = sweep.placement.len();
            let shares = known.entry(occupied).or_insert_with(|| of(occupied));
            for (polls, sum) in sums.iter_mut().enumerate() {
                *sum += shares.get(polls).copied().unwrap_or(1.0);
            }
        }
        let count = self.sweeps.len() as f64;
        steps(sums.into_iter().enumerate().map(|(polls, sum)| (polls as f64, 100.0 * sum / count)))
    }

    fn broken(&self) -> Vec<String> {
        let (depth, k) = (self.depth, self.k);
        let late = |sweep: &&Sweep| !sweep.complete || sweep.polls > self.bound_of(sweep);
        let say = |sweep: &Sweep| {
            let (polls, bound) = (sweep.polls, self.bound_of(sweep));
            format!(
                "{depth} messages needed {polls} polls of {k} shards and more; the bound is {bound}"
            )
        };
        self.sweeps.iter().filter(late).map(say).collect()
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

/// All of them, and the sample size of which words speak.
struct Settings {
    all: Vec<Setting>,
    main: usize,
}

impl Settings {
    fn find(&self, k: usize, depth: u32) -> Option<&Setting> {
        self.all.iter().find(|one| one.k == k && one.depth == depth)
    }

    fn of_depth(&self, depth: u32) -> impl Iterator<Item = &Setting> {
        self.all.iter().filter(move |one| one.depth == depth)
    }

    fn mean(&self, k: usize, depth: u32) -> f64 {
        self.find(k, depth).map_or(f64::NAN, |setting| setting.mean().value)
    }

    fn shards(&self) -> usize {
        self.all.first().map_or(0, |one| one.n)
    }

    fn most(&self) -> usize {
        self.find(self.main, FEW).map_or(0, Setting::most)
    }

    fn bound(&self) -> usize {
        theory::deck_bound(self.shards(), self.main)
    }

    fn table(&self) -> Table {
        let header = [
            "messages",
            "sample",
            "trials",
            "mean_polls",
            "low",
            "high",
            "p99_polls",
            "most_polls",
            "memoryless_mean",
            "with_memory_mean",
            "bound",
        ];
        let mut table = Table::new("coverage", &header);
        for setting in &self.all {
            let polls = setting.polls();
            let [middle, low, high] = setting.mean().cells();
            let p99 = if polls.len() >= 100 { quantile(&polls, 0.99) } else { f64::NAN };
            table.row(&[
                &setting.depth,
                &setting.k,
                &polls.len(),
                &middle,
                &low,
                &high,
                &number(p99),
                &setting.most(),
                &number(setting.memoryless()),
                &number(setting.with_memory()),
                &setting.bound(),
            ]);
        }
        table
    }

    fn findings(&self) -> Vec<String> {
        let (n, k, many) = (self.shards(), self.main, f64::from(MANY.div_ceil(MAX as u32)));
        let deep = self.find(k, MANY);
        let model = deep.map_or(f64::NAN, Setting::with_memory);
        let mut deep_words = format!(
            "{MANY} messages need at least {many} polls of ten; with samples of {k} it were {:.1} on average (the model says \
             {model:.1}), {} at most, and no luck may make it more than {}",
            self.mean(k, MANY),
            deep.map_or(0, Setting::most),
            deep.map_or(0, Setting::bound)
        );
        for (size, words) in [(1, "samples of one"), (n, "all shards asked")] {
            if size != k && self.find(size, MANY).is_some() {
                deep_words.push_str(&format!("; with {words} {:.1}", self.mean(size, MANY)));
            }
        }
        vec![
            format!(
                "Ten messages are all seen after {:.1} polls of {k} shards on average and after {} at most: the \
                 promised bound is {}.",
                self.mean(k, FEW),
                self.most(),
                self.bound()
            ),
            deep_words + ".",
        ]
    }

    /// Which settings the model is right about.
    fn agreement(&self) -> String {
        let is_within = |setting: &&Setting| {
            let (measured, model) = (setting.mean(), setting.with_memory());
            // All shards asked: always one poll, and no interval.
            measured.covers(model) || measured.value == model
        };
        let within = self.all.iter().filter(is_within).count();
        let count = self.all.len();
        let why = "the model puts nine of ten batches on shards of their node, and a batch on one shard; where that \
                   is not so, more or fewer shards hold what is looked for";
        let by_luck = by_luck(within, count, why);
        format!("{within} of {count} means have the model in their 95 % interval{by_luck}.")
    }

    fn theory(&self) -> Vec<String> {
        let few = self.find(self.main, FEW);
        let (without, with) = few
            .map_or((f64::NAN, f64::NAN), |setting| (setting.memoryless(), setting.with_memory()));
        let measured = self.mean(self.main, FEW);
        let verdict = if with < without { "a little better" } else { "no better" };
        vec![
            format!(
                "Ten messages lie on a few shards, which a coupon collector who draws {} different ones at once would \
                 have after {without:.2} polls on average. The server should be {verdict} ({with:.2} in a model of its \
                 memory, {measured:.2} measured), because it asks first whom it passed over, and no run is longer than \
                 the bound of 3⌈n/k⌉ polls (1 if all are asked), where the collector has none.",
                self.main
            ),
            format!(
                "There is no closed form with the memory: its lines are means of {RUNS} models of ten messages, and of \
                 {LONG_RUNS} models of {MANY}, in which a node puts nine of ten batches on shards that it leads, \
                 polls take ten at most, and a shard that said that it has more is likelier to be asked again. {}",
                self.agreement()
            ),
            format!(
                "The bound for {MANY} messages is a theorem, whatever the luck: at most {} polls are full before the last; one \
                 that is not full empties all k shards that it asks; a full one leaves something on the last of its shards alone. So \
                 a shard is asked and not emptied at most once for each ten messages that it has and once for each other shard, \
                 and between two of those turns there are fewer than 3⌈n/k⌉ polls that are not full. Chance never comes near it.",
                (MANY as usize - 1) / MAX
            ),
        ]
    }
}

fn section(settings: &Settings) -> Section {
    let trials = |depth| settings.find(settings.main, depth).map_or(0, |one| one.sweeps.len());
    Section {
        name: "coverage",
        question: "How many polls until all of fewer than 1,000 messages were seen?".to_owned(),
        method: format!(
            "{} shards, default weights; messages are sent through one node, then another node is polled without \
             waiting, ten at most, until all were seen. {} queues of ten messages and {} of {MANY} for each sample size.",
            settings.shards(),
            trials(FEW),
            trials(MANY)
        ),
        findings: settings.findings(),
        theory: settings.theory(),
        figures: vec![
            ("coverage-few".to_owned(), draw::few(settings)),
            ("coverage-many".to_owned(), draw::many(settings)),
        ],
        tables: vec![settings.table()],
        broken: settings.all.iter().flat_map(Setting::broken).collect(),
        values: vec![
            ("bound", settings.bound() as f64),
            ("most polls for ten", settings.most() as f64),
            ("999, three", settings.mean(settings.main, MANY)),
            ("sample", settings.main as f64),
            ("999, all", settings.mean(settings.shards(), MANY)),
        ],
        ..Section::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_counts_what_each_shard_had() {
        let answer = |asked: &[(u32, u32)]| Answer { asked: asked.to_vec(), ..Answer::default() };
        let answers = [answer(&[(1, 4), (2, 0)]), answer(&[(3, 1), (1, 2)])];
        let sweep = judge(&answers, 7, 2);
        assert_eq!((sweep.polls, sweep.placement, sweep.complete), (2, vec![6, 1], true));
        assert!(!sweep.missed && judge(&answers, 7, 3).missed);
        assert!(!judge(&answers, 8, 2).complete);
    }

    #[test]
    fn more_polls_than_the_bound_break_a_promise() {
        let sweep = |polls| Sweep { polls, placement: vec![6, 4], complete: true, missed: false };
        let setting = |polls| Setting {
            n: 8,
            k: 3,
            depth: FEW,
            leaders: deck::leaders(&[3, 3, 2]),
            sweeps: vec![sweep(polls)],
        };
        assert_eq!(setting(9).broken(), [""; 0]);
        assert_eq!(setting(10).broken().len(), 1);
    }
}
