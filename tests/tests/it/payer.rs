//! A gateway's half of a payment, small enough to be interrupted anywhere: offer, tickets,
//! `POST /payment`. Every step is repeated with the same words until it is answered, as a gateway
//! whose peer died does.

use penstock::dev::Role;
use penstock_clients::{
    CallErrorKind, OfferRequest, OrchestratorClient, OrchestratorOptions, PaidHeaders, Trust,
};
use penstock_testkit::until::DEADLINE;
use penstock_wire::header::to_base64;
use serde_json::{Value, json};

use crate::network::Network;

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt<T> {
    /// Answered.
    Done(T),
    /// The peer died or is not back yet: try again.
    Again,
    /// The tickets' parameters are used up or too old: ask for a new offer.
    Refresh,
}

/// What an orchestrator said to tickets that are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sent {
    /// It has credited them just now.
    Credited,
    /// They were credited before.
    Seen,
    /// It died, or is not there.
    Unanswered,
}

/// One paying client.
pub struct Payer {
    orchestrators: OrchestratorClient,
    manifest: String,
    offer: Vec<u8>,
    state: Option<Value>,
    /// Payments that the orchestrator acknowledged.
    pub acknowledged: u32,
    /// Those among them that had been credited before an answer was lost.
    pub found_credited: u32,
}

/// A payment that the signer made and that may or may not have been delivered.
#[derive(Debug, Clone)]
pub struct Signed {
    payment: String,
    credentials: String,
}

impl Payer {
    pub fn new(manifest: &str) -> Self {
        let options = OrchestratorOptions {
            trust: Trust::AcceptAny,
            connect_timeout: DEADLINE,
            grpc_connect_timeout: DEADLINE,
            info_timeout: DEADLINE,
            payment_timeout: DEADLINE,
            ..OrchestratorOptions::default()
        };
        Self {
            orchestrators: OrchestratorClient::new(options).unwrap(),
            manifest: manifest.to_owned(),
            offer: Vec::new(),
            state: None,
            acknowledged: 0,
            found_credited: 0,
        }
    }

    /// Asks the orchestrator for an offer to the signer's account.
    pub async fn refresh(&mut self, network: &Network) -> Attempt<()> {
        self.refresh_at(network, &network.url(Role::Orchestrator)).await
    }

    /// The same at this one.
    pub async fn refresh_at(&mut self, network: &Network, uri: &str) -> Attempt<()> {
        let info =
            network.http.post(format!("{}/sign-orchestrator-info", network.url(Role::Signer)));
        let Ok(answer) = info.json(&json!({})).send().await else { return Attempt::Again };
        let Ok(info) = answer.json::<Value>().await else { return Attempt::Again };
        let (Some(address), Some(sig)) = (info["address"].as_str(), info["signature"].as_str())
        else {
            return Attempt::Again;
        };
        let request = OfferRequest {
            address: address.parse().unwrap(),
            sig: hex::decode(sig.trim_start_matches("0x")).unwrap(),
            capabilities: None,
            ignore_capacity_check: true,
            traceparent: None,
        };
        match self.orchestrators.get_orchestrator(uri, &request, None).await {
            Ok(offered) => {
                self.offer = offered.encoded;
                Attempt::Done(())
            }
            Err(_) => Attempt::Again,
        }
    }

    /// Buys `units`. The same call again is answered with the same tickets: by the state, or for a
    /// first payment by the idempotency key.
    pub async fn buy(&mut self, network: &Network, units: u64) -> Attempt<Signed> {
        let mut body = json!({
            "orchestrator": to_base64(&self.offer),
            "inPixels": units,
            "type": "",
            "ManifestID": self.manifest,
        });
        if let Some(state) = &self.state {
            body["state"] = state.clone();
        }
        let url = format!("{}/generate-live-payment", network.url(Role::Signer));
        let request = network.http.post(url).header("Idempotency-Key", &self.manifest).json(&body);
        let Ok(answer) = request.send().await else { return Attempt::Again };
        let status = answer.status().as_u16();
        let Ok(text) = answer.text().await else { return Attempt::Again };
        match status {
            200 => {
                let answer: Value = serde_json::from_str(&text).unwrap();
                self.state = Some(answer["state"].clone());
                let field = |name: &str| answer[name].as_str().unwrap().to_owned();
                Attempt::Done(Signed { payment: field("payment"), credentials: field("segCreds") })
            }
            480 => Attempt::Refresh,
            503 => Attempt::Again,
            status => panic!("the signer refused: {status} {text}"),
        }
    }

    /// Hands the tickets over. `repeated`: an earlier attempt broke off, and the orchestrator may
    /// have credited it before it died; then it has seen the tickets, and says so.
    pub async fn deliver(
        &mut self,
        network: &Network,
        signed: &Signed,
        repeated: bool,
    ) -> Attempt<()> {
        self.deliver_at(&network.url(Role::Orchestrator), signed, repeated).await
    }

    /// The same at this one of several processes.
    pub async fn deliver_at(&mut self, uri: &str, signed: &Signed, repeated: bool) -> Attempt<()> {
        match self.send(uri, signed).await {
            Sent::Credited => {}
            Sent::Seen if repeated => self.found_credited += 1,
            Sent::Seen => panic!("tickets were seen before they were sent"),
            Sent::Unanswered => return Attempt::Again,
        }
        self.acknowledged += 1;
        Attempt::Done(())
    }

    /// One `POST /payment`. A refusal of any other kind ends the test: repeating the same words cannot
    /// change it.
    pub async fn send(&self, uri: &str, signed: &Signed) -> Sent {
        let headers = PaidHeaders {
            payment: signed.payment.clone(),
            segment: signed.credentials.clone(),
            traceparent: None,
        };
        match self.orchestrators.pay(uri, &headers).await {
            Ok(_) => Sent::Credited,
            Err(error) if format!("{:?}", error.kind).contains("already seen") => Sent::Seen,
            Err(error) if matches!(error.kind, CallErrorKind::Status { .. }) => {
                panic!("the orchestrator refused a payment: {error} {:?}", error.kind)
            }
            Err(_) => Sent::Unanswered,
        }
    }

    /// One whole payment, through every interruption. `again` is called before each repetition, so
    /// that the test can start what died.
    pub async fn pay(&mut self, network: &mut Network, units: u64, again: Restart<'_>) {
        let signed = loop {
            if self.offer.is_empty() && self.refresh(network).await != Attempt::Done(()) {
                again.call(network).await;
                continue;
            }
            match self.buy(network, units).await {
                Attempt::Done(signed) => break signed,
                Attempt::Refresh => self.offer.clear(),
                Attempt::Again => again.call(network).await,
            }
        };
        let mut repeated = false;
        while self.deliver(network, &signed, repeated).await != Attempt::Done(()) {
            again.call(network).await;
            repeated = true;
        }
    }
}

/// What to do when a peer does not answer.
#[derive(Clone, Copy)]
pub enum Restart<'a> {
    /// Start these roles if they are dead.
    Dead(&'a [Role]),
}

impl Restart<'_> {
    async fn call(self, network: &mut Network) {
        let Self::Dead(roles) = self;
        for role in roles {
            network.revive(*role).await;
        }
    }
}
