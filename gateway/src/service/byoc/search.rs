//! Who offers a capability now: everybody who may be asked is asked for a token, in random order and
//! at once (byoc.md section 4); for embeddings those who are known to have the capability, some at a time (`likely`).
//! Who answers is a candidate like any other: the operator's and the caller's rules, ceilings, suspensions, circuits and
//! scores decide among them.

use super::{BroughtJob, ByocError};
use crate::{
    clock,
    front::caller::Caller,
    service::{
        Gateway,
        discovery::Told,
        error::{JobError, TryError},
        peers::Via,
        pools::{Member, Snapshot},
    },
};
use futures::{StreamExt, stream};
use penstock_clients::{CallError, CallErrorKind, ListedOrchestrator, Offered};
use penstock_domain::{Capabilities, Capability, ManifestId, PriceInfo, Rational};
use penstock_selection::{Breakers, Facts, Fault, Policy};
use penstock_store::{PoolEntry, PoolKey, SessionKey, UnixMs};
use penstock_wire::json::ByocJobRequest;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// One token, once the orchestrator is chosen.
const TOKEN_TIME: Duration = Duration::from_secs(3);

/// Limits of the search for orchestrators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Of the whole search.
    pub whole: Duration,
    /// Of each answer.
    pub each: Duration,
    /// Once there is one with room, how long to wait for others, which are asked if it fails.
    pub further: Duration,
    /// Of those who tell what was brought to them, only who has `--embeddings-capability` is asked.
    pub known_only: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            whole: Duration::from_secs(1),
            each: Duration::from_millis(500),
            further: Duration::MAX,
            known_only: false,
        }
    }
}

/// On what terms somebody has a capability.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// Wei a second.
    pub price: Rational,
    /// Jobs that it has room for.
    pub room: u32,
    /// Who is paid, as far as that is known.
    pub recipient: String,
}

/// What a search found.
#[derive(Debug)]
pub(super) struct Found {
    /// Everybody who answered.
    pub pool: Arc<Snapshot>,
    /// What a second costs there; `None`: nothing.
    pub prices: BTreeMap<String, Option<PriceInfo>>,
    /// Whether anybody has room.
    pub has_room: bool,
    /// What is wanted of them.
    pub job: Capabilities,
    /// Whom the gateway and the caller want.
    pub policy: Policy,
}

/// The pool of those who have a capability.
pub(super) fn pool_of(capability: &str) -> PoolKey {
    PoolKey(format!("byoc:{capability}"))
}

/// Where it is kept who gives no tokens: that says nothing of one capability or another, and whoever asks
/// for a name that does not exist leaves nothing behind.
fn silent_ones() -> PoolKey {
    PoolKey("byoc".to_owned())
}

impl Gateway {
    /// Everybody who answers in time.
    pub(super) async fn search(
        self: &Arc<Self>,
        caller: &Caller,
        job: &BroughtJob,
    ) -> Result<Found, ByocError> {
        let request = &job.request;
        let wanted = Capabilities::ai_job(Capability::Byoc, &request.capability, false);
        let mut policy = self.policy(caller, &wanted)?;
        if self.settings.front.offchain {
            // Nobody here pays.
            policy.max_price = Some(Rational::ZERO);
        }
        let payer = self.identity.payer(&self.signer).await;
        let payer = payer.map_err(|error| JobError::Signer(error.message()))?;
        let menus = self.menus(true).await?;
        let (listed, doubted) = self.not_silent(request).await?;
        let (listed, at_once) = match job.search.known_only {
            true => {
                let pool = pool_of(&request.capability);
                self.likely(caller, &pool, &wanted, &policy, listed).await?
            }
            false => (listed, usize::MAX),
        };
        let mut ends = tokio::time::Instant::now() + job.search.whole;
        let asked = listed.into_iter().map(|who| {
            let (payer, capability) = (&payer, &request.capability);
            async move {
                let asking = self.orchestrators.byoc_token(
                    &who.address,
                    capability,
                    payer.address,
                    &payer.signature,
                    job.search.each,
                );
                let answer = asking.await;
                (who, answer)
            }
        });
        // Each is bounded by its own time.
        let mut asked = stream::iter(asked).buffer_unordered(at_once);
        let mut found = Found {
            pool: Arc::default(),
            prices: BTreeMap::new(),
            has_room: false,
            job: wanted,
            policy,
        };
        let (now, mut members) = (clock::now(), Vec::new());
        let (mut silent, mut back) = (Vec::new(), Vec::new());
        while let Ok(Some((who, answer))) = tokio::time::timeout_at(ends, asked.next()).await {
            let token = match answer {
                Ok(token) => token,
                Err(error) => {
                    tracing::debug!(orchestrator = who.address, %error, "no token");
                    if is_silence(&error, job.search.each) {
                        silent.push((who.address, error.message()));
                    }
                    continue;
                }
            };
            if doubted.get(&who.address).is_some() {
                back.push(who.address.clone());
            }
            let told = menus.of_asked(&who.address);
            let terms = Terms {
                price: token.price.map(|p| p.rational()).unwrap_or_default(),
                room: token.available_capacity,
                recipient: token.recipient().map(|a| format!("{a:#x}")).unwrap_or_default(),
            };
            let facts = self.facts_of(&found.job, &who, terms, told, now);
            found.prices.insert(facts.transcoder.clone(), token.price);
            let first = !found.has_room && token.available_capacity > 0;
            found.has_room |= first;
            members.push(member(&who, facts, now));
            let enough = tokio::time::Instant::now().checked_add(job.search.further);
            if let Some(enough) = enough.filter(|_| first) {
                ends = ends.min(enough);
            }
        }
        found.pool = Arc::new(Snapshot { refreshed_at: now, members });
        self.suspend_all(&silent_ones(), Fault::Unreachable, &silent).await;
        self.close_circuits(&silent_ones(), &back).await;
        Ok(found)
    }

    /// Whom to ask, in random order, and whose circuits are not closed. Those that were silent a moment ago
    /// are not waited for again, unless nobody else is left.
    async fn not_silent(
        &self,
        request: &ByocJobRequest,
    ) -> Result<(Vec<ListedOrchestrator>, Breakers), ByocError> {
        let mut listed = self.sources().await;
        listed.retain(|who| is_wanted(request, &who.address));
        rand::seq::SliceRandom::shuffle(listed.as_mut_slice(), &mut rand::rng());
        let (key, now) = (silent_ones(), clock::now());
        let standings = self.store.standings(&key.0, now);
        let known = tokio::try_join!(standings, self.breakers(&key, now));
        let (standings, (_, breakers)) = known.map_err(JobError::from)?;
        let is_silent = |who: &ListedOrchestrator| {
            standings.get(&who.address).is_some_and(|s| s.suspended_until.is_some())
        };
        if listed.iter().any(|who| !is_silent(who)) {
            listed.retain(|who| !is_silent(who));
        }
        Ok((listed, breakers))
    }

    /// Who has a capability, as every choice sees orchestrators.
    pub(super) fn facts_of(
        &self,
        job: &Capabilities,
        who: &ListedOrchestrator,
        terms: Terms,
        told: Option<&Told>,
        now: UnixMs,
    ) -> Facts {
        let mut offered = job.clone();
        offered.version = told.map(|t| t.version.clone()).unwrap_or_default();
        for model in offered.models.values_mut().flat_map(|models| models.values_mut()) {
            model.warm = true;
            // No room is said as a live runner says it: none left, and some in use.
            model.capacity = terms.room;
            model.capacity_in_use = u32::from(terms.room == 0);
        }
        let facts = Facts {
            // Who was asked is who is paid; an address that it names instead is not followed.
            transcoder: who.address.trim_end_matches('/').to_owned(),
            address: terms.recipient,
            score: who.score,
            capabilities: Some(offered),
            gpus: told.and_then(|t| t.gpus.clone()),
            heard_ms: now.0,
            ..Facts::default()
        };
        let mut facts = facts.staked(who.stake_lptu).priced(Some(terms.price));
        facts.region = self.region_of(&facts, &who.address);
        facts
    }

    /// An offer with the price and the ticket parameters of the capability's token.
    pub(in crate::service) async fn on_tokens_terms(
        &self,
        capability: &ManifestId,
        key: &SessionKey,
        via: Via,
        mut offered: Offered,
    ) -> Result<Offered, TryError> {
        let payer = self.identity.payer(&self.signer).await?;
        let token = self.peers.of(via).byoc_token(
            &key.orchestrator,
            capability.as_str(),
            payer.address,
            &payer.signature,
            TOKEN_TIME,
        );
        let token = token.await?;
        offered.offer.price = token.price;
        offered.offer.ticket_params = token.ticket_params;
        // Its price list is of no concern here, and would have to be stored.
        offered.offer.capabilities_prices.clear();
        offered.offer.hardware.clear();
        offered.encoded = offered.offer.encode();
        Ok(offered)
    }
}

/// Whether this is silence, and not an answer that says no. A caller who gives no time has not heard
/// silence.
fn is_silence(error: &CallError, each: Duration) -> bool {
    match error.kind {
        CallErrorKind::Connect(_) | CallErrorKind::Silent | CallErrorKind::Broken(_) => true,
        CallErrorKind::HeaderTimeout | CallErrorKind::BodyTimeout => each >= Search::default().each,
        _ => false,
    }
}

pub(super) fn member(who: &ListedOrchestrator, facts: Facts, now: UnixMs) -> Member {
    let entry = PoolEntry {
        asked_uri: who.address.clone(),
        transcoder: facts.transcoder.clone(),
        score: who.score,
        latency_ms: 0,
        info: Vec::new(),
        last_seen: now,
    };
    // Whoever is asked is on our own list.
    Member { entry, facts: Arc::new(facts), foreign: false }
}

/// Whether the job lets this one be used.
fn is_wanted(request: &ByocJobRequest, uri: &str) -> bool {
    let is = |list: &[String]| list.iter().any(|one| same_url(one, uri));
    (request.include.is_empty() || is(&request.include)) && !is(&request.exclude)
}

/// Whether two spellings name the same place: a slash at the end does not matter.
fn same_url(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_clients::Operation;

    fn request(include: &[&str], exclude: &[&str]) -> ByocJobRequest {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        ByocJobRequest {
            id: String::new(),
            request: "{}".into(),
            parameters: "{}".into(),
            capability: "c".into(),
            timeout_seconds: 1,
            include: owned(include),
            exclude: owned(exclude),
        }
    }

    #[test]
    fn lists_of_a_job() {
        for (include, exclude, wanted) in [
            (&[][..], &[][..], true),
            (&["https://o:1/"], &[], true),
            (&["https://p:1"], &[], false),
            (&[], &["https://o:1"], false),
            (&["https://o:1"], &["https://o:1"], false),
        ] {
            let request = request(include, exclude);
            assert_eq!(is_wanted(&request, "https://o:1"), wanted, "{include:?} {exclude:?}");
        }
    }

    #[test]
    fn silence_is_not_a_refusal_and_takes_its_time() {
        let of = |kind, ms| {
            let call = CallError { operation: Operation::ByocToken, peer: String::new(), kind };
            is_silence(&call, Duration::from_millis(ms))
        };
        assert!(of(CallErrorKind::Connect(String::new()), 1));
        assert!(of(CallErrorKind::HeaderTimeout, 500));
        assert!(!of(CallErrorKind::HeaderTimeout, 499), "a caller must not shut anybody out");
        assert!(!of(CallErrorKind::NoResult, 500));
    }
}
