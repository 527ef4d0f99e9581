//! Brought capabilities (byoc.md sections 3 and 5): tokens with terms of their own, jobs with their
//! signature, balance and capacity checked. The worker is here too: it says what it was sent.

use super::{Node, SimOrchestrator, is_free};
use crate::sim::Script;
use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use penstock_domain::{Address, Capability, PriceInfo, Rational};
use penstock_keys::ByocJob;
use penstock_payments::{TicketParams, orchestrator_request_digest, verify_bytes};
use penstock_wire::CapabilityPrice;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

/// A capability.
#[derive(Debug, Clone)]
pub struct SimCapability {
    /// Wei a second.
    pub price: PriceInfo,
    /// Jobs that it has room for.
    pub capacity: u32,
}

/// What to do instead of the job.
#[derive(Debug, Clone, Copy)]
pub enum ByocOrder {
    /// Answer with this status and text after the payment was looked at.
    Status(u16, &'static str),
    /// Answer in events, so many, and then `[DONE]`.
    Events(usize),
    /// Answer in events, so many, and break off.
    CutAfter(usize),
}

/// What concerns brought capabilities.
#[derive(Debug, Default)]
pub struct ByocDesk {
    /// By name.
    pub capabilities: Mutex<BTreeMap<String, SimCapability>>,
    /// For jobs.
    pub orders: Script<ByocOrder>,
    /// What the worker answers, instead of what it was sent.
    pub says: Mutex<Option<Value>>,
    /// Path, job request and body of each job.
    pub jobs: Mutex<Vec<(String, Value, Bytes)>>,
    /// Times that a token was asked for.
    pub tokens_asked: AtomicUsize,
}

impl ByocDesk {
    /// Adds a capability with room for one, or changes its price.
    pub fn has(&self, name: &str, price: PriceInfo) {
        self.offers(name, SimCapability { price, capacity: 1 });
    }

    /// Adds or changes a capability.
    pub fn offers(&self, name: &str, capability: SimCapability) {
        self.capabilities.lock().unwrap().insert(name.to_owned(), capability);
    }

    pub(super) fn price(&self, account: &str) -> Option<PriceInfo> {
        self.capabilities.lock().unwrap().get(account).map(|c| c.price)
    }

    /// All prices, as offers that name no job list them.
    pub(super) fn prices(&self) -> Vec<CapabilityPrice> {
        let capabilities = self.capabilities.lock().unwrap();
        let entry = |(name, c): (&String, &SimCapability)| CapabilityPrice {
            capability: Capability::Byoc.number(),
            constraint: name.clone(),
            price: c.price,
        };
        capabilities.iter().map(entry).collect()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn json_of(header: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64.decode(header).ok()?).ok()
}

fn bad(text: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response()
}

fn params(params: &TicketParams) -> Value {
    let number = |n: penstock_domain::U256| BASE64.encode(n.to_be_bytes_trimmed_vec());
    json!({
        "recipient": BASE64.encode(params.recipient),
        "face_value": number(params.face_value.0),
        "win_prob": number(params.win_prob),
        "recipient_rand_hash": BASE64.encode(params.recipient_rand_hash),
        "seed": number(params.seed),
        "expiration_block": number(params.expiration_block),
        "expiration_params": {
            "creation_round": params.expiration_params.creation_round,
            "creation_round_block_hash":
                BASE64.encode(params.expiration_params.creation_round_block_hash),
        },
    })
}

pub(super) async fn token(State(Node(sim)): State<Node>, headers: HeaderMap) -> Response {
    sim.byoc.tokens_asked.fetch_add(1, SeqCst);
    let Some(proof) = json_of(text(&headers, "livepeer-eth-address")) else {
        return bad("Invalid eth address header ");
    };
    let sender: Option<Address> = proof["addr"].as_str().and_then(|a| a.parse().ok());
    let sig = proof["sig"].as_str().and_then(|s| decode_hex(s.strip_prefix("0x")?));
    let (Some(sender), Some(sig)) = (sender, sig) else {
        return bad("Invalid eth address header ");
    };
    let proven = verify_bytes(&sig, &orchestrator_request_digest(sender), sender);
    if !is_free(&sim) && proven.is_err() {
        return bad("Invalid eth address header ");
    }
    let name = text(&headers, "livepeer-capability");
    let known = sim.byoc.capabilities.lock().unwrap().get(name).cloned();
    let capacity = known.as_ref().map_or(0, |c| c.capacity);
    let price = known.map_or_else(|| sim.terms.lock().unwrap().price, |c| c.price);
    // Nobody needs tickets for what costs nothing; zeros are left out.
    let costs = price.price_per_unit() > 0;
    let tickets = costs.then(|| params(&sim.ticket_params(sender, &price)));
    axum::Json(json!({
        "sender_address": proof,
        "ticket_params": tickets,
        "price": match costs {
            true => json!({
                "pricePerUnit": price.price_per_unit(), "pixelsPerUnit": price.pixels_per_unit(),
            }),
            false => json!({ "pixelsPerUnit": 1 }),
        },
        "service_addr": sim.uri(),
        "available_capacity": capacity,
        "LastNonce": 0,
    }))
    .into_response()
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

pub(super) async fn job(
    State(Node(sim)): State<Node>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().strip_prefix("/process/request/").unwrap().to_owned();
    let Some(request) = json_of(text(&headers, "livepeer")) else {
        return bad("Could not verify job creds");
    };
    if !is_free(&sim) && !signed(&request) {
        return bad("Could not verify job creds");
    }
    let name = request["capability"].as_str().unwrap_or_default().to_owned();
    let Some(price) = sim.byoc.price(&name) else {
        let text = "No capacity available for capability";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    sim.byoc.jobs.lock().unwrap().push((path, request, body.clone()));
    let least = &price.rational() * &Rational::from_int(60);
    if sim.book(&name).balance() < least {
        return bad("Insufficient balance for request");
    }
    let order = sim.byoc.orders.next();
    sim.ai.work().await;
    // Begun seconds count: a job of a moment costs one.
    let events = match order {
        Some(ByocOrder::Status(status, text)) => {
            sim.debit(&name, 1);
            return (StatusCode::from_u16(status).unwrap(), text).into_response();
        }
        Some(ByocOrder::Events(count)) => Some((count, false)),
        Some(ByocOrder::CutAfter(count)) => Some((count, true)),
        None => None,
    };
    let Some((count, cut)) = events else {
        sim.debit(&name, 1);
        let balance = sim.book(&name).balance().to_fixed(0);
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("livepeer-balance", balance),
            ("x-metadata", "made by a worker".to_owned()),
        ];
        let says = sim.byoc.says.lock().unwrap().clone();
        let said = says.unwrap_or_else(|| json!({ "got": String::from_utf8_lossy(&body) }));
        return (headers, said.to_string()).into_response();
    };
    stream(&sim, &name, count, cut)
}

fn stream(sim: &SimOrchestrator, name: &str, count: usize, cut: bool) -> Response {
    let gate = sim.ai.gate.lock().unwrap().clone();
    let balance = sim.book(name).balance().to_fixed(0);
    let pieces = futures::stream::unfold((0, gate), move |(n, gate)| async move {
        if n > count {
            return None;
        }
        if let Some(gate) = &gate {
            gate.acquire().await.unwrap().forget();
        }
        let piece = match (n == count, cut) {
            (false, _) => Ok(Bytes::from(format!("data: {{\"n\":{n}}}\n\n"))),
            (true, false) => Ok(Bytes::from_static(b"data: [DONE]\n\n")),
            (true, true) => Err(std::io::Error::other("cut")),
        };
        Some((piece, (n + 1, gate)))
    });
    let headers =
        [("content-type", "text/event-stream".to_owned()), ("livepeer-payment-balance", balance)];
    (headers, Body::from_stream(pieces)).into_response()
}

/// Whether the job request is its sender's: the signature covers both texts.
fn signed(request: &Value) -> bool {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let sender: Option<Address> = text("sender").parse().ok();
    let sig = text("sig").strip_prefix("0x").and_then(decode_hex);
    let job = ByocJob::new(text("request"), text("parameters")).ok();
    let (Some(sender), Some(sig), Some(job)) = (sender, sig, job) else { return false };
    request["timeout_seconds"].as_u64() > Some(0)
        && verify_bytes(&sig, &job.digest(), sender).is_ok()
}
