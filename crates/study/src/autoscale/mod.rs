//! What an autoscaler does to a queue: modelled with two rules, and seen with real workers.
//!
//! The model shows what tracking the number of messages alone does. It says nothing of how many
//! instances there are to work on them, so the tracker adds instances for as long as there are too
//! many messages and takes them away for as long as there are too few: like a predator and its prey
//! the two swing, and the swings do not die out. The backlog per instance falls when an instance is
//! added, and the loop is a lag of first order with the acceptable latency as its time constant. The
//! number that the count is to be is the one that whoever goes by it would choose: as many messages as
//! come in the acceptable latency when it is busiest, which the other rule has then, too. What each costs,
//! in instance-hours, is said with the rest.

mod count;
mod draw;
mod live;
mod load;
mod model;
mod seen;

pub(crate) use live::{LiveArgs, Scaling, observe};
pub(crate) use model::{LATE, Summary};
pub(crate) use seen::Seen;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use flotilla_autoscale::Policy;

use crate::plot::Figure;
use crate::section::{Table, number};
use load::Load;
use model::{Outcome, Rule, Scenario, simulate};

/// Of the model's chart and table.
pub(crate) const MODEL: &str = "autoscale-model";
/// Of those of real workers.
pub(crate) const LIVE: &str = "autoscale-live";
/// Of the command that does nothing but that.
const SEEDS: u64 = 10;

/// See [`model`].
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// Where the chart and the table go.
    #[arg(long, default_value = "autoscale-study", value_name = "DIR")]
    out: PathBuf,
    /// Of what is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// An hour and a half: steady, rising, steady, a burst, falling, and nearly nothing.
fn scenario(seed: u64) -> Scenario {
    let load = [
        (900.0, 20.0, 20.0, 0),
        (900.0, 20.0, 80.0, 0),
        (1_200.0, 80.0, 80.0, 0),
        (900.0, 80.0, 80.0, 2_400),
        (600.0, 80.0, 6.0, 0),
        (900.0, 6.0, 6.0, 0),
    ];
    Scenario {
        load: Load::new(&load),
        policy: Policy {
            acceptable_latency: Duration::from_secs(30),
            min: 1,
            max: 80,
            tolerance: 0.1,
            scale_out_cooldown: Duration::from_secs(10),
            scale_in_cooldown: Duration::from_secs(60),
        },
        mean_processing_s: 0.5,
        boot_s: 5.0,
        interval_s: 5.0,
        seed,
    }
}

/// Both rules under the same loads.
#[derive(Debug)]
pub(crate) struct Comparison {
    scenario: Scenario,
    /// What the count is to be.
    pub(crate) count: f64,
    /// By backlog per instance, for each seed.
    pub(crate) good: Vec<Summary>,
    /// By number of messages alone.
    pub(crate) naive: Vec<Summary>,
    /// The first seed's, for the chart.
    shown: (Outcome, Outcome),
}

impl Comparison {
    /// With so many seeds from this one on.
    pub(crate) fn new(seed: u64, seeds: u64) -> Self {
        let acceptable_s = acceptable_s(&scenario(seed));
        let count = scenario(seed).load.peak() * acceptable_s;
        let both = |seed| {
            let scenario = scenario(seed);
            let good = simulate(&scenario, Rule::BacklogPerInstance);
            (good, simulate(&scenario, Rule::CountAlone { messages: count }))
        };
        let shown = both(seed);
        let mut good = vec![shown.0.summary(acceptable_s)];
        let mut naive = vec![shown.1.summary(acceptable_s)];
        for seed in seed + 1..seed + seeds {
            let (one, other) = both(seed);
            good.push(one.summary(acceptable_s));
            naive.push(other.summary(acceptable_s));
        }
        Self { scenario: scenario(seed), count, good, naive, shown }
    }

    pub(crate) fn acceptable_s(&self) -> f64 {
        acceptable_s(&self.scenario)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.scenario.load.seconds()
    }

    pub(crate) fn figure(&self) -> Figure {
        draw::comparison(self, &self.scenario, &self.shown)
    }

    /// The first seed's course.
    pub(crate) fn table(&self) -> Table {
        let header = [
            "seconds",
            "arrivals_per_second",
            "backlog",
            "instances",
            "latency_seconds",
            "count_alone_backlog",
            "count_alone_instances",
            "count_alone_latency_seconds",
        ];
        let mut table = Table::new(MODEL, &header);
        let (good, naive) = &self.shown;
        for (one, two) in good.samples.iter().zip(&naive.samples) {
            table.row(&[
                &one.at_s,
                &format_args!("{:.2}", one.rate),
                &one.backlog,
                &one.instances,
                &format_args!("{:.2}", one.latency_s),
                &two.backlog,
                &two.instances,
                &format_args!("{:.2}", two.latency_s),
            ]);
        }
        table
    }

    /// Every seed's numbers.
    pub(crate) fn seeds_table(&self) -> Table {
        let header = [
            "scaled_by",
            "seed",
            "started",
            "instance_hours",
            "mean_s",
            "p50_s",
            "p99_s",
            "slowest_s",
            "late",
        ];
        let mut table = Table::new("autoscale-seeds", &header);
        for (rule, runs) in
            [("backlog per instance", &self.good), ("number of messages", &self.naive)]
        {
            for (seed, one) in (self.scenario.seed..).zip(runs) {
                let Summary { mean_s, half_s, p99_s, slowest_s, late, instance_hours, started } =
                    one;
                let cells =
                    [*started, *instance_hours, *mean_s, *half_s, *p99_s, *slowest_s, *late];
                let mut row = vec![rule.to_owned(), seed.to_string()];
                row.extend(cells.map(number));
                table.rows.push(row);
            }
        }
        table
    }
}

fn acceptable_s(scenario: &Scenario) -> f64 {
    scenario.policy.acceptable_latency.as_secs_f64()
}

/// Simulates both rules, and writes a chart and tables.
pub(crate) fn model(args: &ModelArgs) -> anyhow::Result<()> {
    let both = Comparison::new(args.seed, SEEDS);
    std::fs::create_dir_all(&args.out)?;
    both.figure().save(&args.out, MODEL)?;
    both.table().save(&args.out)?;
    both.seeds_table().save(&args.out)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:28} {:>8} {:>15} {:>9} {:>9} {:>14}",
        "scaled by", "started", "instance hours", "mean (s)", "p99 (s)", "late (>1.5x)"
    )?;
    let runs = [("backlog per instance", &both.good), ("number of messages alone", &both.naive)];
    for (name, runs) in runs {
        let mean = |of: fn(&Summary) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
        let (started, hours) = (mean(|one| one.started), mean(|one| one.instance_hours));
        let (average, p99) = (mean(|one| one.mean_s), mean(|one| one.p99_s));
        let late = 100.0 * mean(|one| one.late);
        writeln!(
            out,
            "{name:28} {started:>8.0} {hours:>15.1} {average:>9.1} {p99:>9.1} {late:>13.1}%"
        )?;
    }
    writeln!(
        out,
        "the count is to be {:.0}; chart and tables: {}",
        both.count,
        args.out.display()
    )?;
    Ok(())
}

/// Runs real workers under a real load, writes a chart and a table, and judges what came of it.
pub(crate) async fn live(args: &LiveArgs) -> anyhow::Result<bool> {
    // What the controller says shows how far it is.
    let seen = observe(args, Scaling::Backlog(Stdio::inherit()), &|_| {}).await?;
    seen.figure(None).save(&args.out, LIVE)?;
    seen.table(LIVE).save(&args.out)?;
    writeln!(io::stdout(), "{}", seen.report())?;
    Ok(seen.is_sound())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_writes_its_chart_as_svg_and_png_and_its_table() {
        let dir = tempfile::tempdir().unwrap();
        model(&ModelArgs { out: dir.path().to_owned(), seed: 1 }).unwrap();
        let read =
            |kind| std::fs::read(dir.path().join(format!("autoscale-model.{kind}"))).unwrap();
        assert!(read("svg").starts_with(b"<svg"));
        assert!(read("png").starts_with(b"\x89PNG"));
        assert!(read("csv").starts_with(b"seconds,"));
    }

    #[test]
    fn the_count_is_what_the_backlog_may_be_when_it_is_busiest() {
        let both = Comparison::new(1, 1);
        assert!((both.count - 80.0 * 30.0).abs() < 1.0, "{}", both.count);
        let (good, naive) = (both.good[0], both.naive[0]);
        assert!(naive.started > 2.0 * good.started, "{naive:?} {good:?}");
    }
}
