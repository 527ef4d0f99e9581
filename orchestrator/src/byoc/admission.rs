//! Who may have a job done: its signature, room, and a minute's worth of balance (byoc.md section 5.1).

use super::{
    error::ByocError,
    registry::{Brought, Slot},
};
use crate::{
    node::Node,
    release::Kind,
    service::{cashier::Shortfall, credentials, holds::Hold},
};
use http::HeaderMap;
use penstock_domain::{Address, Rational};
use penstock_ledger::orchestrator::AccountKey;
use penstock_payments::{fee, node_digest, verify_bytes};
use penstock_wire::json::{JOB_HEADER, SignedByocJob};
use std::sync::Arc;

/// A job that may be done.
pub struct Admitted {
    /// What it says.
    pub job: SignedByocJob,
    /// Its room.
    pub slot: Slot,
    /// Its account and price; `None` off-chain.
    pub hold: Option<Hold>,
}

impl Node {
    /// What a job's header says, if its sender has signed it.
    pub(super) fn signed_byoc(&self, headers: &HeaderMap) -> Result<SignedByocJob, ByocError> {
        let header = headers.get(JOB_HEADER).and_then(|value| value.to_str().ok());
        let job = SignedByocJob::from_header(header.unwrap_or_default())
            .map_err(|_| ByocError::Credentials)?;
        if job.timeout_seconds == 0 {
            return Err(ByocError::NoTimeout);
        }
        let is_paid = self.cashier.is_some();
        if !texts_are_objects(&job) || (is_paid && !is_signed(&job)) {
            return Err(ByocError::Credentials);
        }
        Ok(job)
    }

    /// The same, if its capability is there.
    pub fn check_byoc(&self, headers: &HeaderMap) -> Result<SignedByocJob, ByocError> {
        let job = self.signed_byoc(headers)?;
        self.byoc.get(&job.capability).ok_or(ByocError::NoCapacity)?;
        Ok(job)
    }

    /// Takes a checked job's room and its payment.
    pub(super) async fn admit_byoc(
        &self,
        job: SignedByocJob,
        headers: &HeaderMap,
        kind: Kind,
    ) -> Result<Admitted, ByocError> {
        let mut slot = self.byoc.reserve(&job.capability, job.sender, kind)?;
        let hold = match self.collect_byoc(slot.capability(), job.sender, headers).await {
            Ok(hold) => hold,
            Err(error) => {
                slot.because(error.reason());
                return Err(error);
            }
        };
        Ok(Admitted { job, slot, hold })
    }

    /// Takes a payment, if one came, and sets a minute's worth aside. `None` off-chain.
    async fn collect_byoc(
        &self,
        brought: &Arc<Brought>,
        sender: Address,
        headers: &HeaderMap,
    ) -> Result<Option<Hold>, ByocError> {
        let Some(cashier) = &self.cashier else { return Ok(None) };
        let account = account(sender, &brought.name)?;
        let is_priced = brought.price.is_positive();
        let refused = if is_priced { self.take_byoc(brought, headers).await? } else { None };
        let begun = cashier.begin_at(&account, &brought.price, self.byoc_least_seconds).await;
        let begun = begun.map_err(ByocError::Money)?;
        begun.map(Some).map_err(|short| ByocError::InsufficientBalance { short, refused })
    }

    /// Takes a payment for work that runs; what is left, if that is a minute's worth.
    pub(super) async fn pay_byoc(
        &self,
        brought: &Brought,
        sender: Address,
        headers: &HeaderMap,
    ) -> Result<Rational, ByocError> {
        let Some(cashier) = &self.cashier else { return Ok(Rational::ZERO) };
        let refused = self.take_byoc(brought, headers).await?;
        let account = account(sender, &brought.name)?;
        let left = cashier.balance(&account).await.map_err(ByocError::Money)?;
        let least = fee(self.byoc_least_seconds, &brought.price);
        if left < least {
            let short = Shortfall::new(left, least);
            return Err(ByocError::InsufficientBalance { short, refused });
        }
        Ok(left)
    }

    /// A payment that is no good leaves the balance as it is, which then decides: the reference's way. Why it is none.
    async fn take_byoc(
        &self,
        brought: &Brought,
        headers: &HeaderMap,
    ) -> Result<Option<String>, ByocError> {
        let Some(cashier) = &self.cashier else { return Ok(None) };
        let Ok(payment) = credentials::payment(headers) else { return Ok(None) };
        let Some(payer) = payment.sender else { return Ok(None) };
        let account = account(payer, &brought.name)?;
        match cashier.take_at(&account, brought.price.clone(), payment).await {
            Err(error) if !error.is_callers_fault() => Err(ByocError::Money(error)),
            Err(error) => {
                tracing::info!(%error, capability = brought.name, "a job's payment is no good");
                Ok(Some(error.to_string()))
            }
            Ok(_) => Ok(None),
        }
    }
}

/// Balances are the sender's, for one capability.
pub fn account(sender: Address, capability: &str) -> Result<AccountKey, ByocError> {
    AccountKey::new(sender, capability).map_err(|_| ByocError::NoCapacity)
}

/// `request` is the text of a JSON object, `parameters` as well, or empty.
fn texts_are_objects(job: &SignedByocJob) -> bool {
    let is_object = |text: &str| {
        text.trim_start().starts_with('{')
            && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    };
    is_object(&job.request) && (job.parameters.is_empty() || is_object(&job.parameters))
}

fn is_signed(job: &SignedByocJob) -> bool {
    let message = [job.request.as_bytes(), job.parameters.as_bytes()].concat();
    verify_bytes(&job.sig, &node_digest(&message), job.sender).is_ok()
}
