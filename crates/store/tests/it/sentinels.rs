//! Sentinels: as `deploy/redis.sh` starts them, with a password, and beside others that say nothing.

use crate::redis::options;
use bytes::Bytes;
use penstock_store::{
    DocKey, DocStore, RedisOptions, RedisStore, SessionStore, StoreError, UnixMs,
};
use penstock_testkit::{places, redis::RedisPair, until};
use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PASSWORD: &str = "5ec7e7";
/// Machines of a deployment, for one that has no network.
const HOSTS: [&str; 3] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
const NOW: UnixMs = UnixMs(1_700_000_000_000);

/// Three servers and three sentinels, each started by `deploy/redis.sh`.
struct Deployed {
    folder: tempfile::TempDir,
    server_port: u16,
    sentinel_port: u16,
    /// Servers, then sentinels.
    running: Vec<Child>,
}

impl Deployed {
    async fn start() -> Self {
        let mut said = String::new();
        for _ in 0..5 {
            let mut all = Self {
                folder: tempfile::tempdir().unwrap(),
                server_port: free_everywhere(),
                sentinel_port: free_everywhere(),
                running: Vec::new(),
            };
            fs::write(all.folder.path().join("password"), PASSWORD).unwrap();
            for what in ["server", "sentinel"] {
                for host in HOSTS {
                    let child = all.spawn(what, host);
                    all.running.push(child);
                }
            }
            let began = Instant::now();
            // One ends at once if somebody else took its port meanwhile.
            while all.running.iter_mut().all(|child| matches!(child.try_wait(), Ok(None))) {
                if HOSTS.iter().all(|host| all.knows_everybody(host)) {
                    return all;
                }
                assert!(began.elapsed() < until::DEADLINE, "waited in vain: {}", all.logs());
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            said = all.logs();
        }
        panic!("the deployment's Redis does not stay up: {said}");
    }

    fn logs(&self) -> String {
        let folders = fs::read_dir(self.folder.path()).unwrap();
        folders.filter_map(|f| fs::read_to_string(f.unwrap().path().join("log")).ok()).collect()
    }

    /// `deploy/redis.sh` with these words, as on that machine.
    fn script(&self, words: &[&str], host: &str) -> Command {
        let data = self.folder.path().join(format!("{}-{host}", words[0]));
        fs::create_dir_all(&data).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "sh"]);
        command.arg(places::repository().join("deploy/redis.sh")).args(words);
        command.env("SELF", host).env("BIND", host).env("DATA", &data);
        command.env("FIRST", HOSTS[0]).env("SENTINELS", HOSTS.join(" "));
        command.env("PASSWORD_FILE", self.folder.path().join("password"));
        command.env("SERVER_PORT", self.server_port.to_string());
        command.env("SENTINEL_PORT", self.sentinel_port.to_string()).env("MAXMEMORY", "77mb");
        let log = File::create(data.join("log")).unwrap();
        command.stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
        command
    }

    fn spawn(&self, what: &str, host: &str) -> Child {
        self.script(&[what], host).spawn().unwrap()
    }

    /// As a cluster asks before the next one goes.
    fn is_ready(&self, what: &str, host: &str) -> bool {
        self.script(&["ready", what], host).status().unwrap().success()
    }

    fn cli(&self, host: &str, port: u16, password: Option<&str>, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        if let Some(password) = password {
            command.env("REDISCLI_AUTH", password);
        }
        let port = port.to_string();
        let out = command.args(["-h", host, "-p", &port]).args(words).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn knows_everybody(&self, sentinel: &str) -> bool {
        let ask = |what| {
            let words = ["sentinel", what, "penstock"];
            self.cli(sentinel, self.sentinel_port, Some(PASSWORD), &words)
        };
        let known = |text: &str, but: &str| HOSTS.iter().all(|h| *h == but || text.contains(*h));
        known(&ask("replicas"), HOSTS[0]) && known(&ask("sentinels"), sentinel)
    }

    fn url(&self) -> String {
        let nodes = HOSTS.map(|host| format!("{host}:{}", self.sentinel_port));
        format!("redis+sentinel://{}?master=penstock", nodes.join(","))
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that was free on all of them a moment ago.
fn free_everywhere() -> u16 {
    loop {
        let first = TcpListener::bind((HOSTS[0], 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if HOSTS[1..].iter().all(|host| TcpListener::bind((*host, port)).is_ok()) {
            return port;
        }
    }
}

/// What a deployment starts is what a gateway can use: it gets past the sentinels' password, its writes
/// reach a replica, it finds the next primary, and the first one, though it is back at once and empty, as a replica.
#[tokio::test]
async fn the_deployments_sentinels_lead_to_the_primary() {
    let mut deployed = Deployed::start().await;
    let words = ["sentinel", "get-master-addr-by-name", "penstock"];
    let stranger = deployed.cli(HOSTS[1], deployed.sentinel_port, None, &words);
    assert!(stranger.contains("NOAUTH"), "{stranger}");
    let most = ["config", "get", "maxmemory"];
    let most = deployed.cli(HOSTS[0], deployed.server_port, Some(PASSWORD), &most);
    assert!(most.contains("80740352"), "{most}");
    assert!(HOSTS.iter().all(|host| deployed.is_ready("sentinel", host)));
    let store = RedisStore::open(RedisOptions {
        password: Some(PASSWORD.to_owned()),
        timeout: Duration::from_secs(4),
        replicas: 1,
        ..options(&deployed.url())
    })
    .await;
    let (value, mut tries) = (Bytes::from_static(b"acknowledged"), 0);
    let key = |n: u32| DocKey::new("job", n.to_string());
    until("a write is on a replica", || {
        tries += 1;
        let (store, key, value) = (&store, key(tries), value.clone());
        async move { store.put_doc(&key, None, value, 600_000, NOW).await.is_ok() }
    })
    .await;
    deployed.running[0].kill().unwrap();
    deployed.running[0].wait().unwrap();
    assert!(!deployed.is_ready("server", HOSTS[0]), "it is dead");
    deployed.running[0] = deployed.spawn("server", HOSTS[0]);
    let kept = key(tries);
    until("the store has found the next primary", || async {
        store.doc(&kept, NOW).await.is_ok_and(|doc| doc.is_some_and(|doc| doc.value == value))
    })
    .await;
    until("the first primary is a replica", || {
        let words = ["info", "replication"];
        let said = deployed.cli(HOSTS[0], deployed.server_port, Some(PASSWORD), &words);
        let follows = said.contains("role:slave") && said.contains("master_link_status:up");
        async move { follows }
    })
    .await;
    assert!(deployed.is_ready("server", HOSTS[0]), "it has everything again");
}

/// One that runs but could not read anything from its leader is nothing to count on: the next one would take the
/// last copy with it.
#[tokio::test]
async fn a_server_without_what_its_leader_has_is_not_ready() {
    let mut alone = Deployed {
        folder: tempfile::tempdir().unwrap(),
        server_port: free_everywhere(),
        sentinel_port: free_everywhere(),
        running: Vec::new(),
    };
    fs::write(alone.folder.path().join("password"), PASSWORD).unwrap();
    let child = alone.spawn("server", HOSTS[1]);
    alone.running.push(child);
    let said = || alone.cli(HOSTS[1], alone.server_port, Some(PASSWORD), &["info", "replication"]);
    until("it runs", || async { said().contains("master_link_status:down") }).await;
    assert!(!alone.is_ready("server", HOSTS[1]));
}

/// Sentinels may have a password of their own. A wrong one is no riddle, and is not told.
#[tokio::test]
async fn sentinels_may_have_their_own_password() {
    let pair = RedisPair::start().await;
    let rule = ["acl", "setuser", "default", "resetpass", ">theirs"];
    assert_eq!(pair.sentinel.cli(&rule), "OK");
    for server in [&pair.primary, &pair.replica] {
        assert_eq!(server.cli(&["config", "set", "requirepass", "servers"]), "OK");
    }
    let open = async |sentinels: Option<&str>| {
        let password = Some("servers".to_owned());
        let sentinel_password = sentinels.map(str::to_owned);
        let options = RedisOptions { password, sentinel_password, ..options(&pair.url()) };
        RedisStore::open(options).await.ping().await
    };
    assert_eq!(open(Some("theirs")).await, Ok(()));
    for wrong in [Some("guessed"), None] {
        let answer = open(wrong).await;
        let Err(StoreError::Unavailable(why)) = answer else { panic!("{answer:?}") };
        let tells = ["guessed", "servers", "theirs"].iter().any(|word| why.contains(word));
        assert!(why.contains("sentinel refuses the password") && !tells, "{why}");
    }
}

/// The first of the sentinels takes connections and says nothing, like one that is stopped.
#[tokio::test]
async fn a_silent_sentinel_holds_nobody_up() {
    let pair = RedisPair::start().await;
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let nodes = [silent.local_addr().unwrap().port(), pair.sentinel.port()];
    let nodes = nodes.map(|port| format!("127.0.0.1:{port}")).join(",");
    let url = format!("redis+sentinel://{nodes}?master=penstock");
    // Long enough for five connections and one question, not for five questions to who does not answer.
    let timeout = Duration::from_secs(4);
    let store = RedisStore::open(RedisOptions { timeout, replicas: 1, ..options(&url) }).await;
    until("it is there", || async { store.ping().await.is_ok() }).await;
}
