//! What was seen of real workers, and what must hold of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use anyhow::Context as _;

use super::load::Load;
use crate::plot::Figure;
use crate::section::Table;

/// A time that is shown as one.
const BIN_S: f64 = 0.5;

/// The controller's page for Prometheus.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Page {
    running: f64,
    desired: f64,
    unfinished: f64,
    acceptable: f64,
    crashes: f64,
    kills: f64,
}

/// The page at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at_s: f64,
    pub(super) running: f64,
    pub(super) desired: f64,
    pub(super) unfinished: f64,
    pub(super) per_instance: f64,
    /// What that should be.
    pub(super) acceptable: f64,
    page: Page,
}

impl Page {
    /// Of a controller that has none.
    pub(super) fn counted(running: usize, desired: u32, unfinished: u64, acceptable: f64) -> Self {
        Self {
            running: running as f64,
            desired: f64::from(desired),
            unfinished: unfinished as f64,
            acceptable,
            crashes: 0.0,
            kills: 0.0,
        }
    }

    /// `None` when it lacks something.
    pub(super) fn read(text: &str) -> Option<Self> {
        let number = |name: &str| {
            let line = text.lines().find(|line| {
                let rest = line.strip_prefix("flotilla_autoscale_");
                rest.and_then(|rest| rest.strip_prefix(name))
                    .is_some_and(|rest| rest.starts_with('{'))
            })?;
            line.rsplit(' ').next()?.parse::<f64>().ok()
        };
        Some(Self {
            running: number("running_instances")?,
            desired: number("desired_instances")?,
            unfinished: number("visible_messages")? + number("in_flight_messages")?,
            acceptable: number("acceptable_backlog_per_instance")?,
            crashes: number("crashes_total")?,
            kills: number("kills_total")?,
        })
    }

    pub(super) fn at(self, at_s: f64) -> Moment {
        let Self { running, desired, unfinished, acceptable, .. } = self;
        let per_instance = unfinished / running.max(1.0);
        Moment { at_s, running, desired, unfinished, per_instance, acceptable, page: self }
    }
}

/// A completion: when, and how old the message was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Done {
    done_us: u128,
    latency_s: f64,
}

/// All that was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(super) load: Load,
    pub(crate) work_ms: f64,
    pub(crate) acceptable_latency_s: f64,
    pub(super) moments: Vec<Moment>,
    pub(crate) sent: u64,
    pub(super) begin_us: u128,
    /// Completions of each message, by number.
    pub(super) done: BTreeMap<u64, Vec<Done>>,
}

/// The file that workers write.
pub(super) fn read_done(path: &Path) -> anyhow::Result<BTreeMap<u64, Vec<Done>>> {
    let mut all: BTreeMap<u64, Vec<Done>> = BTreeMap::new();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        // Nothing was done yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(all),
        Err(error) => return Err(error.into()),
    };
    // A last line may just be being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines() {
        let mut words = line.split(' ').map(str::parse::<u128>);
        let mut next = || words.next().context("too few words")?.context("no number");
        let (number, sent_us, done_us) = (next()?, next()?, next()?);
        let latency_s = done_us.saturating_sub(sent_us) as f64 / 1e6;
        all.entry(u64::try_from(number)?).or_default().push(Done { done_us, latency_s });
    }
    Ok(all)
}

impl Seen {
    pub(super) fn new(load: Load, work_ms: f64, acceptable_latency_s: f64) -> Self {
        Self {
            load,
            work_ms,
            acceptable_latency_s,
            moments: Vec::new(),
            sent: 0,
            begin_us: 0,
            done: BTreeMap::new(),
        }
    }

    /// Before anything happened.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self::new(Load::new(&[]), 50.0, 3.0)
    }

    /// As measured in the end.
    fn acceptable_backlog(&self) -> f64 {
        self.moments.last().map_or(0.0, |moment| moment.acceptable)
    }

    /// What an instance needs for a message.
    fn processing_s(&self) -> f64 {
        self.acceptable_latency_s / self.acceptable_backlog().max(1.0)
    }

    /// While there is more than one instance can work off, and has been for long enough that a
    /// backlog is there; until the load begins to fall. Before and after it nothing keeps the
    /// backlog at its target: it is smaller.
    fn loaded(&self) -> Range<f64> {
        let begin = self.load.exceeds_at(1.0 / self.processing_s()) + self.acceptable_latency_s;
        begin..self.load.falls_at()
    }

    /// The part of the instances' time that messages took meanwhile: many instances would keep any
    /// backlog small.
    fn busy(&self) -> f64 {
        let loaded = self.loaded();
        let done = self.done.values().flatten();
        let done_s = done.map(|done| done.done_us.saturating_sub(self.begin_us) as f64 / 1e6);
        let worked_s = done_s.filter(|at| loaded.contains(at)).count() as f64 * self.processing_s();
        let pairs = self.moments.windows(2).filter(|pair| loaded.contains(&pair[0].at_s));
        let had_s: f64 = pairs.map(|pair| pair[0].running * (pair[1].at_s - pair[0].at_s)).sum();
        if had_s > 0.0 { worked_s / had_s } else { 0.0 }
    }

    /// How old messages were when they were completed, over time: of those of half a second the one
    /// that this part of them were not older than.
    pub(super) fn latency(&self, part: f64) -> Vec<(f64, f64)> {
        let mut bins: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for done in self.done.values().flatten() {
            let at_s = done.done_us.saturating_sub(self.begin_us) as f64 / 1e6;
            bins.entry((at_s / BIN_S) as u64).or_default().push(done.latency_s);
        }
        let point = |(bin, mut ages): (u64, Vec<f64>)| {
            ages.sort_by(f64::total_cmp);
            ((bin as f64 + 0.5) * BIN_S, quantile(&ages, part))
        };
        bins.into_iter().map(point).collect()
    }

    /// Messages that were sent and never done.
    pub(crate) fn lost(&self) -> u64 {
        (0..self.sent).filter(|number| !self.done.contains_key(number)).count() as u64
    }

    pub(crate) fn doubled(&self) -> usize {
        self.done.values().filter(|done| done.len() > 1).count()
    }

    /// Times that fewer instances were wanted after more had been, or the other way round.
    fn turns(&self) -> usize {
        let desired: Vec<f64> = self.moments.iter().map(|moment| moment.desired).collect();
        let changes = desired.windows(2).map(|pair| pair[1] - pair[0]);
        let changes: Vec<bool> =
            changes.filter(|change| *change != 0.0).map(|change| change > 0.0).collect();
        changes.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    pub(crate) fn most_instances(&self) -> f64 {
        self.moments.iter().map(|moment| moment.running).fold(0.0, f64::max)
    }

    /// Instances that were wanted in addition, over all: what swings starts many.
    pub(crate) fn started(&self) -> f64 {
        let pairs = self.moments.windows(2);
        pairs.map(|pair| (pair[1].desired - pair[0].desired).max(0.0)).sum()
    }

    /// The part of the loaded moments at which the backlog per instance was within half of its
    /// target, above or below.
    pub(crate) fn near(&self) -> f64 {
        let loaded = self.loaded();
        let moments = || self.moments.iter().filter(|moment| loaded.contains(&moment.at_s));
        let near =
            |moment: &&Moment| (0.5..=1.5).contains(&(moment.per_instance / moment.acceptable));
        moments().filter(near).count() as f64 / moments().count().max(1) as f64
    }

    /// The part of the messages that took more than so long.
    pub(crate) fn late(&self, than_s: f64) -> f64 {
        let first = self.done.values().filter_map(|done| done.first());
        let late = first.filter(|done| done.latency_s > than_s).count();
        late as f64 / self.done.len().max(1) as f64
    }

    pub(crate) fn mean_latency_s(&self) -> f64 {
        let first = self.done.values().filter_map(|done| done.first());
        first.map(|done| done.latency_s).sum::<f64>() / self.done.len().max(1) as f64
    }

    pub(crate) fn instance_hours(&self) -> f64 {
        let pairs = self.moments.windows(2);
        let seconds = pairs.map(|pair| pair[0].running * (pair[1].at_s - pair[0].at_s));
        seconds.sum::<f64>() / 3_600.0
    }

    pub(crate) fn latency_s(&self, part: f64) -> f64 {
        let mut all: Vec<f64> =
            self.done.values().filter_map(|done| Some(done.first()?.latency_s)).collect();
        all.sort_by(f64::total_cmp);
        quantile(&all, part)
    }

    /// Nothing is missing.
    pub(crate) fn is_sound(&self) -> bool {
        self.lost() == 0
    }

    /// `name value` in each line.
    pub(super) fn report(&self) -> String {
        let last = self.moments.last().map(|moment| moment.page);
        let (crashes, kills) = last.map_or((0.0, 0.0), |page| (page.crashes, page.kills));
        let left = last.map_or(0.0, |page| page.running);
        let numbers = [
            ("sent", self.sent as f64),
            ("lost", self.lost() as f64),
            ("done-more-than-once", self.doubled() as f64),
            ("most-instances", self.most_instances()),
            ("started-instances", self.started()),
            ("last-instances", left),
            ("busy-part", self.busy()),
            ("turns", self.turns() as f64),
            ("part-near-target", self.near()),
            ("latency-p50-s", self.latency_s(0.5)),
            ("latency-p99-s", self.latency_s(0.99)),
            ("latency-max-s", self.latency_s(1.0)),
            ("acceptable-latency-s", self.acceptable_latency_s),
            ("acceptable-backlog", self.acceptable_backlog()),
            ("crashes", crashes),
            ("kills", kills),
        ];
        let mut text = String::new();
        for (name, value) in numbers {
            writeln!(text, "{name} {value:.3}").expect("writing into memory does not fail");
        }
        text
    }

    /// A row for each moment.
    pub(crate) fn table(&self, name: &str) -> Table {
        let header = [
            "seconds",
            "messages_per_second",
            "running",
            "desired",
            "unfinished",
            "backlog_per_instance",
            "acceptable_backlog_per_instance",
        ];
        let mut table = Table::new(name, &header);
        for moment in &self.moments {
            let Moment { at_s, running, desired, unfinished, per_instance, acceptable, .. } =
                moment;
            table.row(&[
                &format_args!("{at_s:.2}"),
                &format_args!("{:.1}", self.load.rate(*at_s)),
                running,
                desired,
                unfinished,
                &format_args!("{per_instance:.1}"),
                &format_args!("{acceptable:.1}"),
            ]);
        }
        table
    }

    /// Beside what the same load came to when only messages were counted.
    pub(crate) fn figure(&self, counted: Option<&Self>) -> Figure {
        super::draw::live(self, counted)
    }
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    let index = (part * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(desired: f64, unfinished: f64) -> Page {
        Page { running: desired, desired, unfinished, acceptable: 40.0, crashes: 0.0, kills: 0.0 }
    }

    #[test]
    fn a_page_is_read() {
        let mut text = "HTTP/1.1 200 OK\r\n\r\n# TYPE x gauge\n".to_owned();
        for (name, value) in [
            ("running_instances", 2),
            ("desired_instances", 3),
            ("visible_messages", 5),
            ("in_flight_messages", 2),
            ("acceptable_backlog_per_instance", 40),
            ("crashes_total", 1),
        ] {
            text.push_str(&format!("flotilla_autoscale_{name}{{queue=\"q r\"}} {value}.0\n"));
        }
        assert_eq!(Page::read(&text), None);
        text.push_str("flotilla_autoscale_kills_total{queue=\"q\"} 4\n");
        let page = Page::read(&text).unwrap();
        assert_eq!((page.running, page.unfinished, page.kills), (2.0, 7.0, 4.0));
        assert_eq!(page.at(1.0).per_instance, 3.5);
    }

    #[test]
    fn losses_doubles_and_turns_are_counted() {
        let mut seen = Seen::nothing();
        seen.sent = 3;
        let done = Done { done_us: 5, latency_s: 0.1 };
        seen.done = BTreeMap::from([(0, vec![done]), (2, vec![done, done])]);
        assert_eq!((seen.lost(), seen.doubled(), seen.is_sound()), (1, 1, false));
        let desired = [1.0, 3.0, 3.0, 5.0, 2.0, 2.0, 4.0];
        seen.moments = desired.iter().map(|desired| page(*desired, 0.0).at(0.0)).collect();
        assert_eq!((seen.turns(), seen.started(), seen.most_instances()), (2, 6.0, 5.0));
    }

    /// One instance can do ten a second; twenty come from the third second on, and fewer from the
    /// eleventh.
    fn loaded() -> Seen {
        let load = Load::new(&[
            (2.0, 1.0, 1.0, 0),
            (0.0, 1.0, 20.0, 0),
            (8.0, 20.0, 20.0, 0),
            (2.0, 20.0, 1.0, 0),
        ]);
        Seen::new(load, 100.0, 4.0)
    }

    #[test]
    fn the_backlog_of_each_is_to_be_near_its_target_while_there_is_load() {
        let mut seen = loaded();
        let moment = |at_s: f64, unfinished: f64| page(2.0, unfinished).at(at_s);
        seen.moments = vec![
            moment(1.0, 0.0),  // Before the load nobody has a backlog,
            moment(5.0, 10.0), // or shortly after it begins.
            moment(7.0, 80.0),
            moment(8.0, 41.0),
            moment(9.0, 39.0),  // Too small is as wrong
            moment(9.5, 121.0), // as too large.
            moment(11.0, 5.0),
        ];
        assert_eq!(seen.loaded(), 6.0..10.0);
        assert_eq!(seen.near(), 0.5);
    }

    #[test]
    fn instances_that_nobody_needs_are_not_busy() {
        let mut seen = loaded();
        assert_eq!(seen.busy(), 0.0);
        seen.moments = [6.0, 8.0, 10.0].into_iter().map(|at_s| page(4.0, 0.0).at(at_s)).collect();
        let done = |at_s: u128| vec![Done { done_us: at_s * 1_000_000, latency_s: 0.1 }];
        // A tenth of a second each; the last one is not done meanwhile.
        seen.done = (0..80).map(|number| (number, done(7))).chain([(80, done(11))]).collect();
        assert_eq!(seen.busy(), 8.0 / 16.0);
        assert_eq!((seen.late(0.05), seen.late(0.2)), (1.0, 0.0));
    }
}
