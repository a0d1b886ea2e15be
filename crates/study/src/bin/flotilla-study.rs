//! The `flotilla-study` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    flotilla_study::study()
}
