//! Tests of what a machine may not be able to do: loop devices, namespaces, clocks of a process's own.
//!
//! Where it cannot, a test says so and passes, so that everybody can run all of them. Where everything
//! has to be tested, which is where `CI` is set, it fails, unless `FLOTILLA_ALLOW_SKIPS=1` allows it.
//! `FLOTILLA_SKIPS` names a file to which each skip adds a line: who runs tests that passed does not see
//! what they said.

use std::env;
use std::fs::File;
use std::io::Write as _;

/// Says that something is not tested here, and why.
///
/// # Panics
/// Where everything has to be tested.
#[allow(clippy::print_stderr, reason = "it is said to whoever runs the tests")]
pub fn skip(what: &str, why: &str) {
    let line = format!("SKIPPED: {what}: {why}");
    eprintln!("{line}");
    if let Some(list) = env::var_os("FLOTILLA_SKIPS") {
        let list = File::options().create(true).append(true).open(list);
        // One write: others add to it at the same time. Who cannot read it has the line above.
        let _ = list.and_then(|mut list| list.write_all(format!("{line}\n").as_bytes()));
    }
    let setting = |name| env::var(name).ok();
    let forbidden =
        is_forbidden(setting("CI").as_deref(), setting("FLOTILLA_ALLOW_SKIPS").as_deref());
    assert!(!forbidden, "{line} (FLOTILLA_ALLOW_SKIPS=1 allows that)");
}

fn is_forbidden(ci: Option<&str>, allowed: Option<&str>) -> bool {
    ci.is_some_and(|ci| !ci.is_empty()) && allowed != Some("1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_everything_has_to_be_tested_a_skip_is_a_failure() {
        assert!(!is_forbidden(None, None));
        assert!(!is_forbidden(Some(""), None));
        assert!(is_forbidden(Some("1"), None));
        assert!(is_forbidden(Some("true"), Some("")));
        assert!(is_forbidden(Some("1"), Some("0")));
        assert!(!is_forbidden(Some("1"), Some("1")));
    }
}
