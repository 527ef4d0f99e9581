//! What a job of batch AI costs, once per job. An answer in pieces costs what a whole one does (ai-pipelines.md section
//! 4: its `max_tokens`) when it is whole, and when its gateway does not listen to the end; where the worker is to blame
//! for its end, what has been passed on of it. It is booked before its last piece is passed on; until then it is set
//! aside.

use super::words::{Cut, Listener};
use crate::{
    clock,
    delivery::Due,
    error::JobError,
    node::Node,
    release::{Kind, Reason},
    service::{cashier::MoneyError, holds::Hold},
    workers::ai::Reservation,
};
use penstock_domain::Rational;
use penstock_payments::fee;
use std::{sync::Arc, time::Duration};

/// Pauses after tries to book what was passed on and could not be booked at once.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// A fee that is due.
pub struct Debit {
    node: Arc<Node>,
    hold: Option<Hold>,
    units: u64,
    job_id: String,
}

impl Debit {
    /// So many units out of what is set aside; `None` off-chain.
    pub fn new(node: Arc<Node>, hold: Option<Hold>, units: u64, request_id: &str) -> Self {
        Self { node, hold, units, job_id: format!("ai/{request_id}/{}", clock::now_ms()) }
    }

    /// Books all of it.
    pub async fn book(self) -> Result<Due, JobError> {
        self.try_book(self.units).await.map_err(JobError::of_money)
    }

    /// Books so many units, once however often it is tried.
    async fn try_book(&self, units: u64) -> Result<Due, MoneyError> {
        let (Some(cashier), Some(hold)) = (&self.node.cashier, &self.hold) else {
            return Ok(Due::new(Kind::Ai, Rational::ZERO));
        };
        cashier.debit(hold, self.job_id.clone(), units).await?;
        Ok(Due::new(Kind::Ai, fee(units, &hold.price)))
    }
}

/// An answer in pieces, on its way.
pub struct Streamed<R> {
    debit: Debit,
    reserved: Reservation,
    running: R,
    /// Booked as a whole.
    whole: Option<Due>,
}

impl<R: Send + 'static> Streamed<R> {
    /// Room and `running` are held to its end.
    pub fn new(debit: Debit, reserved: Reservation, running: R) -> Self {
        Self { debit, reserved, running, whole: None }
    }
}

impl<R: Send + 'static> Listener for Streamed<R> {
    async fn is_whole(&mut self) -> bool {
        match self.debit.try_book(self.debit.units).await {
            Ok(due) => self.whole = Some(due),
            Err(error) => complain(&error),
        }
        self.whole.is_some()
    }

    async fn over(self, end: Result<(), Cut>, tokens: u64) {
        let Self { debit, mut reserved, running, whole } = self;
        reserved.because(match end {
            Ok(()) if whole.is_none() => Reason::LedgerUnavailable,
            Ok(()) => Reason::Completed,
            Err(Cut::BrokenOff) => Reason::WorkerFailed,
            Err(Cut::TooLong) => Reason::TimedOut,
            Err(Cut::Unheard) => Reason::ClientGone,
        });
        if let Some(due) = whole {
            if end.is_ok() {
                due.delivered();
            }
            drop((reserved, running));
            return;
        }
        let (units, is_delivered) = match end {
            // The work was accepted, and done for who does not listen.
            Err(Cut::Unheard) => (debit.units, false),
            // What was passed on, be it that only its end was withheld.
            Ok(()) | Err(_) => (tokens.min(debit.units), true),
        };
        let mut booked = debit.try_book(units).await;
        drop(reserved);
        for pause in PAUSES {
            let Err(error) = &booked else { break };
            complain(error);
            if matches!(error, MoneyError::Lost) {
                break;
            }
            tokio::time::sleep(pause).await;
            booked = debit.try_book(units).await;
        }
        match booked {
            Ok(due) if is_delivered => due.delivered(),
            Ok(due) => drop(due),
            Err(error) => tracing::error!(%error, units, "an answer in pieces was never charged"),
        }
        drop(running);
    }
}

fn complain(error: &MoneyError) {
    tracing::warn!(%error, "an answer in pieces could not be charged");
}
