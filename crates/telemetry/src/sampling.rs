//! Which traces are recorded here. A caller's `sampled` flag is a wish: it lets a trace be recorded, and
//! does not make it so, because whoever can send a request could else have us record and send all of his.

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Decides at the first span of a trace in this process; those below it follow.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    /// Share of the traces, 0 to 1.
    ratio: f64,
    window: Arc<Window>,
}

impl Sampler {
    pub(crate) fn new(ratio: f64, per_second: u32) -> Self {
        let begun = Mutex::new((Instant::now(), 0));
        Self { ratio, window: Arc::new(Window { per_second, begun }) }
    }

    /// Whether a trace that may be recorded is. The draw is ours and not made from the trace id, which a
    /// caller chooses.
    fn draw(&self) -> bool {
        rand::random::<f64>() < self.ratio && self.window.take(Instant::now())
    }
}

impl ShouldSample for Sampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _trace_id: TraceId,
        _name: &str,
        _kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|context| context.span().span_context().clone());
        let is_recorded = match parent.filter(|parent| parent.is_valid()) {
            Some(ours) if !ours.is_remote() => ours.is_sampled(),
            Some(callers) => callers.is_sampled() && self.draw(),
            None => self.draw(),
        };
        let decision = match is_recorded {
            true => SamplingDecision::RecordAndSample,
            false => SamplingDecision::Drop,
        };
        SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::NONE }
    }
}

/// So many in each second, and no more.
#[derive(Debug)]
struct Window {
    per_second: u32,
    begun: Mutex<(Instant, u32)>,
}

impl Window {
    fn take(&self, now: Instant) -> bool {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(begun.0) >= Duration::from_secs(1) {
            *begun = (now, 0);
        }
        let fits = begun.1 < self.per_second;
        if fits {
            begun.1 += 1;
        } else {
            metrics::counter!("traces_over_limit_total").increment(1);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags};

    fn parent(sampled: bool, remote: bool) -> Context {
        let flags = TraceFlags::default().with_sampled(sampled);
        let context =
            SpanContext::new(TraceId::from(1), SpanId::from(2), flags, remote, TraceState::NONE);
        Context::new().with_remote_span_context(context)
    }

    fn takes(sampler: &Sampler, parent: &Context) -> bool {
        let result = sampler.should_sample(
            Some(parent),
            TraceId::from(1),
            "",
            &SpanKind::Internal,
            &[],
            &[],
        );
        result.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn a_caller_may_ask_and_not_command() {
        let all = Sampler::new(1.0, 1_000);
        assert!(takes(&all, &parent(true, true)) && takes(&all, &Context::new()));
        assert!(!takes(&all, &parent(false, true)), "who records nothing is followed");
        let none = Sampler::new(0.0, 1_000);
        assert!(!takes(&none, &parent(true, true)), "the flag alone records nothing");
        assert!(takes(&none, &parent(true, false)), "what was begun here goes on");
        let some = Sampler::new(0.25, u32::MAX);
        let taken = (0..4_000).filter(|_| takes(&some, &parent(true, true))).count();
        assert!((800..1_200).contains(&taken), "{taken} of 4000");
    }

    #[test]
    fn no_more_than_so_many_a_second() {
        let window = Window { per_second: 2, begun: Mutex::new((Instant::now(), 0)) };
        let now = Instant::now();
        assert_eq!([(); 4].map(|()| window.take(now)), [true, true, false, false]);
        assert!(window.take(now + Duration::from_secs(1)));
    }
}
