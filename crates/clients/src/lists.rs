//! An operator's list of orchestrators behind a URL (selection.md section 2).

use crate::{
    call::{Bounds, Call, origin},
    error::{CallError, CallErrorKind, Operation},
    http::{HttpOptions, http},
    reach::Reach,
    trust::{BuildError, Trust},
};
use penstock_domain::U256;
use penstock_wire::{json::parse_discovery, limits};
use serde_json::Value;
use std::{collections::HashMap, time::Duration};
use url::Url;

/// For the whole answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// One entry of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedOrchestrator {
    /// Service URI.
    pub address: String,
    /// 1 or more is trusted, 0 (absent) is not.
    pub score: f64,
    /// `region`, lower case, which only our lists have; empty when absent.
    pub region: String,
    /// `stake_lptu`: what is bonded to it, in units of 10^-18 LPT, which only our lists have; 0 when absent.
    pub stake_lptu: U256,
}

/// Fetches one list.
#[derive(Debug, Clone)]
pub struct ListClient {
    http: reqwest::Client,
    url: Url,
    origin: String,
}

impl ListClient {
    /// At a URL that the operator configured, so it may be anywhere. Follows no redirect.
    pub fn new(url: Url) -> Result<Self, BuildError> {
        let origin = origin(&url).ok_or_else(|| BuildError::Setting {
            setting: "orchestrator webhook",
            reason: "expected http or https".into(),
        })?;
        let http = http(&HttpOptions {
            trust: Trust::System,
            reach: Reach::Anywhere,
            total_timeout: Some(TIMEOUT),
            idle_per_host: 1,
            ..HttpOptions::default()
        })?;
        Ok(Self { http, url, origin })
    }

    /// `GET`. An unusable address is left out; a wrong type anywhere spoils the list.
    pub async fn fetch(&self) -> Result<Vec<ListedOrchestrator>, CallError> {
        let operation = Operation::DiscoverOrchestrators;
        let call = Call { operation, origin: &self.origin };
        let max_bytes = limits::DISCOVERY_BYTES as u64;
        let bounds = Bounds { head: TIMEOUT, whole: TIMEOUT, max_bytes };
        let answer = call.send(self.http.get(self.url.clone()), bounds, None).await?;
        let entries = parse_discovery(&answer.body);
        let entries = entries.map_err(|e| call.error(CallErrorKind::Answer(e)))?;
        let regions = regions(&answer.body);
        Ok(entries
            .into_iter()
            .map(|entry| ListedOrchestrator {
                region: regions.get(&entry.address).cloned().unwrap_or_default(),
                address: entry.address,
                score: f64::from(entry.score),
                stake_lptu: entry.stake_lptu,
            })
            .collect())
    }
}

/// `region` by address, of a body that is a valid list.
fn regions(body: &[u8]) -> HashMap<String, String> {
    let Ok(Value::Array(list)) = serde_json::from_slice(body) else { return HashMap::new() };
    list.iter()
        .filter_map(|entry| {
            let text = |key| entry.get(key).and_then(Value::as_str);
            let region = text("region").filter(|r| r.len() <= limits::NAME_BYTES)?;
            Some((text("address")?.to_owned(), region.to_lowercase()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_of_a_list() {
        let found = regions(br#"[{"address":"https://a:1","region":"EU"},{"address":"b"},7]"#);
        assert_eq!(found, HashMap::from([("https://a:1".to_owned(), "eu".to_owned())]));
        assert!(regions(b"{}").is_empty());
    }
}
