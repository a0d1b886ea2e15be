//! The autoscaler as a process: signals, logs and the page for Prometheus are the nodes' own.

use std::future::ready;

use anyhow::Context as _;
use flotilla_autoscale::{AutoscaleArgs, CONTENT_TYPE, Controller, Metrics, listen_for_keda};
use hyper::StatusCode;
use tokio::net::TcpListener;

use crate::http::{self, Page};
use crate::shutdown;
use crate::telemetry::{self, Format};

/// Runs until asked to end, and until all workers have ended then.
///
/// # Errors
/// When the arguments contradict each other or an address cannot be had.
pub(crate) fn run(args: &AutoscaleArgs) -> anyhow::Result<()> {
    telemetry::start(Format::Text, "info")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let controller = Controller::new(args).await?;
        let workers = controller.workers();
        // They have groups of their own: nobody else would end them.
        let stop = shutdown::on_signals_and(move || workers.kill())?;
        let metrics = controller.metrics();
        let listener = TcpListener::bind(args.listen)
            .await
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        if let Some(address) = args.keda_listen {
            let listener = listen_for_keda(address)
                .await
                .with_context(|| format!("cannot listen on {address}"))?;
            let serving = controller.keda(args).serve(listener, stop.clone());
            tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "KEDA is not served any more");
                }
            });
        }
        // Last, for whoever takes it for ready as soon as there is a page.
        tokio::spawn(http::serve(listener, move |path| ready(page(&metrics, &path))));
        tracing::info!(
            endpoints = args.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            queue = args.queue,
            metrics = %args.listen,
            keda = args.keda_listen.map(tracing::field::display),
            "watching"
        );
        controller.run(stop).await;
        Ok(())
    })
}

fn page(metrics: &Metrics, path: &str) -> Page {
    match path {
        "/health" => Page::text(StatusCode::OK, "ok\n"),
        "/metrics" => match metrics.text() {
            Ok(text) => Page { status: StatusCode::OK, content_type: CONTENT_TYPE, text },
            Err(error) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        _ => Page::text(StatusCode::NOT_FOUND, "/health /metrics\n"),
    }
}
