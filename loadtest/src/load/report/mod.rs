//! What a run came to: as data (with every histogram's buckets, so that runs can be compared and added up
//! later), as text, and as a page.

pub mod compare;
pub mod html;
pub mod plot;
pub mod text;

use super::{
    counters::Counters,
    scenario::{Arrivals, Load, Pace},
    tally::{Counted, LONGEST_US, Series as Recorded, histogram},
};
use crate::machine::Origin;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use thiserror::Error;

/// The form of the data. One that is not known is refused.
pub const FORM: u32 = 1;

/// A scenario's runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORM`].
    pub form: u32,
    /// Where from.
    pub origin: Origin,
    /// The scenario's name.
    pub scenario: String,
    /// What it is about.
    pub about: String,
    /// The file as it was.
    pub text: String,
    /// Decided random arrivals.
    pub seed: u64,
    /// One for each number of replicas.
    pub runs: Vec<Run>,
}

/// All loads of a scenario, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Gateways; null: what was loaded was there before.
    pub replicas: Option<usize>,
    /// Whom it loaded.
    pub target: String,
    /// From the first arrival until the last one has ended, seconds.
    pub wall_s: f64,
    /// Each load.
    pub loads: Vec<LoadReport>,
    /// What the nodes counted themselves meanwhile.
    pub counters: Counters,
}

/// One load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Its name.
    pub name: String,
    /// `ai`, `push`…
    pub kind: String,
    /// In words: `open, 20/s, poisson`.
    pub pace: String,
    /// Arrivals a second that were meant; null in a closed loop.
    pub offered_per_second: Option<f64>,
    /// Operations that began.
    pub started: u64,
    /// Those that went well.
    pub ok: u64,
    /// Those that did not.
    pub failed: u64,
    /// From the first arrival until its last operation has ended, seconds.
    pub wall_s: f64,
    /// Those that went well, a second.
    pub per_second: f64,
    /// Failures, and what else was noticed, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Times, by what they are of.
    pub series: Vec<Series>,
}

/// Times of one kind, µs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// What they are of.
    pub name: String,
    /// How many.
    pub count: u64,
    /// From when it was due.
    pub latency: Times,
    /// From when it began, which is what a driver sees that waits for each answer.
    pub service: Times,
    /// The first in full: highest time of a bucket, how many.
    pub buckets: Vec<(u64, u64)>,
    /// Over time.
    pub timeline: Vec<Span>,
}

/// Times in short, µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The mean.
    pub mean_us: u64,
    /// The median.
    pub p50_us: u64,
    /// Nine of ten are faster.
    pub p90_us: u64,
    /// The slowest in a hundred.
    pub p99_us: u64,
    /// The slowest in a thousand.
    pub p999_us: u64,
    /// The slowest.
    pub max_us: u64,
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// When it begins, milliseconds from the first arrival.
    pub at_ms: u64,
    /// How long it is, milliseconds.
    pub for_ms: u64,
    /// What was due in it and went well.
    pub count: u64,
    /// What ended in it.
    pub ended: u64,
    /// The median of what was due in it, µs.
    pub p50_us: u64,
    /// The slowest in a hundred.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
}

/// Why a report cannot be read.
#[derive(Debug, Error)]
pub enum ReportError {
    /// Not such a file.
    #[error("not a report: {0}")]
    Json(#[from] serde_json::Error),
    /// Of another version.
    #[error("a report of form {0}, and this program knows {FORM}")]
    Form(u32),
}

impl Report {
    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts") + "\n"
    }

    /// From JSON.
    pub fn parse(text: &str) -> Result<Self, ReportError> {
        #[derive(Deserialize)]
        struct Form {
            form: u32,
        }
        let Form { form } = serde_json::from_str(text)?;
        if form != FORM {
            return Err(ReportError::Form(form));
        }
        Ok(serde_json::from_str(text)?)
    }

    /// Loads of which nothing went well.
    pub fn hopeless(&self) -> Vec<String> {
        let all = self.runs.iter().flat_map(|run| &run.loads);
        all.filter(|load| load.ok == 0).map(|load| load.name.clone()).collect()
    }
}

impl LoadReport {
    /// Of what was counted in so much time.
    pub fn of(load: &Load, counted: &Counted, wall: Duration) -> Self {
        let (pace, offered_per_second) = match load.pace {
            Pace::Open { per_second, arrivals, max_in_flight } => {
                let how = match arrivals {
                    Arrivals::Even => "even",
                    Arrivals::Poisson => "poisson",
                };
                let words =
                    format!("open, {per_second}/s, {how}, at most {max_in_flight} in flight");
                (words, Some(per_second))
            }
            Pace::Closed { clients } => (format!("closed, {clients} clients"), None),
        };
        let wall_s = wall.as_secs_f64();
        Self {
            name: load.name.clone(),
            kind: load.work.kind().to_owned(),
            pace,
            offered_per_second,
            started: counted.progress.started,
            ok: counted.progress.ok,
            failed: counted.progress.failed,
            wall_s,
            per_second: counted.progress.ok as f64 / wall_s.max(1e-6),
            reasons: counted.reasons.clone(),
            series: counted.series.iter().map(|(name, series)| Series::of(name, series)).collect(),
        }
    }

    /// The times of what it is mainly about: those that most of its operations have.
    pub fn main(&self) -> Option<&Series> {
        let of_success = self.series.iter().filter(|series| series.name != super::tally::FAILED);
        let rank = |series: &&Series| match series.name.as_str() {
            "job" | "segment" | "payment" | "session" | "delivery" | "behind live" => 1,
            _ => 0,
        };
        // A session has payments, and a delivered payment is one, too.
        let preferred = match self.kind.as_str() {
            "payments" => Some("payment"),
            "live_runner" => Some("session"),
            _ => None,
        };
        let by_name = |name: &str| self.series.iter().find(|series| series.name == name);
        preferred.and_then(by_name).or_else(|| of_success.max_by_key(rank))
    }
}

impl Series {
    fn of(name: &str, recorded: &Recorded) -> Self {
        let mut spans: BTreeMap<u64, Span> = BTreeMap::new();
        let width = recorded.by_due.width().max(recorded.by_end.width());
        let width_ms = width.as_millis() as u64;
        let mut span = |at: Duration, change: &mut dyn FnMut(&mut Span)| {
            let number = at.as_millis() as u64 / width_ms;
            let entry = spans.entry(number).or_insert(Span {
                at_ms: width_ms * number,
                for_ms: width_ms,
                count: 0,
                ended: 0,
                p50_us: 0,
                p99_us: 0,
                max_us: 0,
            });
            change(entry);
        };
        let mut merged: BTreeMap<u64, Histogram<u32>> = BTreeMap::new();
        for (at, rough) in recorded.by_due.all() {
            let Some(rough) = &rough.0 else { continue };
            let number = at.as_millis() as u64 / width_ms;
            match merged.get_mut(&number) {
                Some(own) => own.add(rough).expect("the same bounds"),
                None => drop(merged.insert(number, rough.clone())),
            }
        }
        for (number, times) in &merged {
            span(width * u32::try_from(*number).unwrap_or(u32::MAX), &mut |span| {
                span.count = times.len();
                span.p50_us = times.value_at_quantile(0.5);
                span.p99_us = times.value_at_quantile(0.99);
                span.max_us = times.max();
            });
        }
        for (at, ended) in recorded.by_end.all().filter(|(_, ended)| **ended > 0) {
            span(at, &mut |span| span.ended += *ended);
        }
        Self {
            name: name.to_owned(),
            count: recorded.latency.len(),
            latency: Times::of(&recorded.latency),
            service: Times::of(&recorded.service),
            buckets: buckets(&recorded.latency),
            timeline: spans.into_values().collect(),
        }
    }

    /// The histogram that the buckets were made of, as exact as it was.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut whole = histogram();
        for (us, count) in &self.buckets {
            whole.saturating_record_n((*us).clamp(1, LONGEST_US), *count);
        }
        whole
    }
}

fn buckets(whole: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = whole.iter_recorded();
    recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

impl Times {
    fn of(whole: &Histogram<u64>) -> Self {
        if whole.is_empty() {
            return Self::default();
        }
        let at = |quantile| whole.value_at_quantile(quantile);
        Self {
            mean_us: whole.mean().round() as u64,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: whole.max(),
        }
    }
}

/// Microseconds for people: `850 µs`, `12.3 ms`, `4.56 s`.
pub fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..100_000 => format!("{:.1} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        1_000_000..100_000_000 => format!("{:.2} s", us as f64 / 1e6),
        _ => format!("{:.0} s", us as f64 / 1e6),
    }
}

/// A rate for people.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1_000.0 => format!("{rate:.0}/s"),
        rate if rate >= 10.0 => format!("{rate:.1}/s"),
        rate => format!("{rate:.2}/s"),
    }
}

#[cfg(test)]
pub mod sample;

#[cfg(test)]
mod tests {
    use super::{sample::report, *};

    #[test]
    fn what_is_written_can_be_read_and_has_every_time() {
        let report = report(1);
        let again = Report::parse(&report.to_json()).unwrap();
        assert!(again.runs[0].loads[0].series == report.runs[0].loads[0].series);
        assert!(again.text == report.text && again.runs[0].counters == report.runs[0].counters);
        let series = again.runs[0].loads[0].main().unwrap();
        let whole = series.histogram();
        assert_eq!((series.name.as_str(), whole.len()), ("job", series.count));
        assert_eq!(Times::of(&whole), series.latency);
        let in_spans: u64 = series.timeline.iter().map(|span| span.count).sum();
        let ended: u64 = series.timeline.iter().map(|span| span.ended).sum();
        assert_eq!((in_spans, ended), (series.count, series.count));
        assert!(series.timeline.is_sorted_by_key(|span| span.at_ms));
    }

    #[test]
    fn another_form_is_refused() {
        let text = report(1).to_json().replace("\"form\":1", "\"form\":2");
        let error = Report::parse(&text).unwrap_err();
        assert_eq!(error.to_string(), "a report of form 2, and this program knows 1");
        assert!(Report::parse("{}").is_err());
    }

    #[test]
    fn times_and_rates_for_people() {
        for (us, text) in [
            (0, "0 µs"),
            (850, "850 µs"),
            (12_340, "12.3 ms"),
            (456_700, "457 ms"),
            (4_560_000, "4.56 s"),
            (3_600_000_000, "3600 s"),
        ] {
            assert_eq!(time(us), text);
        }
        assert_eq!([rate(0.5), rate(19.84), rate(9_171.3)], ["0.50/s", "19.8/s", "9171/s"]);
    }
}
