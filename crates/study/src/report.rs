//! One measurement as a line of JSON.

use serde::{Deserialize, Serialize};

use crate::histogram::Percentiles;
use crate::procfs::Usage;
use crate::run::{Latencies, Run};

/// One timed phase. Times in `_ms` are milliseconds; those of servers and clients are processor
/// seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    /// The part of a workload that has several.
    pub(crate) phase: Option<String>,
    pub(crate) label: Option<String>,
    /// Of this phase: acknowledged where only sends are timed, else received for the first time.
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    pub(crate) messages_per_s: f64,
    pub(crate) send_ms: Option<Percentiles>,
    pub(crate) receive_ms: Option<Percentiles>,
    pub(crate) end_to_end_ms: Option<Percentiles>,
    pub(crate) server_cpu_s_per_million: Option<f64>,
    pub(crate) client_cpu_s_per_million: Option<f64>,
    /// Processors that the server kept busy on average.
    pub(crate) server_cores: Option<f64>,
    /// Processors that everything but server and client kept busy on average.
    pub(crate) other_cores: f64,
    pub(crate) server_rss_mib: Option<f64>,
    /// How much the server grew by a million messages that were left in the queue.
    pub(crate) server_rss_mib_per_million: Option<f64>,
    #[serde(flatten)]
    pub(crate) judgement: Judgement,
}

/// What a whole run was found to be, the same in all its rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Judgement {
    /// Whether it was waited for everything that was acknowledged.
    pub(crate) verified: bool,
    /// Acknowledged and not received; always 0 if not verified.
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    /// Bodies that were damaged or never sent.
    pub(crate) damaged: u64,
    pub(crate) errors: u64,
    pub(crate) last_error: Option<String>,
}

impl Row {
    pub(crate) fn new(
        workload: String,
        run: &Run,
        messages: u64,
        usage: &Usage,
        latencies: &Latencies,
    ) -> Self {
        let seconds = usage.elapsed.as_secs_f64();
        let per_million = |cpu_s: f64| (messages > 0).then(|| cpu_s * 1e6 / messages as f64);
        Self {
            workload,
            phase: None,
            label: run.settings.label.clone(),
            messages,
            seconds,
            messages_per_s: messages as f64 / seconds,
            send_ms: latencies.send.percentiles(),
            receive_ms: latencies.receive.percentiles(),
            end_to_end_ms: latencies.end_to_end.percentiles(),
            server_cpu_s_per_million: usage.server_cpu_s.and_then(per_million),
            client_cpu_s_per_million: per_million(usage.client_cpu_s),
            server_cores: usage.server_cpu_s.map(|cpu_s| cpu_s / seconds),
            other_cores: usage.other_cpu_s / seconds,
            server_rss_mib: usage.server_rss_mib,
            server_rss_mib_per_million: None,
            judgement: Judgement::default(),
        }
    }

    /// What tells it from measurements of something else.
    pub(crate) fn name(&self) -> String {
        let mut name = self.label.as_ref().map_or_else(String::new, |label| format!("{label}: "));
        name.push_str(&self.workload);
        if let Some(phase) = &self.phase {
            name.push_str(", ");
            name.push_str(phase);
        }
        name
    }
}

impl Judgement {
    pub(crate) fn of(run: &Run, verified: bool) -> Self {
        let verdict = run.verdict();
        let (errors, last_error) = run.errors();
        Self {
            verified,
            lost: if verified { verdict.missing } else { 0 },
            duplicates: verdict.duplicates,
            damaged: verdict.strangers,
            errors,
            last_error,
        }
    }

    /// Nothing that was acknowledged is gone or changed.
    pub(crate) fn is_sound(&self) -> bool {
        self.lost == 0 && self.damaged == 0
    }
}
