//! Clients of a brought capability, as SDKs are: they ask for terms, and send each job with the tickets that
//! pay it to whichever process they like. One that is not answered is given up; its tickets are delivered
//! by themselves.

use super::{
    clock::now_ms,
    held::{Account, BroughtJob},
    payer::{Load, Outcome, PATIENCE, Payer, broken, http, words},
    tickets::{Offer, Signed},
    trio::{CAPABILITY, hex},
};
use penstock_domain::Address;
use penstock_keys::ByocJob;
use penstock_testkit::until::DEADLINE;
use penstock_wire::{AuthToken, header, json::ByocJobRequest};
use rand::Rng as _;
use serde_json::json;
use std::time::Instant;

/// Seconds that a job may take.
pub const TIMEOUT_S: u32 = 3;
/// How long a long job takes, milliseconds: two seconds have begun by then.
const LONG_MS: u64 = 1_200;

/// One client.
pub struct Client {
    payer: Payer,
    http: reqwest::Client,
    jobs: u64,
}

impl Client {
    /// With a key of its own.
    pub async fn new(load: Load, number: usize) -> Self {
        Self { payer: Payer::new(load, number).await, http: http(), jobs: 0 }
    }

    /// Whose money it is.
    pub fn address(&self) -> Address {
        self.payer.address()
    }

    /// Has jobs done until there is enough.
    pub async fn run(mut self) -> Outcome {
        self.payer.begin();
        while !self.payer.enough() {
            // What a payment without a job needs.
            let token = self.payer.offered().await.0;
            let mut offer = self.terms().await;
            for _ in 0..self.payer.random.random_range(10..60) {
                if self.payer.enough() {
                    break;
                }
                match self.payer.random.random_range(0..100) {
                    0..90 => self.job(&token, &mut offer).await,
                    _ => offer = self.terms().await,
                }
            }
        }
        self.payer.end()
    }

    /// Asks one after the other until somebody who has the capability says what it costs.
    async fn terms(&mut self) -> Offer {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let at = self.payer.anyone();
            let (url, sender) = (&self.payer.load.urls[at], self.payer.address());
            let proof = &self.payer.proof;
            match self.payer.calls.byoc_token(url, CAPABILITY, sender, proof, PATIENCE).await {
                Ok(token) if token.available_capacity == 0 => {
                    self.payer.load.tally.count("terms without room");
                }
                Ok(token) => {
                    let (Some(fields), Some(price)) = (token.ticket_params, token.price) else {
                        self.payer.violation("terms without tickets or without a price".to_owned());
                        continue;
                    };
                    match Offer::of(fields, price, sender, &self.payer.load.recipient) {
                        Ok(offer) => {
                            self.payer.answered(at);
                            return offer;
                        }
                        Err(error) => self.payer.violation(format!("terms that are none: {error}")),
                    }
                }
                Err(error) => self.payer.load.tally.count(&words(&error)),
            }
            assert!(Instant::now() < deadline, "client {}: nobody says terms", self.payer.number);
            self.payer.pause().await;
        }
    }

    async fn tickets(&mut self, offer: &mut Offer) -> Signed {
        loop {
            if let Some(signed) = self.payer.sign(offer).await {
                return signed;
            }
            *offer = self.terms().await;
        }
    }

    /// A job with its tickets.
    async fn job(&mut self, token: &AuthToken, offer: &mut Offer) {
        let signed = self.tickets(offer).await;
        self.jobs += 1;
        let work_ms = if self.payer.random.random_ratio(1, 12) { LONG_MS } else { 0 };
        let body = format!("{work_ms} job {}", self.jobs);
        let job = self.header().await;
        let at = self.payer.anyone();
        let request = self
            .http
            .post(format!("{}/process/request/echo", self.payer.load.urls[at]))
            .header(penstock_wire::json::JOB_HEADER, job)
            .header("Livepeer-Capability", CAPABILITY)
            .header(header::PAYMENT, &signed.payment)
            .body(body.clone());
        let key: Account = (self.payer.address(), CAPABILITY.to_owned());
        let from_ms = now_ms();
        let answered = self.answered(request, &body).await;
        let to_ms = answered.then(now_ms);
        let jobs = self.payer.held.brought.entry(key).or_default();
        jobs.push(BroughtJob { from_ms, to_ms, work_ms });
        if answered {
            self.payer.load.tally.count("jobs of a brought capability answered");
            self.payer.answered(at);
            let headers = signed.for_account(&self.payer.signer, token, CAPABILITY).await;
            self.payer.settled(CAPABILITY, signed, headers).await;
        } else {
            self.payer.pay_after_all(token, CAPABILITY, signed).await;
        }
    }

    /// Whether the whole answer came.
    async fn answered(&self, request: reqwest::RequestBuilder, wanted: &str) -> bool {
        let what = "POST /process/request";
        let tally = &self.payer.load.tally;
        let (status, text) = match request.send().await {
            Ok(answer) => (answer.status().as_u16(), answer.text().await),
            Err(error) => {
                tally.count(&broken(what, &error));
                return false;
            }
        };
        match (status, text) {
            (200, Ok(text)) => {
                if text != wanted {
                    tally.violation(format!("{wanted:?} was answered with {text:?}"));
                }
                true
            }
            // Stopping, without its ledger, or the worker has not registered there again yet; or whatever
            // made it fail that the answer could not be given.
            (500.., Ok(text)) => {
                tally.count(&format!("{what}: {status} {}", text.trim()));
                false
            }
            (_, Ok(text)) => {
                tally.violation(format!("a paid job was refused: {status} {}", text.trim()));
                false
            }
            (_, Err(error)) => {
                tally.count(&broken(what, &error));
                false
            }
        }
    }

    /// `Livepeer`: the signed request.
    async fn header(&self) -> String {
        let job = ByocJobRequest {
            id: format!("{}-{}", self.payer.number, self.jobs),
            request: json!({"run": "echo"}).to_string(),
            parameters: "{}".to_owned(),
            capability: CAPABILITY.to_owned(),
            timeout_seconds: TIMEOUT_S,
            include: Vec::new(),
            exclude: Vec::new(),
        }
        .signable();
        let signed = ByocJob::new(&job.request, &job.parameters).expect("texts of JSON objects");
        let signature = self.payer.signer.sign_byoc_job(&signed).await.expect("a key in memory");
        let signature = format!("0x{}", hex(signature.as_bytes()));
        job.to_header(&self.payer.address().to_string(), &signature)
    }
}
