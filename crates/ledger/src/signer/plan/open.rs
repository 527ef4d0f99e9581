//! The write before signing: nonces, budget and audit of new reservations; and reservations that
//! are given back.

use super::{AuditRow, Change, Head, Held, is_storable, reference};
use crate::signer::{
    AuditEntry, AuditKind, CounterKey, LedgerError, MAX_CHARGES, MAX_TICKETS, NonceRange,
    Reservation, ReservationId, ReserveRequest, Reserved, StoredPayment,
    audit::{MAX_ACCOUNT_BYTES, MAX_REFERENCE_BYTES},
};
use penstock_domain::{B256, StateId, Wei};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a batch asks for.
#[derive(Debug, Clone, Default)]
pub struct OpenAsk {
    pub reserves: Vec<ReserveRequest>,
    /// Reservations to be given back, and when.
    pub releases: Vec<(ReservationId, i64)>,
    /// Reservations over by this time are given back, at most so many.
    pub expire: Option<(i64, u32)>,
    /// Signatures outside payments, and when.
    pub records: Vec<(Vec<AuditEntry>, i64)>,
}

impl OpenAsk {
    pub fn is_empty(&self) -> bool {
        self.reserves.is_empty()
            && self.releases.is_empty()
            && self.expire.is_none()
            && self.records.is_empty()
    }

    /// Whose nonces are asked for, each once, in order.
    pub fn hashes(&self) -> BTreeSet<B256> {
        self.reserves.iter().map(|r| r.tickets.recipient_rand_hash).collect()
    }

    /// Which counters are touched, each once, in order.
    pub fn counters(&self, freed: &[Held]) -> BTreeSet<CounterKey> {
        let charged = self.reserves.iter().flat_map(|r| &r.charges).map(|c| &c.counter);
        charged.chain(freed.iter().flat_map(|held| &held.counters)).cloned().collect()
    }
}

/// The rows that a plan rests on.
#[derive(Debug, Clone, Default)]
pub struct OpenRead {
    /// Reservations to be given back: the released ones that there are, and the expired ones.
    pub freed: Vec<Held>,
    /// Sequence numbers of the sessions that there are.
    pub sequences: HashMap<StateId, u64>,
    /// Payments that were asked for again.
    pub answered: HashMap<(StateId, u64), StoredPayment>,
    /// Last nonces of the hashes that there are.
    pub nonces: HashMap<B256, u32>,
    /// What counters hold, those that there are.
    pub counters: HashMap<CounterKey, Wei>,
    /// Names of asked reservations that exist already: looked up only after an insert failed.
    pub taken: HashSet<ReservationId>,
}

/// What to change, and what to answer once it is on disk.
#[derive(Debug, Clone, Default)]
pub struct OpenPlan {
    pub nonces: BTreeMap<B256, Change<u32>>,
    pub counters: BTreeMap<CounterKey, Change<Wei>>,
    pub reservations: Vec<Held>,
    pub freed: Vec<ReservationId>,
    pub audit: Vec<AuditRow>,
    /// One per request, in order.
    pub reserved: Vec<Result<Reserved, LedgerError>>,
    /// One per release, in order.
    pub released: Vec<bool>,
    pub expired: u64,
    /// One per list of records, in order.
    pub recorded: Vec<Result<(), LedgerError>>,
}

impl OpenPlan {
    /// Whether nothing has to be written.
    pub fn is_empty(&self) -> bool {
        self.nonces.is_empty()
            && self.counters.is_empty()
            && self.reservations.is_empty()
            && self.freed.is_empty()
            && self.audit.is_empty()
    }
}

/// Which stored payments to read, before [`plan_opens`]: those that requests ask for again.
pub fn answered_places(ask: &OpenAsk, sequences: &HashMap<StateId, u64>) -> Vec<(StateId, u64)> {
    let is_past = |r: &&ReserveRequest| {
        r.sequence > 0 && sequences.get(&r.state_id).is_some_and(|newest| r.sequence <= *newest)
    };
    ask.reserves.iter().filter(is_past).map(|r| (r.state_id.clone(), r.sequence)).collect()
}

/// Plans the batch in the order: given back, reserved, recorded. `head` moves on.
pub fn plan_opens(ask: &OpenAsk, read: &OpenRead, head: &mut Head) -> OpenPlan {
    let mut work = Work { read, head, plan: OpenPlan::default() };
    work.give_back(ask);
    for request in &ask.reserves {
        let outcome = work.reserve(request);
        work.plan.reserved.push(outcome);
    }
    for (entries, at_ms) in &ask.records {
        let outcome = check_entries(entries, may_be_recorded).map(|()| {
            for entry in entries {
                work.record(*at_ms, entry.clone());
            }
        });
        work.plan.recorded.push(outcome);
    }
    work.plan
}

struct Work<'a> {
    read: &'a OpenRead,
    head: &'a mut Head,
    plan: OpenPlan,
}

impl Work<'_> {
    fn record(&mut self, at_ms: i64, entry: AuditEntry) {
        let row = self.head.append(at_ms, entry);
        self.plan.audit.push(row);
    }

    fn charged(&self, key: &CounterKey) -> Wei {
        let planned = self.plan.counters.get(key).map(|change| change.new);
        planned.or_else(|| self.read.counters.get(key).copied()).unwrap_or(Wei::ZERO)
    }

    fn set_counter(&mut self, key: &CounterKey, new: Wei) {
        let old = self.read.counters.get(key).copied();
        self.plan.counters.entry(key.clone()).or_insert(Change { old, new }).new = new;
    }

    fn last_nonce(&self, hash: &B256) -> u32 {
        let planned = self.plan.nonces.get(hash).map(|change| change.new);
        planned.or_else(|| self.read.nonces.get(hash).copied()).unwrap_or(0)
    }

    fn give_back(&mut self, ask: &OpenAsk) {
        let read = self.read;
        let asked: HashMap<_, _> = ask.releases.iter().copied().collect();
        let mut freed = HashSet::new();
        for held in &read.freed {
            let Some(at_ms) = asked.get(&held.id).copied().or(ask.expire.map(|(now, _)| now))
            else {
                continue;
            };
            if !freed.insert(held.id) {
                continue;
            }
            if !asked.contains_key(&held.id) {
                self.plan.expired = self.plan.expired.saturating_add(1);
            }
            for key in &held.counters {
                let left = self.charged(key).saturating_sub(held.amount_wei);
                self.set_counter(key, left);
            }
            self.plan.freed.push(held.id);
            let nonces = format!("{}-{}", held.nonces.first, held.nonces.last);
            self.record(
                at_ms,
                AuditEntry {
                    kind: AuditKind::Void,
                    digest: B256::ZERO,
                    account: held.account.clone(),
                    auth_id: held.auth_id.clone(),
                    reference: reference(&held.state_id, held.sequence, nonces),
                },
            );
        }
        // The second of two releases of one reservation comes too late.
        self.plan.released = ask.releases.iter().map(|(id, _)| freed.remove(id)).collect();
    }

    fn reserve(&mut self, request: &ReserveRequest) -> Result<Reserved, LedgerError> {
        check_request(request)?;
        let newest = self.read.sequences.get(&request.state_id).copied();
        match (request.sequence, newest) {
            (0, None) => {}
            (0, Some(_)) => return Ok(Reserved::StateIdTaken),
            (wanted, Some(newest)) if wanted <= newest => {
                let place = (request.state_id.clone(), wanted);
                let answer = self.read.answered.get(&place).cloned();
                // Absent: it was so old that it was pruned.
                return Ok(answer.map_or(Reserved::UnknownState, Reserved::Answered));
            }
            (wanted, Some(newest)) if Some(wanted) == newest.checked_add(1) => {}
            _ => return Ok(Reserved::UnknownState),
        }
        let id = request.id;
        if self.read.taken.contains(&id) || self.plan.reservations.iter().any(|r| r.id == id) {
            return Err(LedgerError::Misuse("a reservation id used before"));
        }
        let mut charged = Vec::with_capacity(request.charges.len());
        for charge in &request.charges {
            let charged_wei = self.charged(&charge.counter);
            // What a column cannot hold is over every cap.
            let cap_wei = charge.cap_wei.unwrap_or(Wei(penstock_domain::U256::MAX));
            match charged_wei.checked_add(request.amount_wei).filter(|new| *new <= cap_wei) {
                Some(new) => charged.push((&charge.counter, new)),
                None => {
                    let counter = charge.counter.clone();
                    return Ok(Reserved::OverCap { counter, cap_wei, charged_wei });
                }
            }
        }
        let hash = request.tickets.recipient_rand_hash;
        let before = self.last_nonce(&hash);
        let Some(last) = before.checked_add(request.count).filter(|l| *l <= request.max_nonce)
        else {
            return Ok(Reserved::Exhausted);
        };
        let first = before.saturating_add(1);
        for (key, new) in charged {
            self.set_counter(key, new);
        }
        let old = self.read.nonces.get(&hash).copied();
        self.plan.nonces.entry(hash).or_insert(Change { old, new: last }).new = last;
        let nonces = NonceRange { recipient_rand_hash: hash, first, last };
        self.plan.reservations.push(Held {
            id,
            state_id: request.state_id.clone(),
            sequence: request.sequence,
            account: request.account.clone(),
            auth_id: request.auth_id.clone(),
            nonces,
            amount_wei: request.amount_wei,
            counters: request.charges.iter().map(|charge| charge.counter.clone()).collect(),
            reserved_at_ms: request.now_ms,
            expires_at_ms: request.expires_at_ms,
        });
        self.record_signatures(request, nonces);
        Ok(Reserved::Nonces(Reservation { id, nonces }))
    }

    fn record_signatures(&mut self, request: &ReserveRequest, nonces: NonceRange) {
        for nonce in nonces.first..=nonces.last {
            let entry = AuditEntry {
                kind: AuditKind::Ticket,
                digest: request.tickets.ticket(nonce).digest(),
                account: request.account.clone(),
                auth_id: request.auth_id.clone(),
                reference: reference(&request.state_id, request.sequence, nonce),
            };
            self.record(request.now_ms, entry);
        }
        for entry in &request.also_signs {
            self.record(request.now_ms, entry.clone());
        }
    }
}

fn check_request(request: &ReserveRequest) -> Result<(), LedgerError> {
    let refuse = |what| Err(LedgerError::Misuse(what));
    if request.count == 0 || request.count > MAX_TICKETS {
        return refuse("no nonces asked for, or far too many");
    }
    if !is_storable(&request.account, MAX_ACCOUNT_BYTES) {
        return refuse("account name");
    }
    let keys: BTreeSet<_> = request.charges.iter().map(|charge| &charge.counter).collect();
    if request.charges.len() > MAX_CHARGES || keys.len() != request.charges.len() {
        return refuse("too many counters, or one twice");
    }
    check_entries(&request.also_signs, |entry| entry.kind.is_signature())
}

/// Signatures, and that one came to nothing: its digest says which. What operators do.
fn may_be_recorded(entry: &AuditEntry) -> bool {
    let void = entry.kind == AuditKind::Void && entry.digest != B256::ZERO;
    void || entry.kind.is_signature() || entry.kind == AuditKind::Operator
}

fn check_entries(
    entries: &[AuditEntry],
    is_kind: impl Fn(&AuditEntry) -> bool,
) -> Result<(), LedgerError> {
    let good = |entry: &AuditEntry| {
        is_kind(entry)
            && is_storable(&entry.account, MAX_ACCOUNT_BYTES)
            && is_storable(&entry.reference, MAX_REFERENCE_BYTES)
    };
    if entries.iter().all(good) { Ok(()) } else { Err(LedgerError::Misuse("audit entry")) }
}
