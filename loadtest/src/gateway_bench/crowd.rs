//! A choice among many orchestrators: how long it takes a warm gateway, by its own `Server-Timing`, and how long
//! a round of discovery takes, by its own metric: the first one, with a connection to make to each of them, and
//! later ones.

use super::Settings;
use crate::{fleet::Fleet, samples::Buckets};
use penstock_testkit::until_ok;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Instant};

/// One crowd.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Crowd {
    /// How many.
    pub orchestrators: usize,
    /// Choices that were timed.
    pub choices: u64,
    /// Microseconds of a choice.
    pub p50_us: u64,
    /// The slowest in a hundred.
    pub p99_us: u64,
    /// Microseconds of a whole job, one after the other, of which the choice is a part; 0 in reports that had none.
    #[serde(default)]
    pub job_p50_us: u64,
    /// All choices.
    #[serde(default)]
    pub buckets_us: Buckets,
    /// All jobs.
    #[serde(default)]
    pub job_buckets_us: Buckets,
    /// Milliseconds from the first question of a round to its answers in the store, of the slower pool: the first
    /// round.
    pub cold_refresh_ms: u64,
    /// The same of a later one.
    pub refresh_ms: u64,
}

/// As often as by default: rounds of a thousand each second would be what is measured.
const ROUNDS: &str = "--discovery-interval-ms=15000";

/// Choices timed.
const CHOICES: u64 = 500;

/// Starts so many and lets a gateway choose.
pub async fn measure(settings: &Settings, size: usize) -> Crowd {
    let (fleet, _) = super::fleet(settings, 1, size, vec![ROUNDS.to_owned()]).await;
    // Both pools are kept from now on: segments' and this job's.
    until_ok("a job is done", || async {
        let answer = speech(&fleet).await;
        if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
    })
    .await;
    let cold = rounds_after(&fleet, &BTreeMap::new()).await;
    let warm = rounds_after(&fleet, &cold).await;
    let (mut times, mut jobs) = (Vec::new(), Vec::new());
    for _ in 0..CHOICES {
        let began = Instant::now();
        let answer = speech(&fleet).await;
        let timing = answer.headers().get("server-timing").and_then(|v| v.to_str().ok());
        let timing = timing.unwrap_or_default().to_owned();
        let status = answer.status();
        let body = answer.text().await.unwrap();
        assert!(status.is_success(), "{status} {body}");
        jobs.push(super::load::us(began));
        times.push(selection_us(&timing).unwrap_or_else(|| panic!("no selection in {timing:?}")));
    }
    let (buckets_us, job_buckets_us) = (Buckets::of(&times), Buckets::of(&jobs));
    let (p50_us, p99_us) = super::load::percentiles(times);
    let (job_p50_us, _) = super::load::percentiles(jobs);
    Crowd {
        orchestrators: size,
        choices: CHOICES,
        p50_us,
        p99_us,
        job_p50_us,
        buckets_us,
        job_buckets_us,
        cold_refresh_ms: slowest_ms(&BTreeMap::new(), &cold),
        refresh_ms: slowest_ms(&cold, &warm),
    }
}

async fn speech(fleet: &Fleet) -> reqwest::Response {
    let part = reqwest::multipart::Part::bytes(crate::gateway_chaos::wav(1)).file_name("a.wav");
    let form = reqwest::multipart::Form::new().part("audio", part.mime_str("audio/wav").unwrap());
    let url = format!("{}/audio-to-text", fleet.gateway_url(0));
    fleet.http.post(&url).multipart(form).send().await.unwrap()
}

/// Of each pool: seconds of all rounds, and how many.
type Rounds = BTreeMap<String, (f64, f64)>;

const ROUND: &str = "penstock_gateway_discovery_round_seconds";
/// Of segments, and of speech.
const POOLS: usize = 2;

/// When every pool has had a round more.
async fn rounds_after(fleet: &Fleet, before: &Rounds) -> Rounds {
    let url = format!("http://{}/metrics", fleet.gateways[0].addr("metrics"));
    let mut rounds = Rounds::new();
    for _ in 0..600 {
        let text = fleet.http.get(&url).send().await.unwrap().text().await.unwrap();
        rounds = read(&text);
        let more = |(pool, now): (&String, &(f64, f64))| {
            now.1 > before.get(pool).map_or(0.0, |before| before.1)
        };
        if rounds.len() >= POOLS && rounds.iter().all(more) {
            return rounds;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("no further round in a minute: {before:?} {rounds:?}");
}

fn read(metrics: &str) -> Rounds {
    let mut rounds = Rounds::new();
    for line in metrics.lines() {
        let Some((what, rest)) = line.strip_prefix(ROUND).and_then(|rest| rest.split_once('{'))
        else {
            continue;
        };
        let Some((labels, value)) = rest.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse() else { continue };
        let round = rounds.entry(labels.to_owned());
        match what {
            "_sum" => round.or_default().0 = value,
            "_count" => round.or_default().1 = value,
            _ => {}
        }
    }
    rounds
}

/// Milliseconds of a round between these, of the slowest pool.
fn slowest_ms(before: &Rounds, after: &Rounds) -> u64 {
    let each = after.iter().map(|(pool, (sum, count))| {
        let (sum_before, count_before) = before.get(pool).copied().unwrap_or_default();
        (sum - sum_before) / (count - count_before).max(1.0) * 1_000.0
    });
    each.fold(0.0, f64::max) as u64
}

/// `selection;dur=0.4` is milliseconds.
fn selection_us(timing: &str) -> Option<u64> {
    let entry = timing.split(',').map(str::trim).find(|entry| entry.starts_with("selection"))?;
    let ms: f64 = entry.split_once("dur=")?.1.split(';').next()?.parse().ok()?;
    Some((ms * 1_000.0) as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn milliseconds_of_the_selection() {
        let us = super::selection_us;
        assert_eq!(us("queue;dur=1.0, selection;dur=0.25, payment;dur=3"), Some(250));
        assert_eq!(us("queue;dur=1.0"), None);
    }

    #[test]
    fn rounds_of_the_slower_pool() {
        let text = |n: u32| {
            format!(
                "{0}_bucket{{pool=\"a\",le=\"1\"}} 7\n{0}_sum{{pool=\"a\"}} {n}.5\n{0}_count{{pool=\"a\"}} {n}\n\
                 {0}_sum{{pool=\"b\"}} 0.25\n{0}_count{{pool=\"b\"}} 1\nother_sum{{pool=\"b\"}} 9\n",
                super::ROUND
            )
        };
        let (one, three) = (super::read(&text(1)), super::read(&text(3)));
        assert_eq!(one.len(), 2);
        assert_eq!(super::slowest_ms(&super::Rounds::new(), &one), 1_500);
        assert_eq!(super::slowest_ms(&one, &three), 1_000);
    }
}
