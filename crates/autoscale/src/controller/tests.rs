use clap::Parser;
use tokio::task::JoinHandle;

use super::*;
use crate::stub;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: AutoscaleArgs,
}

struct Running {
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    end: JoinHandle<()>,
}

/// A hundred messages for each instance.
async fn run(visible: watch::Receiver<u64>, more: &str, script: &str) -> Running {
    let endpoint = stub::endpoint(visible).await;
    let line = format!(
        "autoscale --endpoint {endpoint} --queue q --processing-ms 100 --interval-ms 20 \
         --scale-in-cooldown-s 0.2 --scale-out-cooldown-s 0 {more} -- sh -c"
    );
    let words = line.split_whitespace().chain([script]);
    let controller = Controller::new(&Line::parse_from(words).args).await.unwrap();
    let metrics = controller.metrics();
    let (stop, stopped) = watch::channel(false);
    Running { metrics, stop, end: tokio::spawn(controller.run(stopped)) }
}

impl Running {
    fn number(&self, name: &str) -> f64 {
        let page = self.metrics.text().unwrap();
        let name = format!("flotilla_autoscale_{name}{{");
        let line = page.lines().find(|line| line.starts_with(&name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    async fn until(&self, name: &str, holds: impl Fn(f64) -> bool) {
        let begin = Instant::now();
        while !holds(self.number(name)) {
            assert!(begin.elapsed() < PATIENCE, "{name} is {}", self.number(name));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) -> Arc<Metrics> {
        self.stop.send_replace(true);
        timeout(PATIENCE, self.end).await.unwrap().unwrap();
        self.metrics
    }
}

#[tokio::test]
async fn processes_follow_the_backlog_and_stay_while_it_is_unknown() {
    let (visible, seen) = watch::channel(250 - stub::IN_FLIGHT);
    let running = run(seen, "", "trap 'exit 0' TERM; while :; do sleep 0.02; done").await;
    running.until("running_instances", |count| count == 3.0).await;
    visible.send_replace(500 - stub::IN_FLIGHT);
    running.until("running_instances", |count| count == 5.0).await;
    visible.send_replace(150);
    running.until("running_instances", |count| count == 2.0).await;
    // Nobody says anything any more.
    drop(visible);
    running.until("read_failures_total", |count| count >= 30.0).await;
    assert_eq!(running.number("running_instances"), 2.0);
    assert!(running.number("visible_messages").is_nan());
    let metrics = running.end().await;
    assert_eq!((metrics.instances.kills.get(), metrics.instances.crashes.get()), (0, 0));
}

#[tokio::test]
async fn what_crashes_is_started_again_and_what_does_not_listen_is_killed() {
    let (_visible, seen) = watch::channel(0);
    let running = run(seen, "", "exit 1").await;
    running.until("crashes_total", |count| count >= 3.0).await;
    running.end().await;

    let (_visible, seen) = watch::channel(0);
    let file = std::env::temp_dir().join(format!("flotilla-stubborn-{}", std::process::id()));
    let script = format!("trap '' TERM; echo > {}; while :; do sleep 0.02; done", file.display());
    let running = run(seen, "--grace-s 0.1", &script).await;
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(running.end().await.instances.kills.get(), 1);
}

#[tokio::test]
async fn a_dry_run_starts_nothing() {
    let (_visible, seen) = watch::channel(950);
    let file = std::env::temp_dir().join(format!("flotilla-dry-{}", std::process::id()));
    let running = run(seen, "--dry-run", &format!("echo > {}", file.display())).await;
    running.until("desired_instances", |count| count == 10.0).await;
    assert!(!file.exists());
    running.end().await;
}

#[tokio::test]
async fn of_workers_that_somebody_else_starts_only_the_backlog_is_told() {
    let (_visible, seen) = watch::channel(950 - stub::IN_FLIGHT);
    let endpoint = stub::endpoint(seen).await;
    let line = format!(
        "autoscale --endpoint {endpoint} --queue q --processing-ms 100 --interval-ms 20 \
         --keda-listen 127.0.0.1:0"
    );
    let controller =
        Controller::new(&Line::parse_from(line.split_whitespace()).args).await.unwrap();
    let metrics = controller.metrics();
    let (stop, stopped) = watch::channel(false);
    let running = Running { metrics, stop, end: tokio::spawn(controller.run(stopped)) };
    running.until("backlog_seconds", |seconds| seconds == 95.0).await;
    assert_eq!(running.number("acceptable_backlog_per_instance"), 100.0);
    let page = running.metrics.text().unwrap();
    for made_up in ["running_instances", "desired_instances", "backlog_per_instance{", "decisions"]
    {
        assert!(!page.contains(&format!("flotilla_autoscale_{made_up}")), "{page}");
    }
    running.end().await;
}
