//! Spans of a process that is confined and reaches no collector: it says how long its parts took, and
//! its caller tells them in its name.

use opentelemetry::{
    Context,
    trace::{Span as _, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

static PEER: OnceLock<SdkTracer> = OnceLock::new();

pub(crate) fn speaks_through(provider: &SdkTracerProvider) {
    let _ = PEER.set(provider.tracer("penstock"));
}

/// A part of what a process did, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What it is called.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
}

/// Tells what the other process did below the running span, which ended now: its parts, in their order.
/// They are moved to fit into the time since `asked`, as the other's clock is not ours.
pub fn tell_of(operation: &'static str, asked: SystemTime, parts: &[Part]) {
    let Some(tracer) = PEER.get() else { return };
    let parent = tracing::Span::current().context();
    if !parent.span().span_context().is_sampled() {
        return;
    }
    let now = SystemTime::now();
    let all: Duration = parts.iter().map(|part| part.took).sum();
    let start = now.checked_sub(all).unwrap_or(asked).max(asked).min(now);
    let within = |at: SystemTime| at.min(now);
    let job = tracer
        .span_builder(operation)
        .with_kind(SpanKind::Server)
        .with_start_time(start)
        .start_with_context(tracer, &parent);
    let inside = Context::new().with_span(job);
    let mut at = start;
    for part in parts {
        let mut span = tracer
            .span_builder(part.name)
            .with_start_time(within(at))
            .start_with_context(tracer, &inside);
        at = at.checked_add(part.took).unwrap_or(now);
        span.end_with_timestamp(within(at));
    }
    inside.span().end_with_timestamp(now);
}
