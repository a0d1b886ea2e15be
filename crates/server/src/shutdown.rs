//! How a process is asked to end, and how it ends when it must.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::out;

/// Exit code after an error that a node cannot survive (`EX_SOFTWARE`).
const FATAL: i32 = 70;
/// Exit code when the orderly end was cut short (128 + SIGINT).
const IMPATIENT: i32 = 130;

/// Turns true at the first SIGINT or SIGTERM; the second ends the process at once. Must be called
/// inside a runtime, one that does nothing else: it must hear the second signal even when a node
/// hangs.
///
/// # Errors
/// When the signals cannot be caught.
pub(crate) fn on_signals() -> io::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        tracing::info!("asked to end; once more to end at once");
        stop.send_replace(true);
        either(&mut interrupt, &mut terminate).await;
        out::complain("flotilla: ended at once");
        std::process::exit(IMPATIENT);
    });
    Ok(stopped)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
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
        std::process::exit(FATAL)
    }
}
