//! The `flotilla-decoupling` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    flotilla_decoupling::main()
}
