use std::collections::HashSet;

use clap::Parser;
use tokio_stream::StreamExt as _;

use super::*;
use crate::proto::external_scaler_client::ExternalScalerClient;
use crate::stub;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: AutoscaleArgs,
}

fn defaults() -> Trigger {
    Trigger { queue: "jobs".into(), acceptable_latency: Duration::from_secs(10), processing: None }
}

fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_trigger_says_what_differs_from_the_command_line() {
    let read = |pairs: &[_]| read_trigger(&metadata(pairs), &defaults());
    assert_eq!(read(&[("scalerAddress", "x:1")]).unwrap(), defaults());
    let trigger = read(&[
        ("queueName", "mail"),
        ("acceptableLatencySeconds", "2.5"),
        ("processingTimeMs", "40"),
    ]);
    let trigger = trigger.unwrap();
    assert_eq!(trigger.queue, "mail");
    assert_eq!(trigger.acceptable_latency, Duration::from_millis(2_500));
    assert_eq!(trigger.processing, Some(Duration::from_millis(40)));
    for wrong in ["x", "0", "-1", "NaN", "1e300"] {
        assert!(read(&[("processingTimeMs", wrong)]).is_err(), "{wrong}");
    }
    // The processing time of another queue's messages is not this one's.
    assert!(read(&[("queueName", "mail")]).is_err());
}

#[test]
fn the_quotient_of_value_and_target_is_the_number_of_instances() {
    let line = "autoscale --queue jobs --processing-ms 100 --keda-listen 127.0.0.1:0";
    let args = Line::parse_from(line.split(' ')).args;
    let mean = Arc::new(Mutex::new(MeanProcessing::new(args.processing_ms)));
    let service = ScalerService::new(&args, mean);
    for (latency_s, processing_s, messages, instances) in [
        (30.0, 0.5, 600, 10.0),
        // Less than the least target.
        (0.25, 0.125, 10, 5.0),
        // Slower than acceptable: one for each message, and no more.
        (2.0, 8.0, 3, 3.0),
        (2.0, 8.0, 0, 0.0),
    ] {
        let trigger = Trigger {
            acceptable_latency: Duration::from_secs_f64(latency_s),
            processing: Some(Duration::from_secs_f64(processing_s)),
            ..defaults()
        };
        assert_eq!(service.value_s(&trigger, messages) / target_s(&trigger), instances);
        assert!(target_s(&trigger) >= TARGET_MIN_S);
    }
}

/// The manifests are for a cluster that no test has: that they start what they name, and lead to it, can be told
/// from them alone.
#[test]
fn the_manifests_fit_the_program_and_each_other() {
    let deployment = include_str!("../../../../cluster-configs/keda/autoscale.yml");
    let object = include_str!("../../../../cluster-configs/keda/scaled-object.yml");
    let values = |text: &'static str, key: &str| -> Vec<&'static str> {
        let key = format!("{key}:");
        let value = |line: &'static str| Some(line.trim().strip_prefix(&key)?.trim());
        text.lines().filter_map(value).collect()
    };

    let flags = deployment.lines().filter_map(|line| line.trim().strip_prefix("- --"));
    let flags = flags.map(|flag| format!("--{flag}"));
    let args = Line::parse_from(std::iter::once("autoscale".to_owned()).chain(flags)).args;
    args.policy().unwrap();
    assert!(!args.drives(), "KEDA starts the workers");
    // One that is dead is left for the next: a Service before them would go on leading there.
    let endpoints: HashSet<String> = args.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints.len(), 3, "each machine is named");

    let keda = args.keda_listen.unwrap();
    assert!(keda.ip().is_unspecified() && args.listen.ip().is_unspecified());
    for port in [
        format!("{{ name: keda, port: {} }}", keda.port()),
        format!("{{ name: statsd, port: {}, protocol: UDP }}", args.measure.unwrap().port()),
        format!("httpGet: {{ path: /health, port: {} }}", args.listen.port()),
        format!("prometheus.io/port: \"{}\"", args.listen.port()),
    ] {
        assert!(deployment.contains(&port), "{port}");
    }
    let name = values(deployment, "name")[0];
    let address = format!("{name}.default:{}", keda.port());
    assert_eq!(values(object, "scalerAddress"), [address]);

    let given = ["queueName", "acceptableLatencySeconds"];
    let given = given.map(|key| (key, values(object, key)[0].trim_matches('"')));
    let defaults = Trigger {
        queue: args.queue.clone(),
        acceptable_latency: args.acceptable_latency_s,
        processing: None,
    };
    assert_eq!(read_trigger(&metadata(&given), &defaults).unwrap(), defaults);
}

/// By the names and numbers of KEDA's own definition, written out here: what is generated from a file of this repository
/// would agree with that file whatever is in it.
#[test]
fn bytes_are_those_of_keda() {
    use prost::Message as _;

    let object = ScaledObjectRef {
        name: "n".into(),
        namespace: "ns".into(),
        scaler_metadata: metadata(&[("a", "b")]),
    };
    assert_eq!(object.encode_to_vec(), b"\x0a\x01n\x12\x02ns\x1a\x06\x0a\x01a\x12\x01b");
    let ask = GetMetricsRequest {
        scaled_object_ref: Some(ScaledObjectRef::default()),
        metric_name: "m".into(),
    };
    assert_eq!(ask.encode_to_vec(), b"\x0a\x00\x12\x01m");
    assert_eq!(IsActiveResponse { result: true }.encode_to_vec(), b"\x08\x01");
    let spec = MetricSpec { metric_name: "m".into(), target_size: 10, target_size_float: 0.5 };
    let specs = GetMetricSpecResponse { metric_specs: vec![spec] };
    assert_eq!(
        specs.encode_to_vec(),
        b"\x0a\x0e\x0a\x01m\x10\x0a\x19\x00\x00\x00\x00\x00\x00\xe0\x3f"
    );
    let value = MetricValue { metric_name: "m".into(), metric_value: 5, metric_value_float: 4.5 };
    let values = GetMetricsResponse { metric_values: vec![value] };
    assert_eq!(
        values.encode_to_vec(),
        b"\x0a\x0e\x0a\x01m\x10\x05\x19\x00\x00\x00\x00\x00\x00\x12\x40"
    );
    let name = <ExternalScalerServer<ScalerService> as tonic::server::NamedService>::NAME;
    assert_eq!(name, "externalscaler.ExternalScaler");
}

#[tokio::test]
async fn keda_is_told_how_long_the_backlog_takes_and_how_long_it_may() {
    let (visible, seen) = watch::channel(40);
    let line = format!(
        "autoscale --endpoint {} --queue jobs --processing-ms 100 --keda-listen 127.0.0.1:0 \
         --interval-ms 20",
        stub::endpoint(seen).await
    );
    let args = Line::parse_from(line.split_whitespace()).args;
    let mean = Arc::new(Mutex::new(MeanProcessing::new(args.processing_ms)));
    let listener = listen(args.keda_listen.unwrap()).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(ScalerService::new(&args, mean.clone()).serve(listener, stopped));
    let mut keda = ExternalScalerClient::connect(address).await.unwrap();

    let object = ScaledObjectRef::default();
    assert!(keda.is_active(object.clone()).await.unwrap().into_inner().result);
    let spec = keda.get_metric_spec(object.clone()).await.unwrap().into_inner().metric_specs;
    assert_eq!((spec[0].target_size, spec[0].target_size_float), (10, 10.0));
    let ask =
        GetMetricsRequest { scaled_object_ref: Some(object.clone()), metric_name: "m".into() };
    let values = keda.get_metrics(ask.clone()).await.unwrap().into_inner().metric_values;
    assert!((values[0].metric_value_float - 4.2).abs() < 1e-6, "{values:?}");
    assert_eq!((values[0].metric_value, values[0].metric_name.as_str()), (5, "m"));
    // What is measured changes the value, and not the target, for which KEDA asks only once.
    // As many reports as what is assumed counts for: the mean of both, 250 ms.
    mean.lock().report(Duration::from_millis(400), 10.0);
    let values = keda.get_metrics(ask).await.unwrap().into_inner().metric_values;
    assert!((values[0].metric_value_float - 10.5).abs() < 1e-6, "{values:?}");
    let again = keda.get_metric_spec(object.clone()).await.unwrap().into_inner().metric_specs;
    assert_eq!(again, spec);
    let wrong = ScaledObjectRef {
        scaler_metadata: metadata(&[("acceptableLatencySeconds", "soon")]),
        ..object.clone()
    };
    let refused = keda.get_metric_spec(wrong).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);

    // Only waiting messages count here, so that the queue can be empty.
    let only = Line::parse_from((line + " --only-waiting").split_whitespace()).args;
    let listener = listen(only.keda_listen.unwrap()).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(ScalerService::new(&only, mean).serve(listener, stopped));
    let mut keda = ExternalScalerClient::connect(address).await.unwrap();
    let mut stream = keda.stream_is_active(object).await.unwrap().into_inner();
    for (messages, active) in [(40, true), (0, false), (1, true)] {
        visible.send_replace(messages);
        let said = timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(said.result, active);
    }
}
