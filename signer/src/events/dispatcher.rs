//! The loop that delivers: take from the outbox, send, say what was delivered, or wait and send
//! again.
//!
//! Taking gives this process the right to deliver for a while, over all replicas; a delivery ends
//! before that while does. If the process dies after the sink took an event and before the ledger
//! knows, the next deliverer sends it again with the same id.

use super::{
    args::EventsSettings,
    report::{EventsReport, State, age_ms},
    sink::{Outcome, Sink, SinkError},
};
use penstock_http_kit::CancellationToken;
use penstock_ledger::signer::{Fence, LedgerError, SignerLedger, TakenEvents};
use rand::Rng;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Events sent at once: bounds memory, and what is sent again after a failure.
const BATCH: u32 = 256;
/// Between two looks into an empty outbox, or at another replica's right to deliver.
const IDLE: Duration = Duration::from_millis(500);
/// First wait after a failure; doubles up to the next.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A delivery in progress may so long go on when the process is told to stop.
const GOODBYE: Duration = Duration::from_secs(2);

/// The deliverer of one process.
pub struct Dispatcher {
    ledger: Arc<dyn SignerLedger>,
    settings: Option<EventsSettings>,
    report: Mutex<EventsReport>,
    /// The right to deliver, as it was taken last.
    held: Mutex<Option<Fence>>,
}

/// What one round came to.
enum Round {
    /// More may be waiting.
    Busy,
    /// Nothing is, or another replica delivers.
    Idle,
    /// The sink or the ledger failed.
    Failed,
}

impl Dispatcher {
    /// Without settings it delivers nothing, and only counts what waits.
    pub fn new(ledger: Arc<dyn SignerLedger>, settings: Option<EventsSettings>) -> Self {
        let report = match &settings {
            None => EventsReport::default(),
            Some(settings) => EventsReport {
                state: State::Ok,
                sink: Some(settings.target.to_string()),
                ..EventsReport::default()
            },
        };
        Self { ledger, settings, report: Mutex::new(report), held: Mutex::default() }
    }

    /// Tries the settings: a sink that can never work is an error at the start.
    pub fn check(&self) -> Result<(), SinkError> {
        self.settings.as_ref().map_or(Ok(()), |settings| Sink::open(settings).map(drop))
    }

    /// How deliveries go, and how much waits.
    pub async fn report(&self) -> Result<EventsReport, LedgerError> {
        let backlog = self.ledger.backlog().await?;
        Ok(self.lock().clone().with(backlog, now_ms()))
    }

    /// Delivers until `stop`, then leaves the rest to another replica.
    pub async fn run(&self, stop: CancellationToken) {
        let Some(settings) = &self.settings else { return };
        self.deliver(settings, &stop).await;
        self.give_back().await;
    }

    /// Without it the others would wait for the right to run out.
    async fn give_back(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(fence) = held else { return };
        if let Err(error) = self.ledger.release_events(fence).await {
            tracing::warn!(%error, "the right to deliver events was not given back; it runs out");
        }
    }

    async fn deliver(&self, settings: &EventsSettings, stop: &CancellationToken) {
        let mut sink = match Sink::open(settings) {
            Ok(sink) => sink,
            // `check` has said so at the start.
            Err(error) => return tracing::error!(%error, "events cannot be delivered"),
        };
        tracing::info!(sink = %settings.target, "events are delivered");
        let mut wait = FIRST_WAIT;
        while !stop.is_cancelled() {
            let round = self.round(&mut sink, settings, stop).await;
            self.measure().await;
            let pause = match round {
                Round::Busy => {
                    wait = FIRST_WAIT;
                    continue;
                }
                Round::Idle => {
                    wait = FIRST_WAIT;
                    IDLE
                }
                Round::Failed => {
                    let now = wait;
                    wait = wait.saturating_mul(2).min(LONGEST_WAIT);
                    // Replicas that failed together do not come back together.
                    now.mul_f64(rand::rng().random_range(0.5..=1.0))
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn round(
        &self,
        sink: &mut Sink,
        settings: &EventsSettings,
        stop: &CancellationToken,
    ) -> Round {
        let lease_ms = i64::try_from(settings.lease.as_millis()).unwrap_or(i64::MAX);
        let taken = match self.ledger.take_events(BATCH, now_ms(), lease_ms).await {
            Ok(Some(taken)) => taken,
            Ok(None) => {
                self.lock().state = State::Standby;
                return Round::Idle;
            }
            Err(error) => {
                tracing::warn!(%error, "events cannot be taken from the ledger");
                return Round::Failed;
            }
        };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken.fence);
        if taken.events.is_empty() {
            let mut report = self.lock();
            // An error is over when something was delivered, or nothing is left to deliver.
            (report.state, report.failures_in_a_row) = (State::Ok, 0);
            return Round::Idle;
        }
        let delivery = tokio::time::timeout(settings.delivery_time(), sink.deliver(&taken.events));
        let delivered = tokio::select! {
            delivered = delivery => delivered,
            () = async { stop.cancelled().await; tokio::time::sleep(GOODBYE).await } => {
                return Round::Failed;
            }
        };
        let outcome = delivered.unwrap_or_else(|_| Outcome {
            delivered: Vec::new(),
            error: Some(SinkError::new("the sink did not answer in time")),
        });
        if !outcome.delivered.is_empty() {
            penstock_failpoint::hit("signer.after_delivery");
        }
        self.settle(taken, outcome).await
    }

    /// Tells the ledger what was delivered, and the operator what was not.
    async fn settle(&self, taken: TakenEvents, outcome: Outcome) -> Round {
        let count = u64::try_from(outcome.delivered.len()).unwrap_or(u64::MAX);
        if count > 0 {
            match self.ledger.delivered(taken.fence, &outcome.delivered).await {
                Ok(true) => {}
                Ok(false) => tracing::warn!(
                    count,
                    "another replica took over; it delivers these events a second time"
                ),
                Err(error) => {
                    tracing::warn!(%error, count, "delivered events stay in the ledger; they are sent again");
                    return Round::Failed;
                }
            }
            metrics::counter!("signer_events_delivered_total").increment(count);
        }
        let mut report = self.lock();
        report.delivered = report.delivered.saturating_add(count);
        if count > 0 {
            report.last_delivery = OffsetDateTime::now_utc().format(&Rfc3339).ok();
        }
        let Some(error) = outcome.error else {
            (report.state, report.failures_in_a_row) = (State::Ok, 0);
            return Round::Busy;
        };
        metrics::counter!("signer_events_failed_deliveries_total").increment(1);
        report.failures_in_a_row = report.failures_in_a_row.saturating_add(1);
        report.state = State::Degraded;
        let waiting = taken.events.len().saturating_sub(outcome.delivered.len());
        let failures_in_a_row = report.failures_in_a_row;
        tracing::warn!(%error, waiting, failures_in_a_row, "events were not delivered; they wait");
        report.last_error = Some(error.to_string());
        Round::Failed
    }

    async fn measure(&self) {
        // When the ledger is away, its own metrics and readiness say so.
        let Ok(backlog) = self.ledger.backlog().await else { return };
        let pending = u32::try_from(backlog.events).unwrap_or(u32::MAX);
        metrics::gauge!("signer_events_pending").set(pending);
        let age = backlog.oldest_ms.map_or(0, |oldest| age_ms(oldest, now_ms()));
        metrics::gauge!("signer_events_oldest_age_seconds")
            .set(Duration::from_millis(age).as_secs_f64());
    }

    fn lock(&self) -> MutexGuard<'_, EventsReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unix milliseconds. The real clock, not the payments': a lease is about processes.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
