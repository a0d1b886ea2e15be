//! Whether the nodes can serve, and what they say of themselves.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::{Fleet, LOOK_AGAIN};
use crate::PATIENCE;
use crate::http::Connection;

/// Of all nodes, while one state of the fleet is waited for.
const REVIVALS_MAX: usize = 6;

impl Fleet {
    /// Until every node that runs can serve every queue.
    ///
    /// # Panics
    /// When one ends instead, or it takes too long.
    pub async fn ready(&mut self) {
        if let Err(id) = self.until_ready().await {
            panic!("node {id} cannot have its port");
        }
    }

    /// `Err` with a node whose port somebody else has.
    pub(super) async fn until_ready(&mut self) -> Result<(), u64> {
        let begin = Instant::now();
        let mut revived = 0;
        loop {
            let mut missing = Vec::new();
            for node in self.nodes.iter_mut().filter(|node| node.is_up()) {
                if let Some(status) = node.ended() {
                    if node.log().contains("Address already in use") {
                        return Err(node.id);
                    }
                    // One that ends again and again is not brought back by anybody.
                    revived += 1;
                    let again = self.supervised && revived <= REVIVALS_MAX;
                    assert!(again, "node {} ended with {status}", node.id);
                    node.spawn();
                }
                let answer = Connection::new(node.admin.as_str()).get("/ready").await;
                if !answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                    missing.push((node.id, answer.map(|answer| answer.body)));
                }
            }
            if missing.is_empty() {
                return Ok(());
            }
            assert!(begin.elapsed() < PATIENCE, "not ready: {missing:?}");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Until every replica on the nodes that run votes, knows a leader that runs, and is ready.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn whole(&mut self) {
        self.ready().await;
        let up = self.up();
        let begin = Instant::now();
        loop {
            self.revive();
            let mut whole = true;
            for id in &up {
                let groups = groups(&self.status(*id).await);
                whole &= groups.len() == self.replicas(*id);
                whole &= groups.iter().all(|group| group.votes);
                whole &=
                    groups.iter().all(|group| group.leader.is_some_and(|led| up.contains(&led)));
            }
            if whole {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "the cluster does not become whole");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The node that leads the catalog, as node 1 (or another that is up) knows.
    pub async fn catalog_leader(&self) -> u64 {
        for id in self.up() {
            let status = self.status(id).await;
            let groups = status["groups"].as_array().cloned().unwrap_or_default();
            if groups.iter().any(|group| group["group"] == "catalog" && group["leads"] == true) {
                return id;
            }
        }
        panic!("nobody leads the catalog");
    }

    /// Whether all replicas on a node vote; `false` while it does not answer.
    pub async fn all_vote(&self, id: u64) -> bool {
        let groups = groups(&self.status(id).await);
        groups.len() == self.replicas(id) && groups.iter().all(|group| group.votes)
    }

    /// Whether the log of every shard's replica on a node is shorter than this.
    pub async fn logs_are_below(&self, id: u64, bytes: u64) -> bool {
        let status = self.status(id).await;
        let groups = status["groups"].as_array().into_iter().flatten();
        let shards: Vec<_> = groups.filter(|group| group["group"] != "catalog").collect();
        shards.len() + 1 == self.replicas(id)
            && shards.iter().all(|it| it["log_bytes"].as_u64().is_some_and(|held| held < bytes))
    }

    /// The status page; null while the node does not answer.
    pub async fn status(&self, id: u64) -> Value {
        status_at(&self.node(id).admin).await
    }

    /// `host:port` of a node's admin port.
    pub fn admin(&self, id: u64) -> String {
        self.node(id).admin.clone()
    }

    /// What the replicas of a node hold, each as a checksum and the position that it is of.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn digests(&self, id: u64) -> Value {
        let mut connection = Connection::new(self.admin(id));
        let answer = connection.request("GET /digest HTTP/1.1", "", PATIENCE).await;
        let page = answer.expect("a running node has digests").body;
        serde_json::from_str(&page).expect("a page of digests")
    }

    /// The metrics page.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn metrics(&self, id: u64) -> String {
        let answer = Connection::new(self.admin(id)).get("/metrics").await;
        answer.expect("a running node has metrics").body
    }
}

async fn status_at(admin: &str) -> Value {
    match Connection::new(admin).get("/status").await {
        Ok(answer) => serde_json::from_str(&answer.body).unwrap_or_default(),
        Err(_) => Value::Null,
    }
}

struct Group {
    leader: Option<u64>,
    votes: bool,
}

fn groups(status: &Value) -> Vec<Group> {
    let groups = status["groups"].as_array().into_iter().flatten();
    groups
        .map(|group| Group {
            leader: group["leader"].as_u64(),
            votes: group["votes"].as_bool().unwrap_or(false),
        })
        .collect()
}

/// Until the nodes at these admin ports have a leader for every group that is not `gone`, and are
/// ready; how long that took.
pub(crate) async fn until_led(admins: Vec<String>, gone: u64) -> Duration {
    let begin = Instant::now();
    for admin in admins {
        loop {
            let status = status_at(&admin).await;
            let groups = groups(&status);
            let led = groups.iter().all(|group| group.leader.is_some_and(|led| led != gone));
            if status["ready"] == true && led && !groups.is_empty() {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "the others do not take over from node {gone}");
            sleep(LOOK_AGAIN).await;
        }
    }
    begin.elapsed()
}
