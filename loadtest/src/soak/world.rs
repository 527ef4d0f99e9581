//! Everything twice that may be there twice: two gateways on one Redis, two orchestrators, each with its own PostgreSQL
//! database, redeemer, worker and brought capability; one signer pays both. Beside them an orchestrator whose live
//! session has the channels. Every process lives from the beginning to the end, and each wire between two of them can be
//! made bad.

use crate::{
    faults::{
        cell::{PAIRS, Pair, Trouble},
        world::{self as parts, OWN_MODEL, Places},
    },
    orchestrator_bench::runner::Stage,
    orchestrator_chaos::{trio::hex, workers},
    rig,
};
use penstock_domain::{Address, Rational};
use penstock_testkit::{
    Process, Proxy,
    redis::RedisServer,
    sim::{Running, Server, SimChain, SimRunner},
    until_ok,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Everything has the same few processors: what takes long is late, and not lost. Faults end before.
const PATIENT: [&str; 6] = [
    "--ai-try-timeout-ms=60000",
    "--orchestrator-ping-ms=15000",
    "--segment-head-timeout-ms=30000",
    "--segment-hedge-after-ms=0",
    "--payment-timeout-ms=30000",
    "--signer-timeout-ms=30000",
];

/// The allocator gives back what is freed at once, and not a second later or when others are asked for pages: what is in
/// RAM is then what is held.
const AT_ONCE: [(&str, &str); 1] = [("MIMALLOC_PURGE_DELAY", "0")];

/// Streams end all the time, and their sessions at orchestrators and workers only when they were silent for long.
const MANY_SESSIONS: &str = "--max-sessions=1000";

/// Wei on both sides of the account.
const FUNDS_WEI: u64 = 1_000_000_000_000_000_000;

/// What it takes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder of the roles' programs.
    pub programs: PathBuf,
    /// PostgreSQL databases of the run's own: the signer's, each orchestrator's.
    pub ledgers: [String; 3],
    /// Live channels.
    pub channels: usize,
}

/// Who connects to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wire {
    /// Of this gateway or orchestrator.
    Roles(usize, Pair),
    /// Publishers and readers to the orchestrator of the channels.
    Channels,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roles(_, pair) => pair.fmt(f),
            Self::Channels => f.write_str("publishers and readers → orchestrator"),
        }
    }
}

/// Every wire; the signer's own are there once.
pub fn wires() -> Vec<Wire> {
    let is_shared = |pair: Pair| matches!(pair, Pair::SignerPostgres | Pair::SignerChain);
    let both = [0, 1].into_iter().flat_map(|side| PAIRS.map(|pair| Wire::Roles(side, pair)));
    // The redeemers' books here are files.
    let both = both.filter(|wire| !matches!(wire, Wire::Roles(_, Pair::RedeemerPostgres)));
    let once = both.filter(|wire| !matches!(wire, Wire::Roles(1, pair) if is_shared(*pair)));
    once.chain([Wire::Channels]).collect()
}

/// A gateway, an orchestrator, and what belongs to it.
struct Side {
    wires: BTreeMap<Pair, Proxy>,
    ledger: String,
    gateway: Process,
    orchestrator: Process,
    redeemer: Process,
    worker: Process,
    bringing: JoinHandle<()>,
}

/// What runs. Everything ends with it.
pub struct World {
    sides: [Side; 2],
    signer: Process,
    stage: Stage,
    channels: Vec<String>,
    channel_wire: Proxy,
    /// The chain, past its wires.
    pub chain: Running<SimChain>,
    /// Whose money it is.
    pub sender: Address,
    http: reqwest::Client,
    _runner: Running<SimRunner>,
    _brought: Server,
    _redis: RedisServer,
    // Last, so that the processes are gone before their files are.
    folder: TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.sides.iter().for_each(|side| side.bringing.abort());
    }
}

/// What both sides lean on.
struct Shared<'a> {
    plan: &'a Plan,
    folder: &'a Path,
    chain: &'a Running<SimChain>,
    runner: &'a Running<SimRunner>,
    brought: &'a Server,
    redis: &'a RedisServer,
    http: &'a reqwest::Client,
}

impl World {
    /// Starts everything and waits until everybody is ready.
    pub async fn start(plan: &Plan) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let folder = tempfile::Builder::new().prefix("penstock-soak-").tempdir().unwrap();
        let chain = SimChain::start().await;
        let runner = SimRunner::start(OWN_MODEL, None).await;
        let brought = workers::application().await;
        let redis = RedisServer::on_port(&[]).await;
        let http = rig::http();
        let shared = Shared {
            plan,
            folder: folder.path(),
            chain: &chain,
            runner: &runner,
            brought: &brought,
            redis: &redis,
            http: &http,
        };
        let wires = [good_wires().await, good_wires().await];
        let sender = rig::make_key(&shared.at(folder.path()).made("sender")).address();
        chain.fund(sender, FUNDS_WEI).await;
        let signer = shared.signer(&wires).await;
        let [first, second] = wires;
        let sides = [shared.side(0, first).await, shared.side(1, second).await];
        let stage = Stage::with(&plan.programs, None, &[]).await;
        let channels = stage.make(plan.channels).await;
        let channel_wire = Proxy::to(address(&stage.host)).await;
        let world = Self {
            sides,
            signer,
            stage,
            channels,
            channel_wire,
            chain,
            sender,
            http,
            _runner: runner,
            _brought: brought,
            _redis: redis,
            folder,
        };
        until_ok("everybody is ready", || world.all_ready()).await;
        world
    }

    fn proxy(&self, wire: Wire) -> &Proxy {
        match wire {
            Wire::Roles(side, pair) => &self.sides[side].wires[&pair],
            Wire::Channels => &self.channel_wire,
        }
    }

    /// A wire is bad from now on.
    pub fn break_wire(&self, wire: Wire, trouble: Trouble) {
        let (ways, fault) = trouble.faults();
        ways.iter().for_each(|way| self.proxy(wire).set(*way, Some(fault)));
    }

    /// It is good again.
    pub fn mend_wire(&self, wire: Wire) {
        self.proxy(wire).heal();
    }

    /// Where applications come in: each gateway.
    pub fn gateways(&self) -> Vec<String> {
        let wire = |side: &Side| side.wires[&Pair::ApplicationGateway].address();
        self.sides.iter().map(|side| format!("http://{}", wire(side))).collect()
    }

    /// The runner that has the channels is still there.
    pub async fn beat(&self) {
        self.stage.beat().await;
    }

    /// Each live channel.
    pub fn channels(&self) -> Vec<String> {
        let at = self.channel_wire.address();
        self.channels.iter().map(|name| format!("http://{at}/ai/trickle/{name}")).collect()
    }

    /// The orchestrators' books, past their wires.
    pub fn ledgers(&self) -> impl Iterator<Item = &str> {
        self.sides.iter().map(|side| side.ledger.as_str())
    }

    /// Every process of ours, by its name.
    pub fn processes(&self) -> Vec<(String, &Process)> {
        let mut all = vec![("signer".to_owned(), &self.signer)];
        for (number, side) in (1..).zip(&self.sides) {
            let own = [
                ("gateway", &side.gateway),
                ("orchestrator", &side.orchestrator),
                ("redeemer", &side.redeemer),
                ("worker", &side.worker),
            ];
            all.extend(own.map(|(role, process)| (format!("{role} {number}"), process)));
        }
        all.push(("orchestrator of the channels".to_owned(), &self.stage.node.process));
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Everybody is ready, and lacks nothing.
    pub async fn all_ready(&self) -> Result<(), String> {
        for (name, process) in self.processes() {
            let is_gateway = name.starts_with("gateway");
            let at = process.addr(if is_gateway { "http" } else { "metrics" });
            let answer = self.http.get(format!("http://{at}/readyz")).send().await;
            let answer = answer.map_err(|error| format!("{name}: {error}"))?;
            let status = answer.status().as_u16();
            let words = answer.text().await.map_err(|error| format!("{name}: {error}"))?;
            if status != 200 || words.contains("degraded") {
                return Err(format!("{name}: {status} {words}"));
            }
        }
        Ok(())
    }

    async fn text(&self, url: &str) -> Result<String, String> {
        let answer = self.http.get(url).send().await.map_err(|error| error.to_string())?;
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        if status.is_success() { Ok(text) } else { Err(format!("{url}: {status} {text}")) }
    }

    /// A process's page of metrics.
    pub async fn metrics(&self, process: &Process) -> Result<String, String> {
        self.text(&format!("http://{}/metrics", process.addr("metrics"))).await
    }

    async fn summary(&self, process: &Process) -> Result<Value, String> {
        let text = self.text(&format!("http://{}/v1/summary", process.addr("admin"))).await?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// What the signer signed; what both orchestrators credited, and debited, exact wei.
    pub async fn sums(&self) -> Result<[Rational; 3], String> {
        let signed = parts::wei(&self.summary(&self.signer).await?, "ticket_ev_total_wei")?;
        let (mut credited, mut debited) = (Rational::ZERO, Rational::ZERO);
        for side in &self.sides {
            let said = self.summary(&side.orchestrator).await?;
            credited = &credited + &parts::wei(&said, "credited_wei")?;
            debited = &debited + &parts::wei(&said, "debited_wei")?;
        }
        Ok([signed, credited, debited])
    }

    /// Payments and tickets that the signer signed.
    pub async fn payments(&self) -> Result<[u64; 2], String> {
        let said = self.summary(&self.signer).await?;
        let count = |name: &str| said[name].as_u64().ok_or(format!("no {name}"));
        Ok([count("payments")?, count("tickets")?])
    }

    /// Winners in the orchestrators' books, of them handed over, redeemed by the redeemers, paid by the chain.
    pub async fn winners(&self) -> Result<[u64; 4], String> {
        let count = |from: &Value, name: &str| from[name].as_u64().ok_or(format!("no {name}"));
        let mut sums = [0; 4];
        for side in &self.sides {
            let ours = self.summary(&side.orchestrator).await?;
            let theirs = self.summary(&side.redeemer).await?;
            sums[0] += count(&ours, "winners")?;
            sums[1] += count(&ours, "handed_over")? + count(&ours, "redeemed")?;
            sums[2] += count(&theirs, "redeemed")?;
        }
        let paid = self.chain.client.status().await.map_err(|error| error.to_string())?;
        sums[3] = paid.redemptions;
        Ok(sums)
    }

    /// Lines of all logs with these words.
    pub fn logged(&self, words: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (_, process) in self.processes() {
            let text = fs::read(process.log_file()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            found.extend(text.lines().filter(|line| line.contains(words)).map(str::to_owned));
        }
        found
    }

    /// A folder for what a run makes.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }
}

async fn good_wires() -> BTreeMap<Pair, Proxy> {
    let mut wires = BTreeMap::new();
    for pair in PAIRS {
        wires.insert(pair, Proxy::start().await);
    }
    wires
}

fn address(of: &str) -> SocketAddr {
    let address = of.rsplit_once("//").map_or(of, |(_, address)| address);
    address.parse().expect("an address")
}

/// Only what nobody should overlook: hours of all lines fill a disk.
fn quietly(mut flags: Vec<String>) -> Vec<String> {
    flags.push("--log-level=warn".to_owned());
    flags
}

impl Shared<'_> {
    fn at<'a>(&'a self, folder: &'a Path) -> Places<'a> {
        let env = AT_ONCE.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Places { folder, programs: &self.plan.programs, env }
    }

    async fn signer(&self, wires: &[BTreeMap<Pair, Proxy>; 2]) -> Process {
        let at = self.at(self.folder);
        let own = &wires[0];
        own[&Pair::SignerChain].leads_to(address(&self.chain.server.uri));
        let wire = own[&Pair::SignerPostgres].address();
        let (ledger, host) = parts::through(&self.plan.ledgers[0], wire);
        own[&Pair::SignerPostgres].leads_to(address(&host));
        let flags = parts::signer(&at, own[&Pair::SignerChain].address(), &ledger);
        let signer = at.start("signer", "penstock-signer", quietly(flags)).await;
        for side in wires {
            side[&Pair::GatewaySigner].leads_to(address(&signer.addr("http")));
        }
        signer
    }

    async fn side(&self, number: usize, wires: BTreeMap<Pair, Proxy>) -> Side {
        let folder = self.folder.join(format!("side-{}", number + 1));
        let at = self.at(&folder);
        let lead = |pair: Pair, to: &str| wires[&pair].leads_to(address(to));
        let wire = |pair: Pair| wires[&pair].address();
        for pair in [Pair::OrchestratorChain, Pair::RedeemerChain] {
            lead(pair, &self.chain.server.uri);
        }
        lead(Pair::WorkerRunner, &self.runner.uri());
        lead(Pair::OrchestratorRunner, &self.brought.uri);
        lead(Pair::GatewayRedis, &format!("127.0.0.1:{}", self.redis.port()));
        let ledger = self.plan.ledgers[number + 1].clone();
        let (through, host) = parts::through(&ledger, wire(Pair::OrchestratorPostgres));
        lead(Pair::OrchestratorPostgres, &host);

        let recipient = rig::make_key(&at.made("recipient")).address();
        let flags = parts::redeemer(&at, wire(Pair::RedeemerChain));
        let redeemer = at.start("redeemer", "penstock-orchestrator", quietly(flags)).await;
        lead(Pair::OrchestratorRedeemer, &redeemer.addr("service"));
        let secret = hex(&rand::random::<[u8; 16]>());
        parts::private(&at.path("workers.secret"), &secret);
        let mut flags = parts::orchestrator(&at, &wires, &through);
        flags.push(MANY_SESSIONS.to_owned());
        let orchestrator = at.start("orchestrator", "penstock-orchestrator", quietly(flags)).await;
        let service = orchestrator.addr("service");
        lead(Pair::GatewayOrchestrator, &service);
        lead(Pair::WorkerOrchestrator, &service);
        parts::registered(self.http, self.chain, recipient).await;
        self.chain.activate(&[]).await;
        let mut flags =
            parts::worker(&at, wire(Pair::WorkerOrchestrator), wire(Pair::WorkerRunner));
        flags.push(MANY_SESSIONS.to_owned());
        let worker = at.start("worker", "penstock-worker", quietly(flags)).await;
        let bringing = parts::bring(&service, secret, wire(Pair::OrchestratorRunner));
        let mut flags = parts::gateway(wire(Pair::GatewaySigner), wire(Pair::GatewayRedis));
        flags.extend(PATIENT.map(str::to_owned));
        let gateway = at.start("gateway", "penstock-gateway", quietly(flags)).await;
        lead(Pair::ApplicationGateway, &gateway.addr("http"));
        Side { wires, ledger, gateway, orchestrator, redeemer, worker, bringing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_wire_that_is_used_is_there_once() {
        let all = wires();
        assert_eq!(all.len(), 2 * (PAIRS.len() - 1) - 2 + 1);
        assert_eq!(BTreeSet::from_iter(&all).len(), all.len());
    }
}
