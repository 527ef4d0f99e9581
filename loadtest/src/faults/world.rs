//! All roles, each pair of them with a wire between that can be made bad: an application's gateway with its
//! Redis; a signer and an orchestrator, each with its own PostgreSQL database and its own way to the chain; a
//! redeemer, a worker with its runner, the runner of a brought capability. Beside them one more orchestrator, a
//! simulated one, which is always well.

use super::cell::{Cell, Pair, Role};
use crate::{
    orchestrator_chaos::{trio::hex, workers},
    rig,
};
use penstock_domain::{Address, Capability, PriceInfo, Rational};
use penstock_testkit::{
    Process, Proxy, Spec, places,
    proxy::{Fault, Way},
    redis::RedisServer,
    sim::{
        Running, Server, SimChain, SimOrchestrator, SimRunner, account,
        orchestrator::{SimModel, Terms},
    },
    until_ok,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// What a ticket is worth, wei: few jobs, so that money moves all the time.
pub const TICKET_EV_WEI: u64 = 100_000;
/// One ticket in so many wins.
const TICKETS_A_WINNER: u64 = 10;
/// Wei a token.
const TOKEN_WEI: i64 = 3;
/// Wei on both sides of the account.
const FUNDS_WEI: u64 = 1_000_000_000_000_000_000;
/// The model that both orchestrators have, and that of the real one alone.
pub const SHARED_MODEL: &str = "shared/words";
pub const OWN_MODEL: &str = "own/words";
/// What is brought, and wei a second of it.
pub const CAPABILITY: &str = "brought-words";
const BROUGHT_WEI: u64 = 20_000;
/// Between two registrations of it: nobody says that its orchestrator has forgotten it.
const BROUGHT_AGAIN: Duration = Duration::from_millis(500);
/// How old what is known of the chain may be here: a test does not wait for minutes.
const CHAIN_MAX_AGE_MS: u64 = 3_000;

/// How much later things arrive where something has to be seen on its way: longer than two looks take.
const ON_ITS_WAY: Duration = Duration::from_millis(1_500);

/// How long an AI job is waited for at one orchestrator: far more than these take.
const TRY_TIMEOUT_MS: u64 = 8_000;

/// What it takes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder of the roles' programs.
    pub programs: PathBuf,
    /// PostgreSQL databases of the run's own: the signer's, the orchestrator's, the redeemer's.
    pub ledgers: [String; 3],
}

/// What runs. Everything ends with it.
#[derive(Debug)]
pub struct World {
    wires: BTreeMap<Pair, Proxy>,
    /// The chain, past its wires.
    pub chain: Running<SimChain>,
    /// The orchestrator that is always well.
    pub other: Running<SimOrchestrator>,
    /// Whose money it is.
    pub sender: Address,
    /// The orchestrator's books, past their wire.
    pub ledger: String,
    gateway: Process,
    signer: Process,
    orchestrator: Process,
    redeemer: Process,
    worker: Process,
    http: reqwest::Client,
    bringing: JoinHandle<()>,
    _runner: Running<SimRunner>,
    _brought: Server,
    _redis: RedisServer,
    // Last, so that the processes are gone before their files are.
    folder: TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.bringing.abort();
    }
}

impl World {
    /// Starts everything and waits until everybody is ready.
    pub async fn start(plan: &Plan) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let folder = tempfile::Builder::new().prefix("penstock-faults-").tempdir().unwrap();
        let at = Places { folder: folder.path(), programs: &plan.programs, env: BTreeMap::new() };
        let mut wires = BTreeMap::new();
        for pair in super::cell::PAIRS {
            wires.insert(pair, Proxy::start().await);
        }
        let lead = |pair: Pair, to: &str| {
            let to = to.rsplit_once("//").map_or(to, |(_, address)| address);
            wires[&pair].leads_to(to.parse().expect("an address"));
        };
        let wire = |pair: Pair| wires[&pair].address();

        let chain = SimChain::start().await;
        for pair in [Pair::SignerChain, Pair::OrchestratorChain, Pair::RedeemerChain] {
            lead(pair, &chain.server.uri);
        }
        let other = other_orchestrator().await;
        let runner = SimRunner::start(OWN_MODEL, None).await;
        lead(Pair::WorkerRunner, &runner.uri());
        let brought = workers::application().await;
        lead(Pair::OrchestratorRunner, &brought.uri);
        let redis = RedisServer::on_port(&[]).await;
        lead(Pair::GatewayRedis, &format!("127.0.0.1:{}", redis.port()));
        let ledger = |pair: Pair, url: &str| {
            let (own, host) = through(url, wire(pair));
            lead(pair, &host);
            own
        };
        let signer_ledger = ledger(Pair::SignerPostgres, &plan.ledgers[0]);
        let orchestrator_ledger = ledger(Pair::OrchestratorPostgres, &plan.ledgers[1]);

        let recipient = rig::make_key(&at.made("recipient")).address();
        let mut redeemer = redeemer(&at, wire(Pair::RedeemerChain));
        redeemer.push(format!("--ledger={}", ledger(Pair::RedeemerPostgres, &plan.ledgers[2])));
        redeemer.push(format!("--chain-max-age-ms={CHAIN_MAX_AGE_MS}"));
        let redeemer = at.start("redeemer", "penstock-orchestrator", redeemer).await;
        lead(Pair::OrchestratorRedeemer, &redeemer.addr("service"));
        let secret = hex(&rand::random::<[u8; 16]>());
        private(&at.path("workers.secret"), &secret);
        let orchestrator = orchestrator(&at, &wires, &orchestrator_ledger);
        let orchestrator = at.start("orchestrator", "penstock-orchestrator", orchestrator).await;
        let service = orchestrator.addr("service");
        lead(Pair::GatewayOrchestrator, &service);
        lead(Pair::WorkerOrchestrator, &service);
        let http = rig::http();
        registered(&http, &chain, recipient).await;
        chain.activate(std::slice::from_ref(&other)).await;

        let sender = rig::make_key(&at.made("sender")).address();
        chain.fund(sender, FUNDS_WEI).await;
        let signer = signer(&at, wire(Pair::SignerChain), &signer_ledger);
        let signer = at.start("signer", "penstock-signer", signer).await;
        lead(Pair::GatewaySigner, &signer.addr("http"));
        let worker = worker(&at, wire(Pair::WorkerOrchestrator), wire(Pair::WorkerRunner));
        let worker = at.start("worker", "penstock-worker", worker).await;
        let bringing = bring(&service, secret, wire(Pair::OrchestratorRunner));
        let mut gateway = gateway(wire(Pair::GatewaySigner), wire(Pair::GatewayRedis));
        // A job that nobody answers goes elsewhere after seconds, not minutes.
        gateway.push(format!("--ai-try-timeout-ms={TRY_TIMEOUT_MS}"));
        let gateway = at.start("gateway", "penstock-gateway", gateway).await;
        lead(Pair::ApplicationGateway, &gateway.addr("http"));
        let world = Self {
            wires,
            chain,
            other,
            sender,
            ledger: plan.ledgers[1].clone(),
            gateway,
            signer,
            orchestrator,
            redeemer,
            worker,
            http,
            bringing,
            _runner: runner,
            _brought: brought,
            _redis: redis,
            folder,
        };
        until_ok("everybody is ready", || world.all_ready()).await;
        world
    }

    /// A wire is bad from now on.
    pub fn break_wire(&self, cell: Cell) {
        let (ways, fault) = cell.trouble.faults();
        for way in [Way::There, Way::Back] {
            self.wires[&cell.pair].set(way, ways.contains(&way).then_some(fault));
        }
    }

    /// What is sent over it arrives later from now on, so much later that what is on its way can be seen.
    pub fn slow_down(&self, cell: Cell) {
        let late = Some(Fault::Delay(ON_ITS_WAY));
        for way in [Way::There, Way::Back] {
            self.wires[&cell.pair].set(way, late);
        }
    }

    /// How often a fault of this wire was met.
    pub fn met(&self, pair: Pair) -> u64 {
        self.wires[&pair].met()
    }

    /// It is good again.
    pub fn mend_wire(&self, cell: Cell) {
        self.wires[&cell.pair].heal();
    }

    /// Where applications come in.
    pub fn url(&self) -> String {
        format!("http://{}", self.wires[&Pair::ApplicationGateway].address())
    }

    /// Work that the other orchestrator has been asked for.
    pub fn elsewhere(&self) -> u64 {
        (self.other.segments() + self.other.ai.count("llm")) as u64
    }

    /// What a role's `/readyz` says, past all wires: the status, and the words.
    pub async fn readiness(&self, role: Role) -> Result<(u16, String), String> {
        let at = match role {
            Role::Gateway => self.gateway.addr("http"),
            Role::Signer => self.signer.addr("metrics"),
            Role::Orchestrator => self.orchestrator.addr("metrics"),
            Role::Redeemer => self.redeemer.addr("metrics"),
            Role::Worker => self.worker.addr("metrics"),
        };
        let answer = self.http.get(format!("http://{at}/readyz")).send().await;
        let answer = answer.map_err(|error| format!("the {role}'s /readyz: {error}"))?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(|error| error.to_string())?))
    }

    /// Everybody is ready, and lacks nothing.
    pub async fn all_ready(&self) -> Result<(), String> {
        for role in [Role::Signer, Role::Worker, Role::Redeemer, Role::Orchestrator, Role::Gateway]
        {
            let (status, words) = self.readiness(role).await?;
            if status != 200 || words.contains("degraded") {
                return Err(format!("the {role}: {status} {words}"));
            }
        }
        Ok(())
    }

    /// `/v1/summary` of a process.
    async fn summary(&self, process: &Process) -> Result<Value, String> {
        self.books(process, "/v1/summary").await
    }

    async fn books(&self, process: &Process, path: &str) -> Result<Value, String> {
        let url = format!("http://{}{path}", process.addr("admin"));
        let answer = self.http.get(&url).send().await.map_err(|error| error.to_string())?;
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        if !status.is_success() {
            return Err(format!("{url}: {status} {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("{url}: {error}"))
    }

    /// What the signer signed; what both orchestrators credited, and debited, exact wei.
    pub async fn sums(&self) -> Result<[Rational; 3], String> {
        let signed = wei(&self.summary(&self.signer).await?, "ticket_ev_total_wei")?;
        let real = self.summary(&self.orchestrator).await?;
        let other = self.other.totals();
        let credited = &wei(&real, "credited_wei")? + &other.credited;
        let debited = &wei(&real, "debited_wei")? + &other.debited;
        Ok([signed, credited, debited])
    }

    /// Winners in the orchestrator's books, of them handed over (and known to be paid, or not yet), redeemed by the
    /// redeemer, paid by the chain.
    pub async fn winners(&self) -> Result<[u64; 4], String> {
        let count = |from: &Value, name: &str| from[name].as_u64().ok_or(format!("no {name}"));
        let ours = self.summary(&self.orchestrator).await?;
        let theirs = self.summary(&self.redeemer).await?;
        let paid = self.chain.client.status().await.map_err(|error| error.to_string())?;
        Ok([
            count(&ours, "winners")?,
            count(&ours, "handed_over")? + count(&ours, "redeemed")?,
            count(&theirs, "redeemed")?,
            paid.redemptions,
        ])
    }

    /// Winners in the redeemer's books, and those of them that it knows to be redeemed.
    pub async fn at_the_redeemer(&self) -> Result<[u64; 2], String> {
        let theirs = self.summary(&self.redeemer).await?;
        let count = |name: &str| theirs[name].as_u64().ok_or(format!("no {name}"));
        Ok([count("winners")?, count("redeemed")?])
    }

    /// Winners whose redemption was begun, and of which the redeemer knows nothing yet.
    pub async fn redeeming(&self) -> Result<usize, String> {
        let winners = self.books(&self.redeemer, "/v1/winners?limit=1000").await?;
        let winners = winners.as_array().ok_or("no list of winners")?;
        Ok(winners.iter().filter(|winner| winner["status"] == "redeeming").count())
    }

    /// Lines of all logs with these words.
    pub fn logged(&self, words: &str) -> Vec<String> {
        let all = [&self.gateway, &self.signer, &self.orchestrator, &self.redeemer, &self.worker];
        let text = |process: &Process| {
            let bytes = fs::read(process.log_file()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let texts: Vec<String> = all.into_iter().map(text).collect();
        let lines = texts.iter().flat_map(|text| text.lines());
        lines.filter(|line| line.contains(words)).map(str::to_owned).collect()
    }

    /// A folder for what a run makes.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }
}

pub(crate) fn wei(from: &Value, name: &str) -> Result<Rational, String> {
    let text = from[name].as_str().ok_or(format!("no {name}"))?;
    text.parse().map_err(|_| format!("{name}: {text}"))
}

/// Files and programs of one run.
pub(crate) struct Places<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) programs: &'a Path,
    /// Variables that every process has beside its own.
    pub(crate) env: BTreeMap<String, String>,
}

impl Places<'_> {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn made(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    /// Flags of a key in that folder.
    fn key(&self, of: &str) -> [String; 2] {
        [
            format!("--key=keystore:{}", self.text(&format!("{of}/keystore.json"))),
            format!("--key-password-file={}", self.text(&format!("{of}/keystore-password"))),
        ]
    }

    pub(crate) async fn start(&self, name: &str, program: &str, flags: Vec<String>) -> Process {
        let mut args = flags;
        args.extend(["--metrics-addr=127.0.0.1:0", "--addr-file={addr_file}"].map(str::to_owned));
        let spec = Spec {
            name: name.to_owned(),
            program: self.programs.join(program),
            args,
            env: self.env.clone(),
        };
        Process::start(spec, &self.path("logs")).await
    }
}

/// A file that only we may read.
pub(crate) fn private(path: &Path, text: &str) {
    fs::write(path, text).expect("a secret");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// A database's URL with another server in it, and which one it had.
pub(crate) fn through(url: &str, wire: SocketAddr) -> (String, String) {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (authority, path) = rest.split_once('/').expect("a database's name");
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(u, h)| (u, h));
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    (format!("{scheme}://{user}{wire}/{path}"), host.to_owned())
}

async fn other_orchestrator() -> Running<SimOrchestrator> {
    let terms = Terms {
        price: PriceInfo::new(1, 1).unwrap(),
        ticket_ev_wei: TICKET_EV_WEI,
        ..Terms::default()
    };
    let other = SimOrchestrator::with(terms, account()).await;
    let price = PriceInfo::new(TOKEN_WEI, 1).unwrap();
    other.ai.has(SimModel::new(Capability::Llm, SHARED_MODEL).at(price));
    other
}

pub(crate) fn redeemer(at: &Places<'_>, chain: SocketAddr) -> Vec<String> {
    let mut flags = vec![
        "--redeemer".to_owned(),
        "--http-addr=127.0.0.1:0".to_owned(),
        "--admin-addr=127.0.0.1:0".to_owned(),
        format!("--data-dir={}", at.text("redeemer")),
        format!("--chain=devnet:http://{chain}"),
        "--chain-poll-ms=200".to_owned(),
    ];
    flags.extend(at.key("recipient"));
    flags
}

pub(crate) fn orchestrator(
    at: &Places<'_>,
    wires: &BTreeMap<Pair, Proxy>,
    ledger: &str,
) -> Vec<String> {
    let wire = |pair: Pair| wires[&pair].address();
    let mut flags = vec![
        format!("--service-addr=https://{}", wire(Pair::GatewayOrchestrator)),
        "--http-addr=127.0.0.1:0".to_owned(),
        "--admin-addr=127.0.0.1:0".to_owned(),
        format!("--data-dir={}", at.text("orchestrator")),
        format!("--ledger={ledger}"),
        format!("--secret-file={}", at.text("workers.secret")),
        format!("--chain=devnet:http://{}", wire(Pair::OrchestratorChain)),
        "--chain-poll-ms=200".to_owned(),
        format!("--chain-max-age-ms={CHAIN_MAX_AGE_MS}"),
        "--register".to_owned(),
        format!("--redeemer-addr=https://{}", wire(Pair::OrchestratorRedeemer)),
        format!("--ticket-ev={TICKET_EV_WEI}"),
        format!("--max-face-value={}", TICKET_EV_WEI * TICKETS_A_WINNER),
        "--price-per-unit=1".to_owned(),
        format!("--price-per-model=llm/{SHARED_MODEL}={TOKEN_WEI}/1"),
        format!("--price-per-model=llm/{OWN_MODEL}={TOKEN_WEI}/1"),
        "--byoc-least-seconds=5".to_owned(),
    ];
    flags.extend(at.key("recipient"));
    flags
}

pub(crate) fn signer(at: &Places<'_>, chain: SocketAddr, ledger: &str) -> Vec<String> {
    let mut flags = vec![
        "--http-addr=127.0.0.1:0".to_owned(),
        "--admin-addr=127.0.0.1:0".to_owned(),
        format!("--data-dir={}", at.text("signer")),
        format!("--ledger={ledger}"),
        format!("--chain=devnet:http://{chain}"),
        "--chain-poll-ms=200".to_owned(),
        format!("--chain-max-age-ms={CHAIN_MAX_AGE_MS}"),
        "--discovery-interval-ms=1000".to_owned(),
    ];
    flags.extend(at.key("sender"));
    flags
}

pub(crate) fn worker(at: &Places<'_>, orchestrator: SocketAddr, runner: SocketAddr) -> Vec<String> {
    let model = |id: &str| {
        json!({"pipeline": "llm", "model_id": id, "url": format!("http://{runner}"),
            "warm": true, "capacity": 4})
    };
    let models = json!([model(SHARED_MODEL), model(OWN_MODEL)]);
    fs::write(at.path("models.json"), models.to_string()).expect("a list of models");
    vec![
        format!("--orchestrator=https://{orchestrator}"),
        format!("--secret-file={}", at.text("workers.secret")),
        format!("--work-dir={}", at.text("work")),
        format!("--models-file={}", at.text("models.json")),
        format!("--models-dir={}", at.text("none")),
        format!("--runner-dir={}", places::repository().join("runner").display()),
        "--runner-python=python3".to_owned(),
        "--nvidia=none".to_owned(),
        // Segments come from the orchestrator, which is at a loopback address.
        "--allow-private-urls".to_owned(),
    ]
}

pub(crate) fn gateway(signer: SocketAddr, redis: SocketAddr) -> Vec<String> {
    vec![
        "--http-addr=127.0.0.1:0".to_owned(),
        "--admin-addr=127.0.0.1:0".to_owned(),
        format!("--signer-url=http://{signer}"),
        format!("--session-store=redis://{redis}"),
        "--segment-store=redis".to_owned(),
        "--discovery-interval-ms=1000".to_owned(),
        // Little is bought ahead, so that the signer is asked all the time.
        "--prepay-ms=0".to_owned(),
        "--prepay-jobs=2".to_owned(),
    ]
}

/// Waits until the chain knows the orchestrator.
pub(crate) async fn registered(
    http: &reqwest::Client,
    chain: &Running<SimChain>,
    recipient: Address,
) {
    let url = format!("{}/v1/orchestrators/{recipient}", chain.server.uri);
    until_ok("the orchestrator registers itself", || async {
        let answer = http.get(&url).send().await.map_err(|error| error.to_string())?;
        let found: Value = answer.json().await.map_err(|error| error.to_string())?;
        if found["registered"] == true { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

/// Registers the capability, again and again, past all wires.
pub(crate) fn bring(orchestrator: &str, secret: String, runner: SocketAddr) -> JoinHandle<()> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .timeout(Duration::from_secs(10))
        .build()
        .expect("a client");
    let url = format!("https://{orchestrator}/capability/register");
    let told = json!({"name": CAPABILITY, "url": format!("http://{runner}"), "capacity": 4,
        "price_per_unit": BROUGHT_WEI, "price_scaling": 1});
    tokio::spawn(async move {
        loop {
            let register = http.post(&url).header("Authorization", &secret).body(told.to_string());
            let _ = register.send().await;
            tokio::time::sleep(BROUGHT_AGAIN).await;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::through;

    #[test]
    fn a_database_is_reached_through_its_wire() {
        let wire = "127.0.0.1:9".parse().unwrap();
        let (url, host) = through("postgres://penstock@127.0.0.1:5432/books?x=1", wire);
        assert_eq!(url, "postgres://penstock@127.0.0.1:9/books?x=1");
        assert_eq!(host, "127.0.0.1:5432");
        assert_eq!(through("postgres://h:1/b", wire).0, "postgres://127.0.0.1:9/b");
    }
}
