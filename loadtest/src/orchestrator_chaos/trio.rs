//! Several orchestrator processes that share their books and their secrets, the chain, and for each
//! process the workers that it needs.

use super::{tickets::Recipient, workers};
use crate::{fleet::own_host, rig};
use penstock_domain::Address;
use penstock_keys::TypedSigner;
use penstock_payments::RecipientSecret;
use penstock_testkit::{
    Process, Spec,
    sim::{Running, Server, SimChain},
    until_ok,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::task::JoinSet;

/// What a ticket is worth, wei.
pub const TICKET_EV_WEI: u64 = 100_000;
/// One ticket in so many wins.
const TICKETS_A_WINNER: u64 = 40;
/// Wei a pixel, and wei a token.
pub const PRICE_WEI: u64 = 3;
/// The model that jobs ask for.
pub const MODEL: &str = "small/words";
/// The capability that somebody brings, wei a second of it, and the seconds that a balance has to cover: one
/// ticket is enough.
pub const CAPABILITY: &str = "brought-words";
pub const BROUGHT_WEI: u64 = 20_000;
const BROUGHT_LEAST_S: u64 = 5;
/// Where clients find the live runner, and wei a second of its sessions: dollars for an hour, at
/// [`USD_PER_ETHER`].
pub const RUNNER: &str = "app";
pub const RUNNER_WEI: u64 = 20_000;
const RUNNER_USD: &str = "0.000000144";
const USD_PER_ETHER: u64 = 2_000;
/// Between two charges of a live runner's session; disuse that ends one; between two questions to the runner.
const CHARGED_EVERY: Duration = Duration::from_secs(1);
pub const RUNNER_LEASE: Duration = Duration::from_secs(8);
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// Wei on both sides of a client's account on the chain.
const FUNDS_WEI: u64 = 1_000_000_000_000_000_000;
/// L1 blocks in a round: a winner's two rounds are far longer than any outage here.
const ROUND_BLOCKS: u64 = 2_000;
/// How long a process may be silent before the others take it for dead.
pub const LEASE: Duration = Duration::from_secs(2);

/// What runs. Everything ends with it.
#[derive(Debug)]
pub struct Trio {
    /// The orchestrators.
    pub processes: Vec<Process>,
    /// Where each serves; a process that is started again is where it was.
    pub urls: Vec<String>,
    /// The chain.
    pub chain: Running<SimChain>,
    /// Who is paid.
    pub recipient: Recipient,
    http: reqwest::Client,
    _workers: JoinSet<()>,
    _application: Server,
    // Last, so that the processes are gone before their files are.
    folder: TempDir,
}

impl Trio {
    /// Starts so many processes on this ledger, and waits until all take paid work.
    pub async fn start(programs: &Path, ledger: &str, processes: usize, block_ms: u64) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let folder = tempfile::Builder::new().prefix("penstock-trio-").tempdir().unwrap();
        let chain = SimChain::start_with(ROUND_BLOCKS).await;
        let key = rig::make_key(folder.path());
        let address = key.address();
        let secrets = ["recipient.secret", "auth-token.secret", "workers.secret"]
            .map(|name| secret(&folder.path().join(name)));
        let recipient = Recipient { address, secret: RecipientSecret::new(secrets[0]) };
        let host = own_host();
        let application = workers::application().await;
        let list = folder.path().join("runners.json");
        fs::write(&list, runners(&application.uri)).expect("a list of runners");
        let mut trio = Self {
            processes: Vec::new(),
            urls: Vec::new(),
            chain,
            recipient,
            http: rig::http(),
            _workers: JoinSet::new(),
            _application: application,
            folder,
        };
        for number in 0..processes {
            let shared = |name: &str| trio.folder.path().join(name).display().to_string();
            let args = vec![
                format!("--service-addr=https://{host}:0"),
                format!("--http-addr={host}:0"),
                format!("--admin-addr={host}:0"),
                format!("--metrics-addr={host}:0"),
                "--addr-file={addr_file}".to_owned(),
                "--log-level=info".to_owned(),
                format!("--data-dir={}", shared(&format!("data-{number}"))),
                format!("--ledger={ledger}"),
                format!("--lease-ms={}", LEASE.as_millis()),
                format!("--recipient-secret-file={}", shared("recipient.secret")),
                format!("--auth-token-secret-file={}", shared("auth-token.secret")),
                format!("--secret-file={}", shared("workers.secret")),
                format!("--key=keystore:{}", shared("keystore.json")),
                format!("--key-password-file={}", shared("keystore-password")),
                format!("--chain={}", trio.chain.chain_url()),
                format!("--chain-poll-ms={block_ms}"),
                format!("--ticket-ev={TICKET_EV_WEI}"),
                format!("--max-face-value={}", TICKET_EV_WEI * TICKETS_A_WINNER),
                format!("--price-per-unit={PRICE_WEI}"),
                format!("--price-per-model=llm/{MODEL}={PRICE_WEI}/1"),
                "--max-sessions=10000".to_owned(),
                format!("--byoc-least-seconds={BROUGHT_LEAST_S}"),
                format!("--live-runner-config={}", list.display()),
                format!("--eth-usd={USD_PER_ETHER}"),
                format!("--live-payment-interval-ms={}", CHARGED_EVERY.as_millis()),
                format!("--live-runner-lease-ms={}", RUNNER_LEASE.as_millis()),
                format!("--live-runner-health-ms={}", ASKED_EVERY.as_millis()),
            ];
            let spec = Spec {
                name: format!("orchestrator-{number}"),
                program: programs.join("penstock-orchestrator"),
                args,
                env: BTreeMap::new(),
            };
            let mut process = Process::start(spec, &trio.folder.path().join("logs")).await;
            process.keep_addresses();
            trio.urls.push(format!("https://{}", process.addr("service")));
            trio.processes.push(process);
        }
        trio.chain.register(TypedSigner::new(Arc::new(key)), &trio.urls[0]).await;
        trio.chain.begin_rounds(1).await;
        for number in 0..processes {
            let (url, application) = (&trio.urls[number], &trio._application.uri);
            workers::start(&mut trio._workers, url, &hex(&secrets[2]), application);
            trio.ready(number).await;
        }
        trio
    }

    /// Gives a client money on the chain.
    pub async fn fund(&self, client: Address) {
        self.chain.fund(client, FUNDS_WEI).await;
    }

    /// Waits until a process is ready and has its workers.
    pub async fn ready(&self, number: usize) {
        let process = &self.processes[number];
        let ready = format!("http://{}/readyz", process.addr("metrics"));
        until_ok(&format!("orchestrator {number} is ready"), || async {
            let answer = self.http.get(&ready).send().await.map_err(|error| error.to_string())?;
            if !answer.status().is_success() {
                return Err(answer.text().await.unwrap_or_default());
            }
            let mut there = Vec::new();
            for page in ["workers", "capabilities", "runners"] {
                let rows = self.admin(number, &format!("/v1/{page}")).await?;
                let rows = rows.as_array().cloned().unwrap_or_default();
                there.push(rows.iter().filter(|row| row["ready"] != false).count());
            }
            if there == [2, 1, 1] {
                return Ok(());
            }
            Err(format!("workers, capabilities, runners: {there:?}"))
        })
        .await;
    }

    /// A page of a process's operator address.
    pub async fn admin(&self, number: usize, path: &str) -> Result<Value, String> {
        let url = format!("http://{}{path}", self.processes[number].addr("admin"));
        let answer = self.http.get(&url).send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{url}: {status} {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("{url}: {error}"))
    }

    /// Where a process notes that it died at its failpoint.
    pub fn hits_file(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("failpoint-{number}"))
    }

    /// Lines of all logs with these words.
    pub fn logged(&self, words: &str) -> Vec<String> {
        let texts = self.processes.iter().map(log);
        texts.flat_map(|text| lines_with(&text, &[words])).collect()
    }

    /// For each process the Unix ms at which it said itself that time of a live runner's session may not be paid.
    pub fn uncharged_ms(&self) -> Vec<Vec<i64>> {
        let of = |process: &Process| {
            let lines = lines_with(&log(process), &UNCHARGED);
            lines.iter().filter_map(|line| written_ms(line)).collect()
        };
        self.processes.iter().map(of).collect()
    }
}

/// What a process says at `warn` when time of a session is not paid, or may not be.
const UNCHARGED: [&str; 4] = [
    "a live runner's session could not be charged",
    "insufficient balance",
    "a live runner has failed",
    "the ledger took this process for dead",
];

fn log(process: &Process) -> String {
    let bytes = fs::read(process.log_file()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lines_with(text: &str, any: &[&str]) -> Vec<String> {
    let lines = text.lines().filter(|line| any.iter().any(|words| line.contains(words)));
    lines.map(str::to_owned).collect()
}

/// Unix ms at which a line was written; none of one that a death cut off.
fn written_ms(line: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(line.split(' ').next()?, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

/// The operator's own live runner, as its file has it.
fn runners(application: &str) -> String {
    let price = json!({"price": RUNNER_USD, "unit": "hour"});
    let runner = json!({"label": RUNNER, "routing": "label", "app": "words/echo", "capacity": 10_000,
        "runner_url": application, "health_url": "/health", "price_info": price});
    json!({"runners": [runner]}).to_string()
}

/// Makes a file with a secret that only we may read.
fn secret(path: &Path) -> [u8; 32] {
    let bytes: [u8; 32] = rand::random();
    fs::write(path, hex(&bytes)).expect("a secret");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
    bytes
}

/// In hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
