//! Who could take jobs: pools of orchestrators that answered `GetOrchestrator`, by what the job
//! needs. Refreshed in the background; a cold pool is filled on demand, once per fleet.

use super::{Gateway, error::JobError, identity::offer_request};
use crate::clock;
use futures::{StreamExt, stream};
use penstock_clients::{ListedOrchestrator, OfferRequest, Offered, Reach, is_public};
use penstock_domain::{B256, Capabilities, Capability, VideoJob, VideoProfile};
use penstock_http_kit::CancellationToken;
use penstock_payments::{ping_digest, verify_bytes};
use penstock_selection::Fault;
use penstock_store::{Pool, PoolEntry, PoolKey, UnixMs};
use penstock_wire::{OrchestratorOffer, json::DiscoveryEntry};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use url::{Host, Url};

/// One orchestrator's time to answer (the reference's limit for a whole round).
const ANSWER_TIME: Duration = Duration::from_secs(3);
/// Questions at once.
const FAN_OUT: usize = 64;
/// A job that waits for a cold pool goes on with what there is at the first of the ticks T, 2T, 4T…
/// that finds anybody (selection.md section 3).
const FIRST_TICK: Duration = Duration::from_millis(500);
/// How long the operator's list is not fetched again (selection.md section 2).
const LIST_FRESH: Duration = Duration::from_secs(60);
/// Most orchestrators of one source.
const MAX_SOURCE: usize = 4_096;
/// How long a member that stopped answering stays in the pool: a refresh that loses an answer must
/// not empty it.
const MEMBER_TTL_MS: u64 = 90_000;
/// How long a pool lives without a refresh.
const POOL_TTL_MS: u64 = 600_000;
/// One refresh at a time in the fleet, for so long.
const REFRESH_HOLD_MS: u64 = 8_000;
/// How long a job waits for another replica's refresh of a cold pool, and how often it looks.
const COLD_WAIT: Duration = Duration::from_secs(4);
const COLD_LOOK: Duration = Duration::from_millis(50);
/// AI pools that this replica keeps warm beyond the default models.
const MAX_WARM_POOLS: usize = 64;
/// How long nobody is asked again for a model that nobody has, and how many such names are kept.
const ABSENT_MS: u64 = 5_000;
const MAX_ABSENT: usize = 1_024;

/// How long a round waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// For everybody: in the background.
    All,
    /// For the first who answer: a job is waiting.
    First,
}

/// What this replica's discovery last saw. Harmless when stale.
#[derive(Debug, Default)]
pub struct Discovered {
    inner: Mutex<Seen>,
    /// A job's own search stopped at the first answers: the others are to be asked soon.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    source: Vec<ListedOrchestrator>,
    /// When the operator's list was last fetched.
    list_at: Option<Instant>,
    trouble: Option<String>,
    /// Pools to keep fresh, with what to ask for.
    pools: BTreeMap<PoolKey, Capabilities>,
    /// Pools that clients asked for and that were empty, with when. Clients choose the names.
    absent: BTreeMap<PoolKey, UnixMs>,
    signer_trouble: Option<String>,
}

impl Seen {
    fn note_absent(&mut self, key: &PoolKey, now: UnixMs) {
        self.absent.retain(|_, at| now.since_ms(*at) < ABSENT_MS);
        if self.absent.len() < MAX_ABSENT && !self.pools.contains_key(key) {
            self.absent.insert(key.clone(), now);
        }
    }

    fn is_absent(&self, key: &PoolKey, now: UnixMs) -> bool {
        self.absent.get(key).is_some_and(|at| now.since_ms(*at) < ABSENT_MS)
    }
}

impl Discovered {
    fn with<T>(&self, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the source of orchestrators is of no use, if it is not.
    pub fn trouble(&self) -> Option<String> {
        self.with(|seen| seen.trouble.clone())
    }

    /// Why the signer said that it cannot pay, if it did.
    pub fn signer_trouble(&self) -> Option<String> {
        self.with(|seen| seen.signer_trouble.clone())
    }

    /// Where the list says that an orchestrator is; empty when it does not say.
    pub fn region(&self, asked_uri: &str) -> String {
        self.with(|seen| {
            let found = seen.source.iter().find(|o| o.address == asked_uri);
            found.map(|o| o.region.clone()).unwrap_or_default()
        })
    }

    /// The pools kept fresh.
    pub fn pools(&self) -> Vec<PoolKey> {
        self.with(|seen| seen.pools.keys().cloned().collect())
    }
}

/// The pool of video transcoders.
pub fn video_pool() -> PoolKey {
    PoolKey("video".to_owned())
}

/// The pool of one capability and model.
pub fn ai_pool(capability: Capability, model: &str) -> PoolKey {
    PoolKey(format!("ai:{}", penstock_domain::model_capability_key(capability, model)))
}

/// What a plain video job asks for, for discovery; each job is compared again with what it needs.
pub fn plain_video_job() -> Capabilities {
    let profiles = VideoProfile::defaults();
    Capabilities::of_set(VideoJob { profiles: &profiles, ..VideoJob::default() }.capabilities())
}

impl Gateway {
    /// Refreshes everything until told to stop: quickly while nothing is known, then at the
    /// configured interval.
    pub async fn discover_forever(&self, stop: CancellationToken) {
        self.keep_warm(video_pool(), plain_video_job());
        for (pipeline, model) in &self.settings.default_models {
            if let Some(capability) = Capability::from_pipeline(pipeline) {
                let job = Capabilities::ai_job(capability, model, false);
                self.keep_warm(ai_pool(capability, model), job);
            }
        }
        loop {
            let known = self.refresh_all().await;
            let pause = match known {
                true => Duration::from_millis(self.settings.args.discovery_interval_ms.max(100)),
                false => Duration::from_secs(1),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.discovered.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reads the price of ether regularly until told to stop.
    pub async fn follow_ether(&self, stop: CancellationToken) {
        let Some(poll) = self.eth_usd.poll() else { return };
        loop {
            if let Err(error) = self.eth_usd.refresh().await {
                metrics::counter!("penstock_gateway_eth_usd_errors_total").increment(1);
                tracing::warn!(error, "the price of ether cannot be read (--eth-usd-…)");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(poll) => {}
            }
        }
    }

    /// One round over all warm pools; whether everything that readiness asks for is known.
    pub async fn refresh_all(&self) -> bool {
        let signer = self.identity.refresh(&self.signer).await.is_ok();
        if signer {
            let trouble = match self.settings.front.offchain {
                true => None,
                false => self.signer.not_ready().await,
            };
            self.discovered.with(|seen| seen.signer_trouble = trouble);
            self.refresh_source().await;
            let pools = self.discovered.with(|seen| seen.pools.clone());
            for (key, job) in pools {
                if let Err(error) = self.refresh_pool(&key, &job, Patience::All).await {
                    tracing::warn!(pool = %key.0, %error, "a pool was not refreshed");
                }
            }
        }
        Box::pin(self.ask_for_changed_keys()).await;
        self.not_ready().await.is_empty()
    }

    fn keep_warm(&self, key: PoolKey, job: Capabilities) {
        self.discovered.with(|seen| {
            if seen.pools.len() < MAX_WARM_POOLS || seen.pools.contains_key(&key) {
                seen.pools.insert(key, job);
            }
        });
    }

    /// The pool; asks around first if it is cold.
    pub async fn pool_or_discover(
        &self,
        key: &PoolKey,
        job: &Capabilities,
    ) -> Result<Pool, JobError> {
        let deadline = tokio::time::Instant::now() + COLD_WAIT;
        loop {
            if let Some(pool) = self.store.pool(key, clock::now()).await?
                && !pool.entries.is_empty()
            {
                return Ok(pool);
            }
            if self.discovered.with(|seen| seen.is_absent(key, clock::now())) {
                return Ok(Pool::default());
            }
            if self.listed().is_empty() {
                self.refresh_source().await;
            }
            if self.refresh_pool(key, job, Patience::First).await? {
                let pool = self.store.pool(key, clock::now()).await?.unwrap_or_default();
                if pool.entries.is_empty() {
                    self.discovered.with(|seen| seen.note_absent(key, clock::now()));
                } else {
                    self.keep_warm(key.clone(), job.clone());
                }
                return Ok(pool);
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(Pool::default());
            }
            // Another replica is at it: its result will be in the store.
            tokio::time::sleep(COLD_LOOK).await;
        }
    }

    /// All that are known; asks the source if nobody is.
    pub(super) async fn sources(&self) -> Vec<ListedOrchestrator> {
        if self.listed().is_empty() {
            self.refresh_source().await;
        }
        self.listed()
    }

    /// Whom to ask: the operator's list behind a URL, else the configured one, else the signer's
    /// (selection.md section 1).
    pub fn listed(&self) -> Vec<ListedOrchestrator> {
        if self.list.is_none() && !self.settings.orchestrators.is_empty() {
            let configured = self.settings.orchestrators.iter().map(|url| ListedOrchestrator {
                address: url.to_string(),
                // Configured by the operator: trusted.
                score: 1.0,
                region: String::new(),
            });
            return configured.collect();
        }
        self.discovered.with(|seen| seen.source.clone())
    }

    /// Fetches the list. An error keeps the last good one; an empty list is one.
    async fn refresh_source(&self) {
        let fetched = match &self.list {
            None if !self.settings.orchestrators.is_empty() || self.settings.front.offchain => {
                return;
            }
            Some(list) => {
                let fresh =
                    |seen: &mut Seen| seen.list_at.is_some_and(|at| at.elapsed() < LIST_FRESH);
                if self.discovered.with(fresh) {
                    return;
                }
                list.fetch().await
            }
            None => self.signer.discover_orchestrators(&[]).await.map(|list| {
                let entry = |e: DiscoveryEntry| ListedOrchestrator {
                    address: e.address,
                    score: f64::from(e.score),
                    region: String::new(),
                };
                list.into_iter().map(entry).collect()
            }),
        };
        let who = if self.list.is_some() { "the orchestrator webhook" } else { "the signer" };
        match fetched {
            Ok(list) => {
                let mut seen = BTreeSet::new();
                let source: Vec<_> = list
                    .into_iter()
                    .filter(|e| seen.insert(e.address.trim_end_matches('/').to_owned()))
                    .take(MAX_SOURCE)
                    .collect();
                let trouble = source.is_empty().then(|| format!("{who} lists no orchestrators"));
                self.discovered.with(|seen| {
                    (seen.source, seen.trouble) = (source, trouble);
                    seen.list_at = Some(Instant::now());
                });
            }
            Err(error) => {
                let trouble = format!("{error}: {}", error.message());
                tracing::warn!(trouble, "{who} gave no list of orchestrators");
                self.discovered.with(|seen| seen.trouble = Some(trouble));
            }
        }
    }

    /// Asks every orchestrator and stores who answered. False: another replica is at it.
    async fn refresh_pool(
        &self,
        key: &PoolKey,
        job: &Capabilities,
        patience: Patience,
    ) -> Result<bool, JobError> {
        let owner = self.owner();
        if !self.store.begin_pool_refresh(key, &owner, REFRESH_HOLD_MS, clock::now()).await? {
            return Ok(false);
        }
        let refreshed = Box::pin(self.ask_around(key, job, patience)).await;
        self.pools.is_outdated(key);
        self.store.end_pool_refresh(key, &owner, clock::now()).await?;
        refreshed.map(|()| true)
    }

    async fn ask_around(
        &self,
        key: &PoolKey,
        job: &Capabilities,
        patience: Patience,
    ) -> Result<(), JobError> {
        let payer = match self.identity.payer(&self.signer).await {
            Ok(payer) => payer,
            Err(error) => return Err(JobError::Signer(error.message())),
        };
        let request = offer_request(&payer, job);
        let listed = self.listed();
        let (mut fresh, nodes) = self.ask(key, job, &request, listed, patience).await;
        fresh.extend(self.ask_nodes(key, job, &request, nodes).await);
        let now = clock::now();
        let old = self.store.pool(key, now).await?;
        let warm = self.discovered.with(|seen| seen.pools.contains_key(key));
        if old.is_none() && fresh.is_empty() && !warm {
            // A name that a client made up leaves nothing behind.
            return Ok(());
        }
        let pool = merge(old.unwrap_or_default(), fresh, now);
        if warm {
            metrics::gauge!("penstock_gateway_pool_orchestrators", "pool" => key.0.clone())
                .set(pool.entries.len() as f64);
        }
        self.store.put_pool(key, &pool, POOL_TTL_MS, now).await?;
        Ok(())
    }

    /// Asks those of the list, all at once. Also the further nodes that they name, each with who named
    /// it and that one's score.
    async fn ask(
        &self,
        key: &PoolKey,
        job: &Capabilities,
        request: &OfferRequest,
        listed: Vec<ListedOrchestrator>,
        patience: Patience,
    ) -> (Vec<PoolEntry>, Vec<(String, f64, String)>) {
        let (mut fresh, mut nodes) = (Vec::new(), Vec::new());
        let mut known: BTreeSet<String> = listed.iter().map(|who| who.address.clone()).collect();
        let mut answers = stream::iter(listed)
            .map(|who| async move {
                let asking =
                    self.orchestrators.get_orchestrator(&who.address, request, Some(ANSWER_TIME));
                let answer = asking.await;
                (who, answer)
            })
            .buffer_unordered(FAN_OUT);
        let mut tick = FIRST_TICK;
        let mut next_tick = tokio::time::Instant::now() + tick;
        loop {
            let answer = tokio::select! {
                answer = answers.next() => answer,
                () = tokio::time::sleep_until(next_tick) => {
                    if patience == Patience::First && !fresh.is_empty() {
                        // A job is waiting: those who are slow are asked again without it.
                        self.discovered.wake.notify_one();
                        break;
                    }
                    tick = tick.saturating_mul(2);
                    next_tick += tick;
                    continue;
                }
            };
            let Some((who, answer)) = answer else { break };
            match answer {
                Ok(offered) => {
                    let further =
                        offered.offer.nodes.iter().take(self.settings.selection.extra_nodes);
                    for node in
                        further.filter(|n| known.len() < MAX_SOURCE && known.insert((*n).clone()))
                    {
                        nodes.push((who.address.clone(), who.score, node.clone()));
                    }
                    fresh.extend(
                        self.entry(key, job, (&who.address, &who.address), who.score, offered)
                            .await,
                    );
                }
                Err(error) => {
                    let (orchestrator, why) = (&who.address, error.message());
                    tracing::debug!(pool = %key.0, orchestrator, why, "no answer to discovery");
                }
            }
        }
        (fresh, nodes)
    }

    /// Asks nodes that others named (selection.md section 3 row 3): one level, and only at addresses
    /// that peers may send us to.
    async fn ask_nodes(
        &self,
        key: &PoolKey,
        job: &Capabilities,
        request: &OfferRequest,
        nodes: Vec<(String, f64, String)>,
    ) -> Vec<PoolEntry> {
        let answers: Vec<_> = stream::iter(nodes)
            .map(|(by, score, node)| async move {
                let answer =
                    self.elsewhere.get_orchestrator(&node, request, Some(ANSWER_TIME)).await;
                (by, score, node, answer)
            })
            .buffer_unordered(FAN_OUT)
            .collect()
            .await;
        let mut fresh = Vec::new();
        for (by, score, node, answer) in answers {
            match answer {
                Ok(offered) => {
                    fresh.extend(self.entry(key, job, (&by, &node), score, offered).await)
                }
                Err(error) => {
                    let why = error.message();
                    tracing::debug!(pool = %key.0, orchestrator = node, why, "no answer to discovery");
                }
            }
        }
        fresh
    }

    /// An answer as a member of a pool. `by` is who is on the list, `asked` who answered: the same, or
    /// a node that the first one named.
    async fn entry(
        &self,
        key: &PoolKey,
        job: &Capabilities,
        (by, asked): (&str, &str),
        score: f64,
        offered: Offered,
    ) -> Option<PoolEntry> {
        match self.usable(asked, &offered.offer, job).await {
            Ok(transcoder) => Some(PoolEntry {
                asked_uri: by.to_owned(),
                transcoder,
                score,
                latency_ms: u64::try_from(offered.latency.as_millis()).unwrap_or(u64::MAX),
                info: offered.encoded,
                last_seen: clock::now(),
            }),
            Err(why) => {
                tracing::debug!(pool = %key.0, orchestrator = asked, why, "not usable");
                None
            }
        }
    }

    /// Orchestrators that show another certificate than before have to prove that they still have
    /// their key (a relay can fake that); one that cannot is left alone for a while.
    async fn ask_for_changed_keys(&self) {
        let changed = self.peers.pins().take_changed();
        metrics::counter!("penstock_gateway_changed_certificates_total")
            .increment(changed.len() as u64);
        for origin in changed {
            for key in self.discovered.pools() {
                let Ok(Some(pool)) = self.store.pool(&key, clock::now()).await else { continue };
                let Some(member) =
                    pool.entries.iter().find(|e| same_origin(&e.transcoder, &origin))
                else {
                    continue;
                };
                if let Err(why) = self.prove_key(member).await {
                    tracing::warn!(
                        orchestrator = member.transcoder,
                        why,
                        "another certificate, and not the key it had"
                    );
                    metrics::counter!("penstock_gateway_changed_keys_total").increment(1);
                    self.suspend(&key, &member.transcoder, Fault::BadResult, &why).await;
                }
            }
        }
    }

    async fn prove_key(&self, member: &PoolEntry) -> Result<(), String> {
        let offer = OrchestratorOffer::decode(&member.info).map_err(|e| e.to_string())?;
        let Some(address) = offer.address.filter(|a| !a.is_zero()) else { return Ok(()) };
        let value = B256::from(rand::random::<[u8; 32]>());
        let foreign = !same_origin(&member.asked_uri, &member.transcoder);
        let client = if foreign { &self.elsewhere } else { &self.orchestrators };
        let answer = client.ping(&member.transcoder, value).await;
        let sig = answer.map_err(|e| format!("ping: {}", e.message()))?;
        verify_bytes(&sig, &ping_digest(value.as_slice()), address)
            .map(|_| ())
            .map_err(|_| "the ping is signed by another key".to_owned())
    }

    /// [`usable`], and the service URI leads where we may go.
    async fn usable(
        &self,
        asked: &str,
        offer: &penstock_wire::OrchestratorOffer,
        job: &Capabilities,
    ) -> Result<String, String> {
        let transcoder = usable(offer, job, !self.settings.front.offchain)?;
        if self.settings.args.allow_private_peers || may_go(asked, &transcoder).await {
            return Ok(transcoder);
        }
        Err(format!("{transcoder:?} is not on a public address; see --allow-private-peers"))
    }
}

fn url(uri: &str) -> Option<Url> {
    let with_scheme = if uri.contains("://") { uri.to_owned() } else { format!("https://{uri}") };
    Url::parse(&with_scheme).ok()
}

/// Whether two URIs lead to the same scheme, host and port.
pub(super) fn same_origin(a: &str, b: &str) -> bool {
    matches!((url(a), url(b)), (Some(a), Some(b)) if a.origin() == b.origin())
}

/// Whether an orchestrator that was asked at one URI may send us to another: paid jobs go there, so
/// a name must not lead into our own network.
async fn may_go(asked: &str, named: &str) -> bool {
    if same_origin(asked, named) {
        return true;
    }
    let Some(named) = url(named).filter(|u| Reach::PublicOnly.allows(u)) else { return false };
    let (Some(Host::Domain(name)), Some(port)) = (named.host(), named.port_or_known_default())
    else {
        return true;
    };
    let found = tokio::time::timeout(ANSWER_TIME, tokio::net::lookup_host((name, port))).await;
    let Ok(Ok(found)) = found else { return false };
    let mut found = found.peekable();
    found.peek().is_some() && found.all(|a| is_public(a.ip()))
}

/// The service URI of an offer that a job could be paid on, or why it is none.
/// Where jobs of this kind go, if the offer is one that they can run on. `paid`: on which they can be
/// paid, too.
fn usable(
    offer: &penstock_wire::OrchestratorOffer,
    job: &Capabilities,
    paid: bool,
) -> Result<String, String> {
    if paid {
        offer.terms().map_err(|e| e.to_string())?;
    }
    let transcoder = offer.transcoder.as_ref().ok_or("it names no service URI")?;
    offer.auth_token.as_ref().ok_or("it gives no token")?;
    job.fits_answer(offer.capabilities.as_ref()).map_err(|e| e.to_string())?;
    // A capability without constraints passes the comparison, but an AI job needs its model there.
    let offered = offer.capabilities.as_ref();
    for (capability, models) in &job.models {
        let there = offered.and_then(|c| c.models.get(capability));
        if let Some(model) = models.keys().find(|m| there.is_none_or(|t| !t.contains_key(*m))) {
            return Err(format!("capability {capability} without model {model:?}"));
        }
    }
    Ok(transcoder.clone())
}

/// Fresh answers, then those that were there a short while ago; each service URI once, and as the one
/// who was asked there says: nobody else may speak for it. Lowest latency first.
fn merge(old: Pool, fresh: Vec<PoolEntry>, now: UnixMs) -> Pool {
    // One that was asked again and now names another service URI has moved.
    let asked: BTreeSet<String> = fresh.iter().map(|e| e.asked_uri.clone()).collect();
    let kept = old
        .entries
        .into_iter()
        .filter(|e| now.since_ms(e.last_seen) < MEMBER_TTL_MS && !asked.contains(&e.asked_uri));
    let mut all: Vec<_> = fresh.into_iter().map(|e| (false, e)).collect();
    all.extend(kept.map(|e| (true, e)));
    all.sort_by_key(|(kept, e)| (!same_origin(&e.asked_uri, &e.transcoder), *kept, e.latency_ms));
    let mut known = BTreeSet::new();
    let mut entries: Vec<_> =
        all.into_iter().map(|(_, e)| e).filter(|e| known.insert(e.transcoder.clone())).collect();
    entries.sort_by_key(|e| e.latency_ms);
    Pool { refreshed_at: now, entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uri: &str, transcoder: &str, latency_ms: u64, last_seen: u64) -> PoolEntry {
        PoolEntry {
            asked_uri: uri.into(),
            transcoder: transcoder.into(),
            score: 1.0,
            latency_ms,
            info: vec![],
            last_seen: UnixMs(last_seen),
        }
    }

    /// Whoever named an orchestrator does not decide that we call into our own network.
    #[tokio::test]
    async fn a_foreign_member_proves_its_key_at_public_addresses_only() {
        penstock_http_kit::tls::install_crypto_provider();
        let sim = penstock_testkit::sim::SimOrchestrator::start().await;
        let uri = sim.uri().replace("127.0.0.1", "localhost");
        let argv = [
            "penstock-gateway".to_owned(),
            "--network=offchain".to_owned(),
            format!("--orchestrators={}", sim.uri()),
        ];
        let args: crate::config::Args = penstock_config::try_parse_from(argv).unwrap();
        let settings = crate::config::Settings::from_args(args).unwrap();
        let store = std::sync::Arc::new(penstock_store::MemoryStore::default());
        let segments = std::sync::Arc::new(penstock_store::MemorySegments::new(1 << 20));
        let gateway = Gateway::new(settings, store, segments).unwrap();
        sim.terms.lock().unwrap().free = true;
        let pool = gateway.pool_or_discover(&video_pool(), &plain_video_job()).await.unwrap();
        let listed = pool.entries[0].clone();
        let own = PoolEntry { asked_uri: uri.clone(), transcoder: uri.clone(), ..listed.clone() };
        // It cannot prove anything there, and says so: it was reached.
        assert_eq!(gateway.prove_key(&own).await.unwrap_err(), "ping: not simulated");
        let foreign = PoolEntry { asked_uri: sim.uri(), transcoder: uri, ..listed };
        let refused = gateway.prove_key(&foreign).await.unwrap_err();
        assert!(refused.starts_with("ping: ") && !refused.contains("simulated"), "{refused}");
    }

    #[test]
    fn a_lost_answer_does_not_empty_the_pool() {
        let old = Pool {
            refreshed_at: UnixMs(0),
            entries: vec![
                entry("a", "a", 1, 50_000),
                entry("gone", "gone", 1, 0),
                entry("moved", "was-here", 1, 90_000),
            ],
        };
        let fresh = vec![entry("b", "b", 9, 100_000), entry("moved", "is-here", 5, 100_000)];
        let pool = merge(old, fresh, UnixMs(100_000));
        let names: Vec<_> = pool.entries.iter().map(|e| e.transcoder.as_str()).collect();
        assert_eq!(names, ["a", "is-here", "b"]);
    }

    #[test]
    fn nobody_speaks_for_another() {
        let fresh = vec![
            entry("https://thief:1", "https://good:1", 1, 9),
            entry("https://good:1", "https://good:1", 50, 9),
        ];
        let pool = merge(Pool::default(), fresh, UnixMs(9));
        assert_eq!(pool.entries.len(), 1);
        assert_eq!(pool.entries[0].asked_uri, "https://good:1");
        // Nor while the right one is silent for a moment.
        let pool = merge(pool, vec![entry("https://thief:1", "https://good:1", 1, 10)], UnixMs(10));
        assert_eq!(pool.entries[0].asked_uri, "https://good:1");
    }

    #[tokio::test]
    async fn a_named_address_is_public_or_the_asked_one() {
        assert!(may_go("https://127.0.0.1:8935", "https://127.0.0.1:8935/").await);
        assert!(may_go("https://o.example:8935", "https://8.8.8.8:8935").await);
        for named in [
            "https://127.0.0.1:8936",
            "http://169.254.169.254",
            "https://10.0.0.1:8935",
            "https://[::1]:8935",
            "https://localhost:8935",
            "not a url",
        ] {
            assert!(!may_go("https://127.0.0.1:8935", named).await, "{named}");
        }
    }

    #[test]
    fn unknown_names_are_remembered_for_a_moment_and_bounded() {
        let (mut seen, key) = (Seen::default(), |n: usize| PoolKey(format!("ai:27_{n}")));
        for n in 0..MAX_ABSENT + 10 {
            seen.note_absent(&key(n), UnixMs(0));
        }
        assert_eq!(seen.absent.len(), MAX_ABSENT);
        assert!(seen.is_absent(&key(0), UnixMs(ABSENT_MS - 1)));
        assert!(!seen.is_absent(&key(0), UnixMs(ABSENT_MS)));
        seen.note_absent(&key(1), UnixMs(ABSENT_MS));
        assert_eq!(seen.absent.len(), 1);
    }
}
