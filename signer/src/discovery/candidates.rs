//! Who is asked: the operator's webhook, else the operator's list, else the chain's active set.

use super::args::DiscoverySettings;
use crate::chain_facts::ChainFacts;
use penstock_chain::ActiveOrchestrator;
use penstock_clients::{HttpOptions, http};
use penstock_domain::{Address, U256};
use penstock_wire::{checked_url, json::parse_discovery, limits};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::watch;
use url::Url;
use utoipa::ToSchema;

/// Most orchestrators polled; the network's active set has 100.
pub(super) const MAX_CANDIDATES: usize = 1_000;
/// Limit of one call of the webhook, as in the reference.
const WEBHOOK_TIME: Duration = Duration::from_secs(3);

/// Where an orchestrator was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// `--orchestrators`
    List,
    /// `--orch-webhook-url`
    Webhook,
    /// The chain's active set.
    Chain,
    /// Another orchestrator names it as a node of its own (`--extra-nodes`).
    Node,
}

/// One that is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Service URI without trailing slashes.
    pub uri: String,
    pub found: Found,
    /// Who registered this URI on the chain; `None` when the chain cannot be read.
    pub registered: Option<Vec<Registered>>,
}

/// One that the chain registers for a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Registered {
    pub address: Address,
    /// What is bonded to it.
    pub stake_lptu: U256,
}

/// The source.
pub(super) struct Candidates {
    list: Vec<String>,
    webhook: Option<(Url, reqwest::Client)>,
    chain: Arc<ChainFacts>,
}

impl Candidates {
    pub fn new(settings: &DiscoverySettings, chain: Arc<ChainFacts>) -> Result<Self, String> {
        let webhook = match &settings.webhook {
            None => None,
            Some(url) => {
                let options =
                    HttpOptions { total_timeout: Some(WEBHOOK_TIME), ..HttpOptions::default() };
                Some((url.clone(), http(&options).map_err(|e| e.to_string())?))
            }
        };
        Ok(Self { list: settings.orchestrators.clone(), webhook, chain })
    }

    /// Tells when what the chain registers has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.chain.active_changes()
    }

    /// Which source is asked.
    pub fn source(&self) -> Found {
        match &self.webhook {
            Some(_) => Found::Webhook,
            None if self.list.is_empty() => Found::Chain,
            None => Found::List,
        }
    }

    /// Reads the source. After an error the caller goes on with what it had. Changes of the chain up to then are in it.
    pub async fn read(&self, changes: &mut watch::Receiver<u64>) -> Result<Vec<Candidate>, String> {
        let found = self.source();
        // At start the chain may not have been read yet; the poll is the first to need it.
        if self.chain.fresh().is_err()
            && let Err(error) = self.chain.refresh().await
        {
            tracing::debug!(%error, "discovery cannot read the chain");
        }
        changes.mark_unchanged();
        let active: Option<Vec<ActiveOrchestrator>> = match self.chain.fresh() {
            Ok(facts) => Some(facts.active.values().cloned().collect()),
            Err(stale) if found == Found::Chain => {
                return Err(format!("what is known of the chain is {}", stale.0));
            }
            Err(_) => None,
        };
        let registered = active.as_deref().map(registered);
        let uris = match &self.webhook {
            Some((url, client)) => ask_webhook(url, client).await?,
            None if self.list.is_empty() => active.iter().flatten().flat_map(uris_of).collect(),
            None => self.list.clone(),
        };
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for uri in uris {
            // A registered URI is whatever its owner wrote.
            let Ok(uri) = checked_url("service URI", uri.trim_end_matches('/')) else { continue };
            if candidates.len() < MAX_CANDIDATES && seen.insert(normal(&uri)) {
                let registered = registered
                    .as_ref()
                    .map(|by_uri| by_uri.get(&normal(&uri)).cloned().unwrap_or_default());
                candidates.push(Candidate { uri, found, registered });
            }
        }
        Ok(candidates)
    }
}

async fn ask_webhook(url: &Url, client: &reqwest::Client) -> Result<Vec<String>, String> {
    let failed = |e: reqwest::Error| format!("the webhook failed: {}", e.without_url());
    let mut answer = client.get(url.clone()).send().await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(format!("the webhook answered {}", answer.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len().saturating_add(chunk.len()) > limits::DISCOVERY_BYTES {
            return Err("the webhook's answer is too long".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    let list = parse_discovery(&body).map_err(|e| format!("the webhook's answer: {e}"))?;
    Ok(list.into_iter().map(|entry| entry.address).collect())
}

/// Who registered, by the URI.
fn registered(active: &[ActiveOrchestrator]) -> HashMap<String, Vec<Registered>> {
    let mut by_uri: HashMap<String, Vec<Registered>> = HashMap::new();
    for orchestrator in active {
        let ActiveOrchestrator { address, stake_lptu, .. } = orchestrator;
        let who = Registered { address: *address, stake_lptu: *stake_lptu };
        for uri in orchestrator.service_uris() {
            let all = by_uri.entry(normal(uri)).or_default();
            // One who writes the same in both registries is one.
            if !all.contains(&who) {
                all.push(who);
            }
        }
    }
    by_uri
}

/// In whichever registry: one for video and one for AI may be at two addresses.
fn uris_of(orchestrator: &ActiveOrchestrator) -> Vec<String> {
    orchestrator.service_uris().map(str::to_owned).collect()
}

/// One spelling for URIs that mean the same.
pub(super) fn normal(uri: &str) -> String {
    let trimmed = uri.trim().trim_end_matches('/');
    Url::parse(trimmed)
        .map_or_else(|_| trimmed.to_owned(), |url| url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_two_registries_is_found_at_both_addresses() {
        let orchestrator = |byte, first: &str, more: &[&str]| ActiveOrchestrator {
            address: Address::repeat_byte(byte),
            service_uri: first.to_owned(),
            more_service_uris: more.iter().map(|uri| (*uri).to_owned()).collect(),
            activation_round: 1,
            deactivation_round: 2,
            stake_lptu: U256::from(byte),
        };
        let both = orchestrator(1, "https://video.example", &["https://ai.example"]);
        let twice = orchestrator(2, "https://o.example/", &["https://O.example"]);
        let none = orchestrator(3, "", &[]);
        assert_eq!(uris_of(&both), ["https://video.example", "https://ai.example"]);
        assert!(uris_of(&none).is_empty());
        let by_uri = registered(&[both, twice, none]);
        let who = |uri: &str| by_uri[uri].iter().map(|one| one.address).collect::<Vec<_>>();
        assert_eq!(who("https://video.example"), [Address::repeat_byte(1)]);
        assert_eq!(who("https://ai.example"), [Address::repeat_byte(1)]);
        assert_eq!(who("https://o.example"), [Address::repeat_byte(2)]);
        assert_eq!(by_uri.len(), 3);
    }

    #[test]
    fn spellings_of_one_uri() {
        let same =
            ["https://O.example:8935", "https://o.example:8935/", "HTTPS://o.example:8935//"];
        for uri in same {
            assert_eq!(normal(uri), "https://o.example:8935", "{uri}");
        }
        assert_eq!(normal("https://o:443/"), "https://o");
        assert_eq!(normal("nonsense/"), "nonsense");
    }
}
