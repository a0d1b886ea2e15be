//! From arguments to output and exit code.

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::args::{Args, Command};
use crate::report::Row;
use crate::table::table;
use crate::workloads;

/// Exit code of a run in which a message was lost or damaged.
const UNSOUND: u8 = 3;

/// Runs what the command line asks for.
pub fn bench() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to be done if even this cannot be said.
            let _ = writeln!(io::stderr(), "flotilla-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Command::Summary { files } = &args.command {
        let mut rows = Vec::new();
        for file in files {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            for line in text.lines() {
                rows.push(serde_json::from_str::<Row>(line).context("not a line of a run")?);
            }
        }
        io::stdout().write_all(table(&rows).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let rows = local.block_on(&runtime, workloads::run(&args.settings, &args.command))?;
    for row in &rows {
        writeln!(io::stdout(), "{}", serde_json::to_string(row)?)?;
    }
    io::stderr().write_all(table(&rows).as_bytes())?;
    if let Some(error) = rows.iter().find_map(|row| row.judgement.last_error.as_ref()) {
        writeln!(io::stderr(), "the last error: {error}")?;
    }
    let sound = rows.iter().all(|row| row.judgement.is_sound());
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(UNSOUND) })
}
