//! The processes of a history, and what is left of them when they die.

use crate::{chain::SimChain, chance::Chance, laws::Seen, planted::Planted};
use async_trait::async_trait;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use penstock_chain::Chain;
use penstock_domain::{Address, Rational, U256, Wei};
use penstock_failpoint::simulated;
use penstock_gateway::{
    config::{Args as GatewayArgs, Settings},
    service::{Clients, Gateway},
};
use penstock_keys::{LocalKey, TypedSigner};
use penstock_ledger::{
    memory::{Disk, Fate},
    orchestrator::{self, OrchestratorLedger, memory::MemoryOrchestratorLedger},
    signer::{
        self, LedgerError,
        accounts::{AccountLedger, Applied, Changes, Put},
    },
};
use penstock_orchestrator::{Args as OrchestratorArgs, simulated as money};
use penstock_payments::SenderLimits;
use penstock_signer::{
    auth::{Accounts, args::AuthSettings},
    chain_facts::ChainFacts,
    error::SignerError,
    service::{Parts, Signer, limits::Limits, prices::PriceLimits},
    state_blob::StateKeys,
};
use penstock_store::{MemorySegments, MemoryStore, SessionStore};
use penstock_wire::json::{LivePaymentRequest, SignOrchestratorInfo};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

/// Orchestrators, and replicas of the gateway.
pub const ORCHESTRATORS: usize = 2;
pub const GATEWAYS: usize = 2;
/// What is asked for, and its price: wei per unit.
pub const MODEL: &str = "m";
pub const PRICE: (i64, u64) = (7, 3);
/// Wei that a ticket is worth, and the highest face value.
pub const TICKET_EV_WEI: u64 = 3_000;
pub const FACE_VALUE_WEI: u64 = 9_000;
/// Every payment is charged to so many counters of the signer: of its account a day and a month, of an
/// orchestrator and of everything an hour.
pub const COUNTERS: usize = 4;
/// Chain facts of the signer are read when a history says so, so that their age says nothing.
const NO_AGE: Duration = Duration::from_secs(1 << 30);
const STATE_KEY: &str = "01:1111111111111111111111111111111111111111111111111111111111111111";

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The signer.
    Signer,
    /// One of the orchestrators.
    Orchestrator(usize),
    /// One of the gateway's replicas.
    Gateway(usize),
}

impl Place {
    /// Whose failpoint it is, where that says it.
    pub fn of(failpoint: &str) -> Option<Self> {
        failpoint.starts_with("signer.").then_some(Self::Signer)
    }
}

/// How often things go wrong, of a thousand times each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A message is lost on its way there; or back.
    pub lost: u32,
    /// A message comes twice, the second time later.
    pub doubled: u32,
    /// A process dies at a failpoint.
    pub dies: u32,
    /// Longest way of a message.
    pub way_ms: u64,
}

/// What takes long to make, and has no state that a history could see.
#[derive(Clone)]
pub struct Kit {
    settings: Settings,
    clients: Clients,
    orchestrator: OrchestratorArgs,
}

impl Kit {
    /// For all histories of a thread.
    pub fn new() -> Result<Self, String> {
        penstock_http_kit::tls::install_crypto_provider();
        let args: GatewayArgs =
            penstock_config::try_parse_from(["penstock-gateway", "--signer-url=http://signer"])
                .map_err(|e| e.to_string())?;
        let settings = Settings::from_args(args).map_err(|e| e.to_string())?;
        let clients = Clients::new(&settings).map_err(|e| e.to_string())?;
        let (price, pixels) = PRICE;
        let orchestrator = penstock_config::try_parse_from([
            "penstock-orchestrator".to_owned(),
            format!("--price-per-model=llm/{MODEL}={price}/{pixels}"),
            format!("--ticket-ev={TICKET_EV_WEI}"),
            format!("--max-face-value={FACE_VALUE_WEI}"),
            "--auto-adjust-price=false".to_owned(),
        ]);
        let orchestrator = orchestrator.map_err(|e: penstock_config::ConfigError| e.to_string())?;
        Ok(Self { settings, clients, orchestrator })
    }

    /// The gateway's.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// A signer that runs.
pub struct SignerProcess {
    pub signer: Arc<Signer>,
    accounts: Arc<Accounts>,
    identity: SignOrchestratorInfo,
}

/// An orchestrator that runs.
pub struct OrchestratorProcess {
    pub money: money::MoneySide,
    pub ledger: Arc<dyn OrchestratorLedger>,
}

/// A place where one process runs, or none.
pub struct Home<D, P> {
    /// What outlives it.
    pub disk: D,
    process: Mutex<(u64, Option<Arc<P>>)>,
}

impl<D, P> Home<D, P> {
    fn new(disk: D) -> Self {
        Self { disk, process: Mutex::new((0, None)) }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Option<Arc<P>>)> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who runs, and how many did before.
    pub fn now(&self) -> (u64, Option<Arc<P>>) {
        self.lock().clone()
    }

    /// Whether the same one still runs.
    pub fn still(&self, number: u64) -> bool {
        self.lock().0 == number
    }

    fn end(&self) {
        let mut process = self.lock();
        *process = (process.0 + 1, None);
    }

    /// Unless another was started or died meanwhile.
    fn begin(&self, number: u64, begun: P) {
        let mut process = self.lock();
        if process.0 == number {
            process.1 = Some(Arc::new(begun));
        }
    }
}

pub type SignerHome = Home<Disk<signer::memory::Rows>, SignerProcess>;
pub type OrchestratorHome = Home<Disk<orchestrator::memory::Rows>, OrchestratorProcess>;

/// Everybody.
pub struct Parties {
    me: Weak<Self>,
    kit: Kit,
    pub chance: Chance,
    pub chain: SimChain,
    pub planted: Option<Planted>,
    faults: Mutex<Faults>,
    /// The sender's key; recipients are named by their addresses alone.
    key: [u8; 32],
    pub sender: Address,
    pub signer: SignerHome,
    pub orchestrators: Vec<OrchestratorHome>,
    pub gateways: Vec<Home<(), Gateway>>,
    /// Jobs of each replica, which end with it.
    jobs: Mutex<Vec<(usize, AbortHandle)>>,
    /// What the replicas share.
    store: Mutex<Arc<MemoryStore>>,
    pub seen: Seen,
    deaths: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The URL of an orchestrator.
pub fn uri_of(number: usize) -> String {
    format!("https://orchestrator{number}:8935")
}

/// The account of an orchestrator.
pub fn recipient_of(number: usize) -> Address {
    Address::repeat_byte(u8::try_from(number).unwrap_or(u8::MAX).saturating_add(0x40))
}

impl Parties {
    /// All of them, none of which runs.
    pub fn new(seed: u64, kit: Kit, planted: Option<Planted>) -> Arc<Self> {
        let chance = Chance::of(seed);
        let key = chance.bytes();
        // All but one in 2^128 numbers are keys.
        let sender =
            LocalKey::from_bytes(Zeroizing::new(key)).map_or(Address::ZERO, |k| k.address());
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            kit,
            chain: SimChain::new(chance.clone(), planted),
            chance,
            planted,
            faults: Mutex::default(),
            key,
            sender,
            signer: Home::new(Disk::default()),
            orchestrators: (0..ORCHESTRATORS).map(|_| Home::new(Disk::default())).collect(),
            gateways: (0..GATEWAYS).map(|_| Home::new(())).collect(),
            jobs: Mutex::default(),
            store: Mutex::default(),
            seen: Seen::default(),
            deaths: AtomicU64::new(0),
        })
    }

    /// Processes that died so far.
    pub fn deaths(&self) -> u64 {
        self.deaths.load(Relaxed)
    }

    /// Nothing that was to go wrong at a disk does any more.
    pub fn forget_fates(&self) {
        self.signer.disk.forget_fates();
        for home in &self.orchestrators {
            home.disk.forget_fates();
        }
    }

    /// How often things go wrong now.
    pub fn faults(&self) -> Faults {
        *lock(&self.faults)
    }

    /// How often things go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.faults) = faults;
    }

    /// Whether whoever passes this failpoint dies there.
    pub fn dies_at(&self, _: &'static str) -> bool {
        let per_mille = self.faults().dies;
        per_mille > 0 && self.chance.per_mille(per_mille)
    }

    /// The store of the replicas.
    pub fn store(&self) -> Arc<MemoryStore> {
        Arc::clone(&lock(&self.store))
    }

    /// The replicas' store forgets everything, and they start anew.
    pub fn lose_store(&self) {
        *lock(&self.store) = Arc::default();
        for number in 0..GATEWAYS {
            self.crash(Place::Gateway(number));
        }
    }

    /// A job of this replica's.
    pub fn note_job(&self, replica: usize, job: AbortHandle) {
        let mut jobs = lock(&self.jobs);
        jobs.retain(|(_, job)| !job.is_finished());
        jobs.push((replica, job));
    }

    /// It dies, and is back a while later with what is on its disk.
    pub fn crash(&self, place: Place) {
        self.deaths.fetch_add(1, Relaxed);
        match place {
            Place::Signer => {
                self.signer.disk.crash();
                self.signer.end();
            }
            Place::Orchestrator(number) => {
                let Some(home) = self.orchestrators.get(number) else { return };
                home.disk.crash();
                home.end();
                if self.planted == Some(Planted::NoncesAreForgotten) {
                    orchestrator::memory::lose_nonces(&home.disk);
                }
            }
            Place::Gateway(number) => {
                let Some(home) = self.gateways.get(number) else { return };
                home.end();
                lock(&self.jobs).retain(|(replica, job)| {
                    if *replica == number {
                        job.abort();
                    }
                    *replica != number
                });
            }
        }
        if let Some(me) = self.me.upgrade() {
            let pause = self.chance.ms(0..3_000);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                me.start(place).await;
            });
        }
    }

    /// Everybody starts.
    pub async fn start_all(&self) {
        self.start(Place::Signer).await;
        for number in 0..ORCHESTRATORS {
            self.start(Place::Orchestrator(number)).await;
        }
        for number in 0..GATEWAYS {
            self.start(Place::Gateway(number)).await;
        }
    }

    /// Whether everybody runs.
    pub fn all_run(&self) -> bool {
        self.signer.now().1.is_some()
            && self.orchestrators.iter().all(|home| home.now().1.is_some())
            && self.gateways.iter().all(|home| home.now().1.is_some())
    }

    async fn start(&self, place: Place) {
        match place {
            Place::Signer => {
                let (number, _) = self.signer.now();
                match self.start_signer().await {
                    Ok(process) => self.signer.begin(number, process),
                    // The disk did not take its first write: as an operator would, once more.
                    Err(_) => self.crash(place),
                }
            }
            Place::Orchestrator(number) => {
                let Some(home) = self.orchestrators.get(number) else { return };
                let (generation, _) = home.now();
                if let Some(process) = self.start_orchestrator(number, &home.disk) {
                    home.begin(generation, process);
                }
            }
            Place::Gateway(number) => {
                let Some(home) = self.gateways.get(number) else { return };
                let (generation, _) = home.now();
                let (settings, clients) = (self.kit.settings.clone(), self.kit.clients.clone());
                let store: Arc<dyn SessionStore> = self.store();
                let segments = Arc::new(MemorySegments::new(1));
                if let Ok(gateway) = Gateway::with(settings, store, segments, clients) {
                    home.begin_shared(generation, gateway.shared());
                }
            }
        }
    }

    async fn start_signer(&self) -> Result<SignerProcess, SignerError> {
        let key = LocalKey::from_bytes(Zeroizing::new(self.key))
            .map_err(|_| SignerError::Internal("key"))?;
        let ledger = signer::memory::open(&self.signer.disk, "simulated");
        let chain: Arc<dyn Chain> = Arc::new(self.chain.clone());
        let chain = Arc::new(ChainFacts::new(chain, self.sender, NO_AGE));
        chain.refresh().await.map_err(|_| SignerError::Internal("chain"))?;
        let clock: penstock_signer::service::Clock =
            Arc::new(|| simulated::now_ns().unwrap_or_default());
        let accounts =
            Accounts::new(AuthSettings::default(), Arc::new(NoAccounts), Arc::clone(&clock));
        let accounts = Arc::new(accounts.map_err(|_| SignerError::Internal("accounts"))?);
        let most = Some(Wei(U256::from(u64::MAX)));
        let signer = Signer::new(Parts {
            key: TypedSigner::new(Arc::new(key)),
            ledger,
            chain,
            state_keys: StateKeys::parse(STATE_KEY)
                .map_err(|_| SignerError::Internal("state keys"))?,
            limits: Limits {
                sender: SenderLimits {
                    max_ev: Rational::from(10 * TICKET_EV_WEI),
                    max_total_ev: Rational::from(1_000 * TICKET_EV_WEI),
                    ..SenderLimits::default()
                },
                spend_per_orchestrator_hour: most,
                spend_per_hour: most,
                ..Limits::default()
            },
            prices: PriceLimits::default(),
            clock,
            accounts: Arc::clone(&accounts),
            event_source: None,
        });
        let signature = signer.sign_own_address().await?.as_bytes().to_vec();
        let identity = SignOrchestratorInfo { address: self.sender, signature };
        Ok(SignerProcess { signer: Arc::new(signer), accounts, identity })
    }

    fn start_orchestrator(
        &self,
        number: usize,
        disk: &Disk<orchestrator::memory::Rows>,
    ) -> Option<OrchestratorProcess> {
        let ledger: Arc<dyn OrchestratorLedger> = Arc::new(MemoryOrchestratorLedger::open(disk));
        let parts = money::Parts {
            args: self.kit.orchestrator.clone(),
            uri: uri_of(number),
            recipient: recipient_of(number),
            // Kept on its disk as well; nothing but that it stays the same matters.
            secret: self.key,
            ledger: Arc::clone(&ledger),
            chain: Arc::new(self.chain.clone()),
        };
        Some(OrchestratorProcess { money: money::MoneySide::new(parts)?, ledger })
    }

    /// What becomes of a write of somebody's disk, soon.
    pub fn fate(&self, place: Place, fate: Fate) {
        match place {
            Place::Signer => self.signer.disk.fate(fate),
            Place::Orchestrator(number) => {
                if let Some(home) = self.orchestrators.get(number) {
                    home.disk.fate(fate);
                }
            }
            Place::Gateway(_) => {}
        }
    }
}

impl Home<(), Gateway> {
    fn begin_shared(&self, number: u64, gateway: Arc<Gateway>) {
        let mut process = self.lock();
        if process.0 == number {
            process.1 = Some(gateway);
        }
    }
}

impl SignerProcess {
    /// Answers as the routes do.
    pub async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (parts, body) = request.into_parts();
        match parts.uri.path() {
            "/sign-orchestrator-info" => json(self.identity.to_json().to_string().into()),
            "/generate-live-payment" => match self.pay(&parts.headers, &body).await {
                Ok(answer) => answer,
                Err(error) => whole(error.into_response()).await,
            },
            _ => nothing(StatusCode::NOT_FOUND),
        }
    }

    async fn pay(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response<Bytes>, SignerError> {
        let caller = self.accounts.authenticate(headers, None).await?;
        let request =
            LivePaymentRequest::parse(body).map_err(|e| SignerError::BadJson(e.to_string()))?;
        let answer = Arc::clone(&self.signer).pay(caller, request).await?;
        let mut response = json(answer.body.into());
        let replayed = HeaderValue::from_static(if answer.replayed { "true" } else { "false" });
        response.headers_mut().insert("penstock-billed-units", HeaderValue::from(answer.units));
        response.headers_mut().insert("penstock-replayed", replayed);
        Ok(response)
    }
}

impl OrchestratorProcess {
    /// Answers as the routes do; a job is `POST /job` with its number, units and milliseconds of work.
    pub async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (parts, body) = request.into_parts();
        match parts.uri.path() {
            "/net.Orchestrator/GetOrchestrator" => match self.money.offer(&body).await {
                Ok(offer) => Response::new(offer),
                Err(why) => {
                    let mut answer = nothing(StatusCode::SERVICE_UNAVAILABLE);
                    *answer.body_mut() = why.into();
                    answer
                }
            },
            "/payment" => whole(self.money.payment(&parts.headers).await).await,
            "/job" => {
                let number = |name: &str| {
                    let text = parts.headers.get(name)?.to_str().ok()?;
                    text.parse::<u64>().ok()
                };
                let (Some(id), Some(units), Some(ms)) =
                    (number("id"), number("units"), number("ms"))
                else {
                    return nothing(StatusCode::BAD_REQUEST);
                };
                let work = Duration::from_millis(ms);
                whole(self.money.job(&parts.headers, format!("job{id}"), units, work).await).await
            }
            _ => nothing(StatusCode::NOT_FOUND),
        }
    }
}

fn nothing(status: StatusCode) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    answer
}

fn json(body: Bytes) -> Response<Bytes> {
    let mut answer = Response::new(body);
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

async fn whole(response: axum::response::Response) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    Response::from_parts(parts, body)
}

/// Everybody is the same account.
struct NoAccounts;

#[async_trait]
impl AccountLedger for NoAccounts {
    async fn changes(&self, _: u64, _: u32) -> Result<Changes, LedgerError> {
        Ok(Changes { records: Vec::new(), more: false })
    }

    async fn apply(&self, _: Vec<Put>, _: i64) -> Result<Applied, LedgerError> {
        Err(LedgerError::Misuse("there are no accounts"))
    }

    async fn close(&self) {}
}
