//! Reservations and what is paid for them (live-runner.md sections 5.1 and 6), in the documented order,
//! except that the runner is asked whether it is there before anything is paid.

use super::{
    error::RunnerError,
    facts::Mode,
    fixed::FixedPrice,
    meter::Meter,
    price::{DoesNotFit, agree},
    session::Paid,
    sessions::{Reserved, Terms},
};
use crate::{
    clock,
    error::JobError,
    node::Node,
    pricing::unit::Unit,
    release::Reason,
    secrets,
    service::{
        cashier::{Asked as Offered, Cashier, MoneyError},
        credentials::{Admission, Work},
        hands::{Hand, Purse},
        offers::params_fields,
    },
};
use http::HeaderMap;
use penstock_domain::{Address, Rational, parse_address};
use penstock_ledger::orchestrator::{AccountKey, Start};
use penstock_payments::{TOKEN_LIFETIME_S, wire_price};
use penstock_wire::{AuthToken, OrchestratorOffer, header, json::PaymentChallenge};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

/// Says who will pay, before there is a payment.
const PAYER: &str = "livepeer-payer-address";
/// A payment covers at least so much of the time that comes, or one interval if that is shorter. The
/// network's signers pay ten seconds ahead.
const AHEAD: Duration = Duration::from_secs(5);

/// What became of a wish for a session.
pub enum Asked {
    /// It has to be paid first: the 402's body.
    Challenge(Value),
    /// It is there.
    Reserved(Box<Begun>),
}

/// A session that has begun.
pub struct Begun {
    /// Released when dropped, unless kept.
    pub reserved: Reserved,
    /// What a single call at a fixed price is paid from when it is done.
    pub once: Option<Purse>,
}

impl Node {
    /// A session, or what has to be paid for it.
    pub async fn ask_runner(
        self: &Arc<Self>,
        route: &str,
        mode: Mode,
        headers: &HeaderMap,
    ) -> Result<Asked, JobError> {
        let runners = self.runners()?;
        let now = Instant::now();
        let terms = runners.registry.terms(route, mode, now)?;
        let (Some(cashier), Some(sold)) = (&self.cashier, &terms.sold) else {
            let mut reserved = runners.reserve(&terms, None, now)?;
            // A single call finds out by itself.
            if mode == Mode::Persistent && !runners.is_well(&terms).await {
                reserved.because(Reason::RunnerFailed);
                return Err(RunnerError::Unwell.into());
            }
            return Ok(Asked::Reserved(Box::new(Begun { reserved, once: None })));
        };
        let is_empty = |name: &str| headers.get(name).is_none_or(|value| value.is_empty());
        if is_empty(header::PAYMENT) && is_empty(header::SEGMENT) {
            // Before anything else is looked at; an address that nobody has proven shows what that address is asked.
            let payer = payer_of(headers);
            let price = sold.price(&cashier.prices, *payer.as_ref().unwrap_or(&Address::ZERO))?;
            let asked = Offered { price: price.rational(), work: Some(sold.work(&terms.route)) };
            return Ok(Asked::Challenge(self.challenge(cashier, payer?, &terms, &asked).await?));
        }
        let admission = self.admit(headers, Work::Runner)?;
        let manifest = admission.credential.manifest_id.as_str().to_owned();
        if manifest != admission.token.session_id {
            return Err(RunnerError::Manifest.into());
        }
        let said = admission.payment.expected_price;
        let said_price = said.and_then(Result::ok);
        let price = sold.price(&cashier.prices, admission.sender)?;
        let was_asked = cashier.was_asked(&admission.payment, &sold.work(&terms.route));
        let agreed = agree(price, was_asked, said_price).map_err(|DoesNotFit { asked }| {
            RunnerError::Price {
                said: said_price.map_or("no".to_owned(), |price| price.rational().to_string()),
                asked,
            }
        })?;
        let mut reserved = runners.reserve(&terms, Some(manifest), now)?;
        reserved.because(Reason::RunnerFailed);
        if !runners.is_well(&terms).await {
            return Err(RunnerError::Unwell.into());
        }
        reserved.because(Reason::PaymentFailed);
        let (payer, unit) = (admission.sender, price.unit);
        let purse = self.collect_runner(cashier, &reserved, &agreed, unit, admission).await?;
        let paid = Paid { payer, price: purse.hold.price.clone(), unit };
        let once = match (unit.per_second(), mode) {
            (Some(per_second), _) => {
                let meter = Meter::new(Arc::clone(self), &reserved, purse, per_second);
                self.jobs.spawn(meter.run());
                None
            }
            (None, Mode::SingleShot) => Some(purse),
            (None, Mode::Persistent) => {
                self.jobs.spawn(FixedPrice::new(Arc::clone(self), &reserved, purse).run());
                None
            }
        };
        // From here on it may be used.
        reserved.set_paid(paid);
        reserved.because(Reason::ClientGone);
        Ok(Asked::Reserved(Box::new(Begun { reserved, once })))
    }

    /// Takes a first payment, with what is left of the sender's earlier sessions, and sets aside what they have to cover.
    /// Should that be too little, all of it is there for the next one.
    async fn collect_runner(
        self: &Arc<Self>,
        cashier: &Cashier,
        reserved: &Reserved,
        agreed: &Rational,
        unit: Unit,
        admission: Admission,
    ) -> Result<Purse, JobError> {
        let account = AccountKey::new(admission.sender, reserved.name.as_str())
            .map_err(|error| JobError::BadRequest(error.to_string()))?;
        let start = Start { account: account.clone(), attempt: Uuid::new_v4() };
        let runners = self.runners()?;
        let hand = Hand::new(self, &runners.hands, start.clone()).await;
        let hand = hand.ok_or(RunnerError::Exists)?;
        let taken = cashier.take_first(&start, agreed.clone(), admission.payment).await;
        let taken = taken.map_err(RunnerError::Payment)?;
        // Live video goes on with it, or a session of another process: what was paid is that one's.
        if taken.account.is_some() && !taken.is_in_hand {
            return Err(RunnerError::Exists.into());
        }
        let interval = runners.registry.bounds.payment_interval.min(AHEAD);
        let (units, what) = match unit.per_second() {
            Some(rate) => {
                let ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
                (rate.saturating_mul(ms).div_ceil(1000), "the first seconds")
            }
            None => (1, "the fixed price"),
        };
        let hold = cashier.begin_at(&account, agreed, units).await.map_err(RunnerError::Payment)?;
        let hold = hold.map_err(|short| RunnerError::Short { short, what })?;
        Ok(Purse::new(hold, hand))
    }

    /// What has to be paid, and where. Nothing is reserved by it.
    async fn challenge(
        &self,
        cashier: &Cashier,
        payer: Address,
        terms: &Terms,
        asked: &Offered,
    ) -> Result<Value, JobError> {
        let runners = self.runners()?;
        // Who knows a session's name may use it: 128 random bits, where the reference has 32.
        let id = hex::encode(secrets::random::<16>().map_err(|_| RunnerError::Internal)?);
        let expiration = clock::now_s().saturating_add(TOKEN_LIFETIME_S);
        let token = self.token_for(&id, expiration).map_err(RunnerError::Offer)?;
        let offer = self.runner_offer(cashier, payer, asked, token).await;
        let challenge = PaymentChallenge {
            payment_params: offer.map_err(RunnerError::Offer)?.encode(),
            orchestrator: self.service_uri().to_owned(),
            payment_url: format!("{}/payment", runners.registry.control_url(&terms.route, &id)),
            manifest_id: id,
        };
        Ok(challenge.to_json())
    }

    async fn runner_offer(
        &self,
        cashier: &Cashier,
        payer: Address,
        asked: &Offered,
        token: AuthToken,
    ) -> Result<OrchestratorOffer, MoneyError> {
        let params = cashier.offer_as_asked(payer, asked).await?;
        Ok(OrchestratorOffer {
            transcoder: Some(self.service_uri().to_owned()),
            address: self.address(),
            price: Some(wire_price(&asked.price)?),
            ticket_params: Some(params_fields(&params)),
            capabilities: None,
            auth_token: Some(token),
            storage: None,
            capabilities_prices: Vec::new(),
            hardware: Vec::new(),
            nodes: Vec::new(),
        })
    }

    /// One more payment for a session, and terms for the next.
    pub async fn pay_runner(
        &self,
        route: &str,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<OrchestratorOffer, JobError> {
        let paid = self.runners()?.registry.paying(route, name, Instant::now())?;
        let (Some(cashier), Some(paid)) = (&self.cashier, paid) else {
            return Err(RunnerError::NoSession(None).into());
        };
        if paid.unit == Unit::Fixed {
            return Err(RunnerError::Fixed.into());
        }
        let admission = self.admit(headers, Work::Runner)?;
        if admission.credential.manifest_id.as_str() != name {
            return Err(RunnerError::SessionManifest.into());
        }
        if admission.sender != paid.payer {
            return Err(RunnerError::SessionPayer.into());
        }
        self.runners()?.registry.renew(route, name, Instant::now());
        // It holds for this session alone.
        let asked = Offered { price: paid.price.clone(), work: None };
        let offer = self
            .runner_offer(cashier, admission.sender, &asked, admission.token)
            .await
            .map_err(JobError::of_money)?;
        let account = AccountKey::new(admission.sender, name)
            .map_err(|error| JobError::BadRequest(error.to_string()))?;
        let taken = cashier.take_at(&account, paid.price, admission.payment).await;
        taken.map_err(JobError::Payment)?;
        Ok(offer)
    }
}

/// Who will pay, as whoever has not paid yet says it.
pub fn payer_of(headers: &HeaderMap) -> Result<Address, RunnerError> {
    let payer = headers.get(PAYER).and_then(|value| value.to_str().ok()).and_then(payer);
    payer.ok_or(RunnerError::NoPayer)
}

/// An address in hex, with or without `0x` before it.
fn payer(text: &str) -> Option<Address> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    parse_address(&format!("0x{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payers() {
        let address = Address::repeat_byte(0xab);
        for text in [format!("{address}"), "ab".repeat(20), format!("0X{}", "AB".repeat(20))] {
            assert_eq!(payer(&text), Some(address), "{text}");
        }
        for text in ["", "0x", "0x12", "zz"] {
            assert_eq!(payer(text), None, "{text}");
        }
    }
}
