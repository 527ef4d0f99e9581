//! Ids of traces: random, or the one that the next trace was promised to have.

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use std::cell::Cell;

thread_local! {
    static PROMISED: Cell<u128> = const { Cell::new(0) };
}

/// Runs `starts`, which starts the first span of the trace with this id.
pub(crate) fn promise(trace_id: u128, starts: impl FnOnce()) {
    PROMISED.set(trace_id);
    starts();
    PROMISED.set(0);
}

/// As the SDK's own, but for promised ids.
#[derive(Debug, Default)]
pub(crate) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        match PROMISED.take() {
            0 => self.0.new_trace_id(),
            promised => TraceId::from(promised),
        }
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}
