//! Where traces are sent, and how many.

use crate::ConfigError;
use clap::Args;

/// The variable that every OpenTelemetry SDK knows.
const STANDARD_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Flags of a role's traces.
#[derive(Debug, Clone, Args)]
pub struct OtlpArgs {
    /// Collector that is sent spans (OTLP over gRPC), `http://host:4317` or `https://…`. Without it, and
    /// without OTEL_EXPORTER_OTLP_ENDPOINT, nothing is recorded.
    #[arg(long, env = "PENSTOCK_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Share of the traces that is recorded, 0 to 1. A caller's `traceparent` that is marked as sampled
    /// does not raise it; one that is not marked is not recorded.
    #[arg(long, env = "PENSTOCK_OTLP_SAMPLE_RATIO", value_name = "RATIO", default_value_t = 1.0,
        value_parser = ratio)]
    pub otlp_sample_ratio: f64,

    /// Traces that are recorded in one second at most, whoever asks.
    #[arg(
        long,
        env = "PENSTOCK_OTLP_TRACES_PER_SECOND",
        value_name = "TRACES",
        default_value_t = 100,
        value_parser = crate::within::<u32>(0, 1_000_000)
    )]
    pub otlp_traces_per_second: u32,

    /// How often the metrics of `/metrics` are sent to the same collector as well, in milliseconds; 0:
    /// never.
    #[arg(long, env = "PENSTOCK_OTLP_METRICS_INTERVAL_MS", value_name = "MS", default_value_t = 0,
          value_parser = crate::within::<u64>(0, 86_400_000))]
    pub otlp_metrics_interval_ms: u64,
}

impl OtlpArgs {
    /// The collector, if there is one.
    pub fn endpoint(&self) -> Result<Option<String>, ConfigError> {
        let (setting, given) = match &self.otlp_endpoint {
            Some(given) => ("--otlp-endpoint", Some(given.clone())),
            None => (STANDARD_ENDPOINT, std::env::var(STANDARD_ENDPOINT).ok()),
        };
        match given.filter(|given| !given.is_empty()) {
            Some(given) if !(given.starts_with("http://") || given.starts_with("https://")) => {
                Err(ConfigError::value(setting, "is not an http:// or https:// URL"))
            }
            given => Ok(given),
        }
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (0.0..=1.0).contains(&ratio) {
        true => Ok(ratio),
        false => Err("not from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        otlp: OtlpArgs,
    }

    #[test]
    fn what_is_not_a_share_or_a_place_is_refused() {
        for bad in ["1.5", "-0.1", "nan", "x"] {
            assert!(Flags::try_parse_from(["p", "--otlp-sample-ratio", bad]).is_err(), "{bad}");
        }
        let at = |url: &str| Flags::parse_from(["p", "--otlp-endpoint", url]).otlp.endpoint();
        assert_eq!(at("http://c:4317").unwrap().as_deref(), Some("http://c:4317"));
        assert_eq!(at("").unwrap(), None);
        assert!(at("c:4317").unwrap_err().to_string().starts_with("--otlp-endpoint: "));
    }
}
