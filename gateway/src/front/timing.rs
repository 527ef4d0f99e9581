//! Where a request's time went: [`span`] adds up what its phases took, and the answer says so in
//! `Server-Timing` (W3C). Phases that run beside each other each count in full, so that their sum may
//! exceed `total`.

use axum::{extract::Request, response::Response};
use http::{HeaderName, HeaderValue};
use penstock_http_kit::layers::Next;
use penstock_telemetry::step;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tracing::{Instrument, Span};

/// The header.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for a place.
    Queue,
    /// Choosing an orchestrator, discovery included where the pool is not known yet.
    Selection,
    /// Credit and credentials: signer, `POST /payment`, waiting for the payment lease.
    Payment,
    /// The orchestrator's work, and fetching its results.
    Orchestrator,
}

const PHASES: [Phase; 4] = [Phase::Queue, Phase::Selection, Phase::Payment, Phase::Orchestrator];

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Selection => "selection",
            Self::Payment => "payment",
            Self::Orchestrator => "orchestrator",
        }
    }
}

impl Phase {
    /// Its span in the job's trace.
    fn step(self) -> Span {
        match self {
            Self::Queue => step!("queue"),
            Self::Selection => step!("selection"),
            Self::Payment => step!("payment"),
            Self::Orchestrator => step!("orchestrator"),
        }
    }
}

/// What the phases of one request took so far, microseconds.
#[derive(Debug, Clone, Default)]
pub struct Spent(Arc<[AtomicU64; 4]>);

impl Spent {
    fn add(&self, phase: Phase, micros: u64) {
        for (of, sum) in PHASES.iter().zip(self.0.iter()) {
            if *of == phase {
                sum.fetch_add(micros, Ordering::Relaxed);
            }
        }
    }

    /// The header's value. Phases that did not happen are left out.
    fn header(&self, total_micros: u64) -> Option<HeaderValue> {
        let ms = |micros: u64| format!("{}.{:01}", micros / 1_000, micros % 1_000 / 100);
        let mut parts: Vec<_> = PHASES
            .iter()
            .zip(self.0.iter())
            .map(|(phase, sum)| (phase.name(), sum.load(Ordering::Relaxed)))
            .filter(|(_, micros)| *micros > 0)
            .map(|(name, micros)| format!("{name};dur={}", ms(micros)))
            .collect();
        parts.push(format!("total;dur={}", ms(total_micros)));
        HeaderValue::from_str(&parts.join(", ")).ok()
    }
}

tokio::task_local! {
    static CURRENT: Spent;
}

/// The running request's sums; fresh ones outside of a request.
pub fn current() -> Spent {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// Runs `work` as part of a request whose sums were taken with [`current`]: for tasks of their own.
pub async fn scope<T>(spent: Spent, work: impl Future<Output = T>) -> T {
    CURRENT.scope(spent, work).await
}

/// Runs `work` and adds the time that it takes to a phase of the running request.
pub async fn span<T>(phase: Phase, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let done = work.instrument(phase.step()).await;
    let took = started.elapsed();
    metrics::histogram!("penstock_gateway_phase_seconds", "phase" => phase.name())
        .record(took.as_secs_f64());
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    // At least something: that it happened is worth saying.
    current().add(phase, micros.max(1));
    done
}

/// The layer: measures, and answers with the header. Of a streamed answer it tells the time to its head.
pub async fn layer(request: Request, next: Next) -> Response {
    let (spent, started) = (Spent::default(), Instant::now());
    let mut response = scope(spent.clone(), next.run(request)).await;
    let total = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    if let Some(value) = spent.header(total) {
        response.headers_mut().append(SERVER_TIMING, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn spans_add_up_also_across_tasks() {
        let spent = Spent::default();
        scope(spent.clone(), async {
            assert_eq!(span(Phase::Payment, async { 7 }).await, 7);
            let inherited = current();
            let other = scope(inherited, span(Phase::Queue, async {}));
            tokio::spawn(other).await.unwrap();
        })
        .await;
        let text = spent.header(12_345).unwrap();
        let text = text.to_str().unwrap();
        assert!(text.starts_with("queue;dur=") && text.contains(", payment;dur="), "{text}");
        assert!(text.ends_with("total;dur=12.3") && !text.contains("selection"), "{text}");
    }

    #[tokio::test]
    async fn outside_of_a_request_nothing_is_lost_but_the_sum() {
        assert_eq!(span(Phase::Selection, async { 1 }).await, 1);
    }

    #[test]
    fn the_header_is_exact() {
        let spent = Spent::default();
        spent.add(Phase::Selection, 1_250);
        spent.add(Phase::Selection, 50);
        spent.add(Phase::Orchestrator, 999);
        assert_eq!(
            spent.header(5_000).unwrap(),
            "selection;dur=1.3, orchestrator;dur=0.9, total;dur=5.0"
        );
    }
}
