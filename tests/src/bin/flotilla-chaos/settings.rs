//! What was asked for, by the environment.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use flotilla_tests::chaos::{FaultKind, Ground};

/// See the program's own documentation.
pub(crate) struct Settings {
    /// No run begins later; `None`: whatever it takes.
    pub(crate) minutes: Option<u64>,
    pub(crate) seed: u64,
    /// `None`: all.
    pub(crate) faults: Option<Vec<FaultKind>>,
    /// `None`: each at home.
    pub(crate) ground: Option<Ground>,
    pub(crate) nodes: Vec<u64>,
    pub(crate) times: u64,
    /// Of a measurement.
    pub(crate) kills: u64,
    pub(crate) hold: Duration,
    pub(crate) dense: usize,
    pub(crate) jobs: usize,
    /// Of acknowledged messages in all.
    pub(crate) floor: u64,
    pub(crate) allow_skips: bool,
    pub(crate) mode: Mode,
    pub(crate) dir: PathBuf,
    /// Where a full run is written down, and goes on.
    pub(crate) record: Option<PathBuf>,
    /// Of the program and of these tests.
    pub(crate) commit: String,
}

/// What is to be done.
pub(crate) enum Mode {
    /// All faults in turn, again and again on the same clusters.
    Again,
    /// Each fault alone, in a cluster of its own, then all that go together.
    Full,
    /// Three faults, others for each commit.
    Slice,
    /// Something else.
    Measure(String),
}

/// How often each fault comes in a run.
const TIMES: u64 = 3;
const KILLS: u64 = 50;
const HOLD_MS: u64 = 3_000;
const MINUTES: u64 = 10;

fn setting(name: &str) -> Option<String> {
    std::env::var(format!("FLOTILLA_CHAOS_{name}")).ok().filter(|value| !value.is_empty())
}

fn number<T: FromStr>(name: &str, otherwise: T) -> Result<T, String> {
    let Some(value) = setting(name) else { return Ok(otherwise) };
    value.parse().map_err(|_| format!("FLOTILLA_CHAOS_{name} is no number: {value}"))
}

impl Settings {
    /// # Errors
    /// When something was asked for that there is not.
    pub(crate) fn read() -> Result<Self, String> {
        let full = setting("FULL").is_some();
        let mode = match (setting("MEASURE"), setting("SLICE").is_some()) {
            (Some(what), _) => Mode::Measure(what),
            (None, true) => Mode::Slice,
            (None, false) if full => Mode::Full,
            (None, false) => Mode::Again,
        };
        let nodes = match setting("NODES") {
            None if full => vec![3, 5],
            _ => vec![number("NODES", 3)?],
        };
        if nodes.iter().any(|count| !matches!(count, 3 | 5)) {
            return Err("a cluster has 3 or 5 nodes".to_owned());
        }
        let ground = setting("ON").map(|name| name.parse()).transpose()?;
        if ground == Some(Ground::Compose) && nodes != [3] {
            return Err("the compose cluster has 3 nodes".to_owned());
        }
        let named = |names: String| names.split(',').map(str::parse).collect();
        let faults: Option<Vec<FaultKind>> = setting("FAULTS").map(named).transpose()?;
        let on = |kind: &&FaultKind| ground.is_some_and(|ground| !kind.goes_on(ground));
        if let Some(kind) = faults.iter().flatten().find(on) {
            return Err(format!("{kind} cannot be made there"));
        }
        let record = setting("RECORD").map(PathBuf::from);
        if record.is_some() && !matches!(mode, Mode::Full) {
            return Err("only a full run is recorded".to_owned());
        }
        Ok(Self {
            minutes: match (&mode, setting("MINUTES")) {
                (Mode::Full | Mode::Slice, None) => None,
                _ => Some(number("MINUTES", MINUTES)?),
            },
            seed: number("SEED", rand::random_range(0..u64::from(u32::MAX)))?,
            faults,
            ground,
            nodes,
            times: number("TIMES", TIMES)?,
            kills: number("TIMES", KILLS)?,
            hold: Duration::from_millis(number("HOLD_MS", HOLD_MS)?),
            dense: number("DENSE", 0)?,
            jobs: number("JOBS", 1)?,
            floor: number("FLOOR", 0)?,
            allow_skips: setting("ALLOW_SKIPS").is_some(),
            mode,
            dir: setting("DIR")
                .map_or_else(|| std::env::temp_dir().join("flotilla-chaos"), PathBuf::from),
            record,
            commit: setting("COMMIT").unwrap_or_else(|| "unknown".to_owned()),
        })
    }

    /// The faults that are wanted, by where they are to be made.
    pub(crate) fn wanted(&self) -> Vec<(Ground, Vec<FaultKind>)> {
        let all = self.faults.clone().unwrap_or_else(|| FaultKind::ALL.to_vec());
        match self.ground {
            Some(ground) => {
                let here = all.into_iter().filter(|kind| kind.goes_on(ground)).collect();
                vec![(ground, here)]
            }
            None => {
                let mut homes = FaultKind::by_home(&all);
                if self.faults.is_none() {
                    // That takes a daemon, an image and the ports of this machine.
                    homes.remove(&Ground::Compose);
                }
                homes.into_iter().collect()
            }
        }
    }
}
