//! The two headers of a paid request, checked in the documented order (orchestrator-wire.md
//! section 6 rows 1 to 8).

use crate::{auth_webhook::Denied, clock, node::Node};
use http::HeaderMap;
use penstock_domain::{Address, Capabilities, Capability, PriceInfo};
use penstock_payments::{
    AuthTokenError, ExpirationParams, Payment, Signature, SignedNonce, TicketParams, segment_digest,
};
use penstock_wire::{
    AuthToken, PaymentFields, SegmentCredential, SegmentRefusal, WireError, header,
};
use thiserror::Error;

/// Why a request's headers are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderRefusal {
    /// Row 1.
    #[error(transparent)]
    Payment(WireError),
    /// Rows 2 to 8.
    #[error(transparent)]
    Credential(#[from] SegmentRefusal),
    /// The operator's webhook does not want whoever pays.
    #[error("authentication failed: {0}")]
    Denied(#[from] Denied),
}

/// What kind of work a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Segments and plain payments.
    Video,
    /// A batch AI pipeline.
    Ai,
    /// A session of a live runner: how many there may be is bounded on its own.
    Runner,
}

fn without_pipelines(asked: &Capabilities) -> Capabilities {
    let mut rest = asked.clone();
    rest.models.clear();
    for capability in Capability::ALL.iter().filter(|c| c.is_ai()) {
        rest.set.remove_number(capability.number());
    }
    rest
}

/// Who asks, with what, and what for.
#[derive(Debug)]
pub struct Admission {
    /// Who pays; zero for an empty payment.
    pub sender: Address,
    /// The payment, not yet taken.
    pub payment: Payment,
    /// The credential, checked.
    pub credential: SegmentCredential,
    /// What the job asks for.
    pub capabilities: Capabilities,
    /// The session.
    pub token: AuthToken,
}

/// Row 1: the payment header. An absent one is empty, as the reference reads it.
pub fn payment(headers: &HeaderMap) -> Result<Payment, HeaderRefusal> {
    let text = match headers.get(header::PAYMENT) {
        None => "",
        Some(value) => value
            .to_str()
            .map_err(|_| HeaderRefusal::Payment(WireError::Base64("payment header")))?,
    };
    let message = header::decode_payment(text).map_err(HeaderRefusal::Payment)?;
    // The price is read apart: a bad one is row 10's error (400), not row 1's.
    let expected_price = message
        .expected_price
        .as_ref()
        .map(|p| PriceInfo::new(p.price_per_unit, p.pixels_per_unit));
    let without_price = penstock_wire::net::Payment { expected_price: None, ..message };
    let fields = PaymentFields::try_from(&without_price).map_err(HeaderRefusal::Payment)?;
    Ok(Payment {
        sender: fields.sender,
        ticket_params: fields.ticket_params.map(|p| TicketParams {
            recipient: p.recipient,
            face_value: p.face_value,
            win_prob: p.win_prob,
            recipient_rand_hash: p.recipient_rand_hash,
            seed: p.seed,
            expiration_block: p.expiration_block,
            expiration_params: ExpirationParams::default(),
        }),
        expiration_params: ExpirationParams {
            creation_round: fields.expiration_params.creation_round,
            creation_round_block_hash: fields.expiration_params.creation_round_block_hash,
        },
        tickets: fields
            .tickets
            .into_iter()
            .map(|t| SignedNonce { sender_nonce: t.sender_nonce, signature: t.sig })
            .collect(),
        expected_price,
    })
}

impl Node {
    /// Rows 1 to 8. For AI work row 6 leaves the pipelines out: whether a worker has the model is
    /// its capacity check, whose answer (503) makes a gateway go elsewhere without blame.
    pub fn admit(&self, headers: &HeaderMap, work: Work) -> Result<Admission, HeaderRefusal> {
        let payment = payment(headers)?;
        let text = headers
            .get(header::SEGMENT)
            .map_or(Ok(""), |v| v.to_str())
            .map_err(|_| SegmentRefusal::Encoding)?;
        let credential = SegmentCredential::from_header(text)?;
        let sender = payment.sender.unwrap_or(Address::ZERO);
        self.check_signature(&credential, sender)?;
        let capabilities = credential.capabilities.clone()?;
        let asked = match work {
            Work::Video => capabilities.clone(),
            Work::Ai | Work::Runner => without_pipelines(&capabilities),
        };
        asked.fits(&self.capabilities()).map_err(|reason| {
            tracing::debug!(%reason, "incompatible job");
            SegmentRefusal::Capabilities
        })?;
        let token = credential.auth_token.clone()?;
        self.tokens
            .check(&token.token, &token.session_id, token.expiration_s, clock::now_s())
            .map_err(|error| match error {
                AuthTokenError::Invalid => SegmentRefusal::InvalidToken,
                AuthTokenError::Expired => SegmentRefusal::ExpiredToken,
            })?;
        let is_bounded = match work {
            Work::Video => true,
            Work::Ai => self.sessions.bounds_all_work(),
            Work::Runner => false,
        };
        if is_bounded && !self.sessions.has_room_for(&token.session_id) {
            return Err(SegmentRefusal::Capped.into());
        }
        Ok(Admission { sender, payment, credential, capabilities, token })
    }

    /// The same of work that is only done for whom the operator's webhook allows. A token alone does not
    /// say so: those for live runners and brought capabilities are anybody's. Off-chain nobody is proved to be anybody.
    pub async fn admit_served(
        &self,
        headers: &HeaderMap,
        work: Work,
    ) -> Result<Admission, HeaderRefusal> {
        let admission = self.admit(headers, work)?;
        if let (Some(webhook), Some(_)) = (&self.auth_webhook, &self.cashier) {
            webhook.ask_again(admission.sender).await?;
        }
        Ok(admission)
    }

    /// Row 5. Off-chain every signature is accepted.
    fn check_signature(
        &self,
        credential: &SegmentCredential,
        sender: Address,
    ) -> Result<(), SegmentRefusal> {
        if self.cashier.is_none() {
            return Ok(());
        }
        let digest = segment_digest(
            credential.manifest_id.as_str().as_bytes(),
            credential.seq,
            &credential.hash,
            &credential.rendition_names(),
        );
        Signature::from_slice(&credential.sig)
            .and_then(|signature| signature.verify(&digest, sender))
            .map_err(|_| SegmentRefusal::Signature)
    }
}
