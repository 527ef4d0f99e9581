//! Clients with paid sessions, as gateways have them: they pay, have segments transcoded and questions
//! answered, each time at whichever process they like.

use super::{
    held::Account,
    payer::{Load, Outcome, PATIENCE, Payer, words},
    tickets::{Offer, Signed},
    trio::MODEL,
    workers::pixels_of,
};
use penstock_clients::{AiBody, AiLimits, SegmentBody, SegmentTimeouts};
use penstock_domain::{Capability, ManifestId, VideoProfile, keccak256, model_capability_key};
use penstock_wire::{AuthToken, SegmentSpec};
use rand::Rng as _;
use serde_json::json;

/// Bytes of a segment.
const SEGMENT_BYTES: usize = 2_000;
/// Tokens of a client's first job in words; each next one has one more.
const FIRST_TOKENS: u64 = 5_000;

/// One paying client.
pub struct Client {
    payer: Payer,
    jobs: u64,
}

/// A paid session: its token, and the offer that its tickets are of.
struct Session {
    token: AuthToken,
    offer: Offer,
    seq: i64,
}

impl Client {
    /// With a key of its own.
    pub async fn new(load: Load, number: usize) -> Self {
        Self { payer: Payer::new(load, number).await, jobs: 0 }
    }

    /// Whose money it is.
    pub fn address(&self) -> penstock_domain::Address {
        self.payer.address()
    }

    /// Pays and works until there is enough.
    pub async fn run(mut self) -> Outcome {
        self.payer.begin();
        while !self.payer.enough() {
            let (token, offer) = self.payer.offered().await;
            let mut session = Session { token, offer, seq: 0 };
            self.payer.load.tally.count("sessions begun");
            for _ in 0..self.payer.random.random_range(20..120) {
                if self.payer.enough() {
                    break;
                }
                self.step(&mut session).await;
            }
        }
        self.payer.end()
    }

    async fn step(&mut self, session: &mut Session) {
        match self.payer.random.random_range(0..100) {
            0..50 => self.pay(session, false).await,
            50..60 => self.pay(session, true).await,
            60..80 => self.segment(session).await,
            80..96 => self.words(session).await,
            _ => self.refresh(session).await,
        }
    }

    /// A new offer for the same session, of whoever is there.
    async fn refresh(&mut self, session: &mut Session) {
        session.offer = self.payer.offered().await.1;
    }

    /// Tickets whose offer will not end before they are taken.
    async fn tickets(&mut self, session: &mut Session) -> Signed {
        loop {
            if let Some(signed) = self.payer.sign(&mut session.offer).await {
                return signed;
            }
            self.refresh(session).await;
        }
    }

    /// A payment into the session's account, or into that of jobs in words.
    async fn pay(&mut self, session: &mut Session, into_words: bool) {
        let signed = self.tickets(session).await;
        let account = if into_words { words_account() } else { session.token.session_id.clone() };
        let headers = signed.for_account(&self.payer.signer, &session.token, &account).await;
        let mut repeated = false;
        if self.payer.random.random_ratio(1, 12) {
            repeated = !self.payer.twins(&headers).await;
            if !repeated {
                self.payer.settled(&account, signed, headers).await;
                return;
            }
        }
        let next = self.payer.deliver(&account, signed, headers, repeated).await;
        // A gateway goes on with the offer that comes with the answer.
        if let Some(next) = next
            && self.payer.random.random_ratio(1, 8)
            && let Some(offer) = self.payer.read(&next)
        {
            session.offer = offer;
        }
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
        let headers = signed.with(&self.payer.signer, &spec).await;
        let key = (self.payer.address(), account.clone());
        self.payer.held.asked(&key, pixels_of(seq));
        let at = self.payer.anyone();
        let timeouts = SegmentTimeouts { head: PATIENCE, whole: 2 * PATIENCE };
        let body = SegmentBody::Data(data.into());
        let url = &self.payer.load.urls[at];
        match self.payer.calls.submit_segment(url, &headers, body, timeouts).await {
            Ok(answer) => {
                let pixels: Vec<u64> = answer.renditions.iter().map(|r| r.pixels).collect();
                if pixels != [pixels_of(seq)] {
                    self.payer
                        .load
                        .tally
                        .violation(format!("segment {seq} came back as {pixels:?}"));
                }
                self.done(at, &key, pixels_of(seq), "segments answered");
                let headers =
                    signed.for_account(&self.payer.signer, &session.token, &account).await;
                self.payer.settled(&account, signed, headers).await;
            }
            Err(error) => {
                self.payer.load.tally.count(&words(&error));
                self.payer.pay_after_all(&session.token, &account, signed).await;
            }
        }
    }

    /// A job in words with tickets for its account.
    async fn words(&mut self, session: &mut Session) {
        let signed = self.tickets(session).await;
        let account = words_account();
        let headers = signed.for_account(&self.payer.signer, &session.token, &account).await;
        self.jobs += 1;
        let tokens = FIRST_TOKENS + self.jobs;
        let key = (self.payer.address(), account.clone());
        self.payer.held.asked(&key, tokens);
        let body = json!({"model": MODEL, "max_tokens": tokens, "stream": false,
            "messages": [{"role": "user", "content": "is it?"}]});
        let body = AiBody::Json(body.to_string().into());
        let limits = AiLimits { timeout: 2 * PATIENCE, ..AiLimits::default() };
        let at = self.payer.anyone();
        let url = &self.payer.load.urls[at];
        match self.payer.calls.ai_job(url, Capability::Llm, &headers, body, limits).await {
            Ok(_) => {
                self.done(at, &key, tokens, "jobs in words answered");
                self.payer.settled(&account, signed, headers).await;
            }
            Err(error) => {
                self.payer.load.tally.count(&words(&error));
                self.payer.pay_after_all(&session.token, &account, signed).await;
            }
        }
    }

    fn done(&mut self, at: usize, key: &Account, units: u64, what: &str) {
        self.payer.held.answered(key, units);
        self.payer.load.tally.count(what);
        self.payer.answered(at);
    }
}

/// The balance key of jobs in words (orchestrator-wire.md section 7).
fn words_account() -> String {
    model_capability_key(Capability::Llm, MODEL)
}
