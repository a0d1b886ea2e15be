//! The cluster in one process that a newcomer starts first, as its own words say to use it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use flotilla_tests::{Client, Connection, PATIENCE, binary, free_ports};
use serde_json::json;

/// The last line of what it prints when it is ready.
const LAST_WORDS: &str = "Ctrl-C ends it.";
const MESSAGES: usize = 30;

/// `flotilla dev`, ready.
struct Dev {
    child: Child,
    /// What it printed.
    words: Vec<String>,
}

impl Dev {
    /// Its temporary directories are made in `temporary`.
    fn start(temporary: &Path, arguments: &[&str]) -> Self {
        let [port, admin] = free_ports(2)[..] else { panic!("two ports") };
        let mut child = Command::new(binary())
            .args(["dev", "--port", &port.to_string(), "--admin-port", &admin.to_string()])
            .args(arguments)
            .env("TMPDIR", temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (said, hear) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|it| said.send(it)));
        let mut words = Vec::new();
        while words.last().is_none_or(|line| line != LAST_WORDS) {
            words.push(hear.recv_timeout(PATIENCE).expect("it becomes ready"));
        }
        Self { child, words }
    }

    /// What follows a word in a line.
    fn said(&self, word: &str) -> &str {
        let found = self.words.iter().find_map(|line| line.split_once(word));
        found.unwrap_or_else(|| panic!("no {word} in {:#?}", self.words)).1.trim()
    }

    /// `host:port` of each node's endpoint.
    fn endpoints(&self) -> Vec<String> {
        let all = [self.said("SQS endpoint"), self.said("other nodes")].join(" ");
        all.split_whitespace().map(|url| url.trim_start_matches("http://").to_owned()).collect()
    }

    fn clients(&self) -> Vec<Client> {
        self.endpoints().into_iter().map(Client::new).collect()
    }

    /// SIGTERM, and the end.
    fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// SIGKILL: nothing is written any more.
    fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Both fail if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_is_kept_outlives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = || Dev::start(dir.path(), &["--data", data.to_str().unwrap(), "--shards", "4"]);
    let mut expected = BTreeSet::new();
    for round in 0..2 {
        let dev = start();
        assert_eq!(dev.said("  data "), data.to_str().unwrap(), "and no word of its removal");
        let mut clients = dev.clients();
        // The one of before, if there was one; its URL names a port that is not there any more.
        let queue = clients[0].create_queue("kept").await.unwrap();
        for number in 0..MESSAGES {
            let body = format!("{round}-{number}");
            clients[number % 3].send(&queue, &body).await.unwrap();
            expected.insert(body);
        }
        dev.kill9();
    }
    let dev = start();
    let mut client = dev.clients().remove(2);
    let queue = client.create_queue("kept").await.unwrap();
    let mut seen = BTreeSet::new();
    let begin = Instant::now();
    while seen != expected {
        assert!(begin.elapsed() < PATIENCE, "{} of {} came", seen.len(), expected.len());
        for message in client.receive(&queue, 600, 1).await.unwrap() {
            client.delete(&queue, &message.receipt).await.unwrap();
            seen.insert(message.body);
        }
    }
    assert!(dev.stop().success());
    assert!(data.join("node-3").is_dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_what_it_says_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let dev = Dev::start(temporary.path(), &["--sample", "all"]);
    let data = dev.said("  data ").strip_suffix(" (removed at exit)").unwrap().to_owned();
    assert!(Path::new(&data).starts_with(temporary.path()) && Path::new(&data).is_dir());

    // As the exports say.
    let endpoint = dev.said("export AWS_ENDPOINT_URL_SQS=").to_owned();
    let (region, default_region) = dev.said("export AWS_REGION=").split_once(' ').unwrap();
    assert_eq!(default_region, format!("AWS_DEFAULT_REGION={region}"));
    let (key, secret) = dev.said("export AWS_ACCESS_KEY_ID=").split_once(' ').unwrap();
    let secret = secret.strip_prefix("AWS_SECRET_ACCESS_KEY=").unwrap();
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new(region.to_owned()))
        .credentials_provider(Credentials::new(key, secret, None, None, "said"))
        .endpoint_url(&endpoint)
        .build();
    let sdk = aws_sdk_sqs::Client::from_conf(config);
    // And as the first commands do.
    let orders = sdk.create_queue().queue_name("orders").send().await.unwrap().queue_url.unwrap();
    assert_eq!(dev.said("--queue-url "), format!("{orders} --message-body hello"));
    sdk.send_message().queue_url(&orders).message_body("hello").send().await.unwrap();
    let received = sdk.receive_message().queue_url(&orders).send().await.unwrap();
    assert_eq!(received.messages()[0].body(), Some("hello"));

    // Through one node, while only others know of the messages: a sample of three shards out of eight
    // would miss most of them.
    let mut clients = dev.clients();
    for number in 0..MESSAGES {
        let queue = clients[0].create_queue(&format!("sampled-{number}")).await.unwrap();
        clients[1 + number % 2].send(&queue, "one").await.unwrap();
        assert_eq!(clients[0].receive(&queue, 30, 0).await.unwrap().len(), 1);
    }

    let admin = dev.said("  admin ").split_whitespace().next().unwrap().to_owned();
    let admin = admin.trim_start_matches("http://").trim_end_matches("/status").to_owned();
    assert_eq!(Connection::new(admin).get("/ready").await.unwrap().status, 200);
    assert!(dev.stop().success());
    assert!(!Path::new(&data).exists(), "{data} is left");
    let left = std::fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "things are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_purges_rest_for_a_minute_or_not_at_all() {
    for rests in [true, false] {
        let temporary = tempfile::tempdir().unwrap();
        let arguments: &[&str] = if rests { &[] } else { &["--no-rests"] };
        let dev = Dev::start(temporary.path(), arguments);
        let mut clients = dev.clients();
        // Each through another node than the one that deleted it.
        for (round, client) in clients.iter_mut().enumerate() {
            let created = client.create_queue("again").await;
            if rests && round > 0 {
                let refused = created.unwrap_err();
                assert!(refused.text.contains("QueueDeletedRecently"), "{refused:?}");
                continue;
            }
            let queue = created.unwrap();
            client.send(&queue, "one").await.unwrap();
            let url = json!({ "QueueUrl": queue });
            client.call("PurgeQueue", &url).await.unwrap();
            match client.call("PurgeQueue", &url).await {
                Ok(_) => assert!(!rests),
                Err(refused) => {
                    assert!(rests && refused.text.contains("PurgeQueueInProgress"), "{refused:?}");
                }
            }
            client.send(&queue, "two").await.unwrap();
            // Of an earlier queue's messages nothing is left.
            let received = client.receive(&queue, 30, 1).await.unwrap();
            assert_eq!(received.iter().map(|it| &*it.body).collect::<Vec<_>>(), ["two"]);
            client.call("DeleteQueue", &url).await.unwrap();
        }
        assert!(dev.stop().success());
    }
}
