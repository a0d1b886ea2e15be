//! The example of a worker, by Python's own interpreter and with a queue that is made up.

use std::net::UdpSocket;
use std::process::{Command, Output};
use std::time::Duration;

const WORKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/worker.py");

/// What stands for boto3: two messages, and SIGTERM with a third. Says how it was asked for.
const WITHOUT_BOTO: &str = r#"
import os, signal, sys, time, types

class Queue:
    polls = 0
    def create_queue(self, **_):
        return {"QueueUrl": "q"}
    def receive_message(self, **_):
        self.polls += 1
        if self.polls == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"Messages": [{"ReceiptHandle": "r", "Body": "b"}]}
    def delete_message(self, **_):
        print("done")
    def change_message_visibility(self, **_):
        print("given back")

def client(_, endpoint_url, region_name):
    print(endpoint_url, region_name, os.environ.get("AWS_ACCESS_KEY_ID"))
    return Queue()

class Error(Exception):
    pass

boto3, botocore, exceptions = map(types.ModuleType, ("boto3", "botocore", "botocore.exceptions"))
boto3.client = client
exceptions.BotoCoreError = exceptions.ClientError = Error
sys.modules.update({"boto3": boto3, "botocore": botocore, "botocore.exceptions": exceptions})
time.sleep = lambda _: None
path = sys.argv.pop(1)
exec(compile(open(path).read(), path, "exec"))
"#;

/// A worker with these variables, and none of those that this process may have.
fn work(variables: &[(&str, &str)]) -> Output {
    let mut worker = Command::new("python3");
    worker.args(["-c", WITHOUT_BOTO, WORKER, "q"]);
    for name in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL_SQS",
        "STATSD_HOST",
        "STATSD_PORT",
    ] {
        worker.env_remove(name);
    }
    worker.envs(variables.iter().copied());
    worker.output().expect("python3, which scripts/setup --tests installs")
}

fn said(output: &Output) -> Vec<&str> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap().lines().collect()
}

#[test]
fn a_metric_that_cannot_be_sent_ends_no_worker() {
    // Of another family than most, where this machine has it; and an address to which nobody may send like this.
    for host in ["::1", "255.255.255.255"] {
        let output = work(&[("STATSD_HOST", host), ("STATSD_PORT", "9")]);
        assert_eq!(said(&output)[1..], ["done", "done", "given back"], "{host}");
    }
}

#[test]
fn processing_times_arrive_whatever_the_family_of_the_address() {
    for host in ["127.0.0.1", "::1"] {
        let Ok(socket) = UdpSocket::bind((host, 0)) else { continue };
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let port = socket.local_addr().unwrap().port().to_string();
        said(&work(&[("STATSD_HOST", host), ("STATSD_PORT", &port)]));
        for _ in 0..2 {
            let mut line = [0; 100];
            let len = socket.recv(&mut line).unwrap();
            let line = std::str::from_utf8(&line[..len]).unwrap();
            assert!(line.starts_with("processing:") && line.ends_with("|ms"), "{line}");
        }
    }
}

#[test]
fn a_key_is_made_up_only_for_a_cluster_of_ones_own() {
    let asked = |variables: &[_]| said(&work(variables))[0].to_owned();
    assert_eq!(asked(&[]), "http://127.0.0.1:9324 us-east-1 any");
    let own = ("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1");
    assert_eq!(
        asked(&[own, ("AWS_DEFAULT_REGION", "r"), ("AWS_ACCESS_KEY_ID", "k")]),
        "http://127.0.0.1:1 r k"
    );
    let aws = ("AWS_ENDPOINT_URL_SQS", "https://sqs.eu-west-1.amazonaws.com");
    assert_eq!(asked(&[aws]), "https://sqs.eu-west-1.amazonaws.com None None");
    assert_eq!(
        asked(&[aws, ("AWS_REGION", "eu-west-1"), ("AWS_DEFAULT_REGION", "r")]),
        "https://sqs.eu-west-1.amazonaws.com eu-west-1 None"
    );
}
