//! A network of real role processes, each of which a test can kill, arm and start again. The
//! command lines are those of `penstock dev`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use penstock::dev::{
    ANY_PORT, Launch, Layout, Network as Plan, Role, Runner, bootstrap, work_without_orchestrator,
};
use penstock_chain_ethereum::EthereumChain;
use penstock_testkit::{
    Process, Spec, anvil::Anvil, places, until, until::DEADLINE, until_ok, until_some,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::ethereum;

/// Tests share their processors with each other, and measure no time.
pub const PATIENT: [&str; 5] = [
    "--orchestrator-ping-ms=15000",
    "--segment-head-timeout-ms=15000",
    "--segment-hedge-after-ms=0",
    "--payment-timeout-ms=15000",
    "--signer-timeout-ms=10000",
];

/// What a test needs of a network.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// A worker and a gateway: real jobs.
    pub jobs: bool,
    /// The speech model in a runner process.
    pub speech: bool,
    /// Milliseconds between blocks; 0 = the test mines, so that no offer expires by itself.
    pub block_interval_ms: u64,
}

/// Where the signer keeps its books and its key, if not where `penstock dev` puts them.
#[derive(Debug, Default)]
pub struct SignerOn {
    /// `--ledger`
    pub ledger: Option<String>,
    /// The key's flags, its account and what its store needs in the environment.
    pub key: Option<OtherKey>,
    /// Its account has neither deposit nor reserve.
    pub unfunded: bool,
    /// The chain is anvil with the network's contracts.
    pub ethereum: bool,
    /// More of its flags.
    pub flags: Vec<String>,
}

/// How its processes are watched.
#[derive(Debug, Default)]
pub struct Watched {
    /// `--log-level`, if not as usual.
    pub log_level: Option<String>,
    /// Added to the environment of every role.
    pub env: BTreeMap<String, String>,
}

/// A key that is no keystore.
#[derive(Debug)]
pub struct OtherKey {
    /// `--key=…` and what belongs to it.
    pub flags: Vec<String>,
    /// Its account.
    pub address: String,
    /// Variables.
    pub env: BTreeMap<String, String>,
}

impl SignerOn {
    /// The command line with these instead of the usual ones.
    fn apply(&self, args: &mut Vec<String>) {
        if let Some(ledger) = &self.ledger {
            args.retain(|arg| !arg.starts_with("--ledger="));
            args.push(format!("--ledger={ledger}"));
        }
        if let Some(key) = &self.key {
            args.retain(|arg| !arg.starts_with("--key"));
            args.extend(key.flags.iter().cloned());
        }
        args.extend(self.flags.iter().cloned());
    }
}

impl Needs {
    /// Signer, orchestrator and chain: enough to pay.
    pub const PAYMENTS: Self = Self { jobs: false, speech: false, block_interval_ms: 0 };
    /// All roles, for video.
    pub const VIDEO: Self = Self { jobs: true, ..Self::PAYMENTS };
    /// All roles and the speech model.
    pub const SPEECH: Self = Self { speech: true, ..Self::VIDEO };
}

/// A role under another name, with an address file of its own.
fn beside(name: &str, launch: Launch) -> Spec {
    let Launch { program, mut args, .. } = launch;
    let flag = args.iter().position(|arg| arg == "--addr-file").expect("every role has one");
    args[flag + 1] = "{addr_file}".to_owned();
    Spec { name: name.to_owned(), program, args, env: BTreeMap::new() }
}

/// A running network.
pub struct Network {
    pub plan: Plan,
    pub http: reqwest::Client,
    pub sender: String,
    pub recipient: String,
    signer_on: SignerOn,
    orchestrator_args: Vec<String>,
    env: BTreeMap<String, String>,
    processes: BTreeMap<Role, Process>,
    /// Instead of the devnet.
    anvil: Option<Anvil>,
    // Last, so that the processes are gone before their files are.
    folder: TempDir,
}

impl Network {
    /// Starts what is needed and waits until it is ready.
    pub async fn start(needs: Needs) -> Self {
        Self::start_on(needs, SignerOn::default()).await
    }

    /// The same with another ledger or key of the signer.
    pub async fn start_on(needs: Needs, signer_on: SignerOn) -> Self {
        Self::start_with(needs, signer_on, &[]).await
    }

    /// The same with more flags for the orchestrator.
    pub async fn start_with(needs: Needs, signer_on: SignerOn, orchestrator: &[String]) -> Self {
        let network = Self::prepare(needs, signer_on, orchestrator, Watched::default()).await;
        network.whole(needs).await
    }

    /// The same as [`Self::start`], watched in another way.
    pub async fn start_watched(needs: Needs, watched: Watched) -> Self {
        let network = Self::prepare(needs, SignerOn::default(), &[], watched).await;
        network.whole(needs).await
    }

    async fn whole(self, needs: Needs) -> Self {
        let network = self;
        for role in network.wanted(needs) {
            network.ready(role).await;
        }
        if needs.jobs {
            network.work().await;
        }
        network
    }

    /// Waits until the gateway knows an orchestrator for every kind of work.
    pub async fn work(&self) {
        let admin = self.admin(Role::Gateway);
        until_ok("every kind of work has an orchestrator", || async {
            let empty = work_without_orchestrator(&self.http, &admin).await;
            let mut empty = empty.map_err(|error| error.to_string())?;
            empty.retain(|pool| self.plan.speech || !pool.starts_with("ai:"));
            if empty.is_empty() { Ok(()) } else { Err(empty.join(", ")) }
        })
        .await;
    }

    fn wanted(&self, needs: Needs) -> Vec<Role> {
        let jobs = if needs.jobs { &[Role::Worker, Role::Gateway][..] } else { &[] };
        let chain = if self.anvil.is_some() { &[][..] } else { &[Role::Devnet] };
        [chain, &[Role::Orchestrator, Role::Signer], jobs].concat()
    }

    async fn prepare(
        needs: Needs,
        signer_on: SignerOn,
        orchestrator: &[String],
        watched: Watched,
    ) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let folder = tempfile::Builder::new().prefix("penstock-net-").tempdir().unwrap();
        let layout = Layout::make(&folder.path().join("data")).unwrap();
        layout.make_secrets().unwrap();
        let bin_dir = places::binary("penstock-signer").parent().unwrap().to_owned();
        let runner = Runner {
            python: if needs.speech { places::runner_python() } else { "python3".into() },
            folder: places::repository().join("runner"),
            models: if needs.speech { places::models() } else { folder.path().join("none") },
            nvidia: "none".to_owned(),
        };
        let plan = Plan {
            layout,
            bin_dir,
            log_level: watched.log_level.unwrap_or_else(|| "info".to_owned()),
            drain_timeout_ms: 10_000,
            block_interval_ms: needs.block_interval_ms,
            // A chain that takes the devnet's place is given with the roles' own flags.
            chain_flags: Vec::new(),
            speech: needs.speech,
            runner,
        };
        bootstrap::write_models_file(&plan).unwrap();
        let sender = match &signer_on.key {
            Some(key) => key.address.clone(),
            None => bootstrap::ensure_key(&plan, Role::Signer).await.unwrap(),
        };
        let recipient = bootstrap::ensure_key(&plan, Role::Orchestrator).await.unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            // Each request has a connection of its own: one that a role has closed, by dying or
            // after a refusal, is never taken for a fresh one.
            .pool_max_idle_per_host(0)
            .danger_accept_invalid_certs(true)
            .timeout(Duration::from_secs(120))
            .build()
            .unwrap();
        let processes = BTreeMap::new();
        let orchestrator_args = orchestrator.to_vec();
        let anvil = if signer_on.ethereum {
            Some(ethereum::start(&sender, &recipient).await)
        } else {
            None
        };
        let mut network = Self {
            plan,
            http,
            sender,
            recipient,
            signer_on,
            orchestrator_args,
            env: watched.env,
            processes,
            anvil,
            folder,
        };
        if network.anvil.is_none() {
            network.launch(network.plan.devnet(ANY_PORT)).await;
            let devnet = network.url(Role::Devnet);
            if !network.signer_on.unfunded {
                bootstrap::ensure_funds(&network.http, &devnet, &network.sender).await.unwrap();
            }
        }
        network.launch(network.plan.orchestrator(ANY_PORT, &network.chain())).await;
        // Before the signer starts: it reads the chain now and then, and at its start.
        network.activate().await;
        network.launch(network.plan.signer(ANY_PORT, &network.chain())).await;
        if needs.jobs {
            network.launch(network.plan.worker(&network.url(Role::Orchestrator))).await;
            network.launch(network.plan.gateway(ANY_PORT, &network.url(Role::Signer))).await;
        }
        // From now on everybody knows the others' addresses: restarts keep them.
        for role in network.wanted(needs) {
            network.pin(role);
        }
        network
    }

    async fn launch(&mut self, launch: Launch) {
        let mut spec = Spec {
            name: launch.role.name().to_owned(),
            program: launch.program,
            args: launch.args,
            env: self.env.clone(),
        };
        if launch.role == Role::Gateway {
            // A busy machine is no silent peer.
            spec.args.extend(PATIENT.map(str::to_owned));
        }
        if launch.role == Role::Orchestrator {
            self.apply_orchestrator(&mut spec.args);
        }
        if launch.role == Role::Signer {
            self.signer_on.apply(&mut spec.args);
            spec.args.extend(self.anvil.iter().flat_map(ethereum::flags));
            if let Some(key) = &self.signer_on.key {
                spec.env.extend(key.env.clone());
            }
        }
        let logs = self.folder.path().join("logs");
        let mut process = Process::with_addr_file(spec, &logs, self.plan.layout.addrs(launch.role));
        process.spawn();
        process.announced().await;
        self.processes.insert(launch.role, process);
    }

    /// Waits until the orchestrator has registered itself, and begins the round in which it is
    /// active.
    async fn activate(&mut self) {
        if let Some(anvil) = &self.anvil {
            return ethereum::activate(anvil).await;
        }
        let url = format!("{}/v1/orchestrators/{}", self.url(Role::Devnet), self.recipient);
        until("the orchestrator registers itself", || async {
            self.get(&url).await["registered"] == Value::Bool(true)
        })
        .await;
        bootstrap::ensure_active(&self.http, &self.url(Role::Devnet), &self.recipient)
            .await
            .unwrap();
    }

    fn pin(&mut self, role: Role) {
        let own = |key| -> SocketAddr { self.processes[&role].addr(key).parse().unwrap() };
        let mut launch = match role {
            Role::Devnet => self.plan.devnet(own("http")),
            Role::Orchestrator => self.plan.orchestrator(own("service"), &self.chain()),
            Role::Signer => self.plan.signer(own("http"), &self.chain()),
            Role::Gateway => self.plan.gateway(own("http"), &self.url(Role::Signer)),
            Role::Worker => return,
        };
        if role == Role::Signer {
            self.signer_on.apply(&mut launch.args);
            launch.args.extend(self.anvil.iter().flat_map(ethereum::flags));
        }
        if role == Role::Orchestrator {
            self.apply_orchestrator(&mut launch.args);
        }
        self.process(role).set_args(launch.args);
    }

    /// `--chain`
    pub fn chain(&self) -> String {
        if let Some(anvil) = &self.anvil {
            return format!("ethereum:{}", anvil.url());
        }
        format!("devnet:{}", self.url(Role::Devnet))
    }

    /// The database of the orchestrator's books, if they are not in a file.
    pub fn shared_ledger(&self) -> Option<&str> {
        let ledger = self.orchestrator_args.iter().find_map(|arg| arg.strip_prefix("--ledger="));
        ledger.filter(|url| url.starts_with("postgres"))
    }

    /// The orchestrator's own flags, where they differ from the usual ones.
    fn apply_orchestrator(&self, args: &mut Vec<String>) {
        let flag_of = |arg: &str| arg.split_once('=').map(|(flag, _)| flag.to_owned());
        let own: Vec<_> = self.orchestrator_args.iter().filter_map(|arg| flag_of(arg)).collect();
        args.retain(|arg| flag_of(arg).is_none_or(|flag| !own.contains(&flag)));
        args.extend(self.orchestrator_args.iter().cloned());
        args.extend(self.anvil.iter().flat_map(ethereum::flags));
    }

    /// The chain that takes the devnet's place.
    pub fn anvil(&self) -> &Anvil {
        self.anvil.as_ref().expect("a network on anvil")
    }

    /// That chain as a role's account.
    pub fn ethereum_as(&self, role: Role) -> EthereumChain {
        let layout = &self.plan.layout;
        ethereum::open(self.anvil(), &layout.key(role), &layout.key_password(role))
    }

    /// One more orchestrator under the same key, secrets and ledger, with its own address and files.
    pub async fn another_orchestrator(&self, name: &str) -> Process {
        let mut launch = self.plan.orchestrator(ANY_PORT, &self.chain());
        self.apply_orchestrator(&mut launch.args);
        let folder = self.folder.path().join(name);
        let (own, shared) = (folder.join("data"), self.plan.layout.state(Role::Orchestrator));
        let of = |file: &str| shared.join(file).display().to_string();
        launch.args.retain(|arg| !arg.starts_with("--data-dir=") && arg != "--register");
        launch.args.extend([
            format!("--data-dir={}", own.display()),
            format!("--recipient-secret-file={}", of("recipient.secret")),
            format!("--auth-token-secret-file={}", of("auth-token.secret")),
        ]);
        let mut process = Process::start(beside(name, launch), &folder).await;
        // Restarts keep its address.
        process.keep_addresses();
        process
    }

    /// A redeemer of the orchestrator's winners, with books and files of its own.
    pub async fn a_redeemer(&self, flags: &[String]) -> Process {
        let mut launch = self.plan.orchestrator(ANY_PORT, &self.chain());
        let folder = self.folder.path().join("redeemer");
        let others = ["--data-dir=", "--ledger=", "--register", "--secret-file="];
        launch.args.retain(|arg| !others.iter().any(|other| arg.starts_with(other)));
        let own = format!("--data-dir={}", folder.join("data").display());
        launch.args.extend(["--redeemer".to_owned(), own]);
        launch.args.extend(flags.iter().cloned());
        let mut process = Process::start(beside("redeemer", launch), &folder).await;
        // Restarts keep its address.
        process.keep_addresses();
        process
    }

    /// From now on the orchestrator hands its winners over to the redeemer at `url`.
    pub async fn hand_over_to(&mut self, url: &str) {
        self.orchestrator_args.push(format!("--redeemer-addr={url}"));
        self.pin(Role::Orchestrator);
        self.crash(Role::Orchestrator).await;
        self.ready(Role::Orchestrator).await;
    }

    /// One more worker, of the orchestrator at `url`.
    pub async fn another_worker(&self, name: &str, url: &str) -> Process {
        let mut launch = self.plan.worker(url);
        let folder = self.folder.path().join(name);
        launch.args.retain(|arg| !arg.starts_with("--work-dir="));
        launch.args.push(format!("--work-dir={}", folder.join("work").display()));
        Process::start(beside(name, launch), &folder).await
    }

    /// A worker of our runners for these models, which transcodes nothing.
    pub async fn worker_of(&self, name: &str, models: &Value) -> Process {
        let mut launch = self.plan.worker(&self.url(Role::Orchestrator));
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let list = folder.join("aiModels.json");
        std::fs::write(&list, models.to_string()).unwrap();
        let others = ["--work-dir=", "--runner-python=", "--models-dir=", "--models-file="];
        launch.args.retain(|arg| !others.iter().any(|other| arg.starts_with(other)));
        launch.args.extend([
            format!("--work-dir={}", folder.join("work").display()),
            format!("--runner-python={}", places::runner_python().display()),
            format!("--models-dir={}", places::models().display()),
            format!("--models-file={}", list.display()),
            "--max-sessions=0".to_owned(),
        ]);
        Process::start(beside(name, launch), &folder).await
    }

    /// Where a role serves its peers.
    pub fn url(&self, role: Role) -> String {
        match role {
            Role::Orchestrator => format!("https://{}", self.processes[&role].addr("service")),
            role => format!("http://{}", self.processes[&role].addr("http")),
        }
    }

    /// Where a role serves its operator.
    pub fn admin(&self, role: Role) -> String {
        format!("http://{}", self.processes[&role].addr("admin"))
    }

    /// Where a role serves its metrics.
    pub fn metrics(&self, role: Role) -> String {
        format!("http://{}", self.processes[&role].addr("metrics"))
    }

    /// The process of a role.
    pub fn process(&mut self, role: Role) -> &mut Process {
        self.processes.get_mut(&role).expect("a role of this network")
    }

    /// Everything that runs.
    pub fn roles(&self) -> Vec<Role> {
        self.processes.keys().copied().collect()
    }

    /// Waits for the role's `/readyz`.
    pub async fn ready(&self, role: Role) {
        until_ok(&format!("the {role} is ready"), || self.readiness(role)).await;
    }

    /// The same, for a role that may be dead, or dying at this moment: it is started again.
    pub async fn revive(&mut self, role: Role) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if !self.process(role).runs() {
                self.process(role).kill9();
                self.process(role).restart().await;
            }
            let Err(reason) = self.readiness(role).await else { return };
            assert!(Instant::now() < deadline, "the {role} is not ready: {reason}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    async fn readiness(&self, role: Role) -> Result<(), String> {
        self.readiness_of(&self.processes[&role]).await
    }

    /// `/readyz` of a process, or why not.
    pub async fn readiness_of(&self, process: &Process) -> Result<(), String> {
        let url = format!("http://{}/readyz", process.addr("metrics"));
        let answer = self.http.get(&url).send().await.map_err(|error| error.to_string())?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(answer.text().await.unwrap_or_default())
    }

    /// `kill -9`, and a start on the same data.
    pub async fn crash(&mut self, role: Role) {
        self.process(role).kill9();
        self.process(role).restart().await;
    }

    /// JSON of a GET that has to succeed.
    pub async fn get(&self, url: &str) -> Value {
        let answer = self.http.get(url).send().await.unwrap_or_else(|e| panic!("{url}: {e}"));
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{url}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{url}: {e}: {text}"))
    }

    /// Mines L1 blocks: offers expire after 40, and winning tickets are redeemed then.
    pub async fn mine(&self, blocks: u64) {
        if let Some(anvil) = &self.anvil {
            return anvil.mine_blocks(blocks);
        }
        let url = format!("{}/mine", self.url(Role::Devnet));
        let body = serde_json::json!({ "blocks": blocks });
        let answer = self.http.post(&url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }

    /// The books of the signer or of the orchestrator.
    pub fn ledger(&self, role: Role) -> PathBuf {
        self.plan.ledger(role)
    }

    /// A folder for what a test makes.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// The orchestrator's winners, once none is waiting any more.
    pub async fn winners_settled(&self) -> Vec<Value> {
        let url = format!("{}/v1/winners?limit=10000", self.admin(Role::Orchestrator));
        until_some("every winner is redeemed", || async {
            let winners = self.get(&url).await.as_array().cloned().unwrap_or_default();
            let open =
                winners.iter().any(|w| w["status"] == "queued" || w["status"] == "redeeming");
            (!open).then_some(winners)
        })
        .await
    }

    /// Lets every offer expire, and the winning tickets among those that paid for the test's jobs
    /// are paid by the chain: as many, and no more.
    pub async fn winners_are_redeemed(&self) {
        self.mine(60).await;
        let winners = self.winners_settled().await;
        assert!(winners.iter().all(|winner| winner["status"] == "redeemed"), "{winners:?}");
        let chain = self.get(&format!("{}/v1/status", self.url(Role::Devnet))).await;
        assert_eq!(chain["redemptions"].as_u64(), Some(winners.len() as u64));
    }
}
