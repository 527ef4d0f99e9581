//! Signer replicas with what they need around them: a funded account with its key, a chain,
//! orchestrators that are active and verify tickets, a receiver of events.

use penstock_domain::{Address, PriceInfo};
use penstock_keys::{LocalKey, keystore, keystore::ScryptCost};
use penstock_testkit::{
    Process, Spec,
    sim::{Running, SimChain, SimOrchestrator, SimSink, account, orchestrator::Terms},
    until_ok,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

/// Wei on both sides of the signer's account.
const FUNDS_WEI: u64 = 1_000_000_000_000_000_000;
/// What a ticket is worth.
pub const TICKET_EV_WEI: u64 = 1_000_000_000;
const PASSWORD: &str = "only for tests";

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The signer's program.
    pub signer: PathBuf,
    /// The books; `None`: a SQLite file of the rig's own.
    pub ledger: Option<String>,
    /// How many signers share them.
    pub replicas: usize,
    /// How many orchestrators are paid.
    pub orchestrators: usize,
    /// The core that the signers stay on.
    pub core: Option<usize>,
    /// Further flags of every signer.
    pub flags: Vec<String>,
    /// Another key than a keystore's: its flags, its address, its environment.
    pub key: Option<OtherKey>,
}

/// A key that lies in another store.
#[derive(Debug, Clone)]
pub struct OtherKey {
    /// Flags that name it.
    pub flags: Vec<String>,
    /// Its account.
    pub address: Address,
    /// Variables that its store needs.
    pub env: BTreeMap<String, String>,
}

/// A running rig. Everything ends with it.
#[derive(Debug)]
pub struct Rig {
    /// The signers.
    pub replicas: Vec<Process>,
    /// The chain.
    pub chain: Running<SimChain>,
    /// Whom clients pay.
    pub orchestrators: Vec<Running<SimOrchestrator>>,
    /// What receives events, if the signers are told of it.
    pub sink: Running<SimSink>,
    /// The signers' account.
    pub sender: Address,
    /// The books.
    pub ledger: String,
    http: reqwest::Client,
    // Last, so that the processes are gone before their files are.
    folder: TempDir,
}

/// A client for loopback.
pub fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(256)
        .build()
        .unwrap()
}

impl Rig {
    /// Starts everything and waits until the signers are ready.
    pub async fn start(plan: &Plan) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let folder = tempfile::Builder::new().prefix("penstock-load-").tempdir().unwrap();
        let chain = SimChain::start().await;
        let terms = Terms {
            price: PriceInfo::new(1, 1).unwrap(),
            ticket_ev_wei: TICKET_EV_WEI,
            ..Terms::default()
        };
        let mut orchestrators = Vec::new();
        for _ in 0..plan.orchestrators {
            orchestrators.push(SimOrchestrator::with(terms.clone(), account()).await);
        }
        chain.activate(&orchestrators).await;
        let sink = SimSink::start().await;
        let sender = match &plan.key {
            Some(key) => key.address,
            None => make_key(folder.path()).address(),
        };
        chain.fund(sender, FUNDS_WEI).await;
        let own = format!("sqlite://{}", folder.path().join("signer.db").display());
        let ledger = plan.ledger.clone().unwrap_or(own);
        let mut rig = Self {
            replicas: Vec::new(),
            chain,
            orchestrators,
            sink,
            sender,
            ledger,
            http: http(),
            folder,
        };
        for number in 0..plan.replicas {
            let spec = rig.spec(plan, number);
            let mut process = Process::new(spec, &rig.folder.path().join("logs"));
            process.spawn();
            process.announced().await;
            rig.replicas.push(process);
            // The first one makes the state keys and the tables that the others find.
            rig.ready(number).await;
        }
        rig
    }

    fn spec(&self, plan: &Plan, number: usize) -> Spec {
        let shared = |name: &str| self.folder.path().join(name).display().to_string();
        let mut flags = vec![
            "--http-addr=127.0.0.1:0".to_owned(),
            "--admin-addr=127.0.0.1:0".to_owned(),
            "--metrics-addr=127.0.0.1:0".to_owned(),
            "--addr-file={addr_file}".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--data-dir={}", shared(&format!("data-{number}"))),
            format!("--state-keys-file={}", shared("state-keys")),
            format!("--ledger={}", self.ledger),
            format!("--replica=r{number}"),
            format!("--chain={}", self.chain.chain_url()),
        ];
        let mut env = BTreeMap::new();
        match &plan.key {
            Some(key) => {
                flags.extend(key.flags.iter().cloned());
                env = key.env.clone();
            }
            None => flags.extend([
                format!("--key=keystore:{}", shared("keystore.json")),
                format!("--key-password-file={}", shared("keystore-password")),
            ]),
        }
        flags.extend(plan.flags.iter().map(|flag| flag.replace("{sink}", &self.sink.uri())));
        let program = plan.signer.display().to_string();
        let (program, args) = match plan.core {
            Some(core) if crate::cpu::has_taskset() => {
                let mut args = vec!["--cpu-list".to_owned(), core.to_string(), program];
                args.append(&mut flags);
                ("taskset".into(), args)
            }
            _ => (PathBuf::from(program), flags),
        };
        Spec { name: format!("signer-{number}"), program, args, env }
    }

    /// Where a replica serves.
    pub fn url(&self, replica: usize) -> String {
        format!("http://{}", self.replicas[replica].addr("http"))
    }

    /// A page of a replica's operator address.
    pub async fn admin(&self, replica: usize, path: &str) -> serde_json::Value {
        let url = format!("http://{}{path}", self.replicas[replica].addr("admin"));
        let answer = self.http.get(&url).send().await.unwrap_or_else(|e| panic!("{url}: {e}"));
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{url}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{url}: {e}: {text}"))
    }

    /// A new account with a key, which is returned.
    pub async fn new_account(&self, name: &str) -> String {
        let admin = format!("http://{}/v1/accounts", self.replicas[0].addr("admin"));
        let post = async |url: String, body: serde_json::Value| -> serde_json::Value {
            let answer = self.http.post(&url).json(&body).send().await;
            let answer = answer.unwrap_or_else(|e| panic!("{url}: {e}"));
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert!(status.is_success(), "{url}: {status} {text}");
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{url}: {e}: {text}"))
        };
        post(admin.clone(), serde_json::json!({ "name": name })).await;
        let made = post(format!("{admin}/{name}/keys"), serde_json::json!({})).await;
        made["key"].as_str().expect("a key").to_owned()
    }

    /// A counter of a replica's metrics, its labels added up.
    pub async fn counter(&self, replica: usize, name: &str) -> u64 {
        let url = format!("http://{}/metrics", self.replicas[replica].addr("metrics"));
        let text = self.http.get(&url).send().await.unwrap().text().await.unwrap();
        let of_name =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let value = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok());
        text.lines().filter(of_name).filter_map(value).sum::<f64>() as u64
    }

    /// Waits until a replica is ready.
    pub async fn ready(&self, replica: usize) {
        let url = format!("http://{}/readyz", self.replicas[replica].addr("metrics"));
        until_ok(&format!("signer {replica} is ready"), || async {
            let answer = self.http.get(&url).send().await.map_err(|error| error.to_string())?;
            if answer.status().is_success() {
                return Ok(());
            }
            Err(answer.text().await.unwrap_or_default())
        })
        .await;
    }

    /// A folder for what a run makes.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }
}

/// A new key, in a keystore that opens fast, with its password beside it.
pub(crate) fn make_key(folder: &Path) -> LocalKey {
    let key = crate::draw::key();
    let cost = ScryptCost { log2_n: 4, ..ScryptCost::default() };
    keystore::create(&folder.join("keystore.json"), &key, PASSWORD, cost).unwrap();
    let password = folder.join("keystore-password");
    std::fs::write(&password, PASSWORD).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    key
}
