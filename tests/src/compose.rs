//! The cluster of `cluster-configs/docker-compose.yml`, as a project of its own with volumes of its own,
//! by whichever compose there is. Its ports must be free.

use std::path::PathBuf;

use crate::tool::{exists, tool};

/// Of a Fleet's nodes, which are its services.
pub(crate) const NODES: u64 = 3;
/// As the nodes' configuration files say.
pub(crate) const SHARDS: usize = 8;
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster-configs/docker-compose.yml");
const PROJECT: &str = "flotilla-chaos";

/// A project; gone when dropped, with its volumes.
#[derive(Debug)]
pub(crate) struct Compose {
    /// `docker compose`, or `docker-compose`.
    program: &'static [&'static str],
    file: PathBuf,
}

/// The API and admin ports of a service on this machine.
pub(crate) fn ports(id: u64) -> (u16, u16) {
    let first = 9_324 + 10 * (id as u16 - 1);
    (first, first + 1)
}

pub(crate) fn docker(arguments: &[&str]) -> Result<String, String> {
    tool("docker", arguments)
}

impl Compose {
    /// Whether there can be one.
    ///
    /// # Errors
    /// With the reason why not.
    pub(crate) fn available() -> Result<(), String> {
        docker(&["version", "--format", "{{.Server.Version}}"])?;
        Self::new().map(drop)
    }

    fn new() -> Result<Self, String> {
        let file = PathBuf::from(FILE);
        let program: &[&str] = match docker(&["compose", "version"]) {
            Ok(_) => &["docker", "compose"],
            Err(_) if exists("docker-compose") => &["docker-compose"],
            Err(_) => return Err("there is no docker compose and no docker-compose".to_owned()),
        };
        Ok(Self { program, file })
    }

    /// Builds the image unless it is to be used as it is, and starts all services.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn up(build: bool) -> Result<Self, String> {
        let compose = Self::new()?;
        // What an earlier run left would be taken for a cluster of this one.
        compose.run(&["down", "--volumes"])?;
        let how = if build { "--build" } else { "--no-build" };
        compose.run(&["up", how, "--detach"])?;
        Ok(compose)
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let file = self.file.to_str().ok_or("the checkout's path is not text")?;
        let mut words = self.program[1..].to_vec();
        words.extend(["-p", PROJECT, "-f", file]);
        words.extend(arguments);
        tool(self.program[0], &words)
    }

    /// Starts one service that has no container.
    pub(crate) fn create(&self, service: &str) -> Result<(), String> {
        self.run(&["up", "--no-build", "--detach", "--no-deps", service]).map(drop)
    }

    /// Removes a service's container and its volume.
    pub(crate) fn lose_disk(&self, service: &str, id: u64) -> Result<(), String> {
        self.run(&["rm", "--stop", "--force", service])?;
        docker(&["volume", "rm", &format!("{PROJECT}_data{id}")]).map(drop)
    }

    /// The container of a service, if there is one.
    pub(crate) fn container(&self, service: &str) -> Result<Option<String>, String> {
        let project = format!("label=com.docker.compose.project={PROJECT}");
        let service = format!("label=com.docker.compose.service={service}");
        let list = ["ps", "--all", "--quiet", "--filter", &project, "--filter", &service];
        docker(&list).map(|id| Some(id).filter(|id| !id.is_empty()))
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        // Nobody is here to hear of a failure; the next run begins with the same.
        let _ = self.run(&["down", "--volumes"]);
    }
}
