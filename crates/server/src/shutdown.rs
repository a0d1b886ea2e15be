//! How a process is asked to end, and how it ends when it must.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::out;

/// Exit code after an error that a node cannot survive (`EX_SOFTWARE`).
const FATAL: i32 = 70;
/// Exit code when the orderly end was cut short (128 + SIGINT).
const IMPATIENT: i32 = 130;
/// How long a process that must end may take for that: a supervisor waits to start it again.
const GOODBYE: Duration = Duration::from_secs(3);

/// Turns true at the first SIGINT, SIGTERM or SIGHUP (its terminal is gone); the second ends the process at
/// once. Must be called inside a runtime, one that does nothing else: it must hear the second signal even when
/// a node hangs.
///
/// # Errors
/// When the signals cannot be caught.
pub(crate) fn on_signals() -> io::Result<watch::Receiver<bool>> {
    on_signals_and(|| {})
}

/// The same; `at_once` is done before the second signal ends the process.
///
/// # Errors
/// When the signals cannot be caught.
pub(crate) fn on_signals_and(
    at_once: impl FnOnce() + Send + 'static,
) -> io::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Whoever started this with `nohup` wants it to go on without a terminal.
    let mut hangup =
        if is_ignored(SignalKind::hangup()) { None } else { Some(signal(SignalKind::hangup())?) };
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            () = either(&mut interrupt, &mut terminate) => {}
            () = heard(&mut hangup) => {}
        }
        tracing::info!("asked to end; once more to end at once");
        stop.send_replace(true);
        // A second SIGHUP is none: both the shell and the kernel may tell of the same terminal's end.
        either(&mut interrupt, &mut terminate).await;
        at_once();
        out::complain("flotilla: ended at once");
        end(IMPATIENT);
    });
    Ok(stopped)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}

/// Whether whoever started this process has it ignore a signal.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored(&status) & (1 << (kind.as_raw_value() - 1)) != 0
}

/// The signals that a process ignores, a bit for each from SIGHUP on, by what Linux says of it.
fn ignored(status: &str) -> u64 {
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

/// Ends the process: what has failed (a sync, a store, a replica's state) must not go on and
/// acknowledge. The log on disk brings everything acknowledged back at the next start.
pub(crate) fn on_fatal() -> Arc<dyn Fn(String) + Send + Sync> {
    Arc::new(|reason| {
        let _end = EndProcess;
        // Standard error has no buffer of its own: it is written when this returns.
        tracing::error!(%reason, "this node cannot go on");
    })
}

/// Ends the process when it is dropped, also by a panic: a node whose log has stopped, and that goes on
/// because it could not even say so, would answer nobody and be replaced by nobody.
struct EndProcess;

impl Drop for EndProcess {
    fn drop(&mut self) {
        end(FATAL)
    }
}

/// Ends the process, without a goodbye if that takes long: the state store's library waits for its jobs first, and
/// a job for a disk that may never answer, while all other threads go on. (One that waits inside the kernel keeps
/// the process there, whatever is done.)
fn end(code: i32) -> ! {
    let abort = || {
        std::thread::sleep(GOODBYE);
        // In a container this may be process 1, which SIGKILL from itself does not end.
        std::process::abort()
    };
    // Without a thread there is nothing better than to wait.
    let _ = std::thread::Builder::new().name("end".into()).spawn(abort);
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read() {
        assert_eq!(
            ignored("Name:\tx\nSigBlk:\t1\nSigIgn:\t0000000000001001\nSigCgt:\t2\n"),
            0x1001
        );
        assert_eq!(ignored(""), 0);
    }
}
