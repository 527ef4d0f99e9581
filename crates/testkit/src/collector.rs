//! A collector of traces: OTLP over gRPC, as any of them speaks it, in the process of the test.

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value},
    trace::v1::span::SpanKind,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// One span as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Span {
    /// `service.name` of the process that tells it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// `server`, `client` or `internal`.
    pub kind: String,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// The same; empty for the first span of a trace.
    pub parent_id: String,
    /// Unix nanoseconds.
    pub start_ns: u64,
    /// The same.
    pub end_ns: u64,
    /// Fields, as text.
    pub fields: BTreeMap<String, String>,
}

/// A running collector; it ends with the value.
#[derive(Debug)]
pub struct Collector {
    url: String,
    spans: Spans,
    metrics: Metrics,
    serving: tokio::task::JoinHandle<()>,
}

/// By service, and by process of it.
#[derive(Debug, Clone, Default)]
struct Metrics(Arc<Mutex<BTreeMap<(String, String), Told>>>);

/// Of one process's metrics.
#[derive(Debug, Clone, Default)]
struct Told {
    names: BTreeSet<String>,
    /// All of what was exported last, with labels and values.
    last: String,
}

#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

impl Collector {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", incoming.local_addr().unwrap());
        let (spans, metrics) = (Spans::default(), Metrics::default());
        let traces = TraceServiceServer::new(spans.clone());
        let numbers = MetricsServiceServer::new(metrics.clone());
        let serving = tokio::spawn(async move {
            let server = Server::builder().add_service(traces).add_service(numbers);
            let served = server.serve_with_incoming(incoming);
            served.await.expect("the collector serves");
        });
        Self { url, spans, metrics, serving }
    }

    /// `--otlp-endpoint` of whoever is to be watched.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Names of the metrics that a service sent.
    pub fn metrics(&self, service: &str) -> BTreeSet<String> {
        let all = self.metrics.0.lock().unwrap();
        let own = all.iter().filter(|((of, _), _)| of == service);
        own.flat_map(|(_, told)| told.names.iter().cloned()).collect()
    }

    /// What each process exported last of its metrics, with labels and values, as text: by its service and its instance.
    pub fn last_metrics(&self) -> BTreeMap<(String, String), String> {
        let all = self.metrics.0.lock().unwrap();
        all.iter().map(|(of, told)| (of.clone(), told.last.clone())).collect()
    }

    /// Everything that arrived.
    pub fn all(&self) -> Vec<Span> {
        self.spans.0.lock().unwrap().clone()
    }

    /// The spans of one trace, by their beginning.
    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        let mut spans = self.all();
        spans.retain(|span| span.trace_id == trace_id);
        spans.sort_by_key(|span| (span.start_ns, std::cmp::Reverse(span.end_ns)));
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut all = self.0.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|r| fields(r.attributes)).unwrap_or_default();
            let service = attributes.get("service.name").cloned().unwrap_or_default();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let kind = match span.kind() {
                    SpanKind::Server => "server",
                    SpanKind::Client => "client",
                    _ => "internal",
                };
                all.push(Span {
                    service: service.clone(),
                    name: span.name,
                    kind: kind.to_owned(),
                    trace_id: hex::encode(span.trace_id),
                    span_id: hex::encode(span.span_id),
                    parent_id: hex::encode(span.parent_span_id),
                    start_ns: span.start_time_unix_nano,
                    end_ns: span.end_time_unix_nano,
                    fields: fields(span.attributes),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Metrics {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut all = self.0.lock().unwrap();
        for resource in request.into_inner().resource_metrics {
            let attributes = resource.resource.map(|r| fields(r.attributes)).unwrap_or_default();
            let service = attributes.get("service.name").cloned().unwrap_or_default();
            let instance = attributes.get("service.instance.id").cloned().unwrap_or_default();
            let told = all.entry((service, instance)).or_default();
            told.last = format!("{attributes:?} {:?}", resource.scope_metrics);
            let metrics = resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            told.names.extend(metrics.map(|metric| metric.name));
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn fields(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<any_value::Value>| match value {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(yes)) => yes.to_string(),
        other => format!("{other:?}"),
    };
    let one = |field: KeyValue| (field.key, text(field.value.and_then(|value| value.value)));
    attributes.into_iter().map(one).collect()
}
