//! What is counted of each job: by capability how many, how long, what it cost and what failed before, and
//! which orchestrator did it. Labels are never a caller's words: capabilities are a fixed list, and of orchestrators
//! and models the first few hundred that were really used are named.

use super::{
    attempts::{Plan, Served},
    choose::Chosen,
    error::JobError,
    failure::Cause,
};
use penstock_domain::{Rational, parse_address};
use penstock_selection::Facts;
use penstock_telemetry::{
    Names, OTHER,
    go::{self, Whole},
};
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Segments to be transcoded, as a capability.
pub const VIDEO: &str = "video";
/// Containers that somebody brought, as a capability.
pub const BYOC: &str = "byoc";

static ORCHESTRATORS: Names = Names::at_most(300);
static MODELS: Names = Names::at_most(300);
/// Each with what it says of itself, which may change.
static NODES: Names = Names::at_most(300);
/// Who was asked for which model: strangers may have many of both.
static PAIRS: Names = Names::at_most(1_000);

/// Segments that the success rate is of: as many as the Go node has of each stream.
const RATED: usize = 30;
static RATE: Mutex<VecDeque<bool>> = Mutex::new(VecDeque::new());

/// Pixels that came back, for the Go node's metric.
static PIXELS: Whole = Whole::millions();

/// Shows what alerts watch for before it happens: Prometheus sees no increase in a counter that begins with 1.
pub fn show() {
    metrics::counter!("penstock_gateway_changed_keys_total").increment(0);
}

/// How a job ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End<'a> {
    /// One did it, after so many failed tries.
    Done { orchestrator: &'a str, facts: &'a Facts, failed_tries: u32 },
    /// By what its caller did: no operator need get up for it.
    Refused,
    /// There was nobody to try.
    Nobody,
    /// Otherwise.
    Failed,
}

impl<'a, T> From<&'a Result<Served<T>, JobError>> for End<'a> {
    fn from(end: &'a Result<Served<T>, JobError>) -> Self {
        match end {
            Ok(Served { orchestrator, facts, failed_tries, .. }) => {
                Self::Done { orchestrator, facts, failed_tries: *failed_tries }
            }
            Err(error) => error.into(),
        }
    }
}

impl From<&JobError> for End<'_> {
    fn from(error: &JobError) -> Self {
        match error {
            JobError::Rejected(_) | JobError::Budget { .. } | JobError::Forbidden(_) => {
                Self::Refused
            }
            JobError::NoOrchestrators(_) => Self::Nobody,
            _ => Self::Failed,
        }
    }
}

impl End<'_> {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Refused => "refused",
            Self::Nobody | Self::Failed => "failed",
        }
    }
}

/// A job is over.
pub(super) fn ended(plan: &Plan<'_>, end: End<'_>, took: Duration) {
    over(plan.capability, end);
    let End::Done { orchestrator, facts, failed_tries } = end else { return };
    let capability = plan.capability;
    metrics::histogram!("penstock_gateway_job_seconds", "capability" => capability)
        .record(took.as_secs_f64());
    metrics::counter!("penstock_gateway_failovers_total", "capability" => capability)
        .increment(failed_tries.into());
    let label = ORCHESTRATORS.label(orchestrator);
    metrics::counter!("penstock_gateway_orchestrator_jobs_total",
        "capability" => capability, "orchestrator" => label)
    .increment(1);
    if let Some(labels) = model(plan) {
        metrics::counter!("livepeer_ai_models_requested", go::labels(labels)).increment(1);
    }
    if capability == VIDEO {
        metrics::counter!("livepeer_segment_transcoded_total", go::labels([])).increment(1);
        let by = go::labels(who(orchestrator, facts));
        metrics::histogram!("livepeer_transcode_overall_latency_seconds", by)
            .record(took.as_secs_f64());
        if plan.sticky.is_some_and(|last| last != orchestrator) {
            metrics::counter!("livepeer_orchestrator_swaps", go::labels([])).increment(1);
        }
    }
}

/// A job is over, whatever was planned.
pub(super) fn over(capability: &'static str, end: End<'_>) {
    metrics::counter!("penstock_gateway_jobs_total",
        "capability" => capability, "outcome" => end.as_str())
    .increment(1);
    if capability != VIDEO {
        return;
    }
    if !matches!(end, End::Refused) {
        rate(matches!(end, End::Done { .. }));
    }
    if matches!(end, End::Nobody) {
        let by = go::labels([("error_code", "no_orchestrators".to_owned())]);
        metrics::counter!("livepeer_segment_transcode_failed_total", by).increment(1);
    }
}

fn rate(is_done: bool) {
    let mut rated = RATE.lock().unwrap_or_else(PoisonError::into_inner);
    rated.push_back(is_done);
    if rated.len() > RATED {
        rated.pop_front();
    }
    let done = rated.iter().filter(|done| **done).count();
    metrics::gauge!("livepeer_success_rate", go::labels([])).set(done as f64 / rated.len() as f64);
}

/// Another orchestrator is tried, after so many.
pub(super) fn another_try(plan: &Plan<'_>, before: usize) {
    if plan.capability == VIDEO && before > 0 {
        let which = match before.saturating_add(1) {
            which @ ..=10 => which.to_string(),
            _ => ">10".to_owned(),
        };
        metrics::counter!("livepeer_transcode_retried", go::labels([("try", which)])).increment(1);
    }
}

/// A try at one orchestrator failed.
pub(super) fn failed_try(plan: &Plan<'_>, at: &Chosen, cause: Cause) {
    metrics::counter!("penstock_gateway_failed_tries_total", "cause" => cause.label()).increment(1);
    metrics::counter!("penstock_gateway_orchestrator_failed_tries_total",
        "orchestrator" => ORCHESTRATORS.label(&at.uri), "cause" => cause.label())
    .increment(1);
    let error_code = ("error_code", cause.label().to_owned());
    if let Some([pipeline, model, uri, address, version]) = model_at(plan, at) {
        let by = go::labels([error_code, pipeline, model, uri, address, version]);
        metrics::counter!("livepeer_ai_request_errors", by).increment(1);
    } else if plan.capability == VIDEO {
        metrics::counter!("livepeer_segment_transcode_failed_total", go::labels([error_code]))
            .increment(1);
    }
}

/// What a job's units cost at its orchestrator's price; `None`: nothing is paid there.
pub(super) fn cost(capability: &'static str, units: u64, price: Option<&Rational>) {
    let Some(price) = price else { return };
    metrics::histogram!("penstock_gateway_job_cost_wei", "capability" => capability)
        .record(as_f64(&price.times(units)));
}

/// What a unit of a model costs, in wei.
pub(super) fn price(plan: &Plan<'_>, price: Option<&Rational>) {
    if let (Some(price), Some(labels)) = (price, model(plan)) {
        metrics::gauge!("livepeer_ai_request_price", go::labels(labels)).set(as_f64(price));
    }
}

/// How fast an orchestrator is at a model, as selection has it.
pub(super) fn latency(plan: &Plan<'_>, at: &Chosen, score: f64) {
    if let Some(labels) = model_at(plan, at) {
        metrics::gauge!("livepeer_ai_request_latency_score", go::labels(labels)).set(score);
    }
}

/// A segment came back: how long its orchestrator took, and what of it was made.
pub(super) fn transcoded(took: Duration, media_ms: u32, pixels: u64) {
    metrics::histogram!("penstock_gateway_segment_seconds").record(took.as_secs_f64());
    metrics::histogram!("livepeer_transcode_time_seconds", go::labels([]))
        .record(took.as_secs_f64());
    metrics::histogram!("livepeer_transcode_score", go::labels([]))
        .record(f64::from(media_ms) / 1_000.0 / took.as_secs_f64().max(f64::MIN_POSITIVE));
    metrics::counter!("livepeer_mil_pixels_processed", go::labels([]))
        .increment(PIXELS.add(pixels.into()));
}

type Label = (&'static str, String);

/// Pipeline and model in the Go node's labels; `None` for what has no model.
fn model(plan: &Plan<'_>) -> Option<[Label; 2]> {
    let model = plan.model.as_ref()?;
    Some([("pipeline", plan.capability.to_owned()), ("model_name", MODELS.label(model))])
}

/// The same, and who is asked for it.
fn model_at(plan: &Plan<'_>, at: &Chosen) -> Option<[Label; 5]> {
    let [pipeline, model] = model(plan)?;
    let [uri, address, version] = who(&at.uri, &at.facts);
    let pair = format!("{} {} {} {} {}", pipeline.1, model.1, uri.1, address.1, version.1);
    let is_named = PAIRS.admit(&pair);
    let label = |(name, value): Label| (name, if is_named { value } else { OTHER.to_owned() });
    Some([pipeline, model, label(uri), label(address), label(version)])
}

/// An orchestrator in the Go node's labels and spelling (EIP-55). All three are its own words: one that changes them
/// all the time is one of the others after a while.
fn who(uri: &str, facts: &Facts) -> [Label; 3] {
    let address = parse_address(&facts.address).map(|address| address.to_string());
    let address = address.as_deref().unwrap_or_default();
    let version = facts.capabilities.as_ref().map_or("", |offer| offer.version.as_str());
    let is_named = NODES.admit(&format!("{uri} {address} {version}"));
    let label = |value: &str| if is_named { value } else { OTHER }.to_owned();
    [
        ("orchestrator_uri", label(uri)),
        ("orchestrator_address", label(address)),
        ("orchestrator_version", label(version)),
    ]
}

/// Histograms and gauges are floats; what is booked is not.
fn as_f64(amount: &Rational) -> f64 {
    amount.to_fixed(6).parse().unwrap_or(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::Capabilities;

    #[test]
    fn what_the_caller_did_is_no_failure() {
        let outcome = |error: JobError| End::from(&error).as_str();
        assert_eq!(outcome(JobError::Rejected("no film".into())), "refused");
        assert_eq!(
            outcome(JobError::Budget { why: "spent".into(), retry_after_s: None }),
            "refused"
        );
        assert_eq!(outcome(JobError::Exhausted("busy".into())), "failed");
        assert_eq!(outcome(JobError::NoOrchestrators("none".into())), "failed");
    }

    #[test]
    fn whoever_changes_its_words_is_one_of_the_others() {
        let facts = |version: &str| Facts {
            address: "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed".to_owned(),
            capabilities: Some(Capabilities {
                version: version.to_owned(),
                ..Capabilities::default()
            }),
            ..Facts::default()
        };
        let values = |facts: &Facts| who("https://seen.test:1", facts).map(|(_, value)| value);
        let address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        assert_eq!(values(&facts("1.0")), ["https://seen.test:1", address, "1.0"]);
        assert_eq!(values(&Facts::default()), ["https://seen.test:1", "", ""], "it said nothing");
        assert_eq!(values(&facts(&"9".repeat(1_000))), [OTHER; 3], "no label is long");
        let many = (0..1_000).map(|n| values(&facts(&n.to_string())));
        assert!(many.filter(|who| who[0] == OTHER).count() >= 700);
        assert_eq!(values(&facts("1.0"))[1], address, "who was named is named");
    }

    #[test]
    fn amounts_are_in_wei() {
        let price = Rational::from_int(3);
        assert_eq!(as_f64(&price.times(2_000_000_000_000)), 6e12);
    }
}
