//! Redis servers of a test's own: one, a primary with a replica and a sentinel, a cluster. They can be
//! killed, started again and stopped in their tracks; they die with the value and with the thread
//! that started them.

use crate::{until, until::DEADLINE};
use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};
use tempfile::TempDir;

const FIX: &str = "redis-server is missing: run `cargo xtask test`, which installs it";

/// One `redis-server`.
#[derive(Debug)]
pub struct RedisServer {
    folder: TempDir,
    args: Vec<String>,
    port: Option<u16>,
    child: Option<Child>,
}

impl RedisServer {
    /// On a socket in a folder of its own; nothing is saved.
    pub async fn start() -> Self {
        let mut server = Self::new(None, &[]);
        server.restart().await;
        server
    }

    /// The same, but what it acknowledged is on the disk: a restart forgets nothing.
    pub async fn durable() -> Self {
        let mut server = Self::new(None, &["--appendonly", "yes", "--appendfsync", "always"]);
        server.restart().await;
        server
    }

    /// On a port that was free a moment ago, with more settings (`--name`, `value`, …).
    pub async fn on_port(args: &[&str]) -> Self {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < DEADLINE, "no redis-server stays up on a port of its own");
            let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let port = probe.local_addr().expect("its number").port();
            // A cluster's nodes speak to each other on a second one.
            let bus = port.checked_add(10_000);
            if bus.is_none_or(|bus| TcpListener::bind((Ipv4Addr::LOCALHOST, bus)).is_err()) {
                continue;
            }
            drop(probe);
            let mut server = Self::new(Some(port), args);
            server.spawn();
            // It ends at once if somebody else took the port meanwhile, who may answer instead.
            let pid = server.child.as_ref().expect("a process").id();
            let me = format!("process_id:{pid}\r");
            while server.runs() {
                if server.cli(&["info", "server"]).contains(&me) {
                    return server;
                }
                assert!(began.elapsed() < DEADLINE, "redis-server says nothing: {}", server.log());
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }

    fn new(port: Option<u16>, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        Self { folder, args, port, child: None }
    }

    /// `redis://…` or `redis+unix://…`.
    pub fn url(&self) -> String {
        match self.port {
            Some(port) => format!("redis://127.0.0.1:{port}"),
            None => format!("redis+unix://{}", self.socket().display()),
        }
    }

    /// The port of [`Self::on_port`].
    pub fn port(&self) -> u16 {
        self.port.expect("a server on a port")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Starts it and does not wait for anything.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::create(self.folder.path().join("log")).expect("a log file");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "redis-server"]);
        // Sentinels write to their configuration.
        let config = self.folder.path().join("redis.conf");
        if config.exists() {
            command.arg(&config);
        } else {
            command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
        }
        command.args(["--port", &self.port.unwrap_or(0).to_string()]);
        if self.port.is_none() {
            command.arg("--unixsocket").arg(self.socket());
        }
        command.arg("--dir").arg(self.folder.path()).args(&self.args);
        let child = command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect(FIX));
    }

    fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Starts it where it was and waits until it answers.
    pub async fn restart(&mut self) {
        self.spawn();
        let mut dead = false;
        until("redis-server answers", || {
            dead = !self.runs();
            assert!(!dead, "redis-server ended:\n{}", self.log());
            let answers = self.cli(&["ping"]) == "PONG";
            async move { answers }
        })
        .await;
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What `redis-cli` prints for a command, without the last line's end.
    pub fn cli(&self, words: &[&str]) -> String {
        // A server that was stopped in its tracks would keep it for ever.
        let mut command = Command::new("timeout");
        command.args(["60", "redis-cli"]);
        match self.port {
            Some(port) => command.args(["-p", &port.to_string()]),
            None => command.arg("-s").arg(self.socket()),
        };
        let out = command.args(words).stdin(Stdio::null()).output().expect(FIX);
        String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
    }

    /// `kill -9`, and the wait until it is gone.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(self.socket());
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("a running server").id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {name} {pid}");
    }

    /// Stops it in its tracks: it takes connections and says nothing.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A primary, its replica, and one sentinel who promotes the replica when the primary is gone.
#[derive(Debug)]
pub struct RedisPair {
    /// The first primary.
    pub primary: RedisServer,
    /// The first replica.
    pub replica: RedisServer,
    /// Who watches.
    pub sentinel: RedisServer,
}

impl RedisPair {
    /// Starts the three and waits until they know each other.
    pub async fn start() -> Self {
        let primary = RedisServer::on_port(&["--repl-diskless-sync-delay", "0"]).await;
        let port = primary.port().to_string();
        let replica = RedisServer::on_port(&["--replicaof", &format!("127.0.0.1 {port}")]).await;
        until("the replica has joined", || {
            let joined = replica.cli(&["info", "replication"]).contains("master_link_status:up");
            async move { joined }
        })
        .await;
        let mut sentinel = RedisServer::on_port(&[]).await;
        sentinel.kill9();
        let config = format!(
            "sentinel monitor penstock 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds penstock 600000\n\
             sentinel failover-timeout penstock 5000\n"
        );
        std::fs::write(sentinel.folder.path().join("redis.conf"), config).expect("a file");
        sentinel.args = vec!["--sentinel".to_owned()];
        sentinel.restart().await;
        until("the sentinel knows the replica", || {
            let known = sentinel.cli(&["sentinel", "replicas", "penstock"]);
            let known = known.contains(&replica.port().to_string());
            async move { known }
        })
        .await;
        Self { primary, replica, sentinel }
    }

    /// The sentinel notices from now on that the primary does not answer. Before that one which only a busy machine
    /// keeps from answering is not replaced in the middle of a test.
    pub fn notice(&self) {
        let words = ["sentinel", "set", "penstock", "down-after-milliseconds", "500"];
        assert_eq!(self.sentinel.cli(&words), "OK");
    }

    /// `redis+sentinel://…`
    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}?master=penstock", self.sentinel.port())
    }
}

/// Three primaries that share the slots.
#[derive(Debug)]
pub struct RedisCluster {
    /// Its primaries.
    pub nodes: Vec<RedisServer>,
    /// A replica of each, in their order, if it was started with them.
    pub replicas: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three nodes and waits until each says that all is well.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(RedisServer::on_port(&["--cluster-enabled", "yes"]).await);
        }
        for (node, (from, to)) in nodes.iter().zip([(0, 5460), (5461, 10922), (10923, 16383)]) {
            let range = [from.to_string(), to.to_string()];
            let done = node.cli(&["cluster", "addslotsrange", &range[0], &range[1]]);
            assert_eq!(done, "OK");
        }
        let first = nodes[0].port().to_string();
        for node in &nodes[1..] {
            assert_eq!(node.cli(&["cluster", "meet", "127.0.0.1", &first]), "OK");
        }
        until("the cluster is whole", || {
            let whole = nodes.iter().all(|node| {
                let info = node.cli(&["cluster", "info"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            });
            async move { whole }
        })
        .await;
        Self { nodes, replicas: Vec::new() }
    }

    /// The same with a replica of each primary, which has joined it. Nobody is promoted unasked.
    pub async fn replicated() -> Self {
        let mut cluster = Self::start().await;
        let first = cluster.nodes[0].port().to_string();
        for node in &cluster.nodes {
            let id = node.cli(&["cluster", "myid"]);
            let args = ["--cluster-enabled", "yes", "--cluster-replica-no-failover", "yes"];
            let replica = RedisServer::on_port(&args).await;
            assert_eq!(replica.cli(&["cluster", "meet", "127.0.0.1", &first]), "OK");
            until("the replica has found its primary", || {
                let found = replica.cli(&["cluster", "replicate", &id]) == "OK";
                async move { found }
            })
            .await;
            cluster.replicas.push(replica);
        }
        let all = || cluster.nodes.iter().chain(&cluster.replicas);
        until("every replica has joined", || {
            let linked =
                |r: &RedisServer| r.cli(&["info", "replication"]).contains("master_link_status:up");
            let whole = |n: &RedisServer| {
                let info = n.cli(&["cluster", "info"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
            };
            let joined = cluster.replicas.iter().all(linked) && all().all(whole);
            async move { joined }
        })
        .await;
        cluster
    }

    /// `redis+cluster://…`
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }
}
