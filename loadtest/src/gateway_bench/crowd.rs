//! A choice among many orchestrators: how long it takes a warm gateway, by its own `Server-Timing`, and
//! how long a round of discovery keeps them asked.

use super::Settings;
use penstock_testkit::until_ok;
use serde::{Deserialize, Serialize};
use std::time::Instant;

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
    /// Milliseconds from the first question of a round to the last.
    pub refresh_ms: u64,
}

/// As often as by default: rounds of a thousand each second would be what is measured.
const ROUNDS: &str = "--discovery-interval-ms=15000";

/// Choices timed.
const CHOICES: u64 = 500;

/// Starts so many and lets a gateway choose.
pub async fn measure(settings: &Settings, size: usize) -> Crowd {
    let (fleet, _) = super::fleet(settings, 1, size, vec![ROUNDS.to_owned()]).await;
    let asked = || -> u64 {
        fleet.rig.orchestrators.iter().map(|s| u64::from(s.seen.lock().unwrap().offers)).sum()
    };
    until_ok("everybody was asked", || async {
        let silent = fleet.rig.orchestrators.iter();
        let silent = silent.filter(|sim| sim.seen.lock().unwrap().offers == 0).count();
        if silent == 0 { Ok(()) } else { Err(format!("{silent} were not")) }
    })
    .await;
    // A round: from the first question to the one that makes it whole.
    let before = asked();
    let per_round = size as u64;
    until_ok("the next round begins", || async {
        if asked() > before { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let began = Instant::now();
    while asked() < before + per_round {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let refresh_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut times = Vec::new();
    let url = format!("{}/audio-to-text", fleet.gateway_url(0));
    for _ in 0..CHOICES {
        let part = reqwest::multipart::Part::bytes(crate::gateway_chaos::wav(1)).file_name("a.wav");
        let form =
            reqwest::multipart::Form::new().part("audio", part.mime_str("audio/wav").unwrap());
        let answer = fleet.http.post(&url).multipart(form).send().await.unwrap();
        let timing = answer.headers().get("server-timing").and_then(|v| v.to_str().ok());
        let timing = timing.unwrap_or_default().to_owned();
        assert!(answer.status().is_success(), "{} {:?}", answer.status(), answer.text().await);
        times.push(selection_us(&timing).unwrap_or_else(|| panic!("no selection in {timing:?}")));
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    Crowd { orchestrators: size, choices: CHOICES, p50_us: at(50), p99_us: at(99), refresh_ms }
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
}
