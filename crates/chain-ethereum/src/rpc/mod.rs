//! Questions to Ethereum over JSON-RPC, put to the first of several endpoints that answers.
//!
//! Each endpoint has a standing: one that fails is asked last for a while, one that says "too many requests" is left
//! alone for as long as it says. An endpoint of another chain is never used, and one whose newest block is old is not
//! believed. What is read is bounded in size and time.

mod fault;
mod freshness;
mod standing;
pub mod wire;

pub use fault::RpcError;

use crate::location::{Endpoints, name_of};
use fault::{ErrorObject, Fault, short};
use freshness::Freshness;
use futures::future::join_all;
use penstock_chain::ChainError;
use penstock_http_kit::tls::install_crypto_provider;
use reqwest::{StatusCode, Url, header::RETRY_AFTER};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use standing::Standing;
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use wire::{Head, Quantity};

/// Largest answer that is read. A full pool's events or a receipt stay far below.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The question that endpoints refuse by rules of their own, so that another one may answer it.
pub(crate) const EVENTS: &str = "eth_getLogs";

/// The endpoints of one chain. One for each process is enough; it is shared.
#[derive(Debug)]
pub struct Rpc {
    http: reqwest::Client,
    chain_id: u64,
    timeout: Duration,
    /// How far an endpoint's newest block may be from this machine's clock; `None` = it is not looked at.
    max_head_age: Option<Duration>,
    endpoints: Vec<Endpoint>,
    asked: AtomicU64,
}

#[derive(Debug)]
struct Endpoint {
    url: Url,
    /// Host and port.
    name: String,
    standing: Mutex<Standing>,
    /// It said that it is of our chain.
    is_ours: AtomicBool,
    freshness: Mutex<Freshness>,
    /// What was wrong with its last answer, if anything was.
    ill: Mutex<Option<String>>,
}

/// How an endpoint stands, for whoever operates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Host and port.
    pub name: String,
    /// Whether it is asked in its turn; a failing one is asked last, or not at all for a while.
    pub is_well: bool,
    /// What was wrong with its last answer.
    pub reason: Option<String>,
}

/// What became of a question.
struct Put<T> {
    answer: Result<T, RpcError>,
    /// An endpoint that was asked before may have done what was asked of it without saying so.
    is_unsure: bool,
}

/// What an answer is held against before it is believed: why not, if it is not.
pub type Check<'a, T> = &'a (dyn Fn(&T) -> Result<(), String> + Sync);

/// The envelope of an answer.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Value,
    error: Option<ErrorObject>,
}

impl Rpc {
    /// Connects to nothing yet.
    pub fn new(
        endpoints: &Endpoints,
        chain_id: u64,
        timeout: Duration,
        max_head_age: Option<Duration>,
    ) -> Result<Self, ChainError> {
        install_crypto_provider();
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ChainError::Unavailable { reason: error.to_string() })?;
        let endpoints = endpoints.urls().iter().map(|url| Endpoint {
            url: url.clone(),
            name: name_of(url),
            standing: Mutex::default(),
            is_ours: AtomicBool::new(false),
            freshness: Mutex::default(),
            ill: Mutex::default(),
        });
        let asked = AtomicU64::new(0);
        Ok(Self { http, chain_id, timeout, max_head_age, endpoints: endpoints.collect(), asked })
    }

    /// The chain that every endpoint has to be of.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Questions sent so far, to whichever endpoint.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// How each endpoint stands, in the order of the setting.
    pub fn health(&self) -> Vec<EndpointHealth> {
        let now = Instant::now();
        let health = |e: &Endpoint| EndpointHealth {
            name: e.name.clone(),
            is_well: e.standing().is_well(now),
            reason: lock(&e.ill).clone(),
        };
        self.endpoints.iter().map(health).collect()
    }

    /// The answer of the first endpoint that has one.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, RpcError> {
        self.put(method, &params, &|_| Ok(())).await.answer
    }

    /// The first answer that this check lets pass; an endpoint whose answer it does not is named and asked last for a
    /// while, like one that answers nonsense.
    pub async fn ask_checked<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        check: Check<'_, T>,
    ) -> Result<T, RpcError> {
        self.put(method, &params, check).await.answer
    }

    /// The same as [`Self::ask`] for what is to be done rather than answered. Also says whether an endpoint that came
    /// first may have done it already, and has not said so.
    pub async fn submit<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> (Result<T, RpcError>, bool) {
        let put = self.put(method, &params, &|_| Ok(())).await;
        (put.answer, put.is_unsure)
    }

    /// What each endpoint says that answers.
    pub async fn ask_each<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &Value,
    ) -> Vec<T> {
        let endpoints = self.in_turn(&mut Vec::new());
        let asked = endpoints.into_iter().map(|e| self.ask_one(e, method, params, &|_| Ok(())));
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// What each endpoint says that is well: an answer, or that the call reverts. One that refuses the question or does not
    /// answer says nothing.
    pub async fn ask_the_well<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &Value,
    ) -> Vec<Result<T, RpcError>> {
        let now = Instant::now();
        let well = self.endpoints.iter().filter(|e| e.standing().is_well(now));
        let asked = well.map(|e| self.ask_one(e, method, params, &|_| Ok(())));
        let said = join_all(asked).await.into_iter().filter_map(|answer| match answer {
            Ok(answer) => Some(Ok(answer)),
            Err(Fault::Final(error @ RpcError::Reverted { .. })) => Some(Err(error)),
            Err(_) => None,
        });
        said.collect()
    }

    /// The same as [`Self::ask_checked`] for what some endpoints refuse and others do not: old blocks.
    pub async fn ask_any<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
        check: Check<'_, T>,
    ) -> Result<T, RpcError> {
        self.put_on(method, &params, check, true).await.answer
    }

    async fn put<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &Value,
        check: Check<'_, T>,
    ) -> Put<T> {
        self.put_on(method, params, check, method == EVENTS).await
    }

    /// `goes_on`: where one refuses, another one may answer.
    async fn put_on<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &Value,
        check: Check<'_, T>,
        goes_on: bool,
    ) -> Put<T> {
        let (mut reasons, mut is_unsure, mut refused) = (Vec::new(), false, None);
        for endpoint in self.in_turn(&mut reasons) {
            let fault = match self.ask_one(endpoint, method, params, check).await {
                Ok(answer) => return Put { answer: Ok(answer), is_unsure },
                Err(Fault::Final(error @ RpcError::Refused { .. })) if goes_on => {
                    refused = Some(error);
                    continue;
                }
                Err(Fault::Final(error)) => return Put { answer: Err(error), is_unsure },
                Err(fault) => fault,
            };
            is_unsure |= matches!(fault, Fault::Ill(_));
            let (Fault::Ill(reason) | Fault::Behind(reason) | Fault::TooMany { reason, .. }) =
                fault
            else {
                continue;
            };
            tracing::debug!(endpoint = endpoint.name, method, reason, "no answer");
            reasons.push(format!("{}: {reason}", endpoint.name));
        }
        let unreachable = || RpcError::Unreachable { reason: reasons.join("; ") };
        Put { answer: Err(refused.unwrap_or_else(unreachable)), is_unsure }
    }

    /// Those to ask, the best first; `reasons` tells of the others.
    fn in_turn(&self, reasons: &mut Vec<String>) -> Vec<&Endpoint> {
        let now = Instant::now();
        let mut turns = Vec::with_capacity(self.endpoints.len());
        for endpoint in &self.endpoints {
            match endpoint.standing().turn(now) {
                Some(turn) => turns.push((turn, endpoint)),
                None => reasons.push(format!("{}: wants no questions for a while", endpoint.name)),
            }
        }
        // Stable: of equals, the one that was set first.
        turns.sort_by_key(|(turn, _)| *turn);
        turns.into_iter().map(|(_, endpoint)| endpoint).collect()
    }

    /// Asks one endpoint, after it has said once that it is of our chain and lately that it has new blocks, and notes
    /// how it behaved.
    async fn ask_one<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        method: &'static str,
        params: &Value,
        check: Check<'_, T>,
    ) -> Result<T, Fault> {
        let answer = async {
            if !endpoint.is_ours.load(Ordering::Relaxed) {
                let id: Quantity = self.exchange(endpoint, "eth_chainId", &json!([])).await?;
                if id.to_u64() != Some(self.chain_id) {
                    let (id, ours) = (id.0, self.chain_id);
                    return Err(Fault::Ill(format!(
                        "is of chain {id}, and --eth-chain-id is {ours}"
                    )));
                }
                endpoint.is_ours.store(true, Ordering::Relaxed);
            }
            self.look_at_head(endpoint).await?;
            let answer = self.exchange(endpoint, method, params).await?;
            check(&answer).map_err(Fault::Ill)?;
            Ok(answer)
        };
        let answer = answer.await;
        let outcome = endpoint.note(&answer);
        metrics::counter!("ethereum_rpc_requests_total", "endpoint" => endpoint.name.clone(), "outcome" => outcome)
            .increment(1);
        answer
    }

    /// One request, one answer.
    /// Refuses an endpoint that stands still: it would answer everything, as of long ago.
    async fn look_at_head(&self, endpoint: &Endpoint) -> Result<(), Fault> {
        let Some(most) = self.max_head_age else { return Ok(()) };
        let now = Instant::now();
        if !lock(&endpoint.freshness).is_due(now, most) {
            return Ok(());
        }
        let newest = json!(["latest", false]);
        let head: Head = self.exchange(endpoint, "eth_getBlockByNumber", &newest).await?;
        let said_s = head.timestamp.to_u64().unwrap_or(u64::MAX);
        freshness::check(said_s, SystemTime::now(), most).map_err(Fault::Ill)?;
        lock(&endpoint.freshness).is_fresh_as_of(now);
        Ok(())
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        method: &'static str,
        params: &Value,
    ) -> Result<T, Fault> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        let question = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        // Errors of reqwest have the address in them, and with it a key.
        let ill = |error: reqwest::Error| {
            let timed_out = error.is_timeout();
            let why = if timed_out {
                format!("no answer within {:?}", self.timeout)
            } else {
                root_cause(&error)
            };
            Fault::Ill(why)
        };
        let mut response =
            self.http.post(endpoint.url.clone()).json(&question).send().await.map_err(ill)?;
        let status = response.status();
        let wait = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(ill)? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(Fault::Ill("the answer is too long".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        read(status, wait, &body)
    }
}

impl Endpoint {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        lock(&self.standing)
    }

    /// Remembers how it behaved, and says it in a word.
    fn note<T>(&self, answer: &Result<T, Fault>) -> &'static str {
        let now = Instant::now();
        let mut standing = self.standing();
        let was_well = standing.is_well(now);
        let (outcome, reason) = match answer {
            Ok(_) | Err(Fault::Final(_)) => {
                standing.answered();
                ("answered", None)
            }
            Err(Fault::Behind(_)) => ("behind", None),
            Err(Fault::TooMany { wait, reason }) => {
                standing.wants_rest(now, *wait);
                ("too_many", Some(reason))
            }
            Err(Fault::Ill(reason)) => {
                standing.failed(now);
                ("failed", Some(reason))
            }
        };
        *lock(&self.ill) = reason.cloned();
        if let (true, Some(reason)) = (was_well, reason) {
            tracing::warn!(
                endpoint = self.name,
                reason,
                "an endpoint of the chain is asked less for a while"
            );
        }
        outcome
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave plain values in a bad state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an answer of this status and body means.
fn read<T: DeserializeOwned>(
    status: StatusCode,
    wait: Option<Duration>,
    body: &[u8],
) -> Result<T, Fault> {
    if status == StatusCode::TOO_MANY_REQUESTS
        || (status == StatusCode::SERVICE_UNAVAILABLE && wait.is_some())
    {
        return Err(Fault::TooMany { reason: status.to_string(), wait });
    }
    // Some send the error object with a status of its own.
    let answer = match serde_json::from_slice::<Answer>(body) {
        Ok(answer) => answer,
        Err(_) if !status.is_success() => return Err(Fault::Ill(status.to_string())),
        Err(error) => {
            return Err(Fault::Ill(format!("not an answer: {}", short(&error.to_string()))));
        }
    };
    if let Some(error) = answer.error {
        return Err(match Fault::from(error) {
            Fault::TooMany { reason, .. } => Fault::TooMany { reason, wait },
            other => other,
        });
    }
    if !status.is_success() {
        return Err(Fault::Ill(status.to_string()));
    }
    serde_json::from_value(answer.result).map_err(|error| {
        Fault::Ill(format!("not what was asked for: {}", short(&error.to_string())))
    })
}

/// The innermost error: "connection refused" rather than the address.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    short(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_number(status: u16, wait: Option<u64>, body: &str) -> Result<Quantity, Fault> {
        read(StatusCode::from_u16(status).unwrap(), wait.map(Duration::from_secs), body.as_bytes())
    }

    #[test]
    fn answers_and_their_faults() {
        let good = r#"{"jsonrpc":"2.0","id":1,"result":"0x10"}"#;
        assert_eq!(read_number(200, None, good).unwrap(), Quantity::from(16));
        for (status, body) in
            [(500, good), (200, "<html>"), (502, ""), (200, "{}"), (200, r#"{"result":7}"#)]
        {
            assert!(
                matches!(read_number(status, None, body), Err(Fault::Ill(_))),
                "{status} {body}"
            );
        }
        let Err(Fault::TooMany { wait, .. }) = read_number(429, Some(9), "") else { panic!() };
        assert_eq!(wait, Some(Duration::from_secs(9)));
        assert!(matches!(read_number(503, Some(9), ""), Err(Fault::TooMany { .. })));
        let limit = r#"{"error":{"code":-32005,"message":"limit"}}"#;
        assert!(matches!(read_number(200, None, limit), Err(Fault::TooMany { .. })));
        let reverted = r#"{"error":{"code":3,"message":"execution reverted: no"}}"#;
        assert!(matches!(
            read_number(400, None, reverted),
            Err(Fault::Final(RpcError::Reverted { .. }))
        ));
    }
}
