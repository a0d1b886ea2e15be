//! A node that is a process of this machine: its settings, its clock, its log.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::node::{Ended, Ports};

/// See the module.
#[derive(Debug)]
pub(crate) struct Process {
    id: u64,
    ports: Ports,
    /// Where it listens.
    host: Ipv4Addr,
    /// The network namespace that it is in.
    namespace: Option<String>,
    dir: PathBuf,
    data: PathBuf,
    child: Option<Child>,
    /// Whether its clock can be set: see [`Process::set_clock`].
    own_clock: bool,
    /// Whether its timers follow that clock, too, from its next start on.
    own_timers: bool,
    log_to: Option<PathBuf>,
    /// Ends that nobody asked for and the program did not choose.
    accidents: Vec<String>,
}

/// Of a program whose first thread panicked.
const PANICKED: i32 = 101;

/// Far less than a node wants by itself: a machine with little room fails no test of other things.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// A node's settings, with that bound unless they say another.
fn with_room(settings: &str) -> String {
    if settings.contains("free_bytes_min") {
        return settings.to_owned();
    }
    let table = "[storage]\n";
    let with_table = match settings.contains(table) {
        true => settings.to_owned(),
        false => format!("{settings}\n{table}"),
    };
    with_table.replace(table, &format!("{table}free_bytes_min = {FREE_BYTES_MIN}\n"))
}

/// Where distributions put it, in a directory named after the architecture.
const LIBRARIES: &str = "/usr/lib";
const FAKE_CLOCK: &str = "faketime/libfaketimeMT.so.1";

/// The library that gives a process a clock of its own, if it is installed.
pub(crate) fn fake_clock() -> Result<PathBuf, String> {
    let dirs = fs::read_dir(LIBRARIES).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = dirs.chain([PathBuf::from(LIBRARIES)]).map(|dir| dir.join(FAKE_CLOCK));
    found.find(|path| path.exists()).ok_or_else(|| "libfaketime is not installed".to_owned())
}

/// The program under test.
///
/// # Panics
/// When there is none.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("FLOTILLA_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "FLOTILLA_BIN is {}, which is no file", path.display());
        return path;
    }
    // <target>/<profile>/<program> or <target>/<profile>/deps/<test>
    let this = std::env::current_exe().expect("a running program has a path");
    let beside = this.with_file_name("flotilla");
    if beside.is_file() {
        return beside;
    }
    let profile =
        this.ancestors().nth(2).expect("tests lie in a directory of the target directory");
    let path = profile.join("flotilla");
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --package flotilla` first, or set FLOTILLA_BIN",
        path.display()
    );
    path
}

impl Process {
    /// `own`: its network namespace and its address there.
    pub(crate) fn new(
        id: u64,
        ports: Ports,
        dir: PathBuf,
        data: PathBuf,
        own: Option<(String, Ipv4Addr)>,
    ) -> Self {
        let (namespace, host) = own.unzip();
        let host = host.unwrap_or(Ipv4Addr::LOCALHOST);
        Self {
            id,
            ports,
            host,
            namespace,
            dir,
            data,
            child: None,
            own_clock: false,
            own_timers: false,
            log_to: None,
            accidents: Vec::new(),
        }
    }

    pub(crate) fn own_clock(mut self, own_clock: bool) -> Self {
        self.own_clock = own_clock;
        self
    }

    pub(crate) fn log_to(mut self, log_to: Option<PathBuf>) -> Self {
        self.log_to = log_to;
        self
    }

    pub(crate) fn host(&self) -> Ipv4Addr {
        self.host
    }

    /// Where it listens for its peers.
    pub(crate) fn peer(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.host, self.ports.peer)
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What its clock shows from now on, in the words of libfaketime: `+0`, `+3600s`, `+0 x1.05`.
    pub(crate) fn set_clock(&self, text: &str) {
        let new = self.dir.join("clock.new");
        fs::write(&new, format!("{text}\n")).expect("the fleet's directory can be written");
        // At once: it is read at any moment.
        fs::rename(new, self.clock()).expect("the fleet's directory can be written");
    }

    /// Whether its timers are as fast as its clock from its next start on.
    pub(crate) fn set_own_timers(&mut self, own_timers: bool) {
        self.own_timers = own_timers;
    }

    fn clock(&self) -> PathBuf {
        self.dir.join("clock")
    }

    /// Where its stores are.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.clone()
    }

    pub(crate) fn configure(&self, nodes: &[(u64, SocketAddrV4)], shards: usize, extra: &str) {
        let Ports { api, peer, admin } = self.ports;
        let (id, host, data) = (self.id, self.host, self.data());
        let mut text = format!(
            "node_id = {id}\ndata_dir = {data:?}\napi_listen = \"{host}:{api}\"\n\
             peer_listen = \"{host}:{peer}\"\nadmin_listen = \"{host}:{admin}\"\n\
             token = \"test\"\nshards = {shards}\n"
        );
        for (id, peer) in nodes {
            text.push_str(&format!("[[nodes]]\nid = {id}\npeer = \"{peer}\"\n"));
        }
        // One that has a disk of its own knows how much of it is left.
        let shares_its_disk = self.data.starts_with(&self.dir);
        text.push_str(&if shares_its_disk { with_room(extra) } else { extra.to_owned() });
        fs::create_dir_all(&self.dir).expect("the fleet's directory can be written");
        fs::write(self.config(), text).expect("the fleet's directory can be written");
        if self.own_clock {
            self.set_clock("+0 x1");
        }
    }

    fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    fn log_path(&self) -> PathBuf {
        self.log_to.clone().unwrap_or_else(|| self.dir.join("log.txt"))
    }

    /// Everything it logged, over all its lives.
    pub(crate) fn log(&self) -> String {
        if !self.log_path().is_file() {
            return String::new();
        }
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn spawn(&mut self, environment: &[(&str, &str)]) {
        assert!(self.child.is_none(), "node {} runs already", self.id);
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.expect("the fleet's directory can be written");
        let mut command = match &self.namespace {
            None => Command::new(binary()),
            Some(name) => {
                // It becomes the program: the process is the same.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(binary());
                command
            }
        };
        if self.own_clock {
            let library = fake_clock().expect("who asks for a clock of its own has looked");
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.clock())
                .env("FAKETIME_NO_CACHE", "1");
            if !self.own_timers {
                // Timers go on as they are: what is tested is what a wrong time of day does.
                command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            }
        }
        let child = command
            .args(["serve", "--config"])
            .arg(self.config())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program can be started");
        self.child = Some(child);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Option<Ended> {
        let status = self.child.as_mut()?.try_wait().expect("a child can be waited for")?;
        self.child = None;
        // Nobody here sends others.
        let is_asked = |signal| [libc::SIGKILL, libc::SIGTERM].contains(&signal);
        if status.signal().is_some_and(|signal| !is_asked(signal))
            || status.code() == Some(PANICKED)
        {
            self.accidents.push(status.to_string());
        }
        Some(Ended { is_success: status.success(), how: status.to_string() })
    }

    /// See [`super::Node::accidents`].
    pub(crate) fn accidents(&self) -> &[String] {
        &self.accidents
    }

    /// Signals by the name that kill(1) takes.
    pub(crate) fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("only a running node is signalled");
        let sent =
            Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "node {} got no {name}", self.id);
    }

    /// Whether the kernel says that it is stopped.
    pub(crate) fn is_paused(&self) -> bool {
        let Some(child) = &self.child else { return false };
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        // The state follows the name, which may contain anything.
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    }

    /// SIGKILL; it is gone when this returns.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
