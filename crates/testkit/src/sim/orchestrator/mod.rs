//! An orchestrator with a real key and real checks: request signatures, tokens, credentials, tickets
//! by the recipient's own rules (recipientRand, signature, nonce set with its cap of 600, expiry),
//! balances. It does not transcode: a rendition is bytes that name their source.

mod admission;
mod ai;
mod byoc;
mod discovery;
mod grpc;
mod jobs;
mod money;

pub use ai::{AiDesk, AiJob, SimModel, picture};
pub use byoc::{ByocDesk, ByocOrder, SimCapability};
pub use discovery::{SimApp, app};
pub use jobs::rendition;
pub use money::{params, params_fields, payment};

use super::{Faults, Running, Script, account, server::Server};
use axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use penstock_domain::{B256, PriceInfo, Rational, keccak256};
use penstock_keys::TypedSigner;
use penstock_payments::{AuthTokenSecret, NonceSet, RecipientSecret, RoundView};
use penstock_wire::net::{
    OrchestratorInfo, OrchestratorRequest, orchestrator_server::OrchestratorServer,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, atomic::AtomicBool},
};
use tokio::sync::Semaphore;
use tonic::service::Routes;

/// What to do instead of the job.
#[derive(Debug, Clone)]
pub enum Order {
    /// Answer with this status and text, before anything is charged.
    Status(u16, &'static str),
    /// 200, and this error inside the result.
    JobError(&'static str),
    /// Never answer.
    Hang,
    /// Sign the result with another key.
    WrongSignature,
    /// Leave the last rendition out.
    FewerRenditions,
    /// An empty last rendition.
    EmptyRendition,
    /// Something that is not the expected answer.
    Garbage,
    /// Report the most pixels that can be reported.
    Pixels,
    /// Result URLs that lead to this origin.
    Elsewhere(String),
    /// A streamed answer that breaks off after so many pieces.
    CutAfter(usize),
}

/// What to do with a payment.
#[derive(Debug, Clone, Copy)]
pub enum PaymentOrder {
    /// Refuse with this status and text.
    Status(u16, &'static str),
    /// Credit it and lose the answer.
    LoseAnswer,
}

/// On what terms it works. They count for the offers made afterwards.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Wei per unit.
    pub price: PriceInfo,
    /// Worth of one ticket, in wei.
    pub ticket_ev_wei: u64,
    /// L1 blocks that an offer lives.
    pub offer_blocks: u64,
    /// Seconds that a token lives.
    pub token_life_s: i64,
    /// Sessions at once; one more is refused an offer.
    pub capacity: usize,
    /// The speech model it has.
    pub model: String,
    /// Off-chain: it asks for no payment and looks at no signature.
    pub free: bool,
    /// The service URI that its offers name, if it is not its own.
    pub service_uri: Option<String>,
    /// Its node's version, if it names one.
    pub version: &'static str,
    /// The version of its speech model's runner, if it names one.
    pub runner_version: &'static str,
    /// Its GPUs, told to whoever names no job.
    pub gpus: Vec<&'static str>,
}

impl Default for Terms {
    /// 3/2 wei a unit, tickets of 100,000,000 wei, and the network's usual times.
    fn default() -> Self {
        Self {
            price: PriceInfo::new(3, 2).unwrap(),
            ticket_ev_wei: 100_000_000,
            offer_blocks: penstock_payments::OFFER_LIFETIME_BLOCKS,
            token_life_s: penstock_payments::TOKEN_LIFETIME_S,
            capacity: usize::MAX,
            model: "openai/whisper-tiny.en".to_owned(),
            free: false,
            service_uri: None,
            version: "",
            runner_version: "",
            gpus: Vec::new(),
        }
    }
}

/// An account.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// Worth of the tickets taken, exact wei.
    pub credited: Rational,
    /// Cost of the work done, exact wei.
    pub debited: Rational,
    /// Tickets taken.
    pub tickets: u64,
}

impl Book {
    /// What is left.
    pub fn balance(&self) -> Rational {
        &self.credited - &self.debited
    }
}

/// Seen from outside.
#[derive(Debug, Default)]
pub struct Seen {
    /// GetOrchestrator calls.
    pub offers: u32,
    /// Pings.
    pub pings: u32,
    /// Payments without a job.
    pub payments: u32,
    /// Session and sequence number of each segment.
    pub segments: Vec<(String, i64)>,
    /// Whether each segment asked for a new session.
    pub reinit: Vec<bool>,
    /// Audio jobs.
    pub audio: Vec<AudioJob>,
    /// Of them those that were paid, done and debited.
    pub audio_done: u64,
    /// `traceparent` of each paid request that had one.
    pub traces: Vec<String>,
    /// GetOrchestrator requests as they arrived.
    pub asked: Vec<OrchestratorRequest>,
    /// Why payments were not taken.
    pub refusals: Vec<String>,
}

/// An audio job as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioJob {
    /// Size of the file.
    pub bytes: usize,
    /// Its name.
    pub file_name: String,
    /// The other fields, in order.
    pub fields: Vec<(String, String)>,
}

/// A simulated orchestrator.
#[derive(Debug)]
pub struct SimOrchestrator {
    /// The recipient's key.
    pub key: TypedSigner,
    /// Its terms, which may be changed at any time.
    pub terms: Mutex<Terms>,
    /// The chain as it sees it.
    pub rounds: Mutex<RoundView>,
    /// Has no room for segments, and says so before it looks at them.
    pub full: AtomicBool,
    /// For `/segment`.
    pub segment_orders: Script<Order>,
    /// For `/audio-to-text`.
    pub audio_orders: Script<Order>,
    /// The other AI pipelines.
    pub ai: AiDesk,
    /// Brought capabilities.
    pub byoc: ByocDesk,
    /// For `/payment`.
    pub payment_orders: Script<PaymentOrder>,
    /// Refuses offers with this text while it is set.
    pub refuse_offers: Mutex<Option<&'static str>>,
    /// Answered to everybody instead of an offer while it is set.
    pub says: Mutex<Option<OrchestratorInfo>>,
    /// Signs pings while it is set, instead of its own key.
    pub pings_with: Mutex<Option<TypedSigner>>,
    /// While it is set, each offer waits for a permit of it.
    pub gate: Mutex<Option<Arc<Semaphore>>>,
    /// While it is set, each AI job waits for a permit of it before it is done and charged.
    pub ai_gate: Mutex<Option<Arc<Semaphore>>>,
    /// While it is set, each segment waits for a permit of it before it is done and charged.
    pub segment_gate: Mutex<Option<Arc<Semaphore>>>,
    /// `GET /discovery`; `None` is 404.
    pub discovery: Mutex<Option<String>>,
    /// What happened.
    pub seen: Mutex<Seen>,
    /// Accounts by session.
    pub books: Mutex<HashMap<String, Book>>,
    /// Slowness, refusals, silence.
    pub faults: Arc<Faults>,
    uri: Mutex<String>,
    token_secret: AuthTokenSecret,
    recipient_secret: RecipientSecret,
    nonces: Mutex<BTreeMap<B256, NonceSet>>,
    sessions: Mutex<HashSet<String>>,
    files: Mutex<HashMap<String, Bytes>>,
}

#[derive(Clone)]
struct Node(Arc<SimOrchestrator>);

/// Whether it works for nothing.
fn is_free(sim: &SimOrchestrator) -> bool {
    sim.terms.lock().unwrap().free
}

/// Waits at a gate, if it is set.
async fn pass(gate: &Mutex<Option<Arc<Semaphore>>>) {
    let gate = gate.lock().unwrap().clone();
    if let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
}

impl SimOrchestrator {
    /// On the default terms.
    pub async fn start() -> Running<Self> {
        Self::with(Terms::default(), account()).await
    }

    /// On given terms, with a given key.
    pub async fn with(terms: Terms, key: TypedSigner) -> Running<Self> {
        let sim = Arc::new(Self {
            key,
            terms: Mutex::new(terms),
            // Far from the end of any offer, for tests without a chain.
            rounds: Mutex::new(RoundView {
                last_initialized_round: 9,
                l1_block_hash: keccak256(b"round"),
                previous_round_l1_block_hash: keccak256(b"round before"),
                last_seen_l1_block: 1_000_000,
            }),
            full: AtomicBool::default(),
            segment_orders: Script::default(),
            audio_orders: Script::default(),
            ai: AiDesk::default(),
            byoc: ByocDesk::default(),
            payment_orders: Script::default(),
            refuse_offers: Mutex::default(),
            says: Mutex::default(),
            pings_with: Mutex::default(),
            gate: Mutex::default(),
            ai_gate: Mutex::default(),
            segment_gate: Mutex::default(),
            discovery: Mutex::default(),
            seen: Mutex::default(),
            books: Mutex::default(),
            faults: Arc::default(),
            uri: Mutex::default(),
            token_secret: AuthTokenSecret::new(rand::random()),
            recipient_secret: RecipientSecret::new(rand::random()),
            nonces: Mutex::default(),
            sessions: Mutex::default(),
            files: Mutex::default(),
        });
        let node = Node(Arc::clone(&sim));
        let grpc =
            Routes::new(OrchestratorServer::new(node.clone())).into_axum_router().reset_fallback();
        let http = Router::new()
            .route("/segment", post(jobs::segment))
            .route("/payment", post(jobs::payment))
            .route("/audio-to-text", post(jobs::audio))
            .route("/process/token", get(byoc::token))
            .route("/process/request/", post(byoc::job))
            .route("/process/request/{*path}", post(byoc::job))
            .route("/text-to-image", post(ai::job))
            .route("/image-to-image", post(ai::job))
            .route("/image-to-video", post(ai::job))
            .route("/upscale", post(ai::job))
            .route("/segment-anything-2", post(ai::job))
            .route("/llm", post(ai::job))
            .route("/image-to-text", post(ai::job))
            .route("/text-to-speech", post(ai::job))
            .route("/stream/{*path}", get(jobs::file))
            .route("/discovery", get(discovery::runners))
            .layer(DefaultBodyLimit::disable())
            .with_state(node);
        let server = Server::tls(|uri| {
            *sim.uri.lock().unwrap() = uri.to_owned();
            sim.faults.over(http.merge(grpc))
        })
        .await;
        Running { sim, server }
    }

    /// Where it is served.
    pub fn uri(&self) -> String {
        self.uri.lock().unwrap().clone()
    }

    /// One account's book.
    pub fn book(&self, session: &str) -> Book {
        self.books.lock().unwrap().get(session).cloned().unwrap_or_default()
    }

    /// Everything credited and debited.
    pub fn totals(&self) -> Book {
        let books = self.books.lock().unwrap();
        books.values().fold(Book::default(), |sum, book| Book {
            credited: &sum.credited + &book.credited,
            debited: &sum.debited + &book.debited,
            tickets: sum.tickets + book.tickets,
        })
    }

    /// Segments it was asked for.
    pub fn segments(&self) -> usize {
        self.seen.lock().unwrap().segments.len()
    }

    /// Why payments were not taken.
    pub fn refusals(&self) -> Vec<String> {
        self.seen.lock().unwrap().refusals.clone()
    }

    /// Forgets all balances, as one that was restarted without its ledger would.
    pub fn forget_balances(&self) {
        self.books.lock().unwrap().clear();
    }
}
