//! A signer with a real key: tickets with nonces from one counter, balances per payment session, the
//! stored answer when a state or an idempotency key comes again (remote-signer.md).

use super::{Faults, Running, Script, account, orchestrator::params, server::Server};
use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use penstock_domain::Rational;
use penstock_keys::{ByocJob, SegmentCredential as ToSign, TypedSigner};
use penstock_payments::{Ticket, fee, stage_update};
use penstock_wire::{
    OrchestratorOffer, PaymentFields, SegmentCredential, SegmentSpec, SenderFields, capabilities,
    header,
    json::{
        LivePaymentAnswer, LivePaymentRequest, SegmentCredentialsAnswer, SegmentCredentialsRequest,
        SignByocJobRequest, SignOrchestratorInfo, SignedState, sign_byoc_job_answer,
    },
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::sync::Semaphore;

/// What to do instead of answering.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Refuse with this status before anything happens.
    Status(u16),
    /// The same, with this code.
    Code(u16, &'static str),
    /// Do it all, store the answer, and lose it on the way.
    LoseAnswer,
}

#[derive(Debug, Default)]
struct Ledger {
    sessions: HashMap<String, Session>,
    /// Stored answers by state text or idempotency key.
    answers: HashMap<String, Answered>,
    last_nonce: u32,
    payments: Vec<Issued>,
}

#[derive(Debug, Clone)]
struct Answered {
    body: Value,
    units: i64,
}

#[derive(Debug)]
struct Session {
    balance: Rational,
    manifest_id: String,
    sequence: u64,
}

/// One payment in the books.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Of the session.
    pub manifest_id: String,
    /// Place in the session, as its state says.
    pub sequence: u64,
    /// Bought.
    pub units: i64,
    /// Signed.
    pub tickets: u64,
}

/// A simulated signer.
#[derive(Debug)]
pub struct SimSigner {
    /// The sender's key.
    pub key: TypedSigner,
    /// What `/discover-orchestrators` lists.
    pub orchestrators: Mutex<Vec<String>>,
    /// For `/generate-live-payment`.
    pub payment_orders: Script<Order>,
    /// While there is one, each request for a payment waits for a permit of it.
    pub payment_gate: Mutex<Option<Arc<Semaphore>>>,
    /// Idempotency keys of requests without a state.
    pub first_keys: Mutex<Vec<String>>,
    /// For `/sign-segment-credentials`.
    pub credential_orders: Script<Order>,
    /// What `/readyz` answers with 503; `None`: there is no such page.
    pub not_ready: Mutex<Option<&'static str>>,
    /// Units asked for, in order.
    pub payment_requests: Mutex<Vec<i64>>,
    /// Credentials asked for.
    pub credential_requests: Mutex<u32>,
    /// Who is whose: what `/v1/verify` answers about a token. Others are nobody's.
    pub callers: Mutex<HashMap<String, Value>>,
    /// Tokens asked about.
    pub verify_requests: Mutex<u32>,
    /// `Signer-Auth-Id` of each payment.
    pub auth_ids: Mutex<Vec<String>>,
    /// `traceparent` of each request.
    pub traces: Mutex<Vec<String>>,
    /// Slowness, refusals, silence.
    pub faults: Arc<Faults>,
    ledger: Mutex<Ledger>,
}

type Shared = State<Arc<SimSigner>>;

impl SimSigner {
    /// Starts one without orchestrators.
    pub async fn start() -> Running<Self> {
        let sim = Arc::new(Self {
            key: account(),
            orchestrators: Mutex::default(),
            payment_orders: Script::default(),
            payment_gate: Mutex::default(),
            first_keys: Mutex::default(),
            credential_orders: Script::default(),
            not_ready: Mutex::default(),
            payment_requests: Mutex::default(),
            credential_requests: Mutex::default(),
            callers: Mutex::default(),
            verify_requests: Mutex::default(),
            auth_ids: Mutex::default(),
            traces: Mutex::default(),
            faults: Arc::default(),
            ledger: Mutex::default(),
        });
        let router = Router::new()
            .route("/sign-orchestrator-info", post(identity))
            .route("/generate-live-payment", post(pay))
            .route("/sign-segment-credentials", post(credential))
            .route("/sign-byoc-job", post(byoc))
            .route("/discover-orchestrators", get(discover))
            .route("/v1/verify", post(verify))
            .route("/readyz", get(ready))
            .with_state(sim.clone());
        let server = Server::clear(sim.faults.over(router)).await;
        Running { sim, server }
    }

    /// Lets a token in as `auth_id`, with these rules.
    pub fn admit(&self, token: &str, auth_id: &str, policy: Value) {
        let answer =
            json!({ "valid": true, "auth_id": auth_id, "policy": policy, "cache_for_ms": 0 });
        self.callers.lock().unwrap().insert(token.to_owned(), answer);
    }

    /// Takes a token back.
    pub fn revoke(&self, token: &str) {
        let answer = json!({
            "valid": false, "code": "forbidden", "reason": "the key was revoked", "cache_for_ms": 0
        });
        self.callers.lock().unwrap().insert(token.to_owned(), answer);
    }

    /// The books.
    pub fn payments(&self) -> Vec<Issued> {
        self.ledger.lock().unwrap().payments.clone()
    }

    fn note_trace(&self, headers: &HeaderMap) {
        if let Some(trace) = headers.get("traceparent") {
            self.traces.lock().unwrap().push(trace.to_str().unwrap().to_owned());
        }
    }

    /// How often it was asked for a payment.
    pub fn asked(&self) -> usize {
        self.payment_requests.lock().unwrap().len()
    }
}

fn refuse(status: u16, message: &str) -> Response {
    answer(status, json!({ "message": message }))
}

fn answer(status: u16, error: Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({ "error": error }))).into_response()
}

async fn identity(State(sim): Shared) -> Json<Value> {
    let signature = sim.key.sign_orchestrator_request().await.unwrap();
    let info = SignOrchestratorInfo {
        address: sim.key.address(),
        signature: signature.as_bytes().to_vec(),
    };
    Json(info.to_json())
}

async fn byoc(State(sim): State<Arc<SimSigner>>, body: Bytes) -> Response {
    let Ok(request) = SignByocJobRequest::parse(&body) else { return refuse(400, "bad job") };
    let Ok(job) = ByocJob::new(&request.request, &request.parameters) else {
        return refuse(400, "bad job");
    };
    let signature = sim.key.sign_byoc_job(&job).await.unwrap();
    Json(sign_byoc_job_answer(&sim.key.address(), signature.as_bytes())).into_response()
}

async fn ready(State(sim): Shared) -> Response {
    match *sim.not_ready.lock().unwrap() {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn verify(State(sim): Shared, Json(body): Json<Value>) -> Json<Value> {
    *sim.verify_requests.lock().unwrap() += 1;
    let token = body["token"].as_str().unwrap();
    let nobody = json!({
        "valid": false, "code": "unauthorized", "reason": "unknown key", "cache_for_ms": 3_600_000
    });
    Json(sim.callers.lock().unwrap().get(token).cloned().unwrap_or(nobody))
}

async fn discover(State(sim): Shared) -> Json<Value> {
    let list = sim.orchestrators.lock().unwrap().clone();
    Json(list.into_iter().map(|address| json!({ "address": address, "score": 1 })).collect())
}

async fn pay(State(sim): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let request = LivePaymentRequest::parse(&body).unwrap();
    sim.payment_requests.lock().unwrap().push(request.in_pixels);
    let gate = sim.payment_gate.lock().unwrap().clone();
    if let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
    let order = sim.payment_orders.next();
    match order {
        Some(Order::Status(status)) => return refuse(status, "ordered"),
        Some(Order::Code(status, code)) => {
            return answer(status, json!({ "message": "ordered", "code": code }));
        }
        Some(Order::LoseAnswer) | None => {}
    }
    let Some(auth_id) = headers.get("signer-auth-id") else {
        return refuse(401, "no end caller named");
    };
    sim.auth_ids.lock().unwrap().push(auth_id.to_str().unwrap().to_owned());
    sim.note_trace(&headers);
    let key = headers.get("idempotency-key").map(|v| v.to_str().unwrap().to_owned());
    let (answer, replayed) = match issue(&sim, &request, key).await {
        Ok(answer) => answer,
        Err(refusal) => return refusal,
    };
    let units = answer.units.to_string();
    let headers = [("penstock-billed-units", units), ("penstock-replayed", replayed.to_string())];
    match order {
        Some(Order::LoseAnswer) => refuse(500, "lost"),
        _ => (headers, Json(answer.body)).into_response(),
    }
}

async fn issue(
    sim: &SimSigner,
    request: &LivePaymentRequest,
    key: Option<String>,
) -> Result<(Answered, bool), Response> {
    let offer = OrchestratorOffer::decode(&request.orchestrator).unwrap();
    let terms = offer.terms().unwrap();
    let ticket_params = params(terms.ticket_params);
    // Everything up to the signatures in one critical section.
    let (id, sequence, nonces, replay_key) = {
        let mut ledger = sim.ledger.lock().unwrap();
        let replay_key = match &request.state {
            Some(state) => String::from_utf8(state.state.clone()).unwrap(),
            None => {
                let key = key.expect("a first request carries an idempotency key");
                sim.first_keys.lock().unwrap().push(key.clone());
                key
            }
        };
        if let Some(stored) = ledger.answers.get(&replay_key) {
            return Ok((stored.clone(), true));
        }
        let known = match &request.state {
            None => None,
            Some(state) => {
                let text: Value = serde_json::from_slice(&state.state).unwrap();
                let id = text["id"].as_str().unwrap().to_owned();
                if !ledger.sessions.contains_key(&id) {
                    return Err(refuse(400, "invalid sig"));
                }
                Some(id)
            }
        };
        let id = known.unwrap_or_else(|| format!("{:08x}", ledger.sessions.len()));
        let session = ledger.sessions.entry(id.clone()).or_insert_with(|| Session {
            balance: Rational::ZERO,
            manifest_id: request.manifest_id.clone(),
            sequence: 0,
        });
        if session.manifest_id != request.manifest_id {
            return Err(refuse(409, "another manifest"));
        }
        let cost = fee(request.in_pixels.unsigned_abs(), &terms.price.rational());
        let ev = ticket_params.ev();
        let staged = stage_update(session.balance.clone(), &cost, &ev);
        match staged.num_tickets {
            0 => return Err(refuse(482, "no tickets")),
            n if n > 100 => return Err(refuse(400, "numTickets exceeds maximum of 100")),
            _ => {}
        }
        session.balance = &(&session.balance + &staged.new_credit) - &cost;
        session.sequence += 1;
        let sequence = session.sequence;
        let first = ledger.last_nonce + 1;
        ledger.last_nonce += staged.num_tickets as u32;
        let last = ledger.last_nonce;
        ledger.payments.push(Issued {
            manifest_id: request.manifest_id.clone(),
            sequence,
            units: request.in_pixels,
            tickets: staged.num_tickets,
        });
        (id, sequence, first..=last, replay_key)
    };
    let mut tickets = Vec::new();
    for nonce in nonces {
        let ticket = Ticket::from_params(
            &ticket_params,
            ticket_params.expiration_params,
            sim.key.address(),
            nonce,
        );
        let sig = sim.key.sign_ticket(&ticket).await.unwrap().as_bytes().to_vec();
        tickets.push(SenderFields { sender_nonce: nonce, sig });
    }
    let payment = PaymentFields {
        sender: Some(sim.key.address()),
        ticket_params: Some(terms.ticket_params.clone()),
        expiration_params: terms.ticket_params.expiration_params,
        tickets,
        expected_price: Some(terms.price),
    };
    let job = capabilities::decode(&request.capabilities).unwrap();
    let manifest = penstock_domain::ManifestId::new(request.manifest_id.clone()).unwrap();
    let spec = SegmentSpec::empty(manifest, Some(job), terms.auth_token.clone());
    let sig = sim
        .key
        .sign_segment::<String>(&ToSign {
            manifest_id: spec.manifest_id.as_str().as_bytes(),
            sequence: 0,
            data_hash: spec.hash.as_slice(),
            rendition_names: &[],
        })
        .await
        .unwrap();
    let creds = header::encode_segment(&spec.to_message(sig.as_bytes().to_vec()));
    let state = SignedState {
        state: json!({ "id": id, "seq": sequence }).to_string().into_bytes(),
        sig: b"signed".to_vec(),
    };
    let payment = header::encode_payment(&payment.to_message());
    let body = LivePaymentAnswer::body(&payment, &creds, &state);
    let answer = Answered { body, units: request.in_pixels };
    sim.ledger.lock().unwrap().answers.insert(replay_key, answer.clone());
    Ok((answer, false))
}

async fn credential(State(sim): Shared, headers: HeaderMap, body: Bytes) -> Response {
    sim.note_trace(&headers);
    *sim.credential_requests.lock().unwrap() += 1;
    if let Some(Order::Status(status)) = sim.credential_orders.next() {
        return refuse(status, "ordered");
    }
    let request = SegmentCredentialsRequest::parse(&body).unwrap();
    let state: Value = serde_json::from_slice(&request.state.state).unwrap();
    let unsigned = SegmentCredential::from_bytes(&request.segment).unwrap();
    {
        let ledger = sim.ledger.lock().unwrap();
        let Some(session) = ledger.sessions.get(state["id"].as_str().unwrap()) else {
            return refuse(400, "invalid state");
        };
        assert_eq!(
            session.manifest_id,
            unsigned.manifest_id.as_str(),
            "a credential of the session"
        );
    }
    let names = unsigned.rendition_names();
    let sig = sim
        .key
        .sign_segment(&ToSign {
            manifest_id: unsigned.manifest_id.as_str().as_bytes(),
            sequence: unsigned.seq,
            data_hash: unsigned.hash.as_slice(),
            rendition_names: &names,
        })
        .await
        .unwrap();
    let mut message: penstock_wire::net::SegData =
        header::decode_message("segment", &request.segment, 1 << 20).unwrap();
    message.sig = sig.as_bytes().to_vec();
    let answer = SegmentCredentialsAnswer { seg_creds: header::encode_segment(&message) };
    Json(answer.to_json()).into_response()
}
