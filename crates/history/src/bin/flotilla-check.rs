//! `flotilla-check FILE`: prints the verdict on a history. Exit code 0: pass, 1: fail, 2: unknown or
//! unreadable.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use flotilla_history::check_file;

/// Judges the history of a run against a queue service.
#[derive(Parser)]
struct Args {
    /// Histories; each is judged by itself, and the worst answer is the exit code's.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let mut worst = 0;
    for path in Args::parse().files {
        let (code, text) = match check_file(&path) {
            Ok(checked) => {
                let mut text = checked.report;
                if let Some(timeline) = checked.timeline {
                    text.push_str(&format!("\ntimeline: {}\n", timeline.display()));
                }
                (checked.verdict.exit_code(), text)
            }
            Err(error) => (2, format!("UNKNOWN: {error}\n")),
        };
        // A failure outweighs what is unknown.
        worst = match (worst, code) {
            (1, _) | (_, 1) => 1,
            (worst, code) => worst.max(code),
        };
        if std::io::stdout().write_all(text.as_bytes()).is_err() {
            return ExitCode::from(2);
        }
    }
    ExitCode::from(worst)
}
