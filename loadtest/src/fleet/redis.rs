//! A Redis primary, two replicas, and a Sentinel that promotes one of them: when it is told to, or when it finds
//! the primary dead. The replicas can be cut off before: then they lack exactly what was written since,
//! whatever the machine is busy with.
//!
//! Two, as in `deploy/`: a primary that comes back after its death has to read everything anew from its successor,
//! which takes as long as there is media, and so long the other one is what acknowledged writes stand on.

use super::free_port;
use penstock_testkit::{Process, Spec, places, until_ok};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

/// The name under which Sentinel knows the primary.
pub const NAME: &str = "penstock";
/// As whom the replica asks for what is written; may do nothing else.
const REPLICA_USER: &str = "replica on >only-for-tests +psync +replconf +ping";
/// Sentinel waits for orders: a pause of the primary is no reason to replace it, and a replica that was
/// cut off for less than ten times as long may be promoted.
const PATIENT_MS: u64 = 60_000;
/// When it is to find out by itself: as in `deploy/redis.sh`.
const DOWN_AFTER_MS: u64 = 3_000;
const FAILOVER_TIMEOUT_MS: u64 = 15_000;
const SERVERS: [&str; 3] = ["redis-a", "redis-b", "redis-c"];

/// How Sentinel learns that the primary is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It is told to replace it, at once: for a machine that may be too busy to answer for seconds.
    Told,
    /// It finds no answer for [`DOWN_AFTER_MS`].
    ByItself,
}

/// The servers and their Sentinel.
#[derive(Debug)]
pub struct Redis {
    nodes: Vec<Node>,
    primary: usize,
    sentinel: Process,
    sentinel_address: SocketAddr,
}

#[derive(Debug)]
struct Node {
    process: Process,
    address: SocketAddr,
    folder: String,
}

impl Redis {
    /// Starts all of them and waits until the replicas follow and Sentinel knows them.
    pub(super) async fn start(host: Ipv4Addr, folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let mut nodes: Vec<Node> = Vec::new();
        for name in SERVERS {
            let mut node = Node::new(name, host, folder);
            node.follow(nodes.first().map(|primary| primary.address));
            node.process.spawn();
            answers(node.address).await;
            nodes.push(node);
        }
        let sentinel_address = free_port(host);
        let mut sentinel =
            Process::new(sentinel_spec(host, sentinel_address, nodes[0].address, folder), folder);
        sentinel.spawn();
        answers(sentinel_address).await;
        let redis = Self { nodes, primary: 0, sentinel, sentinel_address };
        redis.whole().await;
        redis
    }

    /// What a gateway has to be told.
    pub fn gateway_flags(&self) -> Vec<String> {
        vec![
            format!("--session-store=redis+sentinel://{}?master={NAME}", self.sentinel_address),
            // Nobody is told of a segment or a job that a failover could lose.
            "--session-store-replicas=1".to_owned(),
            "--segment-store=redis".to_owned(),
        ]
    }

    /// Waits until the replicas have everything, and Sentinel says so.
    pub async fn whole(&self) {
        let primary = self.nodes[self.primary].address;
        let replicas = || (0..self.nodes.len()).filter(|at| *at != self.primary);
        for replica in replicas() {
            follows(&self.nodes[replica], primary).await;
        }
        let (sentinel, count) = (self.sentinel_address, replicas().count());
        until_ok("Sentinel knows all replicas", || async move {
            let ours = ask(primary, "INFO replication")?;
            let known = ask(sentinel, &format!("SENTINEL REPLICAS {NAME}"))?;
            let online = ours.matches("state=online").count();
            // Of each replica it tells, among others, how the way to its primary is.
            let up = known.matches("master-link-status\r\n$2\r\nok").count();
            if (online, up) == (count, count) { Ok(()) } else { Err(format!("{ours}\n{known}")) }
        })
        .await;
    }

    /// The primary stops for so long and goes on.
    pub async fn pause(&self, pause: Duration) {
        let primary = &self.nodes[self.primary].process;
        primary.signal("STOP");
        tokio::time::sleep(pause).await;
        primary.signal("CONT");
    }

    /// From now on the replicas hear nothing.
    pub fn cut_replicas_off(&self) {
        let off = self.ask("ACL SETUSER replica off");
        let ended = self.ask("CLIENT KILL TYPE replica");
        assert!(off.starts_with("+OK") && ended.starts_with(":2"), "{off} {ended}");
    }

    /// `kill -9` of the primary; Sentinel gives a replica its place. The dead one comes back as the
    /// new one's replica.
    pub async fn fail_over(&mut self, notice: Notice) {
        let old = self.primary;
        self.nodes[old].process.kill9();
        let sentinel = self.sentinel_address;
        match notice {
            Notice::ByItself => self.patience(DOWN_AFTER_MS),
            // It looks at a replica every ten seconds; what it saw last may be too old for it.
            Notice::Told => {
                until_ok("Sentinel finds a replica good", || async move {
                    let said = ask(sentinel, &format!("SENTINEL FAILOVER {NAME}"))?;
                    let begun = said.starts_with("+OK") || said.contains("INPROG");
                    if begun { Ok(()) } else { Err(said) }
                })
                .await;
            }
        }
        let others: Vec<(usize, SocketAddr)> = (0..self.nodes.len())
            .filter(|at| *at != old)
            .map(|at| (at, self.nodes[at].address))
            .collect();
        let others = &others;
        let (new, promoted) = until_ok("Sentinel promotes a replica", || async move {
            let master = ask(sentinel, &format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}"))?;
            let named = |(_, at): &&(usize, SocketAddr)| master.contains(&at.port().to_string());
            let (new, at) = *others.iter().find(named).ok_or(&master)?;
            let role = ask(at, "INFO replication")?;
            if role.contains("role:master") { Ok((new, at)) } else { Err(role) }
        })
        .await;
        self.primary = new;
        let node = &mut self.nodes[old];
        node.follow(Some(promoted));
        node.process.spawn();
        answers(node.address).await;
        self.patience(PATIENT_MS);
    }

    /// How long nobody may answer before Sentinel takes him for dead.
    fn patience(&self, down_after_ms: u64) {
        let set = format!("SENTINEL SET {NAME} down-after-milliseconds {down_after_ms}");
        let said = ask(self.sentinel_address, &set).expect("Sentinel answers");
        assert!(said.starts_with("+OK"), "{said}");
    }

    /// A whole answer of the primary.
    pub fn ask(&self, command: &str) -> String {
        ask(self.nodes[self.primary].address, command).expect("the primary answers")
    }

    /// The primary's process.
    pub fn pid(&self) -> u32 {
        self.nodes[self.primary].process.pid()
    }

    /// What Sentinel said, for a failing test.
    pub fn log(&self) -> String {
        self.sentinel.log_tail()
    }
}

impl Node {
    fn new(name: &str, host: Ipv4Addr, folder: &Path) -> Self {
        let address = free_port(host);
        let spec = Spec {
            name: name.to_owned(),
            program: places::program("redis-server"),
            args: Vec::new(),
            env: BTreeMap::new(),
        };
        let mut node = Self {
            process: Process::new(spec, folder),
            address,
            folder: folder.display().to_string(),
        };
        node.follow(None);
        node
    }

    /// Its next start follows that server, or none.
    fn follow(&mut self, primary: Option<SocketAddr>) {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let mut args: Vec<&str> = vec!["--bind", &ip, "--port", &port, "--dir", &self.folder];
        // A replica keeps what it is sent in a file for a moment; each its own.
        let file = format!("{port}.rdb");
        args.extend(["--dbfilename", &file]);
        args.extend(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
        args.extend(["--replica-announce-ip", &ip, "--replica-announce-port", &port]);
        args.push("--user");
        args.extend(REPLICA_USER.split(' '));
        args.extend(["--masteruser", "replica", "--masterauth", "only-for-tests"]);
        let follow = primary.map(|at| (at.ip().to_string(), at.port().to_string()));
        if let Some((ip, port)) = &follow {
            args.extend(["--replicaof", ip, port]);
        }
        self.process.set_args(args.into_iter().map(str::to_owned).collect());
    }
}

fn sentinel_spec(host: Ipv4Addr, at: SocketAddr, primary: SocketAddr, folder: &Path) -> Spec {
    let file = folder.join("sentinel.conf");
    let text = format!(
        "bind {host}\nport {}\ndir {}\nsentinel monitor {NAME} {} {} 1\n\
         sentinel down-after-milliseconds {NAME} {PATIENT_MS}\n\
         sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}\n",
        at.port(),
        folder.display(),
        primary.ip(),
        primary.port(),
    );
    fs::write(&file, text).expect("Sentinel's file");
    Spec {
        name: "sentinel".to_owned(),
        program: places::program("redis-server"),
        args: vec![file.display().to_string(), "--sentinel".to_owned()],
        env: BTreeMap::new(),
    }
}

/// Waits until that server is the primary's replica and has read everything.
async fn follows(replica: &Node, primary: SocketAddr) {
    let replica = replica.address;
    until_ok("the Redis replica follows", || async move {
        let theirs = ask(replica, "INFO replication")?;
        let whole = theirs.contains("role:slave")
            && theirs.contains(&format!("master_port:{}\r", primary.port()))
            && theirs.contains("master_link_status:up");
        if whole { Ok(()) } else { Err(theirs) }
    })
    .await;
}

async fn answers(address: SocketAddr) {
    until_ok(&format!("{address} answers"), || async {
        let answer = ask(address, "PING")?;
        if answer.starts_with("+PONG") { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// One command in words, and its answer as it was written.
fn ask(address: SocketAddr, command: &str) -> Result<String, String> {
    let ask = || -> std::io::Result<String> {
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = String::new();
        read(&mut BufReader::new(socket), &mut answer)?;
        Ok(answer)
    };
    ask().map_err(|error| format!("{address}: {error}"))
}

/// One value of Redis's protocol, with all that is in it.
fn read(from: &mut impl BufRead, text: &mut String) -> std::io::Result<()> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    text.push_str(&line);
    let count: i64 = line.get(1..).and_then(|rest| rest.trim().parse().ok()).unwrap_or(0);
    match line.as_bytes().first() {
        None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
        Some(b'$') if count >= 0 => {
            let mut bytes = vec![0; usize::try_from(count).unwrap() + 2];
            from.read_exact(&mut bytes)?;
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        Some(b'*') => {
            for _ in 0..count {
                read(from, text)?;
            }
        }
        Some(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::own_host;

    #[tokio::test]
    async fn a_promoted_replica_lacks_what_it_did_not_hear() {
        let folder = tempfile::tempdir().unwrap();
        let mut redis = Redis::start(own_host(), folder.path()).await;
        assert!(redis.ask("SET heard 1").starts_with("+OK"));
        // Asked themselves: WAIT waits for what its own connection wrote, and each question has another.
        for replica in [1, 2] {
            let replica = redis.nodes[replica].address;
            until_ok("the replica has it", || async move {
                let answer = ask(replica, "GET heard")?;
                if answer.starts_with("$1") { Ok(()) } else { Err(answer) }
            })
            .await;
        }
        redis.cut_replicas_off();
        assert!(redis.ask("SET unheard 1").starts_with("+OK"));
        redis.fail_over(Notice::Told).await;
        assert!(redis.ask("GET heard").starts_with("$1"));
        assert!(redis.ask("GET unheard").starts_with("$-1"), "it died with its primary");
        // The dead one came back as the new one's replica; the other one had no need to read everything.
        redis.whole().await;
        let partial = redis.ask("INFO stats");
        assert!(partial.contains("sync_partial_ok:1"), "{partial}");
        assert!(redis.ask("SET later 1").starts_with("+OK"));
        redis.fail_over(Notice::ByItself).await;
        redis.whole().await;
    }
}
