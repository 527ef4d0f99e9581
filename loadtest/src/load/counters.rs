//! What the loaded nodes count themselves, before and after: a report's own counts can be compared with it.

use super::target::origin;
use reqwest::Url;
use std::collections::BTreeMap;

/// Counters that say how much was done, of all roles; labels are added up.
pub const NAMES: [&str; 14] = [
    "penstock_gateway_ai_jobs_total",
    "penstock_gateway_segments_total",
    "penstock_gateway_segments_replayed_total",
    "penstock_gateway_busy_total",
    "penstock_gateway_errors_total",
    "penstock_gateway_failed_tries_total",
    "penstock_gateway_signer_payments_total",
    "signer_payments_total",
    "signer_tickets_total",
    "signer_payments_refused_total",
    "orchestrator_tickets_credited_total",
    "orchestrator_released_total",
    "trickle_refused_total",
    "trickle_readers_stalled_total",
];
/// Read of a page.
const MOST_BYTES: usize = 16 << 20;

/// Counters by name, over all pages.
pub type Counters = BTreeMap<String, f64>;

/// Reads the pages.
pub async fn read(http: &reqwest::Client, pages: &[Url]) -> Result<Counters, String> {
    let mut all = Counters::new();
    for page in pages {
        let bad = |why: String| format!("metrics of {}: {why}", origin(page));
        let mut answer = http.get(page.clone()).send().await.map_err(|e| bad(e.to_string()))?;
        if !answer.status().is_success() {
            return Err(bad(answer.status().to_string()));
        }
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| bad(e.to_string()))? {
            if text.len() + chunk.len() > MOST_BYTES {
                return Err(bad("too long".to_owned()));
            }
            text.extend_from_slice(&chunk);
        }
        add(&mut all, &String::from_utf8_lossy(&text));
    }
    Ok(all)
}

fn add(all: &mut Counters, page: &str) {
    for line in page.lines() {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let name = name.split('{').next().unwrap_or(name);
        let Ok(value) = value.parse::<f64>() else { continue };
        if NAMES.contains(&name) {
            *all.entry(name.to_owned()).or_default() += value;
        }
    }
}

/// What was counted in between.
pub fn between(before: &Counters, after: &Counters) -> Counters {
    let more = |(name, after): (&String, &f64)| {
        let more = after - before.get(name).copied().unwrap_or(0.0);
        (more != 0.0).then(|| (name.clone(), more))
    };
    after.iter().filter_map(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_added_up_and_others_left_out() {
        let page = "# TYPE signer_payments_total counter\nsigner_payments_total{type=\"a b\"} 3\n\
                    signer_payments_total{type=\"c\"} 4\nsigner_payments_total_more 9\nup 1\n";
        let mut before = Counters::new();
        add(&mut before, page);
        assert_eq!(before, Counters::from([("signer_payments_total".to_owned(), 7.0)]));
        let mut after = before.clone();
        add(&mut after, "signer_payments_total{type=\"c\"} 4\nsigner_tickets_total 2\n");
        add(&mut after, "trickle_refused_total 0\n");
        let more = between(&before, &after);
        assert_eq!(
            more.keys().collect::<Vec<_>>(),
            ["signer_payments_total", "signer_tickets_total"]
        );
        assert_eq!(more["signer_payments_total"], 4.0);
    }
}
