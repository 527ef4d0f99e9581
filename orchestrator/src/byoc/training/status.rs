//! What is known of a training job, and paying it on.

use super::{Status, Training, error::TrainingError};
use crate::{
    byoc::{admission::account, meter::begun_seconds},
    node::Node,
    service::{cashier::MoneyError, credentials},
};
use http::HeaderMap;
use penstock_domain::Rational;
use penstock_payments::{NonceError, PaymentError, TicketError, fee};
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;

impl Node {
    /// How a job stands, as the SDK reads it.
    pub async fn training_status(&self, id: &str) -> Result<Value, TrainingError> {
        let training = self.trainings.get(id).ok_or(TrainingError::NotFound)?;
        Ok(training.told(self).await)
    }

    /// Takes a payment for a job that runs. The same tickets again are as good as once.
    pub async fn pay_training(
        &self,
        id: &str,
        headers: &HeaderMap,
    ) -> Result<Value, TrainingError> {
        let training = self.trainings.get(id).ok_or(TrainingError::NotFound)?;
        let cashier = self.cashier.as_ref().ok_or(TrainingError::Free)?;
        let payment = credentials::payment(headers).map_err(|_| TrainingError::Payer)?;
        if payment.sender != Some(training.sender) {
            return Err(TrainingError::Payer);
        }
        if training.lock().status.is_end() {
            return Err(TrainingError::Ended);
        }
        let account = account(training.sender, &training.brought.name);
        let account = account.map_err(TrainingError::Money)?;
        let taken = cashier.take_at(&account, training.brought.price.clone(), payment).await;
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
        let standing = self.lock().clone();
        let booked = self.seconds.load(Relaxed);
        // Until it ends: what it would cost if it were done now, most of which is only set aside.
        let passed = if standing.status.is_end() {
            booked
        } else {
            begun_seconds(self.begun.elapsed()).max(booked)
        };
        let cost = fee(passed, &self.price);
        let left = match (&node.cashier, account(self.sender, &self.brought.name)) {
            (Some(cashier), Ok(account)) => cashier.balance(&account).await.ok(),
            _ => None,
        };
        let left = left.map(|left| left - fee(passed - booked, &self.price));
        let done = standing.status == Status::Completed;
        json!({
            "job_id": self.id,
            "status": standing.status.as_str(),
            "progress": if done { 100 } else { standing.progress },
            "result": standing.result,
            "error": standing.error,
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
