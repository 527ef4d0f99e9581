//! Which orchestrators there are: polled in the background, listed from memory.
//!
//! An orchestrator that stops answering stays listed for a while with what it said last: one bad
//! poll must not empty the list (and with it every gateway's pool).

mod list;

use crate::{
    chain_facts::ChainFacts, error::SignerError, service::prices::PriceLimits, settings::Settings,
};
use list::Polled;
use penstock_clients::{OfferRequest, OrchestratorClient, OrchestratorOptions, Reach};
use penstock_http_kit::CancellationToken;
use penstock_wire::{
    checked_url,
    json::{DiscoveryEntry, SignOrchestratorInfo},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, task::JoinSet};

/// Limit of one poll, all orchestrators together (remote-signer.md section 10). Late answers wait
/// for the next one.
const POLL: Duration = Duration::from_secs(3);
/// Most orchestrators polled; the network's active set has 100.
const MAX_CANDIDATES: usize = 1_000;

/// What an orchestrator said last.
#[derive(Debug, Clone)]
struct Known {
    polled: Arc<Polled>,
    last_seen: Instant,
    /// Order of first answers, which the list keeps.
    place: u64,
}

#[derive(Debug, Default)]
struct Cache {
    known: HashMap<String, Known>,
    next_place: u64,
    list: Arc<Vec<DiscoveryEntry>>,
}

/// The polled list.
pub struct Discovery {
    client: OrchestratorClient,
    request: OfferRequest,
    configured: Vec<String>,
    chain: Arc<ChainFacts>,
    limits: PriceLimits,
    interval: Duration,
    ttl: Duration,
    cache: StdMutex<Cache>,
    /// When the last poll began; held while one runs.
    polling: Mutex<Option<Instant>>,
}

impl Discovery {
    /// Polls as `identity`.
    pub fn new(
        settings: &Settings,
        chain: Arc<ChainFacts>,
        identity: &SignOrchestratorInfo,
    ) -> Result<Self, String> {
        let reach =
            if settings.public_orchestrators_only { Reach::PublicOnly } else { Reach::Anywhere };
        let client = OrchestratorClient::new(OrchestratorOptions {
            // Self-signed, and nothing that the list says is believed beyond being tried.
            reach,
            ..OrchestratorOptions::default()
        });
        Ok(Self {
            client: client.map_err(|e| e.to_string())?,
            request: OfferRequest {
                address: identity.address,
                sig: identity.signature.clone(),
                capabilities: None,
                ignore_capacity_check: true,
            },
            configured: settings.orchestrators.clone(),
            chain,
            limits: settings.prices.clone(),
            interval: settings.discovery_interval,
            ttl: settings.discovery_ttl,
            cache: StdMutex::default(),
            polling: Mutex::new(None),
        })
    }

    /// The list for the wanted capabilities. An empty cache is filled first; if it stays empty,
    /// nobody is known.
    pub async fn list(&self, wanted: &[String]) -> Result<Vec<DiscoveryEntry>, SignerError> {
        let mut all = self.current();
        if all.is_empty() {
            self.poll_since(Instant::now()).await;
            all = self.current();
        }
        if all.is_empty() {
            return Err(SignerError::NoOrchestrators);
        }
        Ok(list::filter(&all, wanted))
    }

    /// Polls every interval until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.poll_since(Instant::now()) => {}
            }
        }
    }

    /// Polls, unless a whole poll has run since `asked`: many who wait for one need only one.
    async fn poll_since(&self, asked: Instant) {
        let mut began = self.polling.lock().await;
        if began.is_some_and(|at| at >= asked) {
            return;
        }
        *began = Some(Instant::now());
        let answers = self.poll().await;
        self.keep(answers);
    }

    async fn poll(&self) -> Vec<(String, Polled)> {
        let mut asking = JoinSet::new();
        for uri in self.candidates().await.into_iter().take(MAX_CANDIDATES) {
            let (client, request) = (self.client.clone(), self.request.clone());
            asking.spawn(async move { (uri.clone(), ask(&client, &uri, &request).await) });
        }
        let mut answers = Vec::new();
        let collect = async {
            while let Some(done) = asking.join_next().await {
                match done {
                    Ok((uri, Ok(polled))) => answers.push((uri, polled)),
                    Ok((uri, Err(error))) => {
                        tracing::info!(orchestrator = uri, error, "orchestrator not listed");
                        metrics::counter!("signer_discovery_errors_total").increment(1);
                    }
                    Err(error) => tracing::error!(%error, "a poll ended badly"),
                }
            }
        };
        if tokio::time::timeout(POLL, collect).await.is_err() {
            tracing::info!(late = asking.len(), "some orchestrators did not answer in time");
        }
        answers
    }

    async fn candidates(&self) -> Vec<String> {
        if !self.configured.is_empty() {
            return self.configured.clone();
        }
        // At start the chain may not have been read yet; the poll is the first to need it.
        if self.chain.fresh().is_err()
            && let Err(error) = self.chain.refresh().await
        {
            tracing::warn!(%error, "no candidates: the chain cannot be read");
        }
        let Ok(facts) = self.chain.fresh() else { return Vec::new() };
        let usable = |uri: &String| checked_url("service URI", uri.trim_end_matches('/')).ok();
        facts.active.values().filter_map(usable).collect()
    }

    fn keep(&self, answers: Vec<(String, Polled)>) {
        let now = Instant::now();
        // The cache is whole after a panic elsewhere: it is only changed here, at the end.
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        for (uri, polled) in answers {
            let place = match cache.known.get(&uri) {
                Some(known) => known.place,
                None => {
                    cache.next_place = cache.next_place.saturating_add(1);
                    cache.next_place
                }
            };
            let polled = Arc::new(polled);
            cache.known.insert(uri, Known { polled, last_seen: now, place });
        }
        let ttl = self.ttl;
        cache.known.retain(|_, known| now.duration_since(known.last_seen) <= ttl);
        let mut known: Vec<&Known> = cache.known.values().collect();
        known.sort_by_key(|k| k.place);
        let polled: Vec<&Polled> = known.iter().map(|k| k.polled.as_ref()).collect();
        let built = Arc::new(list::build(&polled, &self.limits));
        metrics::gauge!("signer_orchestrators_listed")
            .set(u32::try_from(built.len()).unwrap_or(u32::MAX));
        cache.list = built;
    }

    fn current(&self) -> Arc<Vec<DiscoveryEntry>> {
        Arc::clone(&self.cache.lock().unwrap_or_else(PoisonError::into_inner).list)
    }
}

/// One orchestrator: its offer, and its runners if it has any. The call for runners may fail.
async fn ask(
    client: &OrchestratorClient,
    uri: &str,
    request: &OfferRequest,
) -> Result<Polled, String> {
    let (offered, runners) =
        tokio::join!(client.get_orchestrator(uri, request, Some(POLL)), client.discovery(uri));
    let offer = offered.map_err(|e| e.to_string())?.offer;
    if offer.address.is_none() {
        return Err("it names no address".to_owned());
    }
    if offer.price.is_none() {
        return Err("it names no price".to_owned());
    }
    Ok(Polled { offer, discovery: runners.unwrap_or_default() })
}
