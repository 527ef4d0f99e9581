//! What is told of a training job, and paying it on: at every process of a ledger, whoever watches the job.

use super::{Standing, Status, Training, error::TrainingError, kept::Kept};
use crate::{
    byoc::{admission::account, meter::begun_seconds, registry::work},
    node::Node,
    service::{
        cashier::{Cashier, MoneyError},
        credentials,
        terms::Terms,
    },
};
use http::HeaderMap;
use penstock_domain::{Address, Rational};
use penstock_ledger::orchestrator::{AccountKey, StoredTraining};
use penstock_payments::{NonceError, PaymentError, TicketError, fee};
use serde_json::{Value, json};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

/// Letters of a job's id: no other text is looked for in the ledger.
const ID_LETTERS: usize = 32;

/// A job as far as others may know it.
struct Shown {
    id: String,
    sender: Address,
    account: Option<AccountKey>,
    model: String,
    begun_ms: i64,
    /// Wei a second, as agreed.
    price: Rational,
    standing: Standing,
    /// Seconds that it would cost if it were done now, or that it has cost.
    passed: u64,
    /// Seconds in the books.
    booked: u64,
}

impl Node {
    /// How a job stands, as the SDK reads it.
    pub async fn training_status(&self, id: &str) -> Result<Value, TrainingError> {
        Ok(self.shown_training(id).await?.told(self.cashier.as_ref()).await)
    }

    async fn shown_training(&self, id: &str) -> Result<Shown, TrainingError> {
        if let Some(training) = self.trainings.get(id) {
            return Ok(training.seen());
        }
        let is_id = id.len() == ID_LETTERS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let Some(cashier) = self.cashier.as_ref().filter(|_| is_id) else {
            return Err(TrainingError::NotFound);
        };
        let row = cashier.ledger.training(id).await.map_err(TrainingError::Ledger)?;
        let row = row.ok_or(TrainingError::NotFound)?;
        Shown::stored(row).ok_or_else(|| {
            tracing::error!(job = id, "the ledger holds an unreadable training job");
            TrainingError::NotFound
        })
    }

    /// Takes a payment for a job that runs. The same tickets again are as good as once.
    pub async fn pay_training(
        &self,
        id: &str,
        headers: &HeaderMap,
    ) -> Result<Value, TrainingError> {
        let training = self.shown_training(id).await?;
        let cashier = self.cashier.as_ref().ok_or(TrainingError::Free)?;
        let payment = credentials::payment(headers).map_err(|_| TrainingError::Payer)?;
        if payment.sender != Some(training.sender) {
            return Err(TrainingError::Payer);
        }
        if training.standing.status.is_end() {
            return Err(TrainingError::Ended);
        }
        let account = training.account.ok_or(TrainingError::NotFound)?;
        // What was agreed goes on, whatever the capability costs by now.
        let work = Some(work(account.session()));
        let terms = Terms { own: Ok(training.price), floor: None, work };
        let taken = cashier.take_by(&account, terms, payment).await;
        let credited = match taken {
            Ok(taken) => taken.credited,
            Err(MoneyError::Payment(PaymentError::Ticket(TicketError::Nonce {
                reason: NonceError::AlreadySeen,
                ..
            }))) => Rational::ZERO,
            Err(error) => return Err(TrainingError::Payment(error)),
        };
        let left = cashier.balance(&account).await.map_err(TrainingError::Payment)?;
        Ok(json!({ "credited_wei": whole(&credited), "new_balance_wei": whole(&left) }))
    }
}

impl Training {
    /// As the SDK reads it.
    pub(super) async fn told(&self, node: &Node) -> Value {
        self.seen().told(node.cashier.as_ref()).await
    }

    fn seen(&self) -> Shown {
        let standing = self.lock().clone();
        let booked = self.seconds.load(Relaxed);
        let passed = begun_seconds(self.begun.elapsed());
        Shown {
            id: self.id.clone(),
            sender: self.sender,
            account: account(self.sender, &self.brought.name).ok(),
            model: self.model.clone(),
            begun_ms: self.begun_ms,
            price: self.price.clone(),
            passed: if standing.status.is_end() { booked } else { passed.max(booked) },
            standing,
            booked,
        }
    }
}

impl Shown {
    /// One that another process watches, or nobody does, or that has ended.
    fn stored(row: StoredTraining) -> Option<Self> {
        let Kept { model, price, standing, .. } = Kept::read(&row)?;
        let booked = standing.booked_seconds;
        let passed = begun_seconds(Duration::from_millis(standing.watched_ms));
        Some(Self {
            id: row.id,
            sender: row.account.sender(),
            account: Some(row.account),
            model,
            begun_ms: row.created_ms,
            price,
            passed: if standing.status.is_end() { booked } else { passed.max(booked) },
            standing,
            booked,
        })
    }

    async fn told(self, cashier: Option<&Cashier>) -> Value {
        let Self { standing, price, passed, booked, .. } = self;
        // Until it ends: what it would cost if it were done now, most of which is only set aside.
        let cost = fee(passed, &price);
        let left = match (cashier, &self.account) {
            (Some(cashier), Some(account)) => cashier.balance(account).await.ok(),
            _ => None,
        };
        let left = left.map(|left| left - fee(passed.saturating_sub(booked), &price));
        let done = standing.status == Status::Completed;
        json!({
            "job_id": self.id,
            "status": standing.status.as_str(),
            "progress": if done { 100 } else { standing.progress },
            "result": standing.result,
            "error": standing.error,
            "reason": standing.reason.map(crate::release::Reason::as_str),
            "model_id": self.model,
            "created_at": seconds(self.begun_ms),
            "updated_at": seconds(standing.updated_ms),
            "cost": whole(&cost),
            "balance": left.as_ref().map(whole),
        })
    }
}

/// Whole wei, as text.
fn whole(wei: &Rational) -> String {
    wei.to_fixed(0)
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds of this age fit")]
fn seconds(unix_ms: i64) -> f64 {
    unix_ms as f64 / 1000.0
}
