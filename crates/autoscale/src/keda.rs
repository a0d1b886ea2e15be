//! KEDA's external scaler: the same metric, with which Kubernetes does the rest.
//!
//! The value is the time that one instance would need for the whole backlog, in seconds, and the target is
//! the acceptable latency; Kubernetes divides one by the other, because a metric of an external scaler is an
//! average per pod. The mean processing time is in the value, because KEDA asks for the target
//! only when it builds its scaler: a target with what is measured in it would stay what it was then.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flotilla_client::Endpoint;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::args::AutoscaleArgs;
use crate::backlog::{Backlog, Count, QueueReader};
use crate::mean::MeanProcessing;
use crate::policy::acceptable_backlog;
use crate::proto::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use crate::proto::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
    MetricValue, ScaledObjectRef,
};

/// The metric's name; KEDA puts a prefix before it.
const METRIC: &str = "flotilla-backlog-seconds";
/// No target is smaller: the field for older versions of KEDA has only whole numbers.
const TARGET_MIN_S: f64 = 1.0;
const READ_PATIENCE: Duration = Duration::from_secs(5);
/// KEDA has one connection, with a stream for each trigger and a request now and then.
const STREAMS_MAX: u32 = 256;

/// A connection over which nothing comes is asked after so long whether anybody is there, and closed after as
/// long without an answer.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Clone, Debug)]
pub struct ScalerService {
    endpoints: Vec<Endpoint>,
    count: Count,
    every: Duration,
    defaults: Trigger,
    /// Of the workers of the queue on the command line.
    mean: Arc<Mutex<MeanProcessing>>,
}

/// What a trigger's metadata say.
#[derive(Clone, Debug, PartialEq)]
struct Trigger {
    queue: String,
    acceptable_latency: Duration,
    /// `None`: what is measured.
    processing: Option<Duration>,
}

impl ScalerService {
    pub(crate) fn new(args: &AutoscaleArgs, mean: Arc<Mutex<MeanProcessing>>) -> Self {
        Self {
            endpoints: args.endpoints.clone(),
            count: args.count(),
            every: args.interval_ms,
            defaults: Trigger {
                queue: args.queue.clone(),
                acceptable_latency: args.acceptable_latency_s,
                processing: None,
            },
            mean,
        }
    }

    /// Serves until `stop` turns true.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), tonic::transport::Error> {
        let stopped = async move {
            // An error is as good: whoever could stop it is gone.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            // Whose machine is gone would have its queue read for ever.
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_service(ExternalScalerServer::new(self))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), stopped)
            .await
    }

    fn trigger(&self, object: Option<ScaledObjectRef>) -> Result<Trigger, Status> {
        let metadata = object.map(|object| object.scaler_metadata).unwrap_or_default();
        read_trigger(&metadata, &self.defaults)
    }

    /// What there is of the metric: so many times the target as instances are wanted.
    fn value_s(&self, trigger: &Trigger, messages: u64) -> f64 {
        let mean = trigger.processing.unwrap_or_else(|| self.mean.lock().mean());
        backlog_s(trigger.acceptable_latency, mean, messages)
    }

    /// Connects anew each time: KEDA asks every half minute or so.
    async fn messages(&self, trigger: &Trigger) -> Result<u64, Status> {
        let mut reader = QueueReader::new(&self.endpoints, &trigger.queue);
        let backlog = self.read(&mut reader).await?;
        Ok(backlog.messages(self.count))
    }

    async fn read(&self, reader: &mut QueueReader) -> Result<Backlog, Status> {
        match timeout(READ_PATIENCE, reader.read()).await {
            Ok(read) => read.map_err(|error| Status::unavailable(error.to_string())),
            Err(_) => Err(Status::unavailable("the queue's endpoint does not answer")),
        }
    }
}

/// Constant as long as the trigger is the same.
fn target_s(trigger: &Trigger) -> f64 {
    least_target_s(trigger.acceptable_latency)
}

fn least_target_s(acceptable_latency: Duration) -> f64 {
    acceptable_latency.as_secs_f64().max(TARGET_MIN_S)
}

/// The metric: what one instance would need for these messages, as far as their latency is none that is
/// shorter than a target can be, or than a message takes.
pub(crate) fn backlog_s(acceptable_latency: Duration, mean: Duration, messages: u64) -> f64 {
    let acceptable = acceptable_backlog(acceptable_latency, mean);
    least_target_s(acceptable_latency) * messages as f64 / acceptable
}

/// Unknown keys belong to KEDA or to somebody else.
fn read_trigger(metadata: &HashMap<String, String>, defaults: &Trigger) -> Result<Trigger, Status> {
    let duration = |key: &str, per_second: f64| {
        let Some(text) = metadata.get(key) else { return Ok(None) };
        let wrong = |why: &dyn Display| Status::invalid_argument(format!("{key} {text:?}: {why}"));
        let seconds = text.parse::<f64>().map_err(|error| wrong(&error))? / per_second;
        if seconds <= 0.0 {
            return Err(wrong(&"must be more than nothing"));
        }
        Duration::try_from_secs_f64(seconds).map(Some).map_err(|error| wrong(&error))
    };
    let queue = metadata.get("queueName").unwrap_or(&defaults.queue).clone();
    let own = queue != defaults.queue;
    let processing = duration("processingTimeMs", 1_000.0)?.or(defaults.processing);
    if own && processing.is_none() {
        // What is measured is another queue's.
        return Err(Status::invalid_argument(format!(
            "processingTimeMs must be given: the mean of queue {queue} is not known"
        )));
    }
    let acceptable_latency = duration("acceptableLatencySeconds", 1.0)?;
    Ok(Trigger {
        queue,
        acceptable_latency: acceptable_latency.unwrap_or(defaults.acceptable_latency),
        processing,
    })
}

#[tonic::async_trait]
impl ExternalScaler for ScalerService {
    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let trigger = self.trigger(Some(request.into_inner()))?;
        let result = self.messages(&trigger).await? > 0;
        Ok(Response::new(IsActiveResponse { result }))
    }

    type StreamIsActiveStream =
        Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send + 'static>>;

    /// Says it at once and whenever it changes. A queue that cannot be read is as it was.
    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let trigger = self.trigger(Some(request.into_inner()))?;
        let (said, stream) = mpsc::channel(1);
        let service = self.clone();
        tokio::spawn(async move {
            let mut reader = QueueReader::new(&service.endpoints, &trigger.queue);
            let mut ticks = interval(service.every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut last = None;
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = said.closed() => return,
                }
                let Ok(backlog) = service.read(&mut reader).await else { continue };
                let result = backlog.messages(service.count) > 0;
                if last == Some(result) {
                    continue;
                }
                last = Some(result);
                if said.send(Ok(IsActiveResponse { result })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let trigger = self.trigger(Some(request.into_inner()))?;
        let target = target_s(&trigger);
        let spec = MetricSpec {
            metric_name: METRIC.to_owned(),
            // Down, and the value up: rather an instance too many.
            target_size: target as i64,
            target_size_float: target,
        };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let trigger = self.trigger(scaled_object_ref)?;
        let messages = self.messages(&trigger).await?;
        let value_s = self.value_s(&trigger, messages);
        let value = MetricValue {
            metric_name: if metric_name.is_empty() { METRIC.to_owned() } else { metric_name },
            metric_value: value_s.ceil() as i64,
            metric_value_float: value_s,
        };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }
}

/// Listens where KEDA is told to look.
///
/// # Errors
/// When the address cannot be had.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

#[cfg(test)]
mod tests;
