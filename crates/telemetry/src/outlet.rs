//! The last door that a span goes through. The span of a job gets its name and kind here, which on log
//! lines would only be noise, and values are cut: they are ours, but orchestrators choose their own URLs.

use opentelemetry::{StringValue, Value, trace::SpanKind};
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use std::time::Duration;

/// Longest value of a field, in bytes.
const MAX_VALUE_BYTES: usize = 256;

/// Sends spans on.
#[derive(Debug)]
pub(crate) struct Outlet(pub(crate) Otlp);

impl SpanExporter for Outlet {
    fn export(&self, mut batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        batch.iter_mut().for_each(finish);
        metrics::counter!("spans_sent_total").increment(batch.len() as u64);
        let sent = self.0.export(batch);
        async move {
            sent.await.inspect_err(|_| metrics::counter!("span_batches_lost_total").increment(1))
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn finish(span: &mut SpanData) {
    for field in &mut span.attributes {
        if let Value::String(text) = &mut field.value
            && let Some(end) = cut(text.as_str())
        {
            *text = StringValue::from(text.as_str().get(..end).unwrap_or_default().to_owned());
        }
    }
    if span.name == "job" {
        span.span_kind = SpanKind::Server;
        let operation = span.attributes.iter().find(|field| field.key.as_str() == "operation");
        if let Some(operation) = operation {
            span.name = operation.value.to_string().into();
        }
    }
}

/// Where a text that is too long ends.
fn cut(text: &str) -> Option<usize> {
    (text.len() > MAX_VALUE_BYTES).then(|| text.floor_char_boundary(MAX_VALUE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_end_between_letters() {
        assert_eq!(cut(&"x".repeat(256)), None);
        assert_eq!(cut(&"é".repeat(200)), Some(256));
        assert_eq!(cut(&format!("x{}", "é".repeat(200))), Some(255));
    }
}
