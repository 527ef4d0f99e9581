//! What is known of each orchestrator: its last good answer, and how the last polls went. Pure:
//! the clock is an argument.
//!
//! A failed poll never takes away a good answer; time does (`--discovery-ttl-ms`). Candidates leave
//! when their source, read without an error, no longer names them.

use super::{
    ask::Polled,
    candidates::{Candidate, Found, Registered, normal},
    reason::{Failure, Reason},
};
use penstock_domain::{Address, U256};
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use utoipa::ToSchema;

/// A point in time on both clocks: one for ages, one for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub instant: Instant,
    pub unix_ms: i64,
}

/// Whether the one that answers is the one that the chain registers for this URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegisteredKey {
    /// Tickets would pay the registered address.
    Verified,
    /// They would pay somebody else.
    Mismatch,
    /// The chain registers nobody for this URI, or cannot be read, or nobody answered yet.
    Unknown,
}

/// One orchestrator.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub uri: String,
    pub found: Found,
    pub registered: Vec<Registered>,
    pub key: RegisteredKey,
    /// Its last good answer.
    pub good: Option<(Arc<Polled>, Moment)>,
    /// When it was asked last, and what was wrong then.
    pub asked: Option<(Moment, Option<Failure>)>,
    pub failures_in_a_row: u32,
    /// Order of first answers, which the list keeps.
    place: u64,
}

impl Known {
    /// The last good answer, unless polls have failed since and it is too old. Age alone takes
    /// nothing away: polls may be far between.
    pub fn current(&self, now: Instant, ttl: Duration) -> Option<&Polled> {
        let (polled, at) = self.good.as_ref()?;
        let counts = self.failures_in_a_row == 0 || now.duration_since(at.instant) <= ttl;
        counts.then_some(polled.as_ref())
    }

    /// What is bonded to whom tickets would pay, if the chain registers that one for this URI: nobody is chosen more often
    /// for another's stake.
    pub fn stake_lptu(&self, polled: &Polled) -> U256 {
        let payee = payee(polled);
        let is_payee = |registered: &&Registered| Some(registered.address) == payee;
        self.registered.iter().find(is_payee).map_or(U256::ZERO, |found| found.stake_lptu)
    }

    /// Why there is no current answer.
    pub fn why_silent(&self) -> Reason {
        let failure = self.asked.as_ref().and_then(|(_, failure)| failure.as_ref());
        failure.map_or(Reason::NotAskedYet, |f| f.reason)
    }
}

/// All of them, by normal URI.
#[derive(Debug, Default)]
pub(super) struct Book {
    known: HashMap<String, Known>,
    next_place: u64,
}

impl Book {
    /// Most orchestrators in the book, further nodes included.
    const MAX: usize = 4_000;

    /// A poll begins with these. Whoever is not among them leaves, except nodes that one of them
    /// still names.
    pub fn begin(&mut self, candidates: &[Candidate], extra_nodes: usize) {
        let wanted: HashSet<String> = candidates.iter().map(|c| normal(&c.uri)).collect();
        let bases = self.known.iter().filter(|(uri, _)| wanted.contains(*uri));
        let named: HashSet<String> = bases
            .filter_map(|(_, known)| known.good.as_ref())
            .flat_map(|(polled, _)| polled.offer.nodes.iter().take(extra_nodes))
            .map(|uri| normal(uri))
            .collect();
        self.known.retain(|uri, known| {
            wanted.contains(uri) || (known.found == Found::Node && named.contains(uri))
        });
        for candidate in candidates {
            self.add(candidate);
        }
    }

    /// Says whether it may be asked: the book has an end.
    pub fn add(&mut self, candidate: &Candidate) -> bool {
        let uri = normal(&candidate.uri);
        if self.known.len() >= Self::MAX && !self.known.contains_key(&uri) {
            return false;
        }
        let known = self.known.entry(uri).or_insert_with(|| Known {
            uri: candidate.uri.clone(),
            found: candidate.found,
            registered: Vec::new(),
            key: RegisteredKey::Unknown,
            good: None,
            asked: None,
            failures_in_a_row: 0,
            place: u64::MAX,
        });
        known.found = candidate.found;
        if let Some(registered) = &candidate.registered {
            known.registered.clone_from(registered);
        }
        true
    }

    /// What came of asking.
    pub fn heard(&mut self, uri: &str, result: Result<Polled, Failure>, at: Moment) {
        let Some(known) = self.known.get_mut(&normal(uri)) else { return };
        match result {
            Ok(polled) => {
                if known.good.is_none() {
                    self.next_place = self.next_place.saturating_add(1);
                    known.place = self.next_place;
                }
                let key = registered_key(&known.registered, &polled);
                note_key(known, key, &polled);
                known.key = key;
                known.good = Some((Arc::new(polled), at));
                known.asked = Some((at, None));
                known.failures_in_a_row = 0;
            }
            Err(failure) => {
                tracing::info!(
                    orchestrator = uri,
                    reason = failure.reason.as_str(),
                    error = failure.message,
                    "the orchestrator did not answer a poll"
                );
                metrics::counter!("signer_discovery_errors_total", "reason" => failure.reason.as_str())
                    .increment(1);
                known.asked = Some((at, Some(failure)));
                known.failures_in_a_row = known.failures_in_a_row.saturating_add(1);
            }
        }
    }

    /// Everybody, those that answered first come first.
    pub fn all(&self) -> Vec<&Known> {
        let mut all: Vec<&Known> = self.known.values().collect();
        all.sort_by(|a, b| (a.place, &a.uri).cmp(&(b.place, &b.uri)));
        all
    }
}

/// Whom tickets would pay: the recipient, or the node's own address if it names no recipient.
pub(super) fn payee(polled: &Polled) -> Option<Address> {
    polled.offer.ticket_params.as_ref().map(|p| p.recipient).or(polled.offer.address)
}

fn registered_key(registered: &[Registered], polled: &Polled) -> RegisteredKey {
    match payee(polled) {
        _ if registered.is_empty() => RegisteredKey::Unknown,
        Some(payee) if registered.iter().any(|who| who.address == payee) => RegisteredKey::Verified,
        _ => RegisteredKey::Mismatch,
    }
}

/// One line at each change.
fn note_key(known: &Known, now: RegisteredKey, polled: &Polled) {
    let first = known.good.is_none();
    if !first && known.key == now {
        return;
    }
    let (uri, payee) = (known.uri.as_str(), payee(polled));
    match now {
        RegisteredKey::Mismatch => tracing::warn!(
            orchestrator = uri,
            registered = ?known.registered.iter().map(|who| who.address).collect::<Vec<_>>(),
            payee = payee.map(tracing::field::display),
            "the chain registers another address for this orchestrator's URI"
        ),
        RegisteredKey::Verified => {
            tracing::info!(
                orchestrator = uri,
                payee = payee.map(tracing::field::display),
                "registered"
            );
        }
        RegisteredKey::Unknown => {
            tracing::debug!(orchestrator = uri, "the chain registers nobody for this URI");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(uri: &str) -> Candidate {
        Candidate { uri: uri.to_owned(), found: Found::List, registered: None }
    }

    fn polled(address: u8, nodes: &[&str]) -> Polled {
        let bare = penstock_wire::net::OrchestratorInfo {
            address: vec![address; 20],
            nodes: nodes.iter().map(|n| (*n).to_owned()).collect(),
            ..Default::default()
        };
        let offer = penstock_wire::OrchestratorOffer::try_from(&bare).unwrap();
        Polled { offer, discovery: vec![], latency: Duration::ZERO }
    }

    fn at(start: Instant, ms: u64) -> Moment {
        Moment { instant: start + Duration::from_millis(ms), unix_ms: i64::try_from(ms).unwrap() }
    }

    const TTL: Duration = Duration::from_millis(100);

    #[test]
    fn failures_take_nothing_away_but_time_does() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.begin(&[candidate("https://a"), candidate("https://b")], 0);
        assert_eq!(book.all()[0].why_silent(), Reason::NotAskedYet);
        book.heard("https://b/", Ok(polled(1, &[])), at(start, 0));
        book.heard("https://a", Ok(polled(2, &[])), at(start, 1));
        let order: Vec<&str> = book.all().iter().map(|k| k.uri.as_str()).collect();
        assert_eq!(order, ["https://b", "https://a"], "in the order of first answers");
        for ms in [50, 60] {
            let failure = Failure::new(Reason::Timeout, "late");
            book.heard("https://b", Err(failure), at(start, ms));
        }
        let b = book.all()[0].clone();
        assert_eq!((b.failures_in_a_row, b.why_silent()), (2, Reason::Timeout));
        assert!(b.current(at(start, 100).instant, TTL).is_some());
        assert!(b.current(at(start, 101).instant, TTL).is_none());
        let later = at(start, 10_000).instant;
        assert!(book.all()[1].current(later, TTL).is_some(), "not asked since is not silent");
        book.heard("https://b", Ok(polled(1, &[])), at(start, 200));
        assert_eq!(book.all()[0].failures_in_a_row, 0);
        book.begin(&[candidate("https://a")], 0);
        assert_eq!(book.all().len(), 1, "its source no longer names it");
        book.heard("https://gone", Ok(polled(9, &[])), at(start, 201));
        assert_eq!(book.all().len(), 1, "a late answer of one that left");
    }

    #[test]
    fn nodes_stay_while_they_are_named() {
        let (mut book, start) = (Book::default(), Instant::now());
        let a = [candidate("https://a")];
        book.begin(&a, 1);
        book.heard("https://a", Ok(polled(1, &["https://n1", "https://n2"])), at(start, 0));
        let node = |uri| Candidate { found: Found::Node, ..candidate(uri) };
        assert!(book.add(&node("https://n1")) && book.add(&node("https://n2")));
        book.begin(&a, 1);
        let uris =
            |book: &Book| -> Vec<String> { book.all().iter().map(|k| k.uri.clone()).collect() };
        assert_eq!(uris(&book), ["https://a", "https://n1"], "no more than asked for");
        book.heard("https://a", Ok(polled(1, &[])), at(start, 1));
        book.begin(&a, 1);
        assert_eq!(uris(&book), ["https://a"]);
    }

    #[test]
    fn keys_are_compared_with_the_chain() {
        let of = |registered: &[u8]| registered_key(&who(registered), &polled(1, &[]));
        assert_eq!(of(&[]), RegisteredKey::Unknown);
        assert_eq!(of(&[2, 1]), RegisteredKey::Verified);
        assert_eq!(of(&[2]), RegisteredKey::Mismatch);
    }

    fn who(registered: &[u8]) -> Vec<Registered> {
        let of = |n: &u8| Registered { address: [*n; 20].into(), stake_lptu: U256::from(*n) };
        registered.iter().map(of).collect()
    }

    #[test]
    fn a_stake_is_that_of_the_registered_payee() {
        let (mut book, start) = (Book::default(), Instant::now());
        let registered = Some(who(&[9, 5]));
        book.begin(&[Candidate { registered, ..candidate("https://a") }], 0);
        let stake = |book: &Book, payee| book.all()[0].stake_lptu(&polled(payee, &[]));
        book.heard("https://a", Ok(polled(5, &[])), at(start, 0));
        assert_eq!(stake(&book, 5), U256::from(5));
        assert_eq!(stake(&book, 7), U256::ZERO, "of somebody who did not register this URI");
        // While the chain cannot be read, what it said last counts.
        book.begin(&[candidate("https://a")], 0);
        assert_eq!(stake(&book, 9), U256::from(9));
        let registered = Some(vec![]);
        book.begin(&[Candidate { registered, ..candidate("https://a") }], 0);
        assert_eq!(stake(&book, 9), U256::ZERO);
    }

    #[test]
    fn the_book_has_an_end() {
        let mut book = Book::default();
        for n in 0..Book::MAX {
            assert!(book.add(&candidate(&format!("https://o{n}"))));
        }
        assert!(!book.add(&candidate("https://more")));
        assert!(book.add(&candidate("https://o1")));
    }
}
