//! What was found so far.

use std::time::Instant;

use flotilla_tests::Fleet;
use flotilla_tests::chaos::{Cell, FaultKind, Ground, Judged, Matrix, Plan, Possible, Totals, run};

use crate::record::{Record, Row};
use crate::settings::Settings;

/// Threads of a run's clients.
const WORKERS: usize = 2;

/// See the module.
pub(crate) struct Board {
    begin: Instant,
    /// After so many minutes no run begins any more; `None`: whatever it takes.
    minutes_max: Option<u64>,
    seed: u64,
    pub(crate) totals: Totals,
    pub(crate) matrix: Matrix,
    record: Option<Record>,
}

impl Board {
    pub(crate) fn new(settings: &Settings, record: Option<Record>) -> Self {
        let (totals, matrix) = (Totals::default(), Matrix::default());
        let (minutes_max, seed) = (settings.minutes, settings.seed);
        Self { begin: Instant::now(), minutes_max, seed, totals, matrix, record }
    }

    /// Whether no run begins any more.
    pub(crate) fn is_over(&self) -> bool {
        let minutes = self.begin.elapsed().as_secs() / 60;
        self.minutes_max.is_some_and(|most| minutes >= most)
    }

    /// The next run has the next seed.
    pub(crate) fn plan(
        &mut self,
        settings: &Settings,
        ground: Ground,
        faults: Vec<FaultKind>,
    ) -> Plan {
        self.seed += 1;
        Plan {
            seed: self.seed - 1,
            faults,
            ground,
            times: settings.times,
            hold: settings.hold,
            dense: settings.dense,
            acknowledged_min: 0,
            dir: settings.dir.clone(),
            again: None,
        }
    }

    /// The faults that can be made so; the others are noted.
    pub(crate) fn possible(
        &mut self,
        faults: &[FaultKind],
        nodes: u64,
        ground: Ground,
    ) -> Vec<FaultKind> {
        let Possible { faults, pointless, skipped } =
            FaultKind::possible(faults, nodes as usize, ground);
        for (kind, why) in pointless {
            self.matrix.pointless(kind.name(), nodes, why);
        }
        for (kind, why) in skipped {
            self.matrix.skip(kind.name(), nodes, &why);
        }
        faults
    }

    pub(crate) fn note(&mut self, name: &str, nodes: u64, plan: &Plan, judged: &Judged) {
        self.put(name, nodes, plan.seed, Cell::judged(judged));
        if judged.is_good() {
            judged.forget();
        } else {
            println!("{}", judged.report);
        }
        let (seconds, seed) = (self.begin.elapsed().as_secs(), plan.seed);
        let good = if judged.is_good() { "good" } else { "BAD" };
        println!("{seconds:>5} s, seed {seed}, {nodes} nodes, {name}: {good}; {}", self.totals);
    }

    pub(crate) fn broke(&mut self, name: &str, nodes: u64, plan: &Plan, why: &str) {
        println!("{name}, {nodes} nodes: {why}\nagain: {}", plan.replay(nodes as usize));
        self.put(name, nodes, plan.seed, Cell::broke(why));
    }

    fn put(&mut self, name: &str, nodes: u64, seed: u64, cell: Cell) {
        let row = Row { name: name.to_owned(), nodes, seed, cell };
        if let Some(record) = &mut self.record
            && let Err(error) = record.add(&row)
        {
            println!("{name}, {nodes} nodes: this run is not in the record: {error}");
        }
        self.recall(&row);
    }

    /// What an earlier command has recorded.
    pub(crate) fn recall(&mut self, row: &Row) {
        self.totals.merge(row.cell.totals());
        self.matrix.put(&row.name, row.nodes, &row.cell);
    }
}

/// A run in a cluster of its own, on a runtime of its own: what gives up takes only that with it.
///
/// # Errors
/// When it comes to no verdict.
pub(crate) async fn alone(nodes: u64, plan: Plan) -> Result<Judged, String> {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        runtime.block_on(async {
            let settings = FaultKind::settings(&plan.faults, plan.ground);
            let mut fleet = Fleet::start_with(nodes, &settings).await;
            run(&mut fleet, &plan).await
        })
    };
    tokio::task::spawn_blocking(run).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => match panic.downcast::<String>() {
            Ok(said) => *said,
            Err(panic) => panic.downcast::<&str>().map_or("it panicked".into(), |it| (*it).into()),
        },
        Err(error) => error.to_string(),
    })
}
