//! Metrics over OTLP, for collectors that are sent them and do not come: every so often what `/metrics`
//! says, read line by line and sent. There is one place where things are counted, and it is that.

use crate::MetricsHandle;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use percent_encoding::percent_decode_str;
use std::{
    collections::BTreeMap,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::MissedTickBehavior;
use tonic::{
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    transport::{Channel, ClientTlsConfig, Endpoint},
};

/// What a collector may take to accept them.
const TIMEOUT: Duration = Duration::from_secs(5);

static PLAN: OnceLock<Plan> = OnceLock::new();
static SENDER: OnceLock<Sender> = OnceLock::new();

/// Where metrics go, how often, and who sends them.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) endpoint: String,
    pub(crate) every: Duration,
    /// What goes along with each request: `key=value`, separated by commas, values percent-encoded, as
    /// `OTEL_EXPORTER_OTLP_HEADERS` has it.
    pub(crate) headers: String,
    /// Attributes of the resource.
    pub(crate) resource: Vec<(String, String)>,
}

/// To be followed once there are metrics.
pub(crate) fn plan(plan: Plan) {
    let _ = PLAN.set(plan);
}

/// Follows the plan, if there is one, until the process ends.
pub(crate) fn begin(handle: MetricsHandle) {
    let Some(plan) = PLAN.get() else { return };
    let channel = match channel(&plan.endpoint) {
        Ok(channel) => channel,
        Err(error) => {
            tracing::error!(%error, "--otlp-endpoint: metrics cannot be sent");
            return;
        }
    };
    let headers = headers(&plan.headers);
    let sender =
        SENDER.get_or_init(|| Sender { plan, channel, headers, handle, since_ns: now_ns() });
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(sender.plan.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            sender.send().await;
        }
    });
}

/// What was counted since the last time, before the process ends.
pub(crate) async fn end() {
    if let Some(sender) = SENDER.get() {
        sender.send().await;
    }
}

struct Sender {
    plan: &'static Plan,
    channel: Channel,
    headers: MetadataMap,
    handle: MetricsHandle,
    /// Since when counters count.
    since_ns: u64,
}

impl Sender {
    /// Once. What is not taken is in the next.
    async fn send(&self) {
        let metrics = read(&self.handle.render(), self.since_ns, now_ns());
        let mut request = tonic::Request::new(self.plan.request(metrics));
        *request.metadata_mut() = self.headers.clone();
        let mut client = MetricsServiceClient::new(self.channel.clone());
        let lost = match tokio::time::timeout(TIMEOUT, client.export(request)).await {
            Ok(Ok(_)) => return,
            Ok(Err(status)) => status.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(error = lost, "metrics were not sent; they will be told again");
        metrics::counter!("metric_batches_lost_total").increment(1);
    }
}

fn channel(endpoint: &str) -> Result<Channel, tonic::transport::Error> {
    let to = Endpoint::from_shared(endpoint.to_owned())?.connect_timeout(TIMEOUT);
    let to = match endpoint.starts_with("https:") {
        true => to.tls_config(ClientTlsConfig::new().with_native_roots())?,
        false => to,
    };
    Ok(to.connect_lazy())
}

/// Those that are none are left out.
fn headers(text: &str) -> MetadataMap {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let read = pairs.filter_map(|(name, value)| {
        let name = MetadataKey::from_bytes(name.trim().as_bytes()).ok()?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = MetadataValue::try_from(&*value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    });
    let mut headers = MetadataMap::new();
    for (name, value) in read {
        headers.insert(name, value);
    }
    headers
}

impl Plan {
    fn request(&self, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
        let attributes = self.resource.iter().map(|(name, value)| field(name, value)).collect();
        let scope = ScopeMetrics { metrics, ..ScopeMetrics::default() };
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource { attributes, ..Resource::default() }),
                scope_metrics: vec![scope],
                ..ResourceMetrics::default()
            }],
        }
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn field(name: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.to_owned())) };
    KeyValue { key: name.to_owned(), value: Some(value), ..KeyValue::default() }
}

type Labels = Vec<(String, String)>;

/// One histogram of a family.
#[derive(Default)]
struct Buckets {
    /// Upper bounds and how many are at or below each.
    up_to: Vec<(f64, u64)>,
    count: u64,
    sum: f64,
}

/// Prometheus' text as OTLP has it.
fn read(text: &str, since_ns: u64, now_ns: u64) -> Vec<Metric> {
    let mut metrics = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|t| t.split_once(' '))
        else {
            continue;
        };
        let mut samples = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.is_empty() && !line.starts_with('#')) {
            samples.extend(sample(line));
        }
        let data = match kind {
            "counter" => Data::Sum(Sum {
                data_points: points(samples, since_ns, now_ns),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            }),
            "histogram" => Data::Histogram(Histogram {
                data_points: histograms(family, samples, since_ns, now_ns),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            }),
            // Summaries have their quantiles as so many gauges.
            _ => Data::Gauge(Gauge { data_points: points(samples, 0, now_ns) }),
        };
        metrics.push(Metric { name: family.to_owned(), data: Some(data), ..Metric::default() });
    }
    metrics
}

fn points(samples: Vec<(String, Labels, f64)>, since_ns: u64, now_ns: u64) -> Vec<NumberDataPoint> {
    let point = |(_, labels, value): (String, Labels, f64)| NumberDataPoint {
        attributes: attributes(&labels),
        start_time_unix_nano: since_ns,
        time_unix_nano: now_ns,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    };
    samples.into_iter().map(point).collect()
}

fn histograms(
    family: &str,
    samples: Vec<(String, Labels, f64)>,
    since_ns: u64,
    now_ns: u64,
) -> Vec<HistogramDataPoint> {
    let mut found: BTreeMap<Labels, Buckets> = BTreeMap::new();
    for (name, mut labels, value) in samples {
        let bound = labels.iter().position(|(label, _)| label == "le");
        let bound = bound.map(|at| labels.remove(at).1);
        let one = found.entry(labels).or_default();
        match (name.strip_prefix(family), bound) {
            (Some("_bucket"), Some(bound)) => {
                if let Ok(bound) = bound.parse::<f64>() {
                    one.up_to.push((bound, value as u64));
                }
            }
            (Some("_count"), _) => one.count = value as u64,
            (Some("_sum"), _) => one.sum = value,
            _ => {}
        }
    }
    let point = |(labels, buckets): (Labels, Buckets)| {
        // Prometheus adds up from bucket to bucket, OTLP does not.
        let mut below = 0;
        let mut bucket_counts = Vec::new();
        for (_, up_to) in &buckets.up_to {
            bucket_counts.push(up_to.saturating_sub(below));
            below = *up_to;
        }
        let bounds = buckets.up_to.iter().map(|(bound, _)| *bound);
        HistogramDataPoint {
            attributes: attributes(&labels),
            start_time_unix_nano: since_ns,
            time_unix_nano: now_ns,
            count: buckets.count,
            sum: Some(buckets.sum),
            bucket_counts,
            explicit_bounds: bounds.filter(|bound| bound.is_finite()).collect(),
            ..HistogramDataPoint::default()
        }
    };
    found.into_iter().map(point).collect()
}

fn attributes(labels: &Labels) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| field(name, value)).collect()
}

/// `name{label="value",…} number`
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let (head, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = head.split_once('{') else {
        return Some((head.to_owned(), Vec::new(), value));
    };
    let mut labels = Vec::new();
    let mut rest = rest.strip_suffix('}')?;
    while let Some((label, quoted)) = rest.split_once("=\"") {
        let (text, after) = unquoted(quoted)?;
        labels.push((label.trim_start_matches(',').to_owned(), text));
        rest = after;
    }
    Some((name.to_owned(), labels, value))
}

/// A label's value up to its closing quote, and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE jobs_total counter\njobs_total{kind=\"a \\\"b\\\", c\",x=\"\"} 3\njobs_total 4\n\n\
        # TYPE load gauge\nload 0.5\n\n\
        # TYPE took_seconds histogram\ntook_seconds_bucket{p=\"x\",le=\"0.1\"} 2\n\
        took_seconds_bucket{p=\"x\",le=\"1\"} 5\ntook_seconds_bucket{p=\"x\",le=\"+Inf\"} 6\n\
        took_seconds_sum{p=\"x\"} 7.5\ntook_seconds_count{p=\"x\"} 6\n";

    #[test]
    fn headers_are_as_the_environment_says_them() {
        let read = headers("api-key=a%20b%3D, Authorization=Basic eA==,nothing,bad name=x,");
        let read: Vec<_> = read.into_headers().into_iter().collect();
        let mut read: Vec<(String, String)> = read
            .into_iter()
            .map(|(name, value)| (name.unwrap().to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        read.sort();
        let expected = [("api-key", "a b="), ("authorization", "Basic eA==")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_prometheus_would_read() {
        let metrics = read(TEXT, 1, 2);
        let names: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, ["jobs_total", "load", "took_seconds"]);
        let Some(Data::Sum(jobs)) = &metrics[0].data else { panic!("{:?}", metrics[0]) };
        assert!(jobs.is_monotonic);
        assert_eq!(jobs.data_points[0].attributes, [field("kind", "a \"b\", c"), field("x", "")]);
        let value = number_data_point::Value::AsDouble(4.0);
        assert_eq!(jobs.data_points[1].value, Some(value));
        let Some(Data::Histogram(took)) = &metrics[2].data else { panic!("{:?}", metrics[2]) };
        let point = &took.data_points[0];
        assert_eq!((point.count, point.sum), (6, Some(7.5)));
        assert_eq!(
            (point.bucket_counts.as_slice(), point.explicit_bounds.as_slice()),
            (&[2, 3, 1][..], &[0.1, 1.0][..])
        );
        assert_eq!(point.attributes, [field("p", "x")]);
    }
}
