//! The 402 challenge and `POST /refresh-payment` (orchestrator-wire.md section 8).

use super::read;
use crate::{
    error::WireError,
    header, limits,
    offer::{OrchestratorOffer, checked_url},
};
use penstock_domain::{Address, parse_address};
use serde_json::{Value, json};

/// What to pay, and where: the body of a 402 and of the answer to a refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentChallenge {
    /// Encoded `OrchestratorInfo`, to be given to the signer as it is.
    pub payment_params: Vec<u8>,
    /// Service URI.
    pub orchestrator: String,
    /// The session to pay for.
    pub manifest_id: String,
    /// Where to post the payment.
    pub payment_url: String,
}

impl PaymentChallenge {
    /// Reads a body; the encoded offer inside is checked as well and returned with it.
    pub fn parse(body: &[u8]) -> Result<(Self, OrchestratorOffer), WireError> {
        let what = "payment challenge";
        let map = read::object(what, body, 2 * limits::ORCHESTRATOR_INFO_BYTES)?;
        let payment_params = read::base64(&map, "payment_params", limits::ORCHESTRATOR_INFO_BYTES)?;
        if payment_params.is_empty() {
            return Err(WireError::Missing("payment_params"));
        }
        let offer = OrchestratorOffer::decode(&payment_params)?;
        let url = |key| checked_url(key, &read::text(&map, key, limits::URL_BYTES)?);
        let challenge = Self {
            payment_params,
            orchestrator: url("orchestrator")?,
            manifest_id: read::text(&map, "manifest_id", limits::SESSION_ID_BYTES)?,
            payment_url: url("payment_url")?,
        };
        Ok((challenge, offer))
    }

    /// The body.
    pub fn to_json(&self) -> Value {
        json!({
            "payment_params": header::to_base64(&self.payment_params),
            "orchestrator": self.orchestrator,
            "manifest_id": self.manifest_id,
            "payment_url": self.payment_url,
        })
    }
}

/// Asks for fresh ticket parameters of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshPaymentRequest {
    /// Who pays.
    pub sender: Address,
    /// The session.
    pub manifest_id: String,
}

impl RefreshPaymentRequest {
    /// Reads a body. The errors' texts are the documented ones.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let map = read::object("refresh request", body, 4096)?;
        let sender = parse_address(&read::text(&map, "sender", limits::NAME_BYTES)?)
            .ok_or(WireError::invalid("sender", "must be 20 bytes in hex"))?;
        let manifest_id = read::text(&map, "manifest_id", limits::SESSION_ID_BYTES)?;
        if manifest_id.is_empty() {
            return Err(WireError::Missing("manifest_id"));
        }
        Ok(Self { sender, manifest_id })
    }

    /// The body.
    pub fn to_json(&self) -> Value {
        json!({ "sender": self.sender.to_string(), "manifest_id": self.manifest_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn challenge_round_trip() {
        let info =
            crate::net::OrchestratorInfo { transcoder: "https://o".into(), ..Default::default() };
        let c = PaymentChallenge {
            payment_params: info.encode_to_vec(),
            orchestrator: "https://o:8935".into(),
            manifest_id: "a1b2c3d4".into(),
            payment_url: "https://o:8935/apps/R/session/a1b2c3d4/payment".into(),
        };
        let (read, offer) = PaymentChallenge::parse(c.to_json().to_string().as_bytes()).unwrap();
        assert_eq!((read, offer.transcoder.as_deref()), (c.clone(), Some("https://o")));
        let elsewhere = PaymentChallenge { payment_url: "file:///x".into(), ..c };
        assert!(PaymentChallenge::parse(elsewhere.to_json().to_string().as_bytes()).is_err());
    }

    #[test]
    fn refresh_errors() {
        let text = |b: &str| RefreshPaymentRequest::parse(b.as_bytes()).unwrap_err().to_string();
        assert!(text(r#"{"sender":"0x12","manifest_id":"a"}"#).starts_with("invalid sender"));
        let sender = Address::ZERO;
        assert_eq!(text(&format!(r#"{{"sender":"{sender}"}}"#)), "missing manifest_id");
    }
}
