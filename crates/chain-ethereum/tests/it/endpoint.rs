//! An endpoint between the client and anvil that behaves as it is told.

use alloy_sol_types::SolCall as _;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use penstock_chain_ethereum::contracts::IRoundsManager;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::oneshot};

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// As the chain does.
    Well,
    /// Makes a block before the nth transaction is passed on.
    MineBeforeSend(u64),
    /// Has not heard of any event, and does not say so.
    EventsLate,
    /// Knows no receipt.
    NoReceipts,
    /// Knows no account as of an earlier block.
    NoHistory,
    /// Takes no transaction, and does not say so.
    NoSends,
    /// Lets nobody call contracts.
    NoCalls,
    /// Answers calls of contracts with no bytes.
    Empty,
    /// Answers calls of contracts as of this block.
    AsOf(u64),
    /// Passes transactions on and says nothing.
    LoseSent,
    /// Refuses with 429 and the wish to be left alone for a minute, as soon as it is known by its chain.
    TooMany,
    /// Never answers.
    Silent,
    /// Answers with something else.
    Nonsense,
    /// Is of another chain.
    Elsewhere,
    /// Knows no block by its number.
    Behind,
    /// Has stopped an hour ago.
    StandsStill,
    /// Lets no events be searched, in these words.
    NoEvents(i64),
    /// Is far ahead with the height of L1.
    FarL1,
    /// Is far ahead with the rounds.
    FarRound,
    /// Is far ahead with its own blocks.
    FarBlock,
    /// Says that gas costs a million gwei.
    Dear,
    /// Says that every call takes a billion units of gas.
    Hungry,
}

/// A running one; it stops with the test.
#[derive(Clone)]
pub struct Endpoint {
    addr: String,
    shared: Arc<Shared>,
}

struct Shared {
    behind: String,
    answering: Mutex<Answering>,
    counts: Mutex<BTreeMap<String, u64>>,
    sent: Mutex<Vec<Value>>,
    stop: Mutex<Option<Stop>>,
    http: reqwest::Client,
}

/// Where the next question of a kind waits.
struct Stop {
    method: &'static str,
    /// Those that pass before it.
    before: u64,
    arrived: oneshot::Sender<()>,
    go_on: oneshot::Receiver<()>,
}

impl Endpoint {
    /// Before this one.
    pub async fn before(url: &str, answering: Answering) -> Self {
        let shared = Arc::new(Shared {
            behind: url.to_owned(),
            answering: Mutex::new(answering),
            counts: Mutex::default(),
            sent: Mutex::default(),
            stop: Mutex::default(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let router = Router::new().route("/", post(answer)).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { addr, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Host and port, as it is called in the log.
    pub fn name(&self) -> &str {
        &self.addr
    }

    /// From now on it answers so.
    pub fn answer(&self, answering: Answering) {
        *self.shared.answering.lock().unwrap() = answering;
    }

    /// Lets so many questions of this kind pass, and has the next one wait. What is given back first tells when it is there,
    /// and the other lets it go on.
    pub fn stop_at(
        &self,
        method: &'static str,
        before: u64,
    ) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (arrived, is_there) = oneshot::channel();
        let (go, go_on) = oneshot::channel();
        *self.shared.stop.lock().unwrap() = Some(Stop { method, before, arrived, go_on });
        (is_there, go)
    }

    /// How often it was asked this.
    pub fn count(&self, method: &str) -> u64 {
        self.shared.counts.lock().unwrap().get(method).copied().unwrap_or(0)
    }

    /// The transactions that it was given, as they were signed.
    pub fn sent(&self) -> Vec<Value> {
        self.shared.sent.lock().unwrap().clone()
    }

    /// How often it was asked anything.
    pub fn asked(&self) -> u64 {
        self.shared.counts.lock().unwrap().values().sum()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, Json(mut question): Json<Value>) -> Response {
    let method = question["method"].as_str().unwrap().to_owned();
    let count = {
        let mut counts = shared.counts.lock().unwrap();
        let count = counts.entry(method.clone()).or_default();
        *count += 1;
        *count
    };
    let stop = {
        let mut stop = shared.stop.lock().unwrap();
        match stop.as_mut() {
            Some(it) if it.method == method && it.before > 0 => {
                it.before -= 1;
                None
            }
            Some(it) if it.method == method => stop.take(),
            _ => None,
        }
    };
    if let Some(stop) = stop {
        stop.arrived.send(()).unwrap();
        stop.go_on.await.unwrap();
    }
    let answering = *shared.answering.lock().unwrap();
    let sends = method == "eth_sendRawTransaction";
    if sends {
        shared.sent.lock().unwrap().push(question["params"][0].clone());
    }
    match answering {
        Answering::MineBeforeSend(nth) if sends && count == nth => {
            shared
                .pass(json!({ "jsonrpc": "2.0", "id": 0, "method": "evm_mine", "params": [] }))
                .await;
        }
        Answering::LoseSent if sends => {
            shared.pass(question).await;
            return StatusCode::BAD_GATEWAY.into_response();
        }
        Answering::TooMany if method != "eth_chainId" => {
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "60")]).into_response();
        }
        Answering::Silent => return std::future::pending().await,
        Answering::Nonsense => return "<html>".into_response(),
        Answering::Elsewhere if method == "eth_chainId" => {
            return Json(json!({ "jsonrpc": "2.0", "id": 0, "result": "0x1" })).into_response();
        }
        Answering::Behind if method == "eth_call" => {
            let error = json!({ "code": -32000, "message": "header not found" });
            return Json(json!({ "jsonrpc": "2.0", "id": 0, "error": error })).into_response();
        }
        Answering::NoEvents(code) if method == "eth_getLogs" => {
            let error = json!({ "code": code, "message": "no" });
            return Json(json!({ "jsonrpc": "2.0", "id": 0, "error": error })).into_response();
        }
        Answering::NoHistory
            if method == "eth_getTransactionCount"
                && question["params"][1].as_str().unwrap().starts_with("0x") =>
        {
            let error = json!({ "code": -32000, "message": "missing trie node" });
            return Json(json!({ "jsonrpc": "2.0", "id": 0, "error": error })).into_response();
        }
        Answering::NoSends if sends => return StatusCode::BAD_GATEWAY.into_response(),
        Answering::NoCalls if method == "eth_call" => {
            let error = json!({ "code": -32600, "message": "Must be authenticated!" });
            return Json(json!({ "jsonrpc": "2.0", "id": 0, "error": error })).into_response();
        }
        Answering::Empty if method == "eth_call" => {
            return Json(json!({ "jsonrpc": "2.0", "id": 0, "result": "0x" })).into_response();
        }
        Answering::AsOf(block) if method == "eth_call" => {
            question["params"][1] = json!(format!("{block:#x}"));
        }
        _ => {}
    }
    let mut said = shared.pass(question.clone()).await;
    bend(answering, &method, &question, &mut said["result"]);
    Json(said).into_response()
}

/// Makes an answer into what it is not.
fn bend(answering: Answering, method: &str, question: &Value, result: &mut Value) {
    let calls = |selector: [u8; 4]| {
        let data = question["params"][0]["data"].as_str().unwrap_or_default();
        method == "eth_call" && data.starts_with(&format!("0x{}", hex::encode(selector)))
    };
    let is_head = method == "eth_getBlockByNumber" && question["params"][0] == "latest";
    let far = || json!(format!("0x{:064x}", 1_u64 << 40));
    match answering {
        Answering::StandsStill if is_head => {
            let text = result["timestamp"].as_str().unwrap().trim_start_matches("0x").to_owned();
            let then = u64::from_str_radix(&text, 16).unwrap() - 3_600;
            result["timestamp"] = json!(format!("{then:#x}"));
        }
        Answering::EventsLate if method == "eth_getLogs" => *result = json!([]),
        Answering::NoReceipts if method == "eth_getTransactionReceipt" => *result = Value::Null,
        Answering::FarBlock if is_head => result["number"] = json!("0x10000000000"),
        Answering::Dear if is_head => result["baseFeePerGas"] = json!("0x38d7ea4c68000"),
        Answering::Hungry if method == "eth_estimateGas" => *result = json!("0x3b9aca00"),
        Answering::FarL1 if calls(IRoundsManager::blockNumCall::SELECTOR) => *result = far(),
        Answering::FarRound
            if calls(IRoundsManager::currentRoundCall::SELECTOR)
                || calls(IRoundsManager::lastInitializedRoundCall::SELECTOR) =>
        {
            *result = far();
        }
        _ => {}
    }
}

impl Shared {
    async fn pass(&self, question: Value) -> Value {
        let answer = self.http.post(&self.behind).json(&question).send().await.unwrap();
        answer.json().await.unwrap()
    }
}
