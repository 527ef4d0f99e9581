//! `/scope` (live-video.md section 13): sessions of the model `scope`, which begin with messages only. Who has not paid is
//! told what to pay; the account is the one that the client's credentials name, and stays its own.

use super::{
    error::{LiveError, RunnerError},
    paid_start::{Means, random_name},
    start::Started,
};
use crate::{
    error::JobError,
    node::Node,
    runners::payer_of,
    service::{
        credentials::{self, Work},
        offers::OfferFor,
    },
};
use http::HeaderMap;
use penstock_domain::{Address, Capabilities, Capability};
use penstock_ledger::orchestrator::AccountKey;
use penstock_payments::wire_price;
use penstock_wire::{
    header,
    json::{LiveVideoStart, PaymentChallenge},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The model, whatever a request says.
pub const MODEL: &str = "scope";

/// What became of a wish for a session.
pub enum Asked {
    /// It has to be paid first: the 402's body.
    Challenge(Value),
    /// It has begun.
    Started(Started),
}

impl Node {
    /// A session, or what has to be paid for it.
    pub async fn start_scope(
        self: &Arc<Self>,
        start: LiveVideoStart,
        headers: &HeaderMap,
    ) -> Result<Asked, JobError> {
        let start = LiveVideoStart { model_id: MODEL.to_owned(), ..start };
        if !self.live.sessions.has_room() || !self.live.runners.has_room(MODEL) {
            return Err(LiveError::Capacity.into());
        }
        let name = random_name()?;
        let bad_key = |_| JobError::BadRequest("invalid manifest id".to_owned());
        let (account, admission) = if self.cashier.is_some() {
            let is_empty = headers.get(header::PAYMENT).is_none_or(|value| value.is_empty());
            if is_empty || credentials::payment(headers).is_err() {
                return Ok(Asked::Challenge(self.scope_challenge(headers).await?));
            }
            let admission = self.admit_served(headers, Work::Ai).await?;
            let manifest = admission.credential.manifest_id.as_str();
            (AccountKey::new(admission.sender, manifest).map_err(bad_key)?, Some(admission))
        } else {
            (AccountKey::new(Address::ZERO, name.as_str()).map_err(bad_key)?, None)
        };
        let slot = self.live.runners.reserve(MODEL, account.sender(), &[]).await?;
        let begun = self.begin_live(Means::Own(account), name, start, admission, slot).await;
        begun.map(Asked::Started).map_err(handshake)
    }

    async fn scope_challenge(&self, headers: &HeaderMap) -> Result<Value, JobError> {
        let sender = payer_of(headers)?;
        let work = work();
        let to = OfferFor { sender, account: None, job: Some(&work), token: None };
        let offer = self.info(&to).await.map_err(crate::runners::error::RunnerError::Offer)?;
        let token = offer.auth_token.as_ref().ok_or(JobError::Storage)?;
        let challenge = PaymentChallenge {
            manifest_id: token.session_id.clone(),
            payment_params: offer.encode(),
            orchestrator: self.service_uri().to_owned(),
            payment_url: format!("{}/payment", self.service_uri()),
        };
        Ok(challenge.to_json())
    }

    /// As a gateway finds it at `/discovery`; `None` where nobody has the model.
    pub fn scope_row(&self, gateway: Address) -> Option<Value> {
        let (used, capacity) = self.live.runners.used(MODEL);
        if capacity == 0 {
            return None;
        }
        let mut row = json!({
            "url": format!("{}/scope", self.service_uri()),
            "app": format!("{}/{MODEL}", Capability::LiveVideoToVideo.pipeline()),
            // Clients of the reference know by it that the answer is the session.
            "version": concat!("serverless-", env!("CARGO_PKG_VERSION")),
            "capacity": capacity,
            "capacity_used": used,
            "capacity_available": capacity.saturating_sub(used),
        });
        let price = self.cashier.as_ref().and_then(|cashier| {
            let price = cashier.prices.base(gateway, Some(&work())).ok()?;
            // Clients read whole numbers, and take them for the most that it may cost.
            wire_price(&price).ok().filter(|price| price.pixels_per_unit() == 1)
        });
        if let (Some(price), Some(row)) = (price, row.as_object_mut()) {
            let price = price.price_per_unit();
            let info = json!({ "price": price, "currency": "wei", "unit": "720p-pixel-seconds" });
            row.insert("price_info".to_owned(), info);
        }
        Some(row)
    }
}

fn work() -> Capabilities {
    Capabilities::ai_job(Capability::LiveVideoToVideo, MODEL, true)
}

/// What a runner says of the request goes to who made it.
fn handshake(error: JobError) -> JobError {
    match error {
        JobError::Live(LiveError::Runner(RunnerError::Status {
            status: status @ (400 | 401),
            message,
        })) => LiveError::Handshake { unauthorized: status == 401, message }.into(),
        other => other,
    }
}
