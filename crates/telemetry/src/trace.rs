//! One trace per job: spans, and the W3C `traceparent` that goes along with every call of a job.
//!
//! A span is made with [`step!`](crate::step) inside a job and with [`job!`](crate::job) where one
//! begins in this process. Spans are `tracing`'s: work is put into one with `.instrument(span)`. Without
//! `--otlp-endpoint` steps are disabled and cost nothing; jobs still put their `trace_id` on log lines.
//!
//! Only the traceparent is passed on: no `tracestate` and no `baggage`, in which secrets may travel to
//! whoever does the work.

use crate::ids;
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The target of all spans that are traced.
pub const TARGET: &str = "penstock_trace";
/// The header, and the key in gRPC metadata.
pub const TRACEPARENT: &str = "traceparent";

/// A span inside a job, only in traces: `step!("payment", units)`. Takes what `tracing::span!` takes.
#[macro_export]
macro_rules! step {
    ($($fields:tt)+) => {
        $crate::tracing::trace_span!(target: $crate::trace::TARGET, $($fields)+)
    };
}

/// The span of a job in this process, in traces and on log lines: `job!("segment", trace_id)`.
#[macro_export]
macro_rules! job {
    ($($fields:tt)+) => {
        $crate::tracing::info_span!(target: $crate::trace::TARGET, $($fields)+)
    };
}

/// A place in a trace, as W3C's `traceparent` says it (version 00).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace; not 0.
    pub trace_id: u128,
    /// The span; not 0.
    pub span_id: u64,
    /// Bit 0: somebody records it.
    pub flags: u8,
}

impl Traceparent {
    /// Of a header's text; `None` if it is anything else than version 00 in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        // Lengths first: the numbers below would take signs and fewer digits.
        let is_sane = text.len() == 55
            && text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_sane {
            return None;
        }
        let mut parts = text.split('-');
        let version = parts.next()?;
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none()
            && version == "00"
            && (trace.len(), span.len(), flags.len()) == (32, 16, 2);
        let parsed = Self {
            trace_id: u128::from_str_radix(trace, 16).ok()?,
            span_id: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (whole && parsed.trace_id != 0 && parsed.span_id != 0).then_some(parsed)
    }

    /// Whether whoever wrote it records the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The trace as logs say it: 32 hexadecimal digits.
    pub fn trace_id_hex(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    fn remote(self) -> Context {
        let context = SpanContext::new(
            TraceId::from(self.trace_id),
            SpanId::from(self.span_id),
            TraceFlags::new(self.flags),
            true,
            TraceState::NONE,
        );
        Context::new().with_remote_span_context(context)
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// Whether this process records spans.
static RECORDS: AtomicBool = AtomicBool::new(false);

pub(crate) fn records() {
    RECORDS.store(true, Ordering::Relaxed);
}

/// The span of what a caller asks this process for. `operation` is one of a few names, never the
/// caller's words. Without a caller's trace one begins here, if this process records any.
pub fn accept(operation: &'static str, caller: Option<Traceparent>) -> Span {
    match caller {
        Some(caller) => {
            let trace_id = caller.trace_id_hex();
            let span = job!("job", trace_id, operation, status = tracing::field::Empty);
            go_on(&span, caller);
            span
        }
        None if RECORDS.load(Ordering::Relaxed) => begun(operation, rand::random()),
        None => Span::none(),
    }
}

/// The first span of the trace with this id.
pub fn begun(operation: &'static str, trace_id: u128) -> Span {
    let trace_id = trace_id.max(1);
    let span = job!(
        "job",
        trace_id = format!("{trace_id:032x}"),
        operation,
        status = tracing::field::Empty
    );
    begin(&span, trace_id);
    span
}

fn go_on(span: &Span, caller: Traceparent) {
    // Fails where nothing is traced, and that is all there is to say.
    let _ = span.set_parent(caller.remote());
}

fn begin(span: &Span, trace_id: u128) {
    if span.set_parent(Context::new()).is_ok() {
        // Asking for its context starts it.
        ids::promise(trace_id, || drop(span.context()));
    }
}

/// A span as its callees see it; `None` if it is not traced.
pub fn of(span: &Span) -> Option<Traceparent> {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| Traceparent {
        trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(context.span_id().to_bytes()),
        flags: context.trace_flags().to_u8(),
    })
}

tokio::task_local! {
    static CALLER: Traceparent;
}

/// Runs `work` as part of a trace that may not be recorded here, so that it is passed on all the same.
pub async fn scope<T>(at: Traceparent, work: impl Future<Output = T>) -> T {
    CALLER.scope(at, work).await
}

/// Where a job is in its trace, for a task of its own or a queue, which know nothing of it.
#[derive(Debug, Clone)]
pub struct Carried {
    span: Span,
    at: Option<Traceparent>,
}

impl Carried {
    /// Here and now.
    pub fn here() -> Self {
        Self { span: Span::current(), at: scoped() }
    }

    /// Runs `work` there.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> T {
        scope_if(self.at, work).instrument(self.span).await
    }
}

/// `work` of a job, to be run in a task of its own.
pub fn carried<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    Carried::here().run(work)
}

/// The same, if there is a trace.
pub async fn scope_if<T>(at: Option<Traceparent>, work: impl Future<Output = T>) -> T {
    match at {
        Some(at) => scope(at, work).await,
        None => work.await,
    }
}

/// The trace of [`scope`]; `None` outside of one.
pub fn scoped() -> Option<Traceparent> {
    CALLER.try_with(|at| *at).ok()
}

/// What a call that is made now says of its trace: the running span if it is traced, else what this
/// process was told.
pub fn outgoing() -> Option<Traceparent> {
    of(&Span::current()).or_else(scoped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_w3c_calls_a_traceparent() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parsed = Traceparent::parse(good).unwrap();
        assert_eq!(parsed.to_string(), good);
        assert!(parsed.is_sampled());
        assert_eq!(parsed.trace_id_hex(), "0af7651916cd43dd8448eb211c80319c");
        let zeros = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        let no_span = good.replace("b7ad6b7169203331", &"0".repeat(16));
        let shifted = good.replace("-b7", "b-7");
        for bad in [
            "",
            "00-0-0-0",
            &good[1..],
            &good.to_uppercase(),
            &format!("{good}-00"),
            &good.replacen("00", "01", 1),
            &good.replacen("0af", "+af", 1),
            &zeros,
            &no_span,
            &shifted,
        ] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_not_recorded_is_passed_on() {
        assert_eq!(outgoing(), None);
        let at = Traceparent { trace_id: 1, span_id: 2, flags: 0 };
        assert_eq!(scope(at, async { outgoing() }).await, Some(at));
    }
}
