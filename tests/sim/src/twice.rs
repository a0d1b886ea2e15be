//! The same seed twice gives the same, in everything that anybody says.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use crate::seeds::{Args, BAD, Said, run_one};

/// Runs each seed twice; what it says, its history and all lines that were logged must not differ.
pub(crate) fn twice(args: &Args, dir: &Path) -> anyhow::Result<ExitCode> {
    let dirs: [PathBuf; 2] = ["first", "second"].map(|name| dir.join(name));
    let mut differ = 0;
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        for dir in &dirs {
            std::fs::create_dir_all(dir)?;
        }
        let traces = dirs.each_ref().map(|dir| dir.join(format!("sim-{seed}.trace")));
        let [first, second] = std::thread::scope(|scope| {
            let both = [0, 1].map(|run| {
                let (dir, trace) = (&dirs[run], &traces[run]);
                scope.spawn(move || run_one(seed, dir, Some(trace)))
            });
            both.map(|run| run.join())
        });
        let told = |said: std::thread::Result<anyhow::Result<Said>>| -> anyhow::Result<_> {
            let mut said = said.map_err(|_| anyhow::anyhow!("a run of seed {seed} panicked"))??;
            // How fast it was is no part of it.
            said.summary["real_ms"] = Value::Null;
            Ok(said)
        };
        let (first, second) = (told(first)?, told(second)?);
        let (lines, difference) = compare(&traces[0], &traces[1])?;
        if let Some(difference) = difference {
            differ += 1;
            println!("seed {seed} differs in line {difference}");
            println!("{} and {}", traces[0].display(), traces[1].display());
        } else if first.summary != second.summary || first.summary["history"] == "" {
            differ += 1;
            println!("seed {seed} differs:\n{}\n{}", first.summary, second.summary);
            println!("{}", first.text);
        } else {
            let records = &first.summary["records"];
            println!("seed {seed}: twice the same {records} requests and {lines} lines");
            for trace in &traces {
                std::fs::remove_file(trace)?;
            }
        }
    }
    Ok(if differ == 0 { ExitCode::SUCCESS } else { ExitCode::from(BAD) })
}

/// How many lines are the same, and the first that is not.
fn compare(first: &Path, second: &Path) -> anyhow::Result<(u64, Option<String>)> {
    let lines =
        |path: &Path| -> std::io::Result<_> { Ok(BufReader::new(File::open(path)?).lines()) };
    let (mut first, mut second) = (lines(first)?, lines(second)?);
    let mut same = 0;
    loop {
        match (first.next().transpose()?, second.next().transpose()?) {
            (None, None) => return Ok((same, None)),
            (one, other) if one == other => same += 1,
            (one, other) => {
                let text = |line: Option<String>| line.unwrap_or_else(|| "(its end)".to_owned());
                let (one, other) = (text(one), text(other));
                return Ok((same, Some(format!("{}:\n{one}\n{other}", same + 1))));
            }
        }
    }
}
