//! The same program for tests, which crashes at the moment that `DECOUPLING_CRASH` names.

use std::process::ExitCode;

#[allow(clippy::print_stderr, reason = "nothing else has begun yet")]
fn main() -> ExitCode {
    let order = std::env::var("DECOUPLING_CRASH").unwrap_or_default();
    if let Err(error) = flotilla_decoupling::crash_at(&order) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    flotilla_decoupling::main()
}
