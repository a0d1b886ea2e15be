//! What is said to a human on the terminal; everything else is logged.

use std::io::Write as _;

/// To standard output.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be listening any more: that is no reason to end.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// To standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
