//! A signer with everything real around it, and the means to talk to it as a client does.

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use penstock_chain::Chain;
use penstock_chain_devnet::{App as Devnet, DevnetChain, wire::MineRequest};
use penstock_domain::{Address, Rational, U256, Wei, be_bytes};
use penstock_http_kit::{CancellationToken, tls::install_crypto_provider};
use penstock_keys::{
    DigestSigner, KeyError, LocalKey, TypedDigest, TypedSigner, keystore, keystore::ScryptCost,
};
use penstock_ledger::signer::{
    self as ledger, Summary,
    accounts::{
        self, AccountRecord, Applied, CredentialKind, CredentialRecord, Expect, Put, Record, Stamp,
    },
};
use penstock_payments::{ExpirationParams, Signature, Ticket};
use penstock_signer::{App, Args, Backends, Settings, auth::api_key::NewKey, service::Signer};
use penstock_testkit::postgres::{Database, database};
use penstock_wire::{PaymentFields, header, net};
use prost::Message;
use rand::RngCore;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::RwLock;

/// Password of every keystore here.
pub const PASSWORD: &str = "only for tests";
/// Wei on both sides of the signer's account.
pub const FUNDS: u64 = 1_000_000_000_000_000_000;
const NANOS: i64 = 1_000_000_000;

/// Which books a signer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Books {
    /// A file of its own.
    Sqlite,
    /// A database of its own on the test run's server.
    Postgres,
}

/// A running signer.
pub struct World {
    pub folder: TempDir,
    pub chain: DevnetChain,
    pub recipient: Address,
    pub account: Address,
    pub http: String,
    pub admin: String,
    pub client: reqwest::Client,
    settings: Settings,
    ledger_url: String,
    key: LocalKey,
    signer: Arc<Signer>,
    clock_ns: Arc<AtomicI64>,
    /// Whether the key's home does not answer.
    pub key_is_away: Arc<AtomicBool>,
    /// While this is held for writing the key's home takes its time.
    pub key_waits: Arc<RwLock<()>>,
    stop: CancellationToken,
    devnet_stop: CancellationToken,
    _devnet: TempDir,
    _database: Option<Database>,
    running: Option<tokio::task::JoinHandle<()>>,
}

/// What must not move when a request is refused.
#[derive(Debug, PartialEq)]
pub struct Count {
    pub summary: Summary,
    pub key_operations: u64,
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().expect("an error envelope").to_owned()
    }

    pub fn state(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()["state"].clone()
    }

    pub fn payment(&self) -> net::Payment {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        header::decode_payment(self.json()["payment"].as_str().unwrap()).unwrap()
    }

    pub fn seg_data(&self) -> net::SegData {
        header::decode_segment(self.json()["segCreds"].as_str().unwrap()).unwrap()
    }

    pub fn nonces(&self) -> Vec<u32> {
        self.payment().ticket_sender_params.iter().map(|t| t.sender_nonce).collect()
    }

    pub fn units(&self) -> u64 {
        self.headers["penstock-billed-units"].to_str().unwrap().parse().unwrap()
    }

    pub fn replayed(&self) -> bool {
        self.headers["penstock-replayed"] == "true"
    }
}

/// A devnet with a funded sender and one active orchestrator.
pub struct DevnetWorld {
    pub folder: TempDir,
    pub chain_url: String,
    pub chain: DevnetChain,
    pub recipient: Address,
    pub stop: CancellationToken,
}

pub async fn devnet(sender: Address) -> DevnetWorld {
    devnet_of(sender, LocalKey::random().unwrap()).await
}

/// The same with a given orchestrator.
pub async fn devnet_of(sender: Address, orchestrator: LocalKey) -> DevnetWorld {
    install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("devnet");
    let args = penstock_config::try_parse_from([
        "penstock-devnet",
        "--http-addr=127.0.0.1:0",
        "--block-interval-ms=0",
        "--round-length=50",
        &format!("--data-dir={}", data.display()),
    ])
    .unwrap();
    let devnet = Devnet::build(&args).await.unwrap();
    let chain_url = devnet.chain_url();
    let stop = CancellationToken::new();
    tokio::spawn(devnet.run(stop.clone(), None));
    let chain = DevnetChain::connect(&chain_url).unwrap();
    let funds = Wei::from_u64(FUNDS);
    chain.fund_deposit_and_reserve_for(sender, funds, funds).await.unwrap();
    let orchestrator = TypedSigner::new(Arc::new(orchestrator));
    let recipient = orchestrator.address();
    chain.clone().with_account(orchestrator).register("https://127.0.0.1:1").await.unwrap();
    mine(&chain, None, Some(1)).await;
    DevnetWorld { folder, chain_url, chain, recipient, stop }
}

pub async fn mine(chain: &DevnetChain, blocks: Option<u64>, rounds: Option<u64>) {
    chain.mine(&MineRequest { blocks, rounds, initialize_rounds: true }).await.unwrap();
}

/// Writes a keystore that opens fast, and its password.
pub fn keystore_in(folder: &std::path::Path) -> LocalKey {
    let key = LocalKey::random().unwrap();
    write_keystore(folder, &key);
    key
}

fn write_keystore(folder: &std::path::Path, key: &LocalKey) {
    let cost = ScryptCost { log2_n: 4, ..ScryptCost::default() };
    keystore::create(&folder.join("keystore.json"), key, PASSWORD, cost).unwrap();
    std::fs::write(folder.join("keystore-password"), PASSWORD).unwrap();
}

impl World {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With more flags.
    pub async fn with(flags: &[&str]) -> Self {
        Self::of(LocalKey::random().unwrap(), LocalKey::random().unwrap(), flags).await
    }

    /// With given keys of sender and orchestrator.
    pub async fn of(sender: LocalKey, orchestrator: LocalKey, flags: &[&str]) -> Self {
        Self::made(sender, orchestrator, None, flags).await
    }

    /// On these books, with more flags.
    pub async fn on(books: Books, flags: &[&str]) -> Self {
        let database = match books {
            Books::Sqlite => None,
            Books::Postgres => Some(database().await),
        };
        let url = database.as_ref().map(|d| format!("--ledger={}", d.url()));
        let flags: Vec<&str> = flags.iter().copied().chain(url.as_deref()).collect();
        let (sender, orchestrator) = (LocalKey::random().unwrap(), LocalKey::random().unwrap());
        Self::made(sender, orchestrator, database, &flags).await
    }

    async fn made(
        sender: LocalKey,
        orchestrator: LocalKey,
        database: Option<Database>,
        flags: &[&str],
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        write_keystore(data.path(), &sender);
        let key = keystore::open(&data.path().join("keystore.json"), PASSWORD).unwrap();
        let net = devnet_of(key.address(), orchestrator).await;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let clock_ns = Arc::new(AtomicI64::new(i64::try_from(now.as_nanos()).unwrap()));
        let data_dir = data.path().join("data").display().to_string();
        let mut argv = vec![
            "penstock-signer",
            "--http-addr=127.0.0.1:0",
            "--data-dir",
            &data_dir,
            "--chain-poll-ms=100",
        ];
        // Nobody is late on a busy machine, but where a test says so.
        if !flags.iter().any(|flag| flag.starts_with("--discovery-timeout-ms")) {
            argv.push("--discovery-timeout-ms=60000");
        }
        argv.extend(flags);
        let args: Args = penstock_config::try_parse_from(argv).unwrap();
        let (settings, ledger_url) = (args.settings().unwrap(), args.ledger_url());
        let account = key.address();
        let key_is_away = Arc::new(AtomicBool::new(false));
        let key_waits = Arc::<RwLock<()>>::default();
        let faulty = Faulty {
            key: key.clone(),
            away: Arc::clone(&key_is_away),
            waits: Arc::clone(&key_waits),
        };
        let app = app(&settings, &ledger_url, faulty, &net.chain, &clock_ns).await;
        let addresses = app.addresses();
        let signer = Arc::clone(app.signer());
        signer.chain.refresh().await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { app.run(stop).await.unwrap() }
        });
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            folder: data,
            chain: net.chain.clone(),
            recipient: net.recipient,
            account,
            http: format!("http://{}", addresses["http"]),
            admin: format!("http://{}", addresses["admin"]),
            client,
            settings,
            ledger_url,
            key,
            signer,
            clock_ns,
            key_is_away,
            key_waits,
            stop,
            devnet_stop: net.stop,
            _devnet: net.folder,
            _database: database,
            running: Some(running),
        }
    }

    /// A second process's worth of signer on the same key, state keys and ledger file. It ends
    /// with this world.
    pub async fn twin(&self) -> String {
        let key = Faulty {
            key: self.key.clone(),
            away: Arc::clone(&self.key_is_away),
            waits: Arc::clone(&self.key_waits),
        };
        let app = app(&self.settings, &self.ledger_url, key, &self.chain, &self.clock_ns).await;
        let http = format!("http://{}", app.addresses()["http"]);
        app.signer().chain.refresh().await.unwrap();
        let stop = self.stop.clone();
        tokio::spawn(async move { app.run(stop).await.unwrap() });
        http
    }

    /// An account with these rules; returns its key. The signer knows it within moments.
    pub async fn account(&self, name: &str, rules: Value) -> String {
        let key = NewKey::random();
        let account = AccountRecord {
            name: name.to_owned(),
            tier: None,
            policy: rules.to_string(),
            note: String::new(),
            blocked: false,
            stamp: Stamp::default(),
        };
        let credential = CredentialRecord {
            id: key.id().to_owned(),
            account: name.to_owned(),
            kind: CredentialKind::ApiKey,
            hash: key.hash(),
            note: String::new(),
            revoked: false,
            expires_at_ms: None,
            stamp: Stamp::default(),
        };
        let puts = [Record::Account(account), Record::Credential(credential)];
        let puts = puts.map(|record| Put { record, expect: Expect::Absent }).to_vec();
        let books = accounts::open(&self.ledger_url).await.unwrap();
        let applied = books.apply(puts, self.now_s() * 1_000).await.unwrap();
        assert!(matches!(applied, Applied::Done(_)), "{applied:?}");
        books.close().await;
        let bearer = format!("Bearer {}", key.expose());
        let known = || async {
            let headers = [("authorization", bearer.as_str())];
            self.post("/sign-orchestrator-info", "{}", &headers).await.status == 200
        };
        penstock_testkit::until("the account is known", known).await;
        bearer
    }

    pub fn ledger_url(&self) -> &str {
        &self.ledger_url
    }

    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    pub fn now_s(&self) -> i64 {
        self.clock_ns.load(Ordering::SeqCst) / NANOS
    }

    /// Lets time pass at the signer.
    pub fn pass(&self, nanos: i64) {
        self.clock_ns.fetch_add(nanos, Ordering::SeqCst);
    }

    pub fn pass_s(&self, seconds: i64) {
        self.pass(seconds * NANOS);
    }

    pub async fn books(&self) -> Count {
        Count {
            summary: self.signer.ledger.summary().await.unwrap(),
            key_operations: self.signer.key.operations(),
        }
    }

    /// An offer with fresh parameters: tickets worth exactly `ev` wei (a multiple of 1), at
    /// `price / per` wei a unit.
    pub fn offer(&self, price: i64, per: i64, ev: u64) -> net::OrchestratorInfo {
        let mut hash = [0; 32];
        rand::rng().fill_bytes(&mut hash);
        net::OrchestratorInfo {
            transcoder: "https://o:8935".into(),
            address: vec![7; 20],
            price_info: Some(net::PriceInfo {
                price_per_unit: price,
                pixels_per_unit: per,
                ..Default::default()
            }),
            ticket_params: Some(net::TicketParams {
                recipient: self.recipient.to_vec(),
                // 2^256 − 1 is a multiple of 3: a third of the chance is an exact number.
                face_value: be_bytes(U256::from(ev) * U256::from(3)),
                win_prob: be_bytes(U256::MAX / U256::from(3)),
                recipient_rand_hash: hash.to_vec(),
                seed: vec![1],
                expiration_block: be_bytes(U256::from(1_000_000)),
                expiration_params: Some(net::TicketExpirationParams {
                    creation_round: 5,
                    creation_round_block_hash: vec![3; 32],
                }),
            }),
            auth_token: Some(net::AuthToken {
                token: vec![9; 32],
                session_id: "a1b2c3d4".into(),
                expiration: self.now_s() + 30 * 60,
            }),
            ..Default::default()
        }
    }

    pub async fn pay(&self, body: &Value) -> Reply {
        self.post("/generate-live-payment", body.to_string(), &[]).await
    }

    pub async fn pay_with(&self, body: &Value, headers: &[(&str, &str)]) -> Reply {
        self.post("/generate-live-payment", body.to_string(), headers).await
    }

    pub async fn post(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = self.client.post(format!("{}{path}", self.http)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        reply(request).await
    }

    pub async fn get(&self, url: &str) -> Reply {
        reply(self.client.get(url)).await
    }

    pub async fn admin(&self, path: &str) -> Value {
        let reply = self.get(&format!("{}{path}", self.admin)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// Takes the chain away and waits until it does not answer.
    pub async fn kill_devnet(&self) {
        self.devnet_stop.cancel();
        penstock_testkit::until("the devnet is gone", || async {
            self.chain.status().await.is_err()
        })
        .await;
    }

    /// Stops the signer and waits until it is gone.
    pub async fn stop(mut self) -> TempDir {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.await.unwrap();
        }
        self.devnet_stop.cancel();
        let folder = tempfile::tempdir().unwrap();
        std::mem::replace(&mut self.folder, folder)
    }

    /// Every ticket of an answer, its signature checked.
    pub fn tickets(&self, reply: &Reply) -> Vec<Ticket> {
        check_tickets(&reply.payment(), self.account)
    }
}

/// A key whose home may be away, or slow.
struct Faulty {
    key: LocalKey,
    away: Arc<AtomicBool>,
    waits: Arc<RwLock<()>>,
}

#[async_trait]
impl DigestSigner for Faulty {
    fn address(&self) -> Address {
        self.key.address()
    }

    async fn sign_digest(&self, digest: TypedDigest) -> Result<Signature, KeyError> {
        let _turn = self.waits.read().await;
        if self.away.load(Ordering::SeqCst) {
            return Err(KeyError::Unavailable("away".to_owned()));
        }
        self.key.sign_digest(digest).await
    }
}

async fn app(
    settings: &Settings,
    ledger_url: &str,
    key: Faulty,
    chain: &DevnetChain,
    clock_ns: &Arc<AtomicI64>,
) -> App {
    let clock_ns = Arc::clone(clock_ns);
    let backends = Backends {
        chain: Arc::new(chain.clone()),
        accounts: accounts::open(ledger_url).await.unwrap(),
        ledger: ledger::open(ledger_url, "signer").await.unwrap(),
        operations: penstock_ledger::operations::open_signer(ledger_url).await.unwrap(),
        key: TypedSigner::new(Arc::new(key)),
        clock: Arc::new(move || clock_ns.load(Ordering::SeqCst)),
        metrics: None,
    };
    App::build(settings.clone(), backends).await.unwrap()
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        self.devnet_stop.cancel();
    }
}

/// The tickets of a payment; panics unless `sender` signed every one.
pub fn check_tickets(payment: &net::Payment, sender: Address) -> Vec<Ticket> {
    let fields = PaymentFields::try_from(payment).unwrap();
    assert_eq!(fields.sender, Some(sender));
    let params = fields.ticket_params.expect("ticket params");
    fields
        .tickets
        .iter()
        .map(|t| {
            let ticket = Ticket {
                recipient: params.recipient,
                sender,
                face_value: params.face_value,
                win_prob: params.win_prob,
                sender_nonce: t.sender_nonce,
                recipient_rand_hash: params.recipient_rand_hash,
                expiration_params: ExpirationParams {
                    creation_round: fields.expiration_params.creation_round,
                    creation_round_block_hash: fields.expiration_params.creation_round_block_hash,
                },
            };
            ticket.verify(&Signature::from_slice(&t.sig).unwrap()).expect("a ticket's signature");
            ticket
        })
        .collect()
}

pub async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.expect("an answer");
    Reply {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// A payment request with this offer and these members.
pub fn request(offer: &net::OrchestratorInfo, members: Value) -> Value {
    let mut body = json!({ "orchestrator": b64(offer.encode_to_vec()) });
    for (key, value) in members.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

pub fn r(text: &str) -> Rational {
    text.parse().unwrap()
}
