//! Who offers a capability now: everybody who may be asked is asked for a token, in random order and
//! at once, and those with room are taken in the order in which they answer (byoc.md section 4).

use super::{BroughtJob, ByocError};
use crate::{
    clock,
    front::caller::Caller,
    service::{
        Gateway,
        choose::{Chosen, Considered},
        error::JobError,
        error::TryError,
        peers::Via,
        pools::Snapshot,
    },
};
use futures::{StreamExt, stream};
use penstock_clients::{ListedOrchestrator, Offered};
use penstock_domain::{ManifestId, PriceInfo};
use penstock_selection::{Candidate, Decision, Exclusion, Facts, Policy, Reason};
use penstock_store::{SessionKey, UnixMs};
use penstock_wire::json::{ByocJobRequest, ByocToken};
use std::{sync::Arc, time::Duration};

/// Questions at once.
const FAN_OUT: usize = 64;
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
}

impl Default for Search {
    fn default() -> Self {
        Self {
            whole: Duration::from_secs(1),
            each: Duration::from_millis(500),
            further: Duration::MAX,
        }
    }
}

/// An orchestrator with room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// Its service URI.
    pub uri: String,
    /// What a second costs; `None`: nothing.
    pub price: Option<PriceInfo>,
    /// Its place among the candidates.
    candidate: usize,
}

impl Offer {
    /// To go there.
    pub fn chosen(&self) -> Chosen {
        Chosen {
            uri: self.uri.clone(),
            // Whoever is asked is on our own list.
            foreign: false,
            doubted: false,
            reason: Reason::Untried,
        }
    }
}

/// What a search found.
#[derive(Debug)]
pub(super) struct Found {
    /// Those that may be tried.
    pub offers: Vec<Offer>,
    candidates: Vec<Candidate>,
    excluded: Vec<(usize, Exclusion)>,
    at: UnixMs,
}

impl Found {
    /// The decision to try the `nth` offer, as it is explained afterwards.
    pub fn considered(&self, nth: usize) -> Considered {
        let mut candidates = self.candidates.clone();
        let mut excluded = self.excluded.clone();
        for tried in self.offers.iter().take(nth) {
            excluded.push((tried.candidate, Exclusion::Tried));
            if let Some(candidate) = candidates.get_mut(tried.candidate) {
                candidate.tried = true;
            }
        }
        let chosen = self.offers.get(nth).map(|offer| (offer.candidate, Reason::Untried));
        Considered {
            at: self.at,
            pool: Arc::new(Snapshot::default()),
            candidates,
            decision: Decision { chosen, excluded },
            chosen: self.offers.get(nth).map(Offer::chosen),
        }
    }

    /// Why those with room may not be used, if there are any.
    pub fn refused_one_with_room(&self) -> Option<String> {
        let has_room = |e: &Exclusion| !matches!(e, Exclusion::Full { .. });
        let any = self.excluded.iter().any(|(_, e)| has_room(e));
        let decision = Decision { chosen: None, excluded: self.excluded.clone() };
        any.then(|| decision.summary(self.candidates.len()))
    }
}

impl Gateway {
    /// Everybody who answers in time.
    pub(super) async fn search(
        &self,
        caller: &Caller,
        job: &BroughtJob,
    ) -> Result<Found, ByocError> {
        let policy = self.policy(caller)?;
        let payer = self.identity.payer(&self.signer).await;
        let payer = payer.map_err(|error| JobError::Signer(error.message()))?;
        let request = &job.request;
        let mut listed = self.sources().await;
        listed.retain(|who| is_wanted(request, &who.address));
        rand::seq::SliceRandom::shuffle(listed.as_mut_slice(), &mut rand::rng());
        let mut ends = tokio::time::Instant::now() + job.search.whole;
        let mut asked = stream::iter(listed)
            .map(|who| {
                let payer = &payer;
                async move {
                    let token = self.orchestrators.byoc_token(
                        &who.address,
                        &request.capability,
                        payer.address,
                        &payer.signature,
                        job.search.each,
                    );
                    let token = token.await;
                    if let Err(error) = &token {
                        tracing::debug!(orchestrator = who.address, %error, "no token");
                    }
                    Some((who, token.ok()?))
                }
            })
            .buffer_unordered(FAN_OUT);
        let mut found =
            Found { offers: vec![], candidates: vec![], excluded: vec![], at: clock::now() };
        while let Ok(Some(answer)) = tokio::time::timeout_at(ends, asked.next()).await {
            if let Some((who, token)) = answer {
                let had = found.offers.len();
                self.add(&mut found, &policy, request, &who, &token);
                let first = had == 0 && !found.offers.is_empty();
                let enough = tokio::time::Instant::now().checked_add(job.search.further);
                if let Some(enough) = enough.filter(|_| first) {
                    ends = ends.min(enough);
                }
            }
        }
        Ok(found)
    }

    fn add(
        &self,
        found: &mut Found,
        policy: &Policy,
        request: &ByocJobRequest,
        who: &ListedOrchestrator,
        token: &ByocToken,
    ) {
        // Who was asked is who is paid; an address that it names instead is not followed.
        let uri = who.address.trim_end_matches('/').to_owned();
        let facts = Facts {
            transcoder: uri.clone(),
            address: token.recipient().map(|a| format!("{a:#x}")).unwrap_or_default(),
            score: who.score,
            heard_ms: found.at.0,
            ..Facts::default()
        };
        let mut facts = facts.priced(token.price.map(|p| p.rational()));
        facts.region = self.region_of(&facts, &who.address);
        let excluded = if self.settings.front.offchain && token.price.is_some() {
            // Nobody here pays.
            Some(Exclusion::Price {
                price: facts.price.clone().unwrap_or_default(),
                limit: penstock_domain::Rational::default(),
            })
        } else if token.available_capacity == 0 {
            Some(Exclusion::Full { model: request.capability.clone(), age_ms: 0 })
        } else {
            unfit(policy, &facts)
        };
        let candidate = found.candidates.len();
        match excluded {
            Some(why) => found.excluded.push((candidate, why)),
            None => found.offers.push(Offer { uri, price: token.price, candidate }),
        }
        found.candidates.push(Candidate { facts: Arc::new(facts), ..Candidate::default() });
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

/// What the operator's and the caller's rules say of a token's sender. What a token does not tell,
/// the node's version and its GPUs, no rule is applied to.
fn unfit(policy: &Policy, facts: &Facts) -> Option<Exclusion> {
    if !policy.include.is_empty() && !policy.include.names(facts) {
        return Some(Exclusion::NotIncluded);
    }
    if policy.exclude.names(facts) {
        return Some(Exclusion::Excluded);
    }
    if policy.trusted_only && facts.score < 1.0 {
        return Some(Exclusion::Untrusted { score: facts.score });
    }
    if !policy.regions.is_empty() && !policy.regions.contains(&facts.region) {
        return Some(Exclusion::Region { region: facts.region.clone() });
    }
    match (&facts.price, &policy.max_price) {
        (Some(price), Some(limit)) if price > limit => {
            Some(Exclusion::Price { price: price.clone(), limit: limit.clone() })
        }
        _ => None,
    }
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
    use penstock_domain::Rational;

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
    fn rules_of_the_operator() {
        let facts = Facts { transcoder: "https://o:1".into(), ..Facts::default() };
        let facts = facts.priced(Some(Rational::from_int(5)));
        let named = |name: &str| vec![name.to_owned()].into();
        let label = |policy: Policy| unfit(&policy, &facts).map(|e| e.label());
        assert_eq!(label(Policy::default()), None);
        assert_eq!(
            label(Policy { include: named("p"), ..Policy::default() }),
            Some("not_included")
        );
        assert_eq!(label(Policy { exclude: named("o"), ..Policy::default() }), Some("excluded"));
        assert_eq!(label(Policy { trusted_only: true, ..Policy::default() }), Some("untrusted"));
        let region = Policy { regions: vec!["eu".into()], ..Policy::default() };
        assert_eq!(label(region), Some("region"));
        let limit = |n| Policy { max_price: Some(Rational::from_int(n)), ..Policy::default() };
        assert_eq!((label(limit(4)), label(limit(5))), (Some("price"), None));
    }
}
