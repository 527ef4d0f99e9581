//! Where spans and metrics go: a collector that speaks OTLP over gRPC. Without one there is nothing here at all.

use crate::{ids::Ids, outlet::Outlet, push, sampling::Sampler};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};
use penstock_config::{ConfigError, OtlpArgs};
use std::time::Duration;
use tonic::transport::ClientTlsConfig;

/// What a collector may take to accept some spans. Those of a slow one are dropped, not piled up.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// The last spans at the end of the process.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Spans that wait to be sent; further ones are dropped.
const MAX_WAITING_SPANS: usize = 4_096;
const MAX_SPANS_SENT_TOGETHER: usize = 512;
const SEND_EVERY: Duration = Duration::from_secs(1);

/// What [`crate::init`] set up.
#[derive(Debug)]
#[must_use = "the last spans are sent by ending it"]
pub struct Telemetry(Vec<SdkTracerProvider>);

impl Telemetry {
    pub(crate) fn of(providers: Vec<SdkTracerProvider>) -> Self {
        Self(providers)
    }

    /// Sends the spans that wait and the last metrics, for some seconds at most. Nothing is recorded afterwards.
    pub async fn end(self) {
        let spans = async {
            for provider in self.0 {
                // It waits for the exporter, which needs the runtime's threads to go on.
                let end = move || provider.shutdown_with_timeout(END_TIMEOUT);
                if let Ok(Err(error)) = tokio::task::spawn_blocking(end).await {
                    tracing::warn!(%error, "the last spans were not sent to --otlp-endpoint");
                }
            }
        };
        tokio::join!(spans, push::end());
    }
}

/// What records spans and sends them; `None` without `--otlp-endpoint`.
pub(crate) fn provider(
    service: &'static str,
    args: &OtlpArgs,
) -> Result<Option<SdkTracerProvider>, ConfigError> {
    let Some(endpoint) = args.endpoint()? else { return Ok(None) };
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint.as_str());
    let exporter = match endpoint.starts_with("https:") {
        true => exporter.with_tls_config(ClientTlsConfig::new().with_native_roots()),
        false => exporter,
    };
    let exporter = exporter
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| ConfigError::value("--otlp-endpoint", error.to_string()))?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(MAX_WAITING_SPANS)
        .with_max_export_batch_size(MAX_SPANS_SENT_TOGETHER)
        .with_scheduled_delay(SEND_EVERY)
        .build();
    let processor =
        BatchSpanProcessor::builder(Outlet(exporter)).with_batch_config(batches).build();
    Ok(Some(
        SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::new(args.otlp_sample_ratio, args.otlp_traces_per_second))
            .with_id_generator(Ids::default())
            .with_resource(resource(service))
            .build(),
    ))
}

/// Metrics go to the same place, if that was asked for.
pub(crate) fn plan_metrics(service: &'static str, args: &OtlpArgs) -> Result<(), ConfigError> {
    let (Some(endpoint), 1..) = (args.endpoint()?, args.otlp_metrics_interval_ms) else {
        return Ok(());
    };
    let every = Duration::from_millis(args.otlp_metrics_interval_ms);
    let resource = resource(service);
    let resource = resource.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let headers = std::env::var("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default();
    push::plan(push::Plan { endpoint, every, headers, resource: resource.collect() });
    Ok(())
}

/// Who speaks. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` are read by the builder.
fn resource(service: &'static str) -> Resource {
    let resource = Resource::builder().with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", format!("{:032x}", rand::random::<u128>())),
    ]);
    match std::env::var_os("OTEL_SERVICE_NAME") {
        Some(_) => resource.build(),
        None => resource.with_service_name(service).build(),
    }
}
