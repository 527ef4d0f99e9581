//! Credit is bought before it has run out: the job that leaves little has more bought behind its back, while
//! jobs go on with what is left. Where that fails nothing is lost but time: whoever finds no credit buys as
//! ever, and is told why it cannot be had.

use super::{
    Gateway,
    error::TryError,
    failure::Failure,
    pay::Need,
    session::{Account, Purpose, Session},
    turns::Turn,
    units::Terms,
};
use crate::clock;
use penstock_telemetry::trace::carried;
use std::{
    sync::{Arc, OnceLock, Weak},
    time::Instant,
};

/// The gateway itself, for work that outlives a job; empty where none is to.
#[derive(Default)]
pub struct Itself(OnceLock<Weak<Gateway>>);

impl Gateway {
    /// Shared, so that it can buy ahead.
    pub fn shared(self) -> Arc<Self> {
        let this = Arc::new(self);
        // Set once: nobody else has it yet.
        let _ = this.itself.0.set(Arc::downgrade(&this));
        this
    }

    /// Units that are worth buying for the jobs to come, at their present pace.
    pub(super) fn units_ahead(&self, session: &Session, now: Instant) -> u64 {
        let pace = self.paces.units_in(&session.key, self.settings.args.prepay_ms, now);
        pace.min(self.paces.most(&session.key, now))
    }

    /// Has more bought if a job left too little for those to come. Returns at once.
    pub(super) fn look_ahead(
        &self,
        purpose: &Purpose,
        session: &Session,
        terms: &Terms,
        estimate_units: u64,
        left_units: i64,
    ) {
        // What a brought job is estimated at says little of what it takes.
        if matches!(purpose.account, Account::Brought { .. }) {
            return;
        }
        let ahead = self.units_ahead(session, clock::instant());
        if !terms.is_running_out(estimate_units, ahead, left_units)
            || !self.paces.may_buy_ahead(&session.key)
            || self.draining.is_cancelled()
        {
            return;
        }
        let Some(this) = self.itself.0.get().and_then(Weak::upgrade) else { return };
        let Ok(turn) = self.turns.take(&session.key) else { return };
        let (purpose, session, terms) = (purpose.of_no_job(), session.clone(), *terms);
        let buying = async move {
            this.buy_ahead(&purpose, &session, &terms, estimate_units, turn).await;
        };
        self.jobs.spawn(Box::pin(carried(buying)));
    }

    async fn buy_ahead(
        &self,
        purpose: &Purpose,
        session: &Session,
        terms: &Terms,
        estimate_units: u64,
        turn: Turn,
    ) {
        let key = &session.key;
        let bought = async {
            // Whoever has it changes the session, and most likely buys.
            let Some(lease) = self.lease_if_free(key).await? else { return Ok(()) };
            self.buy(purpose, session, terms, Need::Ahead(estimate_units), lease).await?;
            Ok::<_, TryError>(())
        };
        if let Err(error) = bought.await {
            self.paces.failed_ahead(key, clock::instant());
            let cause = Failure::of(&error).cause.label();
            tracing::warn!(orchestrator = key.orchestrator, cause, %error, "no credit was bought ahead");
            metrics::counter!("penstock_gateway_failed_tries_total", "cause" => cause).increment(1);
        }
        drop(turn);
    }
}
