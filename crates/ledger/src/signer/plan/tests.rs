//! The plans over random histories in memory, many and long ones: batches of any mix, crashes,
//! expiry, callers that ask twice, sessions that share an idempotency key, signatures beside tickets
//! and outside of payments. The same invariants as on real databases, without their cost.

use super::*;
use crate::signer::{
    AuditEntry, AuditKind, AuditRecord, Binding, Charge, Committed, Day, ManifestBinding,
    NewPayment, NewSession, ReserveRequest, Reserved, Session, TicketTemplate, audit,
};
use penstock_domain::{Address, B256, ManifestId, PriceInfo, Rational, U256};
use penstock_payments::{BillingType, ticket_ev};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::atomic::{AtomicU32, Ordering},
};

/// Books in memory: applies a plan as a database would.
#[derive(Default)]
struct Memory {
    nonces: HashMap<B256, u32>,
    counters: BTreeMap<CounterKey, Wei>,
    held: BTreeMap<ReservationId, Held>,
    sessions: HashMap<StateId, Session>,
    placed: HashMap<(StateId, u64), Placed>,
    /// Which session an account opened with a key.
    keys: HashMap<(String, String), StateId>,
    totals: BTreeMap<String, Totals>,
    audit: Vec<AuditRow>,
    /// Counters and amount of each stored payment.
    paid: Vec<(Vec<CounterKey>, Wei)>,
}

impl Memory {
    fn open(&mut self, ask: &OpenAsk, head: &mut Head) -> OpenPlan {
        let mut freed: Vec<Held> = Vec::new();
        freed.extend(ask.releases.iter().filter_map(|(id, _)| self.held.get(id).cloned()));
        if let Some((now, limit)) = ask.expire {
            let over = self.held.values().filter(|h| h.expires_at_ms <= now);
            freed.extend(over.take(limit as usize).cloned());
        }
        let sequences = self.sessions.iter().map(|(id, s)| (id.clone(), s.sequence)).collect();
        let answered = answered_places(ask, &sequences)
            .into_iter()
            .map(|place| (place.clone(), self.placed[&place].payment.clone()))
            .collect();
        let read = OpenRead {
            freed,
            sequences,
            answered,
            nonces: self.nonces.clone(),
            counters: self.counters.clone().into_iter().collect(),
            taken: self.held.keys().copied().collect(),
        };
        let plan = plan_opens(ask, &read, head);
        for (hash, change) in &plan.nonces {
            assert_eq!(self.nonces.insert(*hash, change.new), change.old);
            assert!(change.old.unwrap_or(0) < change.new, "a nonce went back");
        }
        for (key, change) in &plan.counters {
            assert_eq!(self.counters.insert(key.clone(), change.new), change.old);
        }
        for id in &plan.freed {
            assert!(self.held.remove(id).is_some(), "given back twice");
        }
        for held in &plan.reservations {
            assert!(self.held.insert(held.id, held.clone()).is_none());
        }
        self.audit.extend(plan.audit.iter().cloned());
        plan
    }

    fn commit(&mut self, batch: &[NewPayment]) -> CommitPlan {
        let read = CommitRead {
            reservations: self.held.clone().into_iter().collect(),
            sessions: self.sessions.clone(),
            by_key: self.keys.clone(),
            placed: self.placed.clone(),
        };
        assert!(places_of(batch, &read).iter().all(|place| self.placed.contains_key(place)));
        let plan = plan_commits(batch, read);
        for row in &plan.payments {
            let payment = &batch[row.from];
            let held = self.held[&payment.reservation.id].clone();
            self.paid.push((held.counters, held.amount_wei));
            let placed = Placed {
                payment: crate::signer::StoredPayment {
                    state_id: payment.state_id.clone(),
                    sequence: payment.sequence,
                    binding: payment.binding.clone(),
                    units: payment.units,
                    answer: payment.answer.clone(),
                },
                reservation: Some(payment.reservation.id),
                balance_wei: row.balance_wei.clone(),
            };
            let place = (payment.state_id.clone(), payment.sequence);
            assert!(self.placed.insert(place, placed).is_none(), "a place was given twice");
        }
        for (id, (session, key)) in &plan.new_sessions {
            assert!(self.sessions.insert(id.clone(), session.clone()).is_none());
            if let Some(key) = key {
                let key = (session.binding.account.clone(), key.clone());
                assert!(self.keys.insert(key, id.clone()).is_none(), "a key opened two sessions");
            }
        }
        for (id, (before, session)) in &plan.advanced {
            let old = self.sessions.insert(id.clone(), session.clone()).unwrap();
            assert_eq!(old.sequence, *before);
        }
        for id in &plan.ended {
            assert!(self.held.remove(id).is_some(), "ended twice");
        }
        for (key, refund) in &plan.refunds {
            let counter = self.counters.get_mut(key).unwrap();
            *counter = counter.checked_sub(*refund).unwrap();
        }
        for (denominator, add) in &plan.totals {
            let total = self.totals.entry(denominator.clone()).or_default();
            total.add(add);
        }
        plan
    }

    fn check(&self) {
        let mut sums: BTreeMap<&CounterKey, Wei> = BTreeMap::new();
        let open = self.held.values().map(|held| (&held.counters, held.amount_wei));
        let paid = self.paid.iter().map(|(counters, amount)| (counters, *amount));
        for (counters, amount) in open.chain(paid) {
            for key in counters {
                let sum = sums.entry(key).or_default();
                *sum = sum.checked_add(amount).unwrap();
            }
        }
        for (key, charged) in &self.counters {
            assert_eq!(*charged, sums.get(key).copied().unwrap_or(Wei::ZERO), "{key}");
            if let Some(cap) = cap_of(key) {
                assert!(*charged <= cap, "{key} is over its cap");
            }
        }
    }
}

fn key(n: u32) -> CounterKey {
    CounterKey::account_day(&n.to_string(), Day::of_ms(0))
}

/// Counters 0 and 1 have caps, 2 has none.
fn cap_of(counter: &CounterKey) -> Option<Wei> {
    [(key(0), 900), (key(1), 500)]
        .into_iter()
        .find(|(name, _)| name == counter)
        .map(|(_, cap)| Wei::from_u64(cap))
}

fn id(n: u32) -> StateId {
    StateId::new(format!("{n:08x}")).unwrap()
}

/// A signature that is no ticket.
fn credential(n: u8) -> AuditEntry {
    AuditEntry {
        kind: AuditKind::Segment,
        digest: B256::repeat_byte(n),
        account: "a".into(),
        auth_id: None,
        reference: format!("credential {n}"),
    }
}

fn request(
    session: u32,
    sequence: u64,
    hash: u8,
    count: u32,
    counters: u8,
    also: u8,
) -> ReserveRequest {
    let charges = (0..3).filter(|n| counters & (1 << n) != 0).map(|n| {
        let counter = key(n);
        Charge { cap_wei: cap_of(&counter), counter }
    });
    ReserveRequest {
        id: ReservationId(rand::random()),
        state_id: id(session),
        sequence,
        account: "a".into(),
        auth_id: None,
        tickets: TicketTemplate {
            recipient: Address::ZERO,
            sender: Address::ZERO,
            face_value: Wei::from_u64(3),
            win_prob: U256::MAX,
            recipient_rand_hash: B256::repeat_byte(hash),
            expiration_params: Default::default(),
        },
        count,
        max_nonce: 600,
        also_signs: (0..also).map(credential).collect(),
        amount_wei: Wei::from_u64(3 * u64::from(count)),
        charges: charges.collect(),
        now_ms: 0,
        expires_at_ms: 10,
    }
}

fn payment(
    request: &ReserveRequest,
    reservation: crate::signer::Reservation,
    key: Option<u8>,
) -> NewPayment {
    NewPayment {
        state_id: request.state_id.clone(),
        sequence: request.sequence,
        new_session: (request.sequence == 0).then(|| NewSession {
            initial_price: PriceInfo::new(2, 3).unwrap(),
            idempotency_key: key.map(|key| format!("key {key}")),
        }),
        binding: Binding {
            account: "a".into(),
            auth_id: None,
            orchestrator: Address::ZERO,
            app: String::new(),
            job_type: BillingType::Units,
            manifest: ManifestBinding { id: ManifestId::new("m").unwrap(), named: true },
        },
        reservation,
        charged_wei: request.amount_wei,
        face_value: Wei::from_u64(3),
        win_prob: U256::MAX,
        ticket_ev_wei: ticket_ev(Wei::from_u64(3), U256::MAX),
        units: 7,
        fee_wei: Rational::new(14, 3).unwrap(),
        answer: reservation.id.0.to_vec(),
        auth_expiry: 0,
        event: None,
        now_ns: 0,
    }
}

/// A reservation to be made: session, hash, count, counters, key if it is a first one, signatures
/// beside the tickets.
type Reserve = (u32, u8, u32, u8, Option<u8>, u8);

/// One batch: reservations, how many of the pending payments are committed, how many are released,
/// whether time runs out, whether the newest stored one is asked for a second time, how many
/// signatures outside of payments.
type Round = (Vec<Reserve>, usize, usize, bool, bool, Vec<u8>);

fn round() -> impl Strategy<Value = Round> {
    let key = prop::option::weighted(0.7, 0_u8..2);
    let reserve = (0_u32..5, 0_u8..3, 1_u32..40, 0_u8..8, key, 0_u8..3);
    (
        prop::collection::vec(reserve, 0..6),
        0_usize..5,
        0_usize..2,
        prop::bool::weighted(0.1),
        any::<bool>(),
        prop::collection::vec(0_u8..3, 0..3),
    )
}

/// How often two sessions met in one key: that they do is part of what is tested.
static KEYS_MET: AtomicU32 = AtomicU32::new(0);

#[test]
fn whatever_happens_the_books_add_up() {
    histories();
    assert!(KEYS_MET.load(Ordering::Relaxed) > 0, "no two sessions met in one key");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    fn histories(rounds in prop::collection::vec(round(), 1..16)) {
        let mut books = Memory::default();
        let mut head = Head { chain_id: 1, name: "c".into(), seq: 0, hash: audit::GENESIS };
        let mut given = HashSet::new();
        let (mut signatures, mut others, mut superseded_by_key) = (0_u64, 0_usize, 0_u32);
        let mut pending: Vec<NewPayment> = Vec::new();
        let mut done: Vec<(NewPayment, Rational)> = Vec::new();
        for (asked, commits, releases, expire, again, records) in rounds {
            // Commits first, as a batch of both is written.
            let mut batch: Vec<_> = pending.drain(..commits.min(pending.len())).collect();
            if again && let Some((payment, _)) = done.last() {
                batch.push(payment.clone());
            }
            let plan = books.commit(&batch);
            prop_assert_eq!(plan.outcomes.len(), batch.len());
            for (payment, outcome) in batch.into_iter().zip(plan.outcomes) {
                match outcome.unwrap() {
                    Committed::Stored(balance) => {
                        let before = done.iter().find(|(p, _)| p.reservation == payment.reservation);
                        if let Some((_, before)) = before {
                            prop_assert_eq!(before, &balance, "its own answer");
                        }
                        done.push((payment, balance));
                    }
                    Committed::Superseded(stored) => {
                        prop_assert_ne!(stored.answer, payment.answer);
                        if stored.state_id != payment.state_id {
                            // Another session has its key: it gets that one's first answer.
                            let key = payment.new_session.and_then(|new| new.idempotency_key);
                            let first = &books.keys[&("a".to_owned(), key.unwrap())];
                            prop_assert_eq!((first, stored.sequence), (&stored.state_id, 0));
                            prop_assert!(!books.sessions.contains_key(&payment.state_id));
                            superseded_by_key += 1;
                        }
                    }
                    Committed::Expired => {}
                }
            }
            let keys: Vec<Option<u8>> = asked.iter().map(|asked| asked.4).collect();
            others += records.iter().map(|count| usize::from(*count)).sum::<usize>();
            let ask = OpenAsk {
                reserves: asked
                    .into_iter()
                    .map(|(session, hash, count, counters, _, also)| {
                        let next = books.sessions.get(&id(session)).map_or(0, |s| s.sequence + 1);
                        request(session, next, hash, count, counters, also)
                    })
                    .collect(),
                releases: pending.drain(..releases.min(pending.len()))
                    .map(|p| (p.reservation.id, 5)).collect(),
                expire: expire.then_some((10, 4)),
                records: records
                    .iter()
                    .map(|count| ((0..*count).map(credential).collect(), 7))
                    .collect(),
            };
            let plan = books.open(&ask, &mut head);
            prop_assert!(plan.recorded.iter().all(Result::is_ok));
            prop_assert_eq!(plan.recorded.len(), records.len());
            for ((request, key), outcome) in ask.reserves.iter().zip(keys).zip(plan.reserved) {
                match outcome {
                    Ok(Reserved::Nonces(held)) => {
                        signatures += u64::from(held.nonces.count());
                        for nonce in held.nonces.first..=held.nonces.last {
                            let nonce = (held.nonces.recipient_rand_hash, nonce);
                            prop_assert!(given.insert(nonce), "{:?} twice", nonce);
                        }
                        others += request.also_signs.len();
                        pending.push(payment(request, held, key));
                    }
                    Ok(Reserved::Exhausted | Reserved::OverCap { .. }) => {}
                    // Two payments that open the same session: the second commit is refused.
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            // One new session each: what else would open it has drawn the same id.
            let mut opens = HashSet::new();
            pending.retain(|p| p.sequence > 0 || opens.insert(p.state_id.clone())
                && !books.sessions.contains_key(&p.state_id));
            books.check();
        }
        let recorded = books.audit.iter().filter(|row| row.entry.kind == AuditKind::Ticket).count();
        prop_assert_eq!(recorded as u64, signatures);
        let recorded = books.audit.iter().filter(|row| row.entry.kind == AuditKind::Segment);
        prop_assert_eq!(recorded.count(), others);
        // A key is of one session, which has its first payment.
        let sessions: HashSet<_> = books.keys.values().collect();
        prop_assert_eq!(sessions.len(), books.keys.len());
        prop_assert!(sessions.iter().all(|id| books.placed.contains_key(&((*id).clone(), 0))));
        KEYS_MET.fetch_add(superseded_by_key, Ordering::Relaxed);
        let records: Vec<_> = books.audit.iter().map(|row| AuditRecord {
            chain: "c".into(), seq: row.seq, at_ms: row.at_ms, entry: row.entry.clone(), hash: row.hash,
        }).collect();
        let chain = crate::signer::AuditChain {
            name: "c".into(), started_at_ms: 0, seq: head.seq, hash: head.hash,
        };
        prop_assert_eq!(audit::verify_chain(&chain, &records), Ok(vec![]));
        let totals: Vec<_> = books.totals.clone().into_iter().collect();
        let summary = summary_of(&totals).unwrap();
        let mut balance = Rational::ZERO;
        for session in books.sessions.values() {
            balance += &session.balance_wei;
        }
        prop_assert_eq!(summary.balance_total_wei, balance);
        prop_assert_eq!(summary.payments, books.paid.len() as u64);
    }
}
