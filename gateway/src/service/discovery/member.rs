//! Who belongs into a pool: an offer that fits, at an address that we may go to.

use super::{super::Gateway, NAME_TIME};
use penstock_clients::{Names, Reach};
use penstock_domain::Capabilities;
use penstock_store::{Pool, PoolEntry, UnixMs};
use penstock_wire::OrchestratorOffer;
use std::collections::BTreeSet;
use url::Url;

/// How long a member that stopped answering stays in the pool: a refresh that loses an answer must
/// not empty it.
const MEMBER_TTL_MS: u64 = 90_000;

impl Gateway {
    /// [`usable`], and the service URI leads where we may go.
    pub(super) async fn usable(
        &self,
        asked: &str,
        offer: &OrchestratorOffer,
        job: &Capabilities,
    ) -> Result<String, String> {
        let transcoder = usable(offer, job, !self.settings.front.offchain)?;
        let names = &self.settings.names;
        if self.settings.args.allow_private_peers || may_go(asked, &transcoder, names).await {
            return Ok(transcoder);
        }
        Err(format!("{transcoder:?} is not on a public address; see --allow-private-peers"))
    }
}

fn url(uri: &str) -> Option<Url> {
    let with_scheme = if uri.contains("://") { uri.to_owned() } else { format!("https://{uri}") };
    Url::parse(&with_scheme).ok()
}

/// Its scheme, host and port, written in one way.
pub(super) fn origin(uri: &str) -> Option<String> {
    url(uri).map(|url| url.origin().ascii_serialization())
}

/// Whether two URIs lead to the same scheme, host and port.
pub(in crate::service) fn same_origin(a: &str, b: &str) -> bool {
    matches!((url(a), url(b)), (Some(a), Some(b)) if a.origin() == b.origin())
}

/// Whether an orchestrator that was asked at one URI may send us to another: paid jobs go there, so
/// a name must not lead into our own network.
async fn may_go(asked: &str, named: &str, names: &Names) -> bool {
    if same_origin(asked, named) {
        return true;
    }
    let Some(named) = url(named) else { return false };
    let allowed = Reach::PublicOnly.allows_now(&named, names);
    tokio::time::timeout(NAME_TIME, allowed).await.unwrap_or(false)
}

/// The service URI of an offer that a job could be paid on, or why it is none.
/// Where jobs of this kind go, if the offer is one that they can run on. `paid`: on which they can be
/// paid, too.
fn usable(offer: &OrchestratorOffer, job: &Capabilities, paid: bool) -> Result<String, String> {
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
pub(super) fn merge(old: Pool, fresh: Vec<PoolEntry>, now: UnixMs) -> Pool {
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
        let names = Names::default();
        assert!(may_go("https://127.0.0.1:8935", "https://127.0.0.1:8935/", &names).await);
        assert!(may_go("https://o.example:8935", "https://8.8.8.8:8935", &names).await);
        for named in [
            "https://127.0.0.1:8936",
            "http://169.254.169.254",
            "https://10.0.0.1:8935",
            "https://[::1]:8935",
            "https://localhost:8935",
            "not a url",
        ] {
            assert!(!may_go("https://127.0.0.1:8935", named, &names).await, "{named}");
        }
    }
}
