//! Clients with paid sessions. They pay and work at whichever process they like, sign their own tickets,
//! and send what was not answered to another process, in the same words, until somebody has taken it.

use super::{
    clock::Clock,
    held::{Account, Held},
    tally::Tally,
    tickets::{Offer, Recipient, Signed},
    trio::MODEL,
    workers::pixels_of,
};
use penstock_clients::{
    AiBody, AiLimits, CallError, CallErrorKind, OfferRequest, OrchestratorClient,
    OrchestratorOptions, PaidHeaders, SegmentBody, SegmentTimeouts,
};
use penstock_domain::{Capability, ManifestId, VideoProfile, keccak256, model_capability_key};
use penstock_keys::TypedSigner;
use penstock_testkit::{sim::account, until::DEADLINE};
use penstock_wire::{AuthToken, OrchestratorOffer, SegmentSpec};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// How long a client waits for an answer before it goes to another process. One that stands still is
/// given up so, and answers later whatever it has.
const PATIENCE: Duration = Duration::from_secs(4);
/// Bytes of a segment.
const SEGMENT_BYTES: usize = 2_000;
/// Tokens of a client's first job in words; each next one has one more.
const FIRST_TOKENS: u64 = 5_000;
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

/// One paying client.
pub struct Client {
    load: Load,
    number: usize,
    random: StdRng,
    signer: TypedSigner,
    asks_with: OfferRequest,
    calls: OrchestratorClient,
    held: Held,
    taken: Vec<Taken>,
    last: Instant,
    longest: Duration,
    jobs: u64,
}

/// A paid session: its token, and the offer that its tickets are of.
struct Session {
    token: AuthToken,
    offer: Offer,
    seq: i64,
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
fn words(error: &CallError) -> String {
    let what = match &error.kind {
        CallErrorKind::Status { status, message, .. } => format!("{status} {}", message.trim()),
        CallErrorKind::Connect(_) => "no connection".to_owned(),
        CallErrorKind::Broken(_) => "the connection broke".to_owned(),
        CallErrorKind::Grpc { message, .. } => message.clone(),
        other => other.to_string(),
    };
    format!("{}: {what}", error.operation)
}

impl Client {
    /// With a key of its own.
    pub async fn new(load: Load, number: usize) -> Self {
        let signer = account();
        let sig = signer.sign_orchestrator_request().await.expect("a key in memory signs");
        let asks_with = OfferRequest {
            address: signer.address(),
            sig: sig.as_bytes().to_vec(),
            capabilities: None,
            ignore_capacity_check: true,
        };
        Self {
            random: StdRng::seed_from_u64(load.seed.wrapping_add(1 + number as u64)),
            load,
            number,
            signer,
            asks_with,
            calls: calls(),
            held: Held::default(),
            taken: Vec::new(),
            last: Instant::now(),
            longest: Duration::ZERO,
            jobs: 0,
        }
    }

    /// Whose money it is.
    pub fn address(&self) -> penstock_domain::Address {
        self.signer.address()
    }

    /// Pays and works until there is enough.
    pub async fn run(mut self) -> Outcome {
        self.last = Instant::now();
        while !self.enough() {
            let mut session = self.begin().await;
            self.load.tally.count("sessions begun");
            for _ in 0..self.random.random_range(20..120) {
                if self.enough() {
                    break;
                }
                self.step(&mut session).await;
            }
        }
        Outcome { held: self.held, taken: self.taken, longest: self.longest }
    }

    fn enough(&self) -> bool {
        self.load.tally.enough.load(Ordering::SeqCst)
    }

    async fn step(&mut self, session: &mut Session) {
        match self.random.random_range(0..100) {
            0..50 => self.pay(session, false).await,
            50..60 => self.pay(session, true).await,
            60..80 => self.segment(session).await,
            80..96 => self.words(session).await,
            _ => self.refresh(session).await,
        }
    }

    /// Any process.
    fn anyone(&mut self) -> usize {
        self.random.random_range(0..self.load.urls.len())
    }

    /// Asks one after the other until somebody makes an offer.
    async fn offered(&mut self) -> (AuthToken, Offer) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let at = self.anyone();
            let url = &self.load.urls[at];
            match self.calls.get_orchestrator(url, &self.asks_with, None).await {
                Ok(offered) => {
                    let offer = Offer::read(&offered.offer, self.address(), &self.load.recipient);
                    match (offer, offered.offer.auth_token) {
                        (Ok(offer), Some(token)) => {
                            self.answered(at);
                            return (token, offer);
                        }
                        (offer, _) => {
                            let what = offer.err().unwrap_or_else(|| "no token".to_owned());
                            self.load.tally.violation(format!("an offer that is none: {what}"));
                        }
                    }
                }
                Err(error) => self.load.tally.count(&words(&error)),
            }
            assert!(Instant::now() < deadline, "client {}: nobody makes an offer", self.number);
            self.pause().await;
        }
    }

    async fn begin(&mut self) -> Session {
        let (token, offer) = self.offered().await;
        Session { token, offer, seq: 0 }
    }

    /// A new offer for the same session, of whoever is there.
    async fn refresh(&mut self, session: &mut Session) {
        session.offer = self.offered().await.1;
    }

    /// Tickets whose offer will not end before they are taken. The chain waits from here on.
    async fn tickets(&mut self, session: &mut Session) -> Signed {
        let tickets = self.random.random_range(1..=self.load.max_tickets);
        while !session.offer.has(tickets)
            || !self.load.clock.begin(self.number, session.offer.ends_at())
        {
            self.refresh(session).await;
        }
        session.offer.sign(&self.signer, tickets).await
    }

    /// An answer of this process.
    fn answered(&mut self, at: usize) {
        self.load.tally.answered(self.number, at, self.last);
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
    }

    /// A payment into the session's account, or into that of jobs in words.
    async fn pay(&mut self, session: &mut Session, into_words: bool) {
        let signed = self.tickets(session).await;
        let account = if into_words { words_account() } else { session.token.session_id.clone() };
        let headers = signed.for_account(&self.signer, &session.token, &account).await;
        let mut repeated = false;
        if self.random.random_ratio(1, 12) {
            repeated = !self.twins(&headers).await;
            if !repeated {
                self.settled(&account, signed, headers).await;
                return;
            }
        }
        self.deliver(session, &account, signed, headers, repeated).await;
    }

    /// Sends a payment until somebody has taken it. `repeated`: somebody may have taken it already.
    async fn deliver(
        &mut self,
        session: &mut Session,
        account: &str,
        signed: Signed,
        headers: PaidHeaders,
        mut repeated: bool,
    ) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let at = self.anyone();
            let (sent, offer) = pay_at(&self.calls, &self.load.urls[at], &headers).await;
            match sent {
                Sent::Credited => {
                    // A gateway goes on with the offer that comes with the answer.
                    if let Some(offer) = offer
                        && self.random.random_ratio(1, 8)
                        && let Ok(offer) = Offer::read(&offer, self.address(), &self.load.recipient)
                    {
                        session.offer = offer;
                    }
                    self.answered(at);
                    break;
                }
                Sent::Seen => {
                    if repeated {
                        self.load.tally.count("payments found credited after a lost answer");
                    } else {
                        self.load.tally.violation("tickets were seen before they were sent".into());
                    }
                    self.answered(at);
                    break;
                }
                Sent::Refused(why) => {
                    self.load.tally.violation(format!("valid tickets were refused: {why}"));
                    self.load.clock.end(self.number);
                    return;
                }
                Sent::Unanswered => {
                    repeated = true;
                    self.load.tally.count("payments sent again");
                    assert!(Instant::now() < deadline, "client {}: nobody takes it", self.number);
                    self.pause().await;
                }
            }
        }
        self.settled(account, signed, headers).await;
    }

    /// The payment is in the books; some are sent once more, and must be known.
    async fn settled(&mut self, account: &str, signed: Signed, headers: PaidHeaders) {
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
                    self.load.tally.violation(what);
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
    async fn twins(&mut self, headers: &PaidHeaders) -> bool {
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
            both => self.load.tally.violation(format!("sent to two processes at once: {both:?}")),
        }
        self.answered(at);
        true
    }

    /// A segment with tickets for the session's account.
    async fn segment(&mut self, session: &mut Session) {
        let signed = self.tickets(session).await;
        session.seq += 1;
        let seq = session.seq;
        let data = vec![b'x'; SEGMENT_BYTES];
        let account = session.token.session_id.clone();
        let manifest = ManifestId::new(&account).expect("a session's id");
        let spec = SegmentSpec {
            seq,
            hash: keccak256(&data),
            duration_ms: 100,
            profiles: VideoProfile::preset("P144p30fps16x9").into_iter().collect(),
            ..SegmentSpec::empty(manifest, None, session.token.clone())
        };
        let headers = signed.with(&self.signer, &spec).await;
        let key = (self.address(), account.clone());
        self.held.asked(&key, pixels_of(seq));
        let at = self.anyone();
        let timeouts = SegmentTimeouts { head: PATIENCE, whole: 2 * PATIENCE };
        let body = SegmentBody::Data(data.into());
        let url = &self.load.urls[at];
        match self.calls.submit_segment(url, &headers, body, timeouts).await {
            Ok(answer) => {
                let pixels: Vec<u64> = answer.renditions.iter().map(|r| r.pixels).collect();
                if pixels != [pixels_of(seq)] {
                    self.load.tally.violation(format!("segment {seq} came back as {pixels:?}"));
                }
                self.done(at, &key, pixels_of(seq), "segments answered");
                let headers = signed.for_account(&self.signer, &session.token, &account).await;
                self.settled(&account, signed, headers).await;
            }
            Err(error) => {
                self.load.tally.count(&words(&error));
                self.pay_after_all(session, &account, signed).await;
            }
        }
    }

    /// A job in words with tickets for its account.
    async fn words(&mut self, session: &mut Session) {
        let signed = self.tickets(session).await;
        let account = words_account();
        let headers = signed.for_account(&self.signer, &session.token, &account).await;
        self.jobs += 1;
        let tokens = FIRST_TOKENS + self.jobs;
        let key = (self.address(), account.clone());
        self.held.asked(&key, tokens);
        let body = json!({"model": MODEL, "max_tokens": tokens, "stream": false,
            "messages": [{"role": "user", "content": "is it?"}]});
        let body = AiBody::Json(body.to_string().into());
        let limits = AiLimits { timeout: 2 * PATIENCE, ..AiLimits::default() };
        let at = self.anyone();
        let url = &self.load.urls[at];
        match self.calls.ai_job(url, Capability::Llm, &headers, body, limits).await {
            Ok(_) => {
                self.done(at, &key, tokens, "jobs in words answered");
                self.settled(&account, signed, headers).await;
            }
            Err(error) => {
                self.load.tally.count(&words(&error));
                self.pay_after_all(session, &account, signed).await;
            }
        }
    }

    fn done(&mut self, at: usize, key: &Account, units: u64, what: &str) {
        self.held.answered(key, units);
        self.load.tally.count(what);
        self.answered(at);
    }

    /// A job was not done, and nobody knows what became of its tickets: they are sent by themselves.
    async fn pay_after_all(&mut self, session: &mut Session, account: &str, signed: Signed) {
        let headers = signed.for_account(&self.signer, &session.token, account).await;
        self.deliver(session, account, signed, headers, true).await;
    }

    /// As long as a client waits before it tries again.
    async fn pause(&mut self) {
        let ms = self.random.random_range(5..50);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// The balance key of jobs in words (orchestrator-wire.md section 7).
fn words_account() -> String {
    model_capability_key(Capability::Llm, MODEL)
}
