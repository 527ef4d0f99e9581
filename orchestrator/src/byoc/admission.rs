//! Who may have a job done: its signature, room, and a minute's worth of balance (byoc.md section 5.1).

use super::{
    error::ByocError,
    registry::{Brought, Slot},
    terms::brought_terms,
};
use crate::{
    node::Node,
    release::Kind,
    service::{
        cashier::{Cashier, Shortfall},
        credentials,
        holds::Hold,
        terms::Terms,
    },
};
use http::HeaderMap;
use penstock_domain::{Address, Rational};
use penstock_ledger::orchestrator::AccountKey;
use penstock_payments::{fee, node_digest, verify_bytes};
use penstock_wire::json::{JOB_HEADER, SignedByocJob};

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
        let hold = match self.collect_byoc(&slot, job.sender, headers).await {
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
        slot: &Slot,
        sender: Address,
        headers: &HeaderMap,
    ) -> Result<Option<Hold>, ByocError> {
        let Some(cashier) = &self.cashier else { return Ok(None) };
        let brought = slot.capability();
        let account = account(sender, &brought.name)?;
        let around = slot.around();
        let terms = brought_terms(cashier, brought, sender, &around);
        let agreed = cashier.agreed_by(&account, &terms).await;
        let refused = match agreed {
            Ok(agreed) if !agreed.is_positive() => None,
            _ => {
                let of = |payer| brought_terms(cashier, brought, payer, &around);
                take_byoc(cashier, brought, of, headers).await?
            }
        };
        let begun = cashier.begin_by(&account, &terms, self.byoc_least_seconds).await;
        let begun = begun.map_err(ByocError::Money)?;
        begun.map(Some).map_err(|short| ByocError::InsufficientBalance { short, refused })
    }

    /// Takes a payment for work that runs at `price`, if it does; what is left, if that is a minute's worth.
    pub(super) async fn pay_byoc(
        &self,
        brought: &Brought,
        sender: Address,
        price: Option<&Rational>,
        headers: &HeaderMap,
    ) -> Result<Rational, ByocError> {
        let Some(cashier) = &self.cashier else { return Ok(Rational::ZERO) };
        let around = brought.around();
        let of = |payer| {
            let terms = brought_terms(cashier, brought, payer, &around);
            Terms { own: price.map_or(terms.own, |price| Ok(price.clone())), ..terms }
        };
        let refused = take_byoc(cashier, brought, of, headers).await?;
        let account = account(sender, &brought.name)?;
        let price = match price {
            Some(price) => price.clone(),
            None => cashier.agreed_by(&account, &of(sender)).await.map_err(ByocError::Money)?,
        };
        let left = self.byoc_balance(cashier, &account).await?;
        let least = fee(self.byoc_least_seconds, &price);
        if left < least {
            let short = Shortfall::new(left, least);
            return Err(ByocError::InsufficientBalance { short, refused });
        }
        Ok(left)
    }

    /// What a gateway is told that it has: without what its streams have used that is not booked yet, so that it pays on
    /// while a worker is silent, too.
    pub(super) async fn byoc_balance(
        &self,
        cashier: &Cashier,
        account: &AccountKey,
    ) -> Result<Rational, ByocError> {
        let books = cashier.balance(account).await.map_err(ByocError::Money)?;
        let used = self.byoc_streams.unbooked(account.sender(), account.session());
        Ok((&books - &used).max(Rational::ZERO))
    }
}

/// A payment that is no good leaves the balance as it is, which then decides: the reference's way. Why it is none.
async fn take_byoc(
    cashier: &Cashier,
    brought: &Brought,
    terms_of: impl Fn(Address) -> Terms,
    headers: &HeaderMap,
) -> Result<Option<String>, ByocError> {
    let Ok(payment) = credentials::payment(headers) else { return Ok(None) };
    let Some(payer) = payment.sender else { return Ok(None) };
    let account = account(payer, &brought.name)?;
    match cashier.take_by(&account, terms_of(payer), payment).await {
        Err(error) if !error.is_callers_fault() => Err(ByocError::Money(error)),
        Err(error) => {
            tracing::info!(%error, capability = brought.name, "a job's payment is no good");
            Ok(Some(error.to_string()))
        }
        Ok(_) => Ok(None),
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
