//! What can be asked for on the command line.

use std::net::SocketAddr;
use std::time::Duration;

use flotilla_client::Endpoint;

use crate::backlog::Count;
use crate::metrics::Drive;
use crate::policy::{Policy, PolicyError};
use crate::slots::Supervision;

/// No duration on the command line is longer.
const SECONDS_MAX: f64 = 7.0 * 24.0 * 3600.0;

/// Keeps the number of workers of a queue such that each has an acceptable backlog.
#[derive(Clone, Debug, clap::Args)]
pub struct AutoscaleArgs {
    /// SQS endpoint; AWS's is `https://sqs.REGION.amazonaws.com`. Several times for the nodes of a cluster: when
    /// one does not answer the next one is asked. Requests are signed if AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY say with what (and AWS_SESSION_TOKEN, AWS_REGION), as they are at the start: a
    /// session must last as long as this program.
    #[arg(long = "endpoint", default_value = "http://127.0.0.1:9324", value_name = "URL")]
    pub endpoints: Vec<Endpoint>,
    /// Name of the queue. KEDA's triggers may name others.
    #[arg(long)]
    pub queue: String,
    /// Seconds that a message may take from send to completion.
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub acceptable_latency_s: Duration,
    /// Milliseconds that an instance takes for a message on average (divided by the number of messages
    /// that it works on at the same time). With --measure it is where the mean begins, and counts as much as ten
    /// measured messages.
    #[arg(long, value_parser = processing, value_name = "MILLISECONDS")]
    pub processing_ms: Duration,
    /// Measures the mean processing time: workers report each message's to this UDP address as
    /// StatsD timings named `processing`, e.g. `processing:12.5|ms`. They find it in
    /// STATSD_HOST and STATSD_PORT. A worker that works on several messages at the same time reports each one's time
    /// divided by their number: the mean is what an instance needs for a message. A time of 0 does not count.
    #[arg(long, value_name = "ADDRESS")]
    pub measure: Option<SocketAddr>,
    /// Instances at all times.
    #[arg(long, default_value_t = 1)]
    pub min: u32,
    /// Instances, at most.
    #[arg(long, default_value_t = 10)]
    pub max: u32,
    /// Hysteresis: the part of the acceptable backlog by which an instance's may differ without a
    /// change.
    #[arg(long, default_value_t = 0.1)]
    pub tolerance: f64,
    /// Milliseconds from one reading of the queue to the next.
    #[arg(long, default_value = "1000", value_parser = milliseconds, value_name = "MILLISECONDS")]
    pub interval_ms: Duration,
    /// Seconds after a scale-out without another.
    #[arg(long, default_value = "5", value_parser = seconds, value_name = "SECONDS")]
    pub scale_out_cooldown_s: Duration,
    /// Seconds for which fewer instances must have been enough before any is ended.
    #[arg(long, default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    pub scale_in_cooldown_s: Duration,
    /// Seconds that a worker has to end after SIGTERM, before it is killed. More than a
    /// message takes, and less than the queue's visibility timeout. The signal goes to all processes of the
    /// worker at once.
    #[arg(long, default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    pub grace_s: Duration,
    /// Counts only messages that wait, and not those that are being worked on.
    #[arg(long)]
    pub only_waiting: bool,
    /// Decides and says what it would do, and does nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Address of the page for Prometheus, `/metrics`.
    #[arg(long, default_value = "127.0.0.1:9327", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Address of the gRPC service for KEDA; none unless given.
    #[arg(long, value_name = "ADDRESS")]
    pub keda_listen: Option<SocketAddr>,
    /// A worker's command line, after `--`. Not needed for --dry-run, nor when KEDA starts the workers.
    #[arg(last = true, required_unless_present_any = ["dry_run", "keda_listen"])]
    pub command: Vec<String>,
}

/// Arguments that do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// See there.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A loop without rest.
    #[error("the interval must be at least 10 ms")]
    Interval,
}

impl AutoscaleArgs {
    pub(crate) fn policy(&self) -> Result<Policy, SettingsError> {
        if self.interval_ms < Duration::from_millis(10) {
            return Err(SettingsError::Interval);
        }
        let policy = Policy {
            acceptable_latency: self.acceptable_latency_s,
            min: self.min,
            max: self.max,
            tolerance: self.tolerance,
            scale_out_cooldown: self.scale_out_cooldown_s,
            scale_in_cooldown: self.scale_in_cooldown_s,
        };
        Ok(policy.checked()?)
    }

    pub(crate) fn supervision(&self) -> Supervision {
        Supervision { grace: self.grace_s, ..Supervision::default() }
    }

    pub(crate) fn count(&self) -> Count {
        if self.only_waiting { Count::Waiting } else { Count::Unfinished }
    }

    /// Who starts the workers. A dry run says what would be, as if they ran here.
    pub(crate) fn drive(&self) -> Drive {
        let elsewhere = self.command.is_empty() && !self.dry_run;
        if elsewhere { Drive::Elsewhere } else { Drive::Here }
    }

    /// Whether processes are started at all.
    pub(crate) fn drives(&self) -> bool {
        !self.dry_run && !self.command.is_empty()
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    duration(text, 1.0)
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    duration(text, 1_000.0)
}

/// Work that takes no time would make every backlog acceptable.
fn processing(text: &str) -> Result<Duration, String> {
    let duration = milliseconds(text)?;
    if duration.is_zero() { Err("must be more than nothing".into()) } else { Ok(duration) }
}

fn duration(text: &str, per_second: f64) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())? / per_second;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err("no duration from nothing to a week".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AutoscaleArgs,
    }

    fn read(line: &str) -> Result<AutoscaleArgs, clap::Error> {
        let words = std::iter::once("autoscale").chain(line.split(' '));
        Line::try_parse_from(words).map(|line| line.args)
    }

    #[test]
    fn a_worker_is_everything_after_two_dashes() {
        let args = read("--queue q --processing-ms 12.5 -- python3 w.py --queue x").unwrap();
        assert_eq!(args.command, ["python3", "w.py", "--queue", "x"]);
        assert_eq!(args.processing_ms, Duration::from_micros(12_500));
        assert_eq!(args.policy().unwrap().acceptable_backlog(args.processing_ms), 800.0);
        assert!(args.drives() && args.count() == Count::Unfinished);
    }

    #[test]
    fn workers_are_needed_unless_others_start_them() {
        assert!(read("--queue q --processing-ms 1").is_err());
        assert!(!read("--queue q --processing-ms 1 --dry-run").unwrap().drives());
        let dry = read("--queue q --processing-ms 1 --dry-run -- w").unwrap();
        assert!(!dry.drives() && dry.drive() == Drive::Here);
        let keda = read("--queue q --processing-ms 1 --keda-listen 0.0.0.0:1").unwrap();
        assert!(!keda.drives() && keda.drive() == Drive::Elsewhere);
        let both = read("--queue q --processing-ms 1 --keda-listen 0.0.0.0:1 -- w").unwrap();
        assert!(both.drives() && both.drive() == Drive::Here);
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in ["--acceptable-latency-s -1", "--grace-s x", "--interval-ms NaN", "--min -1"] {
            assert!(read(&format!("--queue q --processing-ms 1 {wrong} -- w")).is_err(), "{wrong}");
        }
        for wrong in ["0", "0.0", "-1", "1e-9"] {
            assert!(read(&format!("--queue q --processing-ms {wrong} -- w")).is_err(), "{wrong}");
        }
        let fails = |more: &str| {
            read(&format!("--queue q --processing-ms 1 {more} -- w")).unwrap().policy().unwrap_err()
        };
        assert_eq!(fails("--interval-ms 1"), SettingsError::Interval);
        assert_eq!(fails("--min 3 --max 2"), PolicyError::Instances.into());
    }
}
