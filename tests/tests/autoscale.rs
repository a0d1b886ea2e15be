//! The autoscaler with real workers at a real cluster, under a load that rises, bursts and falls.

#![allow(clippy::print_stderr, reason = "what a run saw is worth reading")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use flotilla_tests::{Connection, Fleet, PATIENCE, binary, free_ports};

/// What the study says of a run.
async fn live(fleet: &Fleet) -> BTreeMap<String, f64> {
    let endpoints: Vec<String> =
        fleet.ids().into_iter().map(|id| format!("http://{}", fleet.endpoint(id))).collect();
    let study = binary().with_file_name("flotilla-study");
    assert!(study.is_file(), "{} is missing: build the package flotilla-study", study.display());
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(study);
    command
        .args(["autoscale-live", "--endpoints", &endpoints.join(",")])
        .args(["--work-ms", "50", "--peak", "60", "--rise-s", "6"])
        .args(["--acceptable-latency-s", "3"])
        .arg("--flotilla")
        .arg(binary())
        .arg("--out")
        .arg(out.path());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let report = String::from_utf8_lossy(&output.stdout);
    eprintln!("{log}\n{report}");
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", output.status);
    assert!(out.path().join("autoscale-live.svg").is_file());
    assert!(out.path().join("autoscale-live.png").is_file());
    report
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_follow_a_load_and_lose_nothing_when_they_are_ended() {
    let fleet = Fleet::start(3).await;
    let report = live(&fleet).await;
    assert!(report["sent"] > 500.0);
    assert_eq!(report["lost"], 0.0);
    // Delivery is at least once; but an end in order is no reason for once more.
    assert!(report["done-more-than-once"] <= 0.01 * report["sent"]);
    // What an ended worker drops is hidden for a minute before it comes to another.
    assert!(report["latency-max-s"] < 60.0);
    // All ended in order, and by themselves only when asked to.
    assert_eq!((report["crashes"], report["kills"]), (0.0, 0.0));
    assert!(report["most-instances"] >= 4.0);
    assert_eq!(report["last-instances"], 1.0);
    // The load rises, bursts before it has fallen, and from then on only falls: it turns once, and so do the
    // instances. One that was started too many because the machine is busy goes no earlier than four seconds after
    // the last change, while the load that rises is soon enough for it; what turns more often than that flaps.
    assert_eq!(report["turns"], 1.0);
    // Neither too much for each nor too little, from the rise to the end of the plateau: it was all of the time.
    assert!(report["part-near-target"] >= 0.7);
    // And not because there were always enough: it was nine tenths.
    assert!(report["busy-part"] >= 0.6);
}

/// A controller whose queue cannot be read, so that it has its minimum of one worker: one that does this at
/// SIGTERM. It is ready.
fn alone(dir: &Path, at_term: &str) -> Controller {
    let said = dir.join("said");
    let script = format!(
        "trap '{at_term}' TERM; echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 0.02; done",
        said.display()
    );
    let mut command = Command::new(binary());
    command.args(["autoscale", "--endpoint", "http://127.0.0.1:9", "--queue", "none"]);
    command.args(["--processing-ms", "1", "--listen", "127.0.0.1:0", "--", "sh", "-c", &script]);
    let controller = Controller(command.current_dir(dir).stdin(Stdio::null()).spawn().unwrap());
    until("the worker runs", || said.exists());
    controller
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that is ended even when its test fails.
struct Controller(Child);

impl Controller {
    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the controller ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // The second one takes its worker with it.
        while self.0.try_wait().unwrap().is_none() {
            self.signal("TERM");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The number of visible messages on a controller's page, as soon as there is one.
async fn sees(page: &mut Connection, visible: &str) {
    let begin = Instant::now();
    loop {
        let text = page.get("/metrics").await.map(|answer| answer.body).unwrap_or_default();
        let line = format!("flotilla_autoscale_visible_messages{{queue=\"q\"}} {visible}\n");
        if text.contains(&line) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "no {line} in\n{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_knows_all_nodes_reads_on_when_its_own_is_gone() {
    let mut fleet = Fleet::start(3).await;
    let mut client = fleet.client(2);
    let queue = client.create_queue("q").await.unwrap();
    for _ in 0..5 {
        client.send(&queue, "message").await.unwrap();
    }
    let listen = format!("127.0.0.1:{}", free_ports(1)[0]);
    let mut command = Command::new(binary());
    command.args(["autoscale", "--queue", "q", "--processing-ms", "100", "--interval-ms", "50"]);
    command.args(["--dry-run", "--listen", &listen]);
    for id in fleet.ids() {
        command.args(["--endpoint", &format!("http://{}", fleet.endpoint(id))]);
    }
    let _controller = Controller(command.stdin(Stdio::null()).spawn().unwrap());
    let mut page = Connection::new(listen);
    sees(&mut page, "5.0").await;
    fleet.kill9(1);
    // Whether or not the dead one's shards have other leaders already.
    let begin = Instant::now();
    while client.send(&queue, "another message").await.is_err() {
        assert!(begin.elapsed() < PATIENCE);
    }
    sees(&mut page, "6.0").await;
}

#[test]
fn workers_end_in_order_when_the_terminal_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut controller = alone(dir.path(), "echo > finished; exit 0");
    // Whoever runs the tests without a terminal may have its children ignore it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let is_ignored = u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 != 0;
    controller.signal(if is_ignored { "TERM" } else { "HUP" });
    assert_eq!(controller.ended().code(), Some(0));
    assert!(dir.path().join("finished").exists());
}

#[test]
fn the_second_signal_kills_the_workers_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let mut controller = alone(dir.path(), "echo > asked");
    controller.signal("TERM");
    until("the worker is asked to end", || dir.path().join("asked").exists());
    controller.signal("TERM");
    assert_eq!(controller.ended().code(), Some(130));
    let worker = std::fs::read_to_string(dir.path().join("said")).unwrap();
    let stat = format!("/proc/{}/stat", worker.trim());
    // Nothing is left of it but how it ended, or not even that.
    let is_gone = || !std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    until("the worker is gone", is_gone);
}
