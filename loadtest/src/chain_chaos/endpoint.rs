//! An endpoint between the redeemer and the chain that answers as it is told, and counts what it is asked.

use crate::rig;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use penstock_domain::keccak256;
use serde_json::{Value, json};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A height that no chain has.
const FAR: u64 = 1 << 40;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// As the chain does.
    Well,
    /// Not at all.
    Down,
    /// The newest block is far ahead.
    FarBlock,
    /// The height of L1 is far ahead.
    FarL1,
    /// As if this were the newest block.
    Behind(u64),
    /// Transactions are passed on, and nothing is said of it.
    LoseSent,
    /// Transactions are taken, and kept.
    Keep,
}

/// A running one. It stops with the value.
#[derive(Debug)]
pub struct Endpoint {
    addr: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    behind: String,
    answering: Mutex<Answering>,
    asked: AtomicU64,
    sent: AtomicU64,
    kept: Mutex<Vec<Value>>,
    http: reqwest::Client,
}

impl Endpoint {
    /// Before the chain at this URL.
    pub async fn before(url: &str) -> Self {
        let shared = Arc::new(Shared {
            behind: url.to_owned(),
            answering: Mutex::new(Answering::Well),
            asked: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            kept: Mutex::default(),
            http: rig::http(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address").to_string();
        let router = Router::new().route("/", post(answer)).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("an endpoint serves");
        });
        Self { addr, shared, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// From now on it answers so.
    pub fn answer(&self, answering: Answering) {
        *self.shared.answering.lock().unwrap_or_else(PoisonError::into_inner) = answering;
    }

    /// Questions so far, of all kinds.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Transactions that it was given so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Hands out the transactions that it kept.
    pub fn kept(&self) -> Vec<Value> {
        std::mem::take(&mut self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, Json(mut question): Json<Value>) -> Response {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    let method = question["method"].as_str().unwrap_or_default().to_owned();
    let sends = method == "eth_sendRawTransaction";
    if sends {
        shared.sent.fetch_add(1, Ordering::SeqCst);
    }
    let answering = *shared.answering.lock().unwrap_or_else(PoisonError::into_inner);
    match answering {
        Answering::Down => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Answering::Behind(_) if method == "eth_getTransactionReceipt" => {
            let id = question["id"].clone();
            return Json(json!({ "jsonrpc": "2.0", "id": id, "result": null })).into_response();
        }
        Answering::Behind(height) => stay_at(height, &mut question["params"]),
        Answering::Keep if sends => {
            let raw = question["params"][0].clone();
            let hash = keccak256(raw.as_str().unwrap_or_default()).to_string();
            shared.kept.lock().unwrap_or_else(PoisonError::into_inner).push(raw);
            let id = question["id"].clone();
            return Json(json!({ "jsonrpc": "2.0", "id": id, "result": hash })).into_response();
        }
        _ => {}
    }
    let selector = hex_selector("blockNum()");
    let data = question["params"][0]["data"].as_str().unwrap_or_default();
    let asks_l1 = method == "eth_call" && data.starts_with(&selector);
    let asks_newest = method == "eth_getBlockByNumber" && question["params"][0] == "latest";
    let Some(mut said) = shared.pass(&question).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    match answering {
        Answering::LoseSent if sends => return StatusCode::BAD_GATEWAY.into_response(),
        Answering::FarBlock if asks_newest => said["result"]["number"] = json!(format!("{FAR:#x}")),
        Answering::FarBlock if method == "eth_blockNumber" => {
            said["result"] = json!(format!("{FAR:#x}"));
        }
        Answering::FarL1 if asks_l1 => said["result"] = json!(format!("0x{FAR:064x}")),
        _ => {}
    }
    Json(said).into_response()
}

/// Whatever is asked of the newest block, or of what waits, is asked of this one.
fn stay_at(height: u64, params: &mut Value) {
    for param in params.as_array_mut().into_iter().flatten() {
        if *param == "latest" || *param == "pending" {
            *param = json!(format!("{height:#x}"));
        }
    }
}

/// The first four bytes of a call.
fn hex_selector(signature: &str) -> String {
    let hash = keccak256(signature);
    let bytes: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{bytes}")
}

impl Shared {
    async fn pass(&self, question: &Value) -> Option<Value> {
        let answer = self.http.post(&self.behind).json(question).send().await.ok()?;
        answer.json().await.ok()
    }
}
