//! Whom the operator serves, and at what price: his webhook is asked about every gateway that wants an offer
//! (orchestrator-wire.md section 11, operator.md section 6.2). Who is not allowed gets none, and neither does anybody while
//! the webhook cannot be asked.

use crate::limits::Limits;
use clap::Args;
use penstock_clients::{BuildError, HttpOptions, http};
use penstock_domain::{Address, PriceInfo, Rational};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::{sync::Semaphore, time::Instant};
use url::Url;

/// Characters of a refusal's words that a gateway is told.
const MAX_WORDS: usize = 256;
/// How long who was allowed is served on by a webhook that cannot be asked: as long as a token lives.
const SERVED_ON: Duration = Duration::from_secs(30 * 60);

/// Settings of the webhook.
#[derive(Debug, Clone, Args)]
pub struct AuthWebhookArgs {
    /// Asked about each gateway that wants an offer, or work: POST `{"id":"0x…"}`. 200 with JSON, `{}` or
    /// `{"priceInfo":{"pricePerUnit":1,"pixelsPerUnit":1}}` (wei, of transcoding), allows it; all else does not.
    #[arg(long, env = "PENSTOCK_AUTH_WEBHOOK_URL", value_name = "URL")]
    pub auth_webhook_url: Option<Url>,

    /// Longest time for its answer, in milliseconds. Who was asked about in vain gets no offer.
    #[arg(long, env = "PENSTOCK_AUTH_WEBHOOK_TIMEOUT_MS", default_value_t = 3_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub auth_webhook_timeout_ms: u64,

    /// Its answer, yes or no, counts for so many milliseconds; 0 asks each time.
    #[arg(long, env = "PENSTOCK_AUTH_WEBHOOK_TTL_MS", default_value_t = 60_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(0..=86_400_000))]
    pub auth_webhook_ttl_ms: u64,
}

/// Why a gateway gets no offer. The texts are for it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denied {
    /// The webhook said no.
    #[error("{0}")]
    Said(String),
    /// It did not answer, or not in time, or too much is asked at once.
    #[error("the operator's webhook does not answer")]
    NoAnswer,
    /// It answered with something else.
    #[error("the operator's webhook gave an answer that makes no sense")]
    Malformed,
}

/// What was said about a gateway: its price, wei per pixel, if it has one of its own.
type Said = Result<Option<Rational>, Denied>;

/// The webhook, and what it said lately.
pub struct AuthWebhook {
    http: reqwest::Client,
    url: Url,
    time: Duration,
    ttl: Duration,
    known: Mutex<HashMap<Address, (Instant, Said)>>,
    /// Answers remembered. Anybody with a key of his own can be asked about.
    most_known: usize,
    questions: Semaphore,
    answer_bytes: usize,
}

impl AuthWebhook {
    /// As set by the operator; `None` if he serves everybody.
    pub fn new(args: &AuthWebhookArgs, limits: &Limits) -> Result<Option<Self>, BuildError> {
        let Some(url) = args.auth_webhook_url.clone() else { return Ok(None) };
        let time = Duration::from_millis(args.auth_webhook_timeout_ms);
        let options =
            HttpOptions { total_timeout: Some(time), read_timeout: time, ..HttpOptions::default() };
        Ok(Some(Self {
            http: http(&options)?,
            url,
            time,
            ttl: Duration::from_millis(args.auth_webhook_ttl_ms),
            known: Mutex::default(),
            most_known: limits.webhook_known,
            questions: Semaphore::new(limits.webhook_questions),
            answer_bytes: limits.webhook_answer_bytes,
        }))
    }

    /// Whether a gateway is served, and its own price.
    pub async fn ask(&self, gateway: Address) -> Said {
        if let Some(said) = self.known(gateway, Instant::now()) {
            return said;
        }
        let asked = Instant::now();
        // Together with the wait for its turn.
        let answer = tokio::time::timeout(self.time, self.question(gateway)).await;
        let said = answer.unwrap_or(Err(Denied::NoAnswer));
        let outcome = match &said {
            Ok(_) => "allowed",
            Err(Denied::Said(_)) => "denied",
            Err(Denied::NoAnswer | Denied::Malformed) => "failed",
        };
        metrics::counter!("orchestrator_auth_webhook_total", "outcome" => outcome).increment(1);
        match &said {
            Err(why @ (Denied::NoAnswer | Denied::Malformed)) => {
                tracing::warn!(%gateway, %why, "--auth-webhook-url: a gateway gets no offer");
            }
            Err(Denied::Said(why)) => {
                tracing::info!(%gateway, why, "the webhook denies a gateway");
                self.remember(gateway, asked, &said);
            }
            Ok(_) => self.remember(gateway, asked, &said),
        }
        said
    }

    /// Whether a gateway that was served is served on. While the webhook cannot be asked it is, if it was
    /// allowed within [`SERVED_ON`]: what is under way does not end with the webhook.
    pub async fn ask_again(&self, gateway: Address) -> Result<(), Denied> {
        match self.ask(gateway).await {
            Ok(_) => Ok(()),
            Err(Denied::NoAnswer | Denied::Malformed)
                if self.was_allowed(gateway, Instant::now()) =>
            {
                Ok(())
            }
            Err(denied) => Err(denied),
        }
    }

    fn was_allowed(&self, gateway: Address, now: Instant) -> bool {
        let known = self.lock();
        known.get(&gateway).is_some_and(|(asked, said)| {
            said.is_ok() && now.duration_since(*asked) < self.ttl.max(SERVED_ON)
        })
    }

    async fn question(&self, gateway: Address) -> Said {
        let _turn = self.questions.acquire().await.map_err(|_| Denied::NoAnswer)?;
        // With its checksum, as in the reference.
        let question = serde_json::json!({ "id": gateway.to_string() });
        let sent = self.http.post(self.url.clone()).json(&question).send().await;
        let mut answer = sent.map_err(|_| Denied::NoAnswer)?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|_| Denied::NoAnswer)? {
            if body.len() + piece.len() > self.answer_bytes {
                return Err(Denied::Malformed);
            }
            body.extend_from_slice(&piece);
        }
        read(status, &body)
    }

    fn known(&self, gateway: Address, now: Instant) -> Option<Said> {
        let known = self.lock();
        let (asked, said) = known.get(&gateway)?;
        (now.duration_since(*asked) < self.ttl).then(|| said.clone())
    }

    fn remember(&self, gateway: Address, asked: Instant, said: &Said) {
        let mut known = self.lock();
        if known.len() >= self.most_known {
            let longest = self.ttl.max(SERVED_ON);
            known.retain(|_, (then, said)| {
                asked.duration_since(*then) < if said.is_ok() { longest } else { self.ttl }
            });
        }
        if known.len() >= self.most_known {
            known.retain(|_, (then, _)| asked.duration_since(*then) < self.ttl);
        }
        // Where there is no room, the next offer asks again.
        if known.len() < self.most_known || known.contains_key(&gateway) {
            known.insert(gateway, (asked, said.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, (Instant, Said)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(status: u16, body: &[u8]) -> Said {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        price_info: Option<Price>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Price {
        price_per_unit: i64,
        pixels_per_unit: i64,
    }
    if status != 200 {
        let words = String::from_utf8_lossy(body);
        let words: String =
            words.trim().chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
        return Err(Denied::Said(if words.is_empty() {
            format!("status {status}")
        } else {
            words
        }));
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| Denied::Malformed)?;
    let Some(price) = answer.price_info else { return Ok(None) };
    let price = PriceInfo::new(price.price_per_unit, price.pixels_per_unit);
    price.map(|price| Some(price.rational())).map_err(|_| Denied::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use proptest::prelude::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AuthWebhookArgs,
    }

    #[test]
    fn answers() {
        assert_eq!(read(200, b"{}"), Ok(None));
        assert_eq!(read(200, br#"{"priceInfo":null,"more":1}"#), Ok(None));
        let priced = read(200, br#"{"priceInfo":{"pricePerUnit":3,"pixelsPerUnit":2}}"#);
        assert_eq!(priced.unwrap().unwrap().to_string(), "3/2");
        for bad in [
            "",
            "yes",
            "[1]",
            r#"{"priceInfo":{}}"#,
            r#"{"priceInfo":{"pricePerUnit":1,"pixelsPerUnit":0}}"#,
            r#"{"priceInfo":{"pricePerUnit":-1,"pixelsPerUnit":1}}"#,
            r#"{"priceInfo":{"pricePerUnit":1.5,"pixelsPerUnit":1}}"#,
        ] {
            assert_eq!(read(200, bad.as_bytes()), Err(Denied::Malformed), "{bad}");
        }
        assert_eq!(read(403, b" not\r\nyou "), Err(Denied::Said("notyou".into())));
        assert_eq!(read(302, b""), Err(Denied::Said("status 302".into())));
        assert_eq!(read(500, &[b'x'; 999]), Err(Denied::Said("x".repeat(MAX_WORDS))));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_remembered_for_their_time() {
        penstock_http_kit::tls::install_crypto_provider();
        let line = ["x", "--auth-webhook-url=http://127.0.0.1:1/", "--auth-webhook-ttl-ms=1000"];
        let webhook =
            AuthWebhook::new(&Line::parse_from(line).args, &Limits::default()).unwrap().unwrap();
        let gateway = Address::repeat_byte;
        let (one, no): (Said, Said) = (Ok(Some(Rational::ONE)), Err(Denied::Said("no".into())));
        let begin = Instant::now();
        webhook.remember(gateway(1), begin, &one);
        webhook.remember(gateway(2), begin, &no);
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(webhook.known(gateway(1), at(999)), Some(one));
        assert_eq!(webhook.known(gateway(2), at(999)), Some(no));
        assert_eq!(webhook.known(gateway(1), at(1_000)), None);
        assert_eq!(webhook.known(gateway(3), at(0)), None);
        // What is not there is not asked for long, and nobody gets an offer meanwhile.
        assert_eq!(webhook.ask(gateway(3)).await, Err(Denied::NoAnswer));
        assert_eq!(webhook.known(gateway(3), begin), None, "failures are not remembered");
    }

    #[test]
    fn the_memory_is_bounded() {
        penstock_http_kit::tls::install_crypto_provider();
        let line = ["x", "--auth-webhook-url=http://127.0.0.1:1/", "--auth-webhook-ttl-ms=1000"];
        const MAX_KNOWN: usize = 100;
        let limits = Limits { webhook_known: MAX_KNOWN, ..Limits::default() };
        let webhook = AuthWebhook::new(&Line::parse_from(line).args, &limits).unwrap().unwrap();
        let begin = Instant::now();
        let gateway = |n: u32| Address::left_padding_from(&n.to_be_bytes());
        for n in 0..u32::try_from(MAX_KNOWN).unwrap() + 9 {
            webhook.remember(gateway(n), begin, &Ok(None));
        }
        assert_eq!(webhook.lock().len(), MAX_KNOWN);
        webhook.remember(gateway(1), begin + Duration::from_millis(1_000), &Ok(None));
        assert_eq!(webhook.lock().len(), 1, "what is over makes room");
    }

    proptest! {
        #[test]
        fn nothing_panics(status in 100_u16..600, body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(status, &body);
        }
    }
}
