//! What all clients have in common: a key of their own, tickets that they sign with it, and payments that
//! go to another process, in the same words, until somebody has taken them.

use super::{
    clock::Clock,
    held::{Account, Held},
    tally::Tally,
    tickets::{Offer, Recipient, Signed},
};
use penstock_clients::{
    CallError, CallErrorKind, OfferRequest, OrchestratorClient, OrchestratorOptions, PaidHeaders,
};
use penstock_domain::Address;
use penstock_keys::TypedSigner;
use penstock_testkit::{sim::account, until::DEADLINE};
use penstock_wire::{AuthToken, OrchestratorOffer};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// How long a client waits for an answer before it goes to another process. One that stands still is
/// given up so, and answers later whatever it has.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// Taken payments that a client keeps, to send them once more at the end.
const KEPT: usize = 3;

/// What all clients share.
#[derive(Clone)]
pub struct Load {
    pub urls: Arc<Vec<String>>,
    pub recipient: Recipient,
    pub clock: Arc<Clock>,
    pub tally: Arc<Tally>,
    /// Most tickets of one payment.
    pub max_tickets: u32,
    pub seed: u64,
}

/// What a process said to tickets that are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It has credited them just now.
    Credited,
    /// They were credited before.
    Seen,
    /// It is not there, or not able: nothing is known.
    Unanswered,
    /// It does not want them.
    Refused(String),
}

/// A payment that was taken, as it was sent.
pub struct Taken {
    pub headers: PaidHeaders,
    pub ends_at: u64,
}

/// A client when it is done.
pub struct Outcome {
    pub held: Held,
    /// Its last payments.
    pub taken: Vec<Taken>,
    /// The longest time between two answers.
    pub longest: Duration,
}

/// One client's key, books and patience.
pub struct Payer {
    pub load: Load,
    pub number: usize,
    pub random: StdRng,
    pub signer: TypedSigner,
    pub calls: OrchestratorClient,
    pub held: Held,
    /// The constant signature of whoever asks for offers.
    pub proof: Vec<u8>,
    taken: Vec<Taken>,
    last: Instant,
    longest: Duration,
}

/// Every process is well, or dead: nobody is given up for being slow in connecting.
pub fn calls() -> OrchestratorClient {
    OrchestratorClient::new(OrchestratorOptions {
        connect_timeout: PATIENCE,
        grpc_connect_timeout: PATIENCE,
        info_timeout: PATIENCE,
        payment_timeout: PATIENCE,
        ..OrchestratorOptions::default()
    })
    .expect("a client")
}

/// For what only SDKs ask of an orchestrator.
pub fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .timeout(PATIENCE)
        .build()
        .expect("a client")
}

/// `POST /payment` at one process.
pub async fn pay_at(
    calls: &OrchestratorClient,
    url: &str,
    headers: &PaidHeaders,
) -> (Sent, Option<OrchestratorOffer>) {
    match calls.pay(url, headers).await {
        Ok(offer) => (Sent::Credited, offer.map(|(offer, _)| offer)),
        Err(error) => (sent(&error), None),
    }
}

fn sent(error: &CallError) -> Sent {
    match &error.kind {
        CallErrorKind::Status { message, .. } if message.contains("already seen") => Sent::Seen,
        // Stopping, or without its ledger or its chain: it says itself that it may be asked again.
        CallErrorKind::Status { status: 503, .. } => Sent::Unanswered,
        CallErrorKind::Status { status, message, .. } => {
            Sent::Refused(format!("{status} {}", message.trim()))
        }
        _ => Sent::Unanswered,
    }
}

/// An error in few words, without what differs from one to the next.
pub fn words(error: &CallError) -> String {
    let what = match &error.kind {
        CallErrorKind::Status { status, message, .. } => format!("{status} {}", message.trim()),
        CallErrorKind::Connect(_) => "no connection".to_owned(),
        CallErrorKind::Broken(_) => "the connection broke".to_owned(),
        CallErrorKind::Grpc { message, .. } => message.clone(),
        other => other.to_string(),
    };
    format!("{}: {what}", error.operation)
}

/// The same of a request that is none of the network's own client.
pub fn broken(what: &str, error: &reqwest::Error) -> String {
    let why = match () {
        () if error.is_connect() => "no connection",
        () if error.is_timeout() => "no answer in time",
        () => "the connection broke",
    };
    format!("{what}: {why}")
}

impl Payer {
    /// With a key of its own.
    pub async fn new(load: Load, number: usize) -> Self {
        let signer = account();
        let proof = signer.sign_orchestrator_request().await.expect("a key in memory signs");
        Self {
            random: StdRng::seed_from_u64(load.seed.wrapping_add(1 + number as u64)),
            load,
            number,
            signer,
            proof: proof.as_bytes().to_vec(),
            calls: calls(),
            held: Held::default(),
            taken: Vec::new(),
            last: Instant::now(),
            longest: Duration::ZERO,
        }
    }

    /// Whose money it is.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// It begins.
    pub fn begin(&mut self) {
        self.last = Instant::now();
    }

    /// It is done.
    pub fn end(self) -> Outcome {
        Outcome { held: self.held, taken: self.taken, longest: self.longest }
    }

    /// Whether there is nothing more to begin.
    pub fn enough(&self) -> bool {
        self.load.tally.enough.load(Ordering::SeqCst)
    }

    /// Any process.
    pub fn anyone(&mut self) -> usize {
        self.random.random_range(0..self.load.urls.len())
    }

    /// Asks one after the other until somebody makes an offer.
    pub async fn offered(&mut self) -> (AuthToken, Offer) {
        let asks_with = OfferRequest {
            address: self.address(),
            sig: self.proof.clone(),
            capabilities: None,
            ignore_capacity_check: true,
            traceparent: None,
        };
        let deadline = Instant::now() + DEADLINE;
        loop {
            let at = self.anyone();
            let url = &self.load.urls[at];
            match self.calls.get_orchestrator(url, &asks_with, None).await {
                Ok(offered) => {
                    if let Some((offer, Some(token))) =
                        self.read(&offered.offer).map(|offer| (offer, offered.offer.auth_token))
                    {
                        self.answered(at);
                        return (token, offer);
                    }
                }
                Err(error) => self.load.tally.count(&words(&error)),
            }
            assert!(Instant::now() < deadline, "client {}: nobody makes an offer", self.number);
            self.pause().await;
        }
    }

    /// An offer of the orchestrator's own; whatever is none is a violation.
    pub fn read(&self, offer: &OrchestratorOffer) -> Option<Offer> {
        let read = Offer::read(offer, self.address(), &self.load.recipient);
        let read = read.map_err(|error| self.violation(format!("an offer that is none: {error}")));
        read.ok()
    }

    /// Tickets, if the offer will not end before they are taken. The chain waits from here on.
    pub async fn sign(&mut self, offer: &mut Offer) -> Option<Signed> {
        let tickets = self.random.random_range(1..=self.load.max_tickets);
        let usable = offer.has(tickets) && self.load.clock.begin(self.number, offer.ends_at());
        if usable { Some(offer.sign(&self.signer, tickets).await) } else { None }
    }

    /// An answer of this process.
    pub fn answered(&mut self, at: usize) {
        self.load.tally.answered(self.number, at, self.last);
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
    }

    /// Something that must not be.
    pub fn violation(&self, what: String) {
        self.load.tally.violation(what);
    }

    /// Sends a payment until somebody has taken it. `repeated`: somebody may have taken it already. What the
    /// answer offers.
    pub async fn deliver(
        &mut self,
        account: &str,
        signed: Signed,
        headers: PaidHeaders,
        mut repeated: bool,
    ) -> Option<OrchestratorOffer> {
        let deadline = Instant::now() + DEADLINE;
        let next = loop {
            let at = self.anyone();
            let (sent, offer) = pay_at(&self.calls, &self.load.urls[at], &headers).await;
            match sent {
                Sent::Credited => {
                    self.answered(at);
                    break offer;
                }
                Sent::Seen => {
                    if repeated {
                        self.load.tally.count("payments found credited after a lost answer");
                    } else {
                        self.violation("tickets were seen before they were sent".to_owned());
                    }
                    self.answered(at);
                    break None;
                }
                Sent::Refused(why) => {
                    self.violation(format!("valid tickets were refused: {why}"));
                    self.load.clock.end(self.number);
                    return None;
                }
                Sent::Unanswered => {
                    repeated = true;
                    self.load.tally.count("payments sent again");
                    assert!(Instant::now() < deadline, "client {}: nobody takes it", self.number);
                    self.pause().await;
                }
            }
        };
        self.settled(account, signed, headers).await;
        next
    }

    /// What they were sent with was not done, and nobody knows what became of these tickets: they are sent by
    /// themselves.
    pub async fn pay_after_all(&mut self, token: &AuthToken, account: &str, signed: Signed) {
        let headers = signed.for_account(&self.signer, token, account).await;
        self.deliver(account, signed, headers, true).await;
    }

    /// The payment is in the books; some are sent once more, and must be known.
    pub async fn settled(&mut self, account: &str, signed: Signed, headers: PaidHeaders) {
        let key: Account = (self.address(), account.to_owned());
        self.held.paid(&key, signed.offer_hash(), signed.offer.ev(), &signed.won);
        let tickets = signed.won.len() as u64;
        self.load.tally.tickets.fetch_add(tickets, Ordering::SeqCst);
        if self.random.random_ratio(1, 10) {
            let at = self.anyone();
            match pay_at(&self.calls, &self.load.urls[at], &headers).await.0 {
                Sent::Seen => self.load.tally.count("taken payments sent again, all refused"),
                Sent::Unanswered => {}
                other => {
                    let what = format!("a payment that was taken before was answered {other:?}");
                    self.violation(what);
                }
            }
        }
        self.load.clock.end(self.number);
        if self.taken.len() == KEPT {
            self.taken.remove(0);
        }
        self.taken.push(Taken { headers, ends_at: signed.ends_at });
    }

    /// To two processes at the same moment. At most one credits it. False: nobody may have.
    pub async fn twins(&mut self, headers: &PaidHeaders) -> bool {
        self.load.tally.count("payments sent to two processes at once");
        let one = self.anyone();
        let other = (one + 1) % self.load.urls.len();
        let (first, second) = tokio::join!(
            pay_at(&self.calls, &self.load.urls[one], headers),
            pay_at(&self.calls, &self.load.urls[other], headers),
        );
        let at = if matches!(first.0, Sent::Credited | Sent::Seen) { one } else { other };
        match (first.0, second.0) {
            (Sent::Unanswered, Sent::Unanswered) => return false,
            (Sent::Credited, Sent::Seen | Sent::Unanswered)
            | (Sent::Seen | Sent::Unanswered, Sent::Credited)
            // Whoever did not answer has credited it.
            | (Sent::Seen, Sent::Unanswered)
            | (Sent::Unanswered, Sent::Seen) => {}
            both => self.violation(format!("sent to two processes at once: {both:?}")),
        }
        self.answered(at);
        true
    }

    /// As long as a client waits before it tries again.
    pub async fn pause(&mut self) {
        let ms = self.random.random_range(5..50);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}
