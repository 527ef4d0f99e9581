//! The network between the roles: each message takes its time, is lost on the way there or back, or comes a
//! second time when nobody thinks of it any more.

use crate::{
    parties::{ORCHESTRATORS, Parties, Place, uri_of},
    planted::{self, Planted},
    thread::WHERE,
};
use bytes::Bytes;
use http::{Request, Response};
use penstock_clients::simulated::{Heard, Network, Trouble};
use penstock_wire::header;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// How much later the copy of a message comes.
const LATER_MS: u64 = 60_000;

/// What everybody's calls go through.
pub fn network(parties: &Arc<Parties>) -> Network {
    let parties = Arc::clone(parties);
    Arc::new(move |request| {
        let parties = Arc::clone(&parties);
        Box::pin(async move { parties.carry(request).await })
    })
}

impl Parties {
    /// One message and its answer.
    pub async fn carry(self: Arc<Self>, request: Request<Bytes>) -> Heard {
        let faults = self.faults();
        self.on_its_way().await;
        if self.chance.per_mille(faults.lost) {
            return Err(if self.chance.per_mille(500) {
                Trouble::Connect
            } else {
                Trouble::Broken
            });
        }
        // A job is not a message that may come twice: nobody sends it again.
        let may_double = request.uri().path() != "/job";
        if may_double && self.chance.per_mille(faults.doubled) {
            let (parties, copy) = (Arc::clone(&self), request.clone());
            let later = self.chance.ms(0..LATER_MS);
            tokio::spawn(async move {
                tokio::time::sleep(later).await;
                // Nobody waits for the answer.
                let _ = parties.deliver(copy).await;
            });
        }
        let answer = self.deliver(request).await?;
        self.on_its_way().await;
        if self.chance.per_mille(faults.lost) { Err(Trouble::Broken) } else { Ok(answer) }
    }

    async fn on_its_way(&self) {
        let way_ms = self.faults().way_ms;
        if way_ms > 0 {
            tokio::time::sleep(self.chance.ms(0..way_ms)).await;
        }
    }

    /// The other side works on it in a task of its own, which goes on when nobody waits for it any more.
    async fn deliver(self: &Arc<Self>, request: Request<Bytes>) -> Heard {
        let host = request.uri().host().unwrap_or_default();
        let named = |number: &usize| {
            uri_of(*number).strip_prefix("https://").and_then(|name| name.split(':').next())
                == Some(host)
        };
        match (0..ORCHESTRATORS).find(named) {
            Some(number) => self.to_orchestrator(number, request).await,
            None => self.to_signer(request).await,
        }
    }

    async fn to_orchestrator(&self, number: usize, request: Request<Bytes>) -> Heard {
        let home = self.orchestrators.get(number).ok_or(Trouble::Connect)?;
        let (generation, Some(process)) = home.now() else { return Err(Trouble::Connect) };
        let is_payment = request.uri().path() == "/payment";
        let payment = request.headers().get(header::PAYMENT).filter(|_| is_payment).cloned();
        let panics = self.planted == Some(Planted::OrchestratorsPanic) && self.chance.per_mille(50);
        let work = async move {
            if panics {
                planted::panics();
            }
            process.answer(request).await
        };
        let answer = tokio::spawn(WHERE.scope(Place::Orchestrator(number), work)).await;
        // Who died says nothing more, nor does who panicked, which is noted.
        let answer = answer.map_err(|_| Trouble::Broken)?;
        if !home.still(generation) {
            return Err(Trouble::Broken);
        }
        if let (true, Some(payment)) = (answer.status().is_success(), payment) {
            self.seen.taken(number, payment.to_str().unwrap_or_default());
        }
        Ok(answer)
    }

    async fn to_signer(&self, mut request: Request<Bytes>) -> Heard {
        let (generation, Some(process)) = self.signer.now() else { return Err(Trouble::Connect) };
        let name = name_of(&request);
        if self.planted == Some(Planted::RetriesLookNew) && self.seen.is_known(name.as_deref()) {
            request = without_name(request);
        }
        let work = async move { process.answer(request).await };
        let answer = tokio::spawn(WHERE.scope(Place::Signer, work)).await;
        let answer = answer.map_err(|_| Trouble::Broken)?;
        if !self.signer.still(generation) {
            return Err(Trouble::Broken);
        }
        if let Some(name) = name.filter(|_| answer.status().is_success()) {
            self.seen.note(name, answer.body());
        }
        Ok(answer)
    }
}

/// What makes a payment request the same as another one: its state, or the key of a first one.
fn name_of(request: &Request<Bytes>) -> Option<String> {
    if request.uri().path() != "/generate-live-payment" {
        return None;
    }
    let body: Value = serde_json::from_slice(request.body()).ok()?;
    match body.get("state") {
        None | Some(Value::Null) => {
            let key = request.headers().get("idempotency-key")?.to_str().ok()?;
            Some(format!("key {key}"))
        }
        Some(state) => Some(format!("state {state}")),
    }
}

fn without_name(request: Request<Bytes>) -> Request<Bytes> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove("idempotency-key");
    let body = match serde_json::from_slice(&body) {
        Ok(Value::Object(mut fields)) => {
            fields.remove("state");
            Value::Object(fields).to_string().into()
        }
        _ => body,
    };
    Request::from_parts(parts, body)
}

/// What a call came to, for those who only want to know whether it was served.
pub fn is_served(heard: &Heard) -> bool {
    heard.as_ref().is_ok_and(|answer: &Response<Bytes>| answer.status().is_success())
}

/// A pause in which what was begun comes to its end, but for late copies.
pub async fn quiet() {
    tokio::time::sleep(Duration::from_secs(8)).await;
}
