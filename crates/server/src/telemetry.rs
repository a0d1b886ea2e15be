//! Where log lines go and which.

use anyhow::Context as _;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

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
