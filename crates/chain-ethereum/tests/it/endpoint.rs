//! An endpoint between the client and anvil that behaves as it is told.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// As the chain does.
    Well,
    /// Makes a block before the nth transaction is passed on.
    MineBeforeSend(u64),
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
    http: reqwest::Client,
}

impl Endpoint {
    /// Before this one.
    pub async fn before(url: &str, answering: Answering) -> Self {
        let shared = Arc::new(Shared {
            behind: url.to_owned(),
            answering: Mutex::new(answering),
            counts: Mutex::default(),
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

    /// How often it was asked this.
    pub fn count(&self, method: &str) -> u64 {
        self.shared.counts.lock().unwrap().get(method).copied().unwrap_or(0)
    }

    /// How often it was asked anything.
    pub fn asked(&self) -> u64 {
        self.shared.counts.lock().unwrap().values().sum()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, Json(question): Json<Value>) -> Response {
    let method = question["method"].as_str().unwrap().to_owned();
    let count = {
        let mut counts = shared.counts.lock().unwrap();
        let count = counts.entry(method.clone()).or_default();
        *count += 1;
        *count
    };
    let answering = *shared.answering.lock().unwrap();
    let sends = method == "eth_sendRawTransaction";
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
        _ => {}
    }
    Json(shared.pass(question).await).into_response()
}

impl Shared {
    async fn pass(&self, question: Value) -> Value {
        let answer = self.http.post(&self.behind).json(&question).send().await.unwrap();
        answer.json().await.unwrap()
    }
}
