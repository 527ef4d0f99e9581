//! How long the deposit lasts at the rate at which it was spent lately: shown, and said in time before it runs low, with
//! what is to be said of the reserve.
//!
//! What tickets are worth is what they cost in the long run; the deposit itself goes down in leaps, when they win. The
//! rate is that of the last seven days, of all accounts and all replicas on the ledger. It decides nothing.

use super::{Clock, reserve_watch::ReserveWatch};
use crate::{auth::forecast, chain_facts::ChainFacts};
use penstock_chain::SenderInfo;
use penstock_domain::{Rational, U256, Wei};
use penstock_http_kit::CancellationToken;
use penstock_ledger::signer::{LedgerError, SignerLedger, Usage, UsageQuery};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

/// How often it is shown what the deposit, which the chain tells, lasts for.
const SHOW_EVERY: Duration = Duration::from_secs(60);
/// The ledger is asked what was spent, a week of lines, every so many times.
const LOOK_EVERY: u64 = 10;
/// Lines of usage that wait to be added up.
const LINES: usize = 256;
const DAY_MS: i128 = 86_400_000;

/// Where the deposit is heading.
pub struct Runway {
    ledger: Arc<dyn SignerLedger>,
    chain: Arc<ChainFacts>,
    clock: Clock,
    /// It is said when the deposit lasts for less; 0 = never.
    warn_days: u64,
    reserve: ReserveWatch,
    per_day: Mutex<Option<Rational>>,
}

impl Runway {
    /// Knows nothing until the first [`look`](Self::look).
    pub fn new(
        ledger: Arc<dyn SignerLedger>,
        chain: Arc<ChainFacts>,
        clock: Clock,
        warn_days: u64,
        reserve: ReserveWatch,
    ) -> Self {
        Self { ledger, chain, clock, warn_days, reserve, per_day: Mutex::new(None) }
    }

    /// Wei in a day, as of the last look.
    pub fn per_day(&self) -> Option<Rational> {
        self.per_day.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whole days that this deposit lasts; `None`: nothing was spent, or it is not known.
    pub fn days(&self, deposit: Wei) -> Option<u64> {
        days(deposit, &self.per_day()?)
    }

    /// What is to be said of deposit and reserve, each with the word for what it is about.
    pub fn troubles(&self) -> Vec<(&'static str, String)> {
        let Ok(facts) = self.chain.fresh() else { return Vec::new() };
        let round = facts.rounds.last_initialized_round;
        self.troubles_of(&facts.sender, facts.orchestrators(), round)
    }

    /// The same of what was just read.
    pub fn troubles_of(
        &self,
        sender: &SenderInfo,
        orchestrators: u64,
        round: u64,
    ) -> Vec<(&'static str, String)> {
        let deposit = self.runs_low(sender.deposit).map(|said| ("deposit", said));
        let reserve = self.reserve.troubles(sender, orchestrators, round);
        deposit.into_iter().chain(reserve).collect()
    }

    fn runs_low(&self, deposit: Wei) -> Option<String> {
        let (days, limit) = (self.days(deposit)?, self.warn_days);
        (days < limit).then(|| {
            format!(
                "the deposit lasts {days} days at the rate of the last seven, and --deposit-warn-days is {limit}: \
                 add to it (penstock deposit)"
            )
        })
    }

    /// Looks and shows now and then until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut ticks = interval(SHOW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 0_u64.. {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let is_due = tick.is_multiple_of(LOOK_EVERY);
            if is_due && let Err(error) = self.look().await {
                tracing::warn!(%error, "what was spent lately could not be read");
            }
            self.show();
            for (_, trouble) in self.troubles().into_iter().filter(|_| is_due) {
                tracing::warn!("{trouble}");
            }
        }
    }

    fn show(&self) {
        let (Ok(facts), Some(per_day)) = (self.chain.fresh(), self.per_day()) else { return };
        let days = days(facts.sender.deposit, &per_day);
        // What is not spent lasts for ever.
        let days = days.map_or(f64::INFINITY, |days| days as f64);
        metrics::gauge!("signer_deposit_runway_days").set(days);
    }

    /// Asks the ledger what was spent.
    pub async fn look(&self) -> Result<(), LedgerError> {
        let now_ms = (self.clock)().div_euclid(1_000_000);
        let from_ms = forecast::window_start_ms(now_ms);
        let query = UsageQuery { from_ms, to_ms: now_ms.saturating_add(1), account: None };
        let (lines, mut read) = mpsc::channel::<Usage>(LINES);
        let sum = async {
            let mut sum = Wei::ZERO;
            while let Some(line) = read.recv().await {
                sum = sum.checked_add(line.charged_wei).unwrap_or(sum);
            }
            sum
        };
        let (usage, spent) = tokio::join!(self.ledger.usage(query, lines), sum);
        usage?;
        let per_day = forecast::rate(spent, from_ms, now_ms) * Rational::from_int(DAY_MS);
        *self.per_day.lock().unwrap_or_else(PoisonError::into_inner) = Some(per_day);
        Ok(())
    }
}

/// Whole days, at most 2^64 − 1; `None` when nothing is spent.
fn days(deposit: Wei, per_day: &Rational) -> Option<u64> {
    let deposit = Rational::from_u256(deposit.0, U256::from(1u8))?;
    let days = deposit.checked_div(per_day)?;
    Some(days.floor_i64().map_or(u64::MAX, |days| u64::try_from(days).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deposit_lasts_for_whole_days() {
        let last = |deposit: u64, spent: i128, in_days: u128| {
            let per_day = Rational::new(spent, in_days).unwrap();
            days(Wei::from_u64(deposit), &per_day)
        };
        assert_eq!(last(100, 30, 1), Some(3));
        assert_eq!(last(100, 1, 7), Some(700));
        assert_eq!(last(0, 1, 1), Some(0));
        assert_eq!(last(100, 0, 1), None, "nothing is spent");
        let tiny = Rational::new(1, 1 << 100).unwrap();
        assert_eq!(days(Wei(U256::MAX), &tiny), Some(u64::MAX));
    }
}
