//! Where log lines go and which.

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Overrides the configured level; the syntax is tracing-subscriber's, e.g.
/// `info,flotilla_cluster=debug`.
const VARIABLE: &str = "FLOTILLA_LOG";

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For humans.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error; `level` holds unless the environment says otherwise.
///
/// # Errors
/// When the level or the environment's is no filter.
pub(crate) fn start(format: Format, level: &str) -> anyhow::Result<()> {
    let from_env = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let (text, origin) = match &from_env {
        Some(text) => (text.as_str(), VARIABLE),
        None => (level, "the configured level"),
    };
    check(text).with_context(|| format!("{origin}: {text:?}"))?;
    let filter = EnvFilter::try_new(text).with_context(|| format!("{origin}: {text:?}"))?;
    // Several nodes in one process are told apart by their threads.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would complain on standard error, and panic when that is what cannot be written.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_thread_names(true);
    let started = match format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("{error}"))
}

/// A word alone is a level: what is none would be taken for the name of a target of which everything is logged, and
/// nothing of all others.
fn check(filter: &str) -> anyhow::Result<()> {
    let parts = filter.split(',').map(str::trim);
    let words = parts.filter(|part| !part.is_empty() && !part.contains(['=', '[', ']', '{', '}']));
    for word in words {
        ensure!(word.parse::<LevelFilter>().is_ok(), "{word:?} is no level");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in
            ["info", "INFO", "off", "info,openraft=error", "warn, flotilla_cluster=debug,", ""]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["warning", "inof", "info,flotilla_cluster", "debug error"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
