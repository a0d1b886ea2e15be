//! What an autoscaler does to a queue: modelled with two rules, and seen with real workers.
//!
//! The model shows why the number of messages alone is a bad thing to track. It says nothing of how many
//! instances there are to work on them, so the tracker adds instances for as long as there are too
//! many messages and takes them away for as long as there are too few: like a predator and its prey
//! the two swing, and the swings do not die out. The backlog per instance falls when an instance is added, and
//! the loop is a lag of first order with the acceptable latency as its time constant.

mod draw;
mod live;
mod load;
mod model;
mod seen;

pub(crate) use live::{LiveArgs, observe};
pub(crate) use seen::Seen;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use flotilla_autoscale::Policy;

use crate::plot::Figure;
use crate::section::Table;
use load::Load;
use model::{Outcome, Rule, Scenario, simulate};

/// Of the model's chart and table.
pub(crate) const MODEL: &str = "autoscale-model";
/// Of those of real workers.
pub(crate) const LIVE: &str = "autoscale-live";
/// Of the model's queue, if only the count is tracked: right for the load that it begins with.
const COUNT: f64 = 600.0;

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

/// Both rules under the same load.
#[derive(Debug)]
pub(crate) struct Comparison {
    scenario: Scenario,
    /// By backlog per instance.
    pub(crate) good: Outcome,
    /// By number of messages alone.
    pub(crate) naive: Outcome,
}

impl Comparison {
    pub(crate) fn new(seed: u64) -> Self {
        let scenario = scenario(seed);
        let good = simulate(&scenario, Rule::BacklogPerInstance);
        let naive = simulate(&scenario, Rule::CountAlone { messages: COUNT });
        Self { scenario, good, naive }
    }

    pub(crate) fn acceptable_s(&self) -> f64 {
        self.scenario.policy.acceptable_latency.as_secs_f64()
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.scenario.load.seconds()
    }

    pub(crate) fn figure(&self) -> Figure {
        draw::comparison(&self.scenario, &self.good, &self.naive, COUNT)
    }

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
        for (one, two) in self.good.samples.iter().zip(&self.naive.samples) {
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
}

/// Simulates both rules, and writes a chart and a table.
pub(crate) fn model(args: &ModelArgs) -> anyhow::Result<()> {
    let both = Comparison::new(args.seed);
    std::fs::create_dir_all(&args.out)?;
    both.figure().save(&args.out, MODEL)?;
    both.table().save(&args.out)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:28} {:>9} {:>9} {:>14} {:>15} {:>8}",
        "scaled by", "p50 (s)", "p99 (s)", "late (>1.5x)", "instance hours", "started"
    )?;
    let runs = [("backlog per instance", &both.good), ("number of messages alone", &both.naive)];
    for (name, run) in runs {
        let (p50, p99) = (run.quantile_s(0.5), run.quantile_s(0.99));
        let (late, hours) = (100.0 * run.late(1.5 * both.acceptable_s()), run.instance_hours);
        let started = run.started;
        writeln!(out, "{name:28} {p50:>9.1} {p99:>9.1} {late:>13.1}% {hours:>15.1} {started:>8}")?;
    }
    writeln!(out, "chart and table: {}", args.out.display())?;
    Ok(())
}

/// Runs real workers under a real load, writes a chart and a table, and judges what came of it.
pub(crate) async fn live(args: &LiveArgs) -> anyhow::Result<bool> {
    // What the controller says shows how far it is.
    let seen = observe(args, Stdio::inherit(), &|_| {}).await?;
    seen.figure().save(&args.out, LIVE)?;
    seen.table().save(&args.out)?;
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
}
