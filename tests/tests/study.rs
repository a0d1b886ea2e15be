//! The study of polling at a cluster that somebody else started: what of it can be done there is done, and the
//! report says why the rest is not.

use std::process::Command;

use flotilla_tests::{Fleet, binary};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_runs_can_be_studied() {
    let study = binary().with_file_name("flotilla-study");
    assert!(study.is_file(), "{} is missing: build the package flotilla-study", study.display());
    let fleet = Fleet::start(3).await;
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(study);
    command.args(["polling", "--quick", "--only", "misses,wake,failure", "--out"]).arg(out.path());
    for id in fleet.ids() {
        command.args(["--endpoint", &format!("http://{}", fleet.endpoint(id))]);
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("misses: ") && said.contains("wake: "), "{said}");
    let page = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(page.contains("It needs clusters of its own"), "nobody's node is to be killed");
    for file in ["misses.svg", "wake.csv"] {
        assert!(out.path().join(file).is_file(), "{file}");
    }
    assert!(!out.path().join("failure-kill.svg").exists());
}
