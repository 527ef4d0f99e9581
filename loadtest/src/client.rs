//! A paying client: one session after another state, as the SDK does it. It keeps the state as the
//! text it was given, and asks its orchestrator for a new offer when it is told to (480).

use penstock_domain::Address;
use penstock_testkit::sim::SimOrchestrator;
use penstock_wire::{header::to_base64, net};
use prost::Message as _;
use std::sync::Arc;

/// One payment session.
#[derive(Debug)]
pub struct Session {
    /// Whom it pays.
    pub orchestrator: Arc<SimOrchestrator>,
    /// Its name at the orchestrator.
    pub manifest: String,
    sender: Address,
    offer: String,
    state: Option<String>,
}

/// What came back.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 and this body.
    Paid(String),
    /// 480: a new offer is needed.
    Refresh,
    /// Another status.
    Refused(u16, String),
    /// No answer, or not a whole one: whether the payment was made is not known.
    Lost(String),
}

impl Session {
    /// A session that has not paid yet.
    pub fn new(orchestrator: Arc<SimOrchestrator>, sender: Address, manifest: String) -> Self {
        let mut session =
            Self { orchestrator, manifest, sender, offer: String::new(), state: None };
        session.refresh();
        session
    }

    /// Takes a new offer.
    pub fn refresh(&mut self) {
        let offer = self.orchestrator.offer(self.sender, self.orchestrator.token());
        self.use_offer(net::OrchestratorInfo::from(&offer).encode_to_vec());
    }

    /// Takes this offer, an encoded `OrchestratorInfo`.
    pub fn use_offer(&mut self, encoded: Vec<u8>) {
        self.offer = to_base64(encoded);
    }

    /// The next request for so many units. The same until the session advances.
    pub fn request(&self, units: u64) -> String {
        let state = self.state.as_ref().map(|state| format!(r#","state":{state}"#));
        format!(
            r#"{{"orchestrator":"{}","inPixels":{units},"type":"","ManifestID":"{}"{}}}"#,
            self.offer,
            self.manifest,
            state.unwrap_or_default()
        )
    }

    /// Whether the next request is the session's first.
    pub fn is_new(&self) -> bool {
        self.state.is_none()
    }

    /// Goes on from an answer.
    pub fn advance(&mut self, answer: &str) {
        self.state = Some(state_of(answer).to_owned());
    }

    /// Sends the next request.
    pub async fn pay(&self, http: &reqwest::Client, signer: &str, units: u64) -> Answer {
        send(http, signer, self.request(units), &self.manifest).await
    }
}

/// Sends a payment request. The key matters for first requests only.
pub async fn send(
    http: &reqwest::Client,
    signer: &str,
    body: String,
    idempotency_key: &str,
) -> Answer {
    let request = http
        .post(format!("{signer}/generate-live-payment"))
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", idempotency_key)
        .body(body);
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return Answer::Lost(error.to_string()),
    };
    let status = answer.status().as_u16();
    match (status, answer.text().await) {
        (200, Ok(text)) => Answer::Paid(text),
        (480, _) => Answer::Refresh,
        (status, Ok(text)) => Answer::Refused(status, text),
        (_, Err(error)) => Answer::Lost(error.to_string()),
    }
}

/// The member `state` of an answer, as it is written there. It holds base64 texts and no braces.
fn state_of(answer: &str) -> &str {
    let start = answer.find(r#""state""#).expect("an answer with a state");
    let open = start + answer[start..].find('{').expect("an object");
    let close = open + answer[open..].find('}').expect("its end");
    &answer[open..=close]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_kept_as_it_was_written() {
        let answer = r#"{"payment":"p","segCreds":"s","state": {"State":"AA==", "Sig":"BB=="}}"#;
        assert_eq!(state_of(answer), r#"{"State":"AA==", "Sig":"BB=="}"#);
        let answer = r#"{"state":{"Sig":"B","State":"A"},"payment":"p"}"#;
        assert_eq!(state_of(answer), r#"{"Sig":"B","State":"A"}"#);
    }
}
