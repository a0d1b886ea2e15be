//! Short against long polling: what polls find, what they cost, and how long messages wait for
//! them; and how many should poll.
//!
//! One file for each experiment; `run` of each makes the clusters it needs, measures, and brings a
//! [`crate::section::Section`] home: findings in words that are computed from the numbers, charts
//! and tables. `theory` says what should come out, `deck` models the server's memory and `model`
//! what consumers would see with it, `traffic` is the load of all experiments in which time
//! matters, and `report` puts everything into one page.

mod advice;
mod api;
mod choices;
mod context;
mod cost;
mod coverage;
mod deck;
mod depth;
mod failure;
mod idle;
mod many;
mod misses;
mod model;
mod progress;
mod report;
mod scaling;
mod shards;
mod stats;
mod theory;
mod traffic;
mod trial;
mod wake;
mod weights;
mod yields;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use flotilla_client::Endpoint;

use crate::section::Section;
use context::Context;

/// See [`run`].
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PollingArgs {
    /// Fewer settings and trials: three or four minutes.
    #[arg(long)]
    quick: bool,
    /// A node of a running cluster, once for each. How many shards it has, and how many a short
    /// poll asks, is read from its answers. Experiments that need clusters of their own (with other
    /// weights or numbers of shards, or with failures) are skipped then. Without it, clusters are
    /// started.
    #[arg(long, value_name = "URL")]
    endpoint: Vec<Endpoint>,
    /// Where the report, charts and tables go.
    #[arg(long, default_value = "polling-study", value_name = "DIR")]
    out: PathBuf,
    /// Of all arrivals. What the servers draw is not in its power.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<Experiment>,
}

/// What can be asked for with `--only`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Experiment {
    Misses,
    Depth,
    Weights,
    Coverage,
    Yield,
    Cost,
    Wake,
    Idle,
    Shards,
    Many,
    Failure,
    Scaling,
}

impl Experiment {
    fn name(self) -> &'static str {
        match self {
            Self::Misses => "misses",
            Self::Depth => "depth",
            Self::Weights => "weights",
            Self::Coverage => "coverage",
            Self::Yield => "yield",
            Self::Cost => "cost",
            Self::Wake => "wake",
            Self::Idle => "idle",
            Self::Shards => "shards",
            Self::Many => "many",
            Self::Failure => "failure",
            Self::Scaling => "scaling",
        }
    }

    /// How long it takes on two cores, in a full and in a quick run; how long others are likely to take is
    /// told from that.
    fn usual(self, quick: bool) -> Duration {
        let (full_s, quick_s) = match self {
            Self::Misses => (16, 8),
            Self::Depth => (88, 8),
            Self::Weights => (12, 5),
            Self::Coverage => (28, 5),
            Self::Yield => (52, 4),
            Self::Cost => (760, 50),
            Self::Wake => (132, 10),
            Self::Idle => (251, 20),
            Self::Shards => (236, 15),
            Self::Many => (499, 25),
            Self::Failure => (249, 20),
            Self::Scaling => (515, 50),
        };
        Duration::from_secs(if quick { quick_s } else { full_s })
    }

    /// Why it cannot be done.
    fn why_not(self, context: &Context) -> Option<&'static str> {
        use Experiment::{Coverage, Depth, Failure, Misses, Shards, Weights, Yield};
        let needs_shape = matches!(self, Misses | Depth | Coverage | Yield);
        match self {
            Weights | Failure | Shards if !context.has_own_clusters() => {
                Some("It needs clusters of its own, and one was given with --endpoint.")
            }
            _ if needs_shape && !context.knows_shapes() => Some(
                "The cluster that was given with --endpoint does not say which shards it asks.",
            ),
            _ if needs_shape && !context.has_other_nodes() => {
                Some("It sends through another node than it polls: give two with --endpoint.")
            }
            _ => None,
        }
    }

    async fn run(self, context: &Context) -> anyhow::Result<Section> {
        match self {
            Self::Misses => misses::run(context).await,
            Self::Depth => depth::run(context).await,
            Self::Weights => weights::run(context).await,
            Self::Coverage => coverage::run(context).await,
            Self::Yield => yields::run(context).await,
            Self::Cost => cost::run(context).await,
            Self::Wake => wake::run(context).await,
            Self::Idle => idle::run(context).await,
            Self::Shards => shards::run(context).await,
            Self::Many => many::run(context).await,
            Self::Failure => failure::run(context).await,
            Self::Scaling => scaling::run(context).await,
        }
    }
}

/// Runs the study; whether every promise was kept.
pub(crate) async fn run(args: &PollingArgs) -> anyhow::Result<bool> {
    std::fs::create_dir_all(&args.out)?;
    let all = Experiment::value_variants();
    let wanted: Vec<Experiment> =
        all.iter().copied().filter(|one| args.only.is_empty() || args.only.contains(one)).collect();
    let mut context = Context::new(args.quick, args.seed, args.endpoint.clone(), args.out.clone());
    context.learn_shape().await?;
    let mut sections = Vec::new();
    let plan = wanted.iter().map(|one| {
        let possible = one.why_not(&context).is_none();
        (one.name(), if possible { one.usual(args.quick) } else { Duration::ZERO })
    });
    let plan = plan.collect();
    for (index, experiment) in wanted.iter().enumerate() {
        context.begin(&plan, index);
        let section = match experiment.why_not(&context) {
            Some(why) => {
                let skipped = Some(why.to_owned());
                Section { name: experiment.name(), skipped, ..Section::default() }
            }
            // The others are worth their time all the same.
            None => {
                Box::pin(context.watching(experiment.run(&context))).await.unwrap_or_else(|error| {
                    let failed = format!("{}: {error:#}", experiment.name());
                    let skipped = Some(format!("It failed: {error:#}."));
                    Section {
                        name: experiment.name(),
                        skipped,
                        broken: vec![failed],
                        ..Section::default()
                    }
                })
            }
        };
        section.save(&args.out)?;
        sections.push(section);
    }
    context.end();
    choices::choices(&sections).save(&args.out)?;
    let page = report::page(&report::Facts::of(args), &sections);
    std::fs::write(args.out.join("report.html"), page)?;
    let broken: Vec<&String> = sections.iter().flat_map(|section| &section.broken).collect();
    let mut out = io::stdout().lock();
    for section in &sections {
        for finding in &section.findings {
            writeln!(out, "{}: {finding}", section.name)?;
        }
    }
    for broken in &broken {
        writeln!(out, "BROKEN: {broken}")?;
    }
    writeln!(out, "seed: {}", args.seed)?;
    writeln!(out, "report: {}", args.out.join("report.html").display())?;
    Ok(broken.is_empty())
}
