//! The write after signing: payments, their sessions and events; reservations end.

use super::{Held, Totals, add_totals, is_storable};
use crate::signer::{
    Committed, CounterKey, LedgerError, NewPayment, NewSession, ReservationId, Session,
    StoredPayment, audit::MAX_ACCOUNT_BYTES,
};
use penstock_domain::{Rational, StateId, Wei};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Longest app label and idempotency key, in bytes; what is longer never gets here.
const MAX_LABEL_BYTES: usize = 4_096;

/// A payment that is in the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub payment: StoredPayment,
    /// Of which reservation; `None` in rows older than that column.
    pub reservation: Option<ReservationId>,
    /// The session's balance after it.
    pub balance_wei: Rational,
}

/// The rows that a plan rests on.
#[derive(Debug, Clone, Default)]
pub struct CommitRead {
    pub reservations: HashMap<ReservationId, Held>,
    pub sessions: HashMap<StateId, Session>,
    /// Sessions that were opened with the batch's (account, idempotency key).
    pub by_key: HashMap<(String, String), StateId>,
    /// Payments in places that the batch wants.
    pub placed: HashMap<(StateId, u64), Placed>,
}

/// A payment to be inserted; `from` is its place in the batch.
#[derive(Debug, Clone)]
pub struct NewPaymentRow {
    pub from: usize,
    pub balance_wei: Rational,
}

/// What to change, and what to answer once it is on disk.
#[derive(Debug, Clone, Default)]
pub struct CommitPlan {
    /// Sessions to be inserted, with their idempotency key.
    pub new_sessions: BTreeMap<StateId, (Session, Option<String>)>,
    /// Sessions to be changed if they still have that sequence number.
    pub advanced: BTreeMap<StateId, (u64, Session)>,
    pub payments: Vec<NewPaymentRow>,
    /// Reservations that end here. All of them must still be there.
    pub ended: BTreeSet<ReservationId>,
    /// Charges of payments that came second.
    pub refunds: BTreeMap<CounterKey, Wei>,
    pub totals: BTreeMap<String, Totals>,
    /// One per payment of the batch, in order.
    pub outcomes: Vec<Result<Committed, LedgerError>>,
}

impl CommitPlan {
    /// Whether nothing has to be written.
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }
}

fn key_of(payment: &NewPayment) -> Option<(String, String)> {
    let key = payment.new_session.as_ref()?.idempotency_key.clone()?;
    Some((payment.binding.account.clone(), key))
}

/// Which stored payments to read, before [`plan_commits`]: those in places that are wanted.
pub fn places_of(batch: &[NewPayment], read: &CommitRead) -> Vec<(StateId, u64)> {
    let mut places = Vec::new();
    for payment in batch {
        if read.sessions.get(&payment.state_id).is_some_and(|s| payment.sequence <= s.sequence) {
            places.push((payment.state_id.clone(), payment.sequence));
        }
        if let Some(first) = key_of(payment).and_then(|key| read.by_key.get(&key)) {
            places.push((first.clone(), 0));
        }
    }
    places
}

/// Plans the batch, payment by payment in its order.
pub fn plan_commits(batch: &[NewPayment], read: CommitRead) -> CommitPlan {
    let before = read.sessions.iter().map(|(id, s)| (id.clone(), s.sequence)).collect();
    let (planned, opened) = Default::default();
    let mut work = Work { batch, read, before, planned, opened, plan: CommitPlan::default() };
    for (from, payment) in batch.iter().enumerate() {
        let outcome = work.commit(from, payment);
        work.plan.outcomes.push(outcome);
    }
    work.finish()
}

struct Work<'a> {
    batch: &'a [NewPayment],
    /// Its sessions change as the batch is planned, as if they had been read so.
    read: CommitRead,
    /// Sequence numbers as they were read.
    before: HashMap<StateId, u64>,
    /// Which payments of the batch have which place.
    planned: HashMap<(StateId, u64), usize>,
    /// Sessions that the batch opens, by their idempotency key.
    opened: HashMap<(String, String), StateId>,
    plan: CommitPlan,
}

impl Work<'_> {
    fn commit(&mut self, from: usize, payment: &NewPayment) -> Result<Committed, LedgerError> {
        check(payment)?;
        if let Some(placed) = self.placed(payment)? {
            if placed.reservation == Some(payment.reservation.id) {
                // Asked again after an answer that was lost.
                return Ok(Committed::Stored(placed.balance_wei));
            }
            self.give_back(payment.reservation.id);
            return Ok(Committed::Superseded(placed.payment));
        }
        let Some(held) = self.read.reservations.get(&payment.reservation.id) else {
            return Ok(Committed::Expired);
        };
        let same = held.nonces == payment.reservation.nonces
            && held.state_id == payment.state_id
            && held.sequence == payment.sequence
            && held.amount_wei == payment.charged_wei
            && held.account == payment.binding.account;
        if !same {
            return Err(LedgerError::Misuse("a reservation that was made for another payment"));
        }
        self.store(from, payment)
    }

    /// The payment that already has this place, if any.
    fn placed(&self, payment: &NewPayment) -> Result<Option<Placed>, LedgerError> {
        if let Some(key) = key_of(payment)
            && let Some(first) = self.read.by_key.get(&key).or_else(|| self.opened.get(&key))
        {
            let placed = self.at(&(first.clone(), 0));
            return placed.map(Some).ok_or(LedgerError::Corrupt("first payment"));
        }
        let Some(session) = self.read.sessions.get(&payment.state_id) else { return Ok(None) };
        if payment.sequence > session.sequence {
            return Ok(None);
        }
        let placed = self.at(&(payment.state_id.clone(), payment.sequence));
        let placed = placed.ok_or(LedgerError::Corrupt("payment sequence"))?;
        if payment.sequence == 0 && placed.reservation != Some(payment.reservation.id) {
            // Two sessions drew the same random id. The other one's answer is none of our business.
            return Err(LedgerError::Misuse("the new session's id was taken meanwhile"));
        }
        Ok(Some(placed))
    }

    /// The payment in a place: in the books, or earlier in the batch.
    fn at(&self, place: &(StateId, u64)) -> Option<Placed> {
        if let Some(placed) = self.read.placed.get(place) {
            return Some(placed.clone());
        }
        let from = *self.planned.get(place)?;
        let payment = self.batch.get(from)?;
        let row = self.plan.payments.iter().find(|row| row.from == from)?;
        Some(Placed {
            payment: StoredPayment {
                state_id: payment.state_id.clone(),
                sequence: payment.sequence,
                binding: payment.binding.clone(),
                units: payment.units,
                answer: payment.answer.clone(),
            },
            reservation: Some(payment.reservation.id),
            balance_wei: row.balance_wei.clone(),
        })
    }

    fn give_back(&mut self, id: ReservationId) {
        // Absent: it was given back before.
        let Some(held) = self.read.reservations.remove(&id) else { return };
        for key in &held.counters {
            let refund = self.plan.refunds.entry(key.clone()).or_default();
            // Refunds are parts of what a counter holds, which fits.
            *refund = refund.checked_add(held.amount_wei).unwrap_or(*refund);
        }
        self.plan.ended.insert(id);
    }

    fn store(&mut self, from: usize, payment: &NewPayment) -> Result<Committed, LedgerError> {
        let count = payment.reservation.nonces.count();
        let credit = payment.ticket_ev_wei.times(count.into());
        let id = &payment.state_id;
        let price = match self.read.sessions.get(id) {
            Some(session) => {
                check_next(session, payment)?;
                session.initial_price
            }
            None => first_of(payment)?.initial_price,
        };
        let pixels = price.pixels_per_unit();
        add_totals(&mut self.plan.totals, count, &credit, &payment.fee_wei, pixels)?;
        let balance = match self.read.sessions.get_mut(id) {
            Some(session) => {
                advance(session, payment, count, &credit);
                session.balance_wei.clone()
            }
            None => {
                let session = open_session(payment, count, credit)?;
                let balance = session.balance_wei.clone();
                self.read.sessions.insert(id.clone(), session);
                balance
            }
        };
        self.planned.insert((id.clone(), payment.sequence), from);
        if let Some(key) = key_of(payment) {
            self.opened.insert(key, id.clone());
        }
        self.read.reservations.remove(&payment.reservation.id);
        self.plan.ended.insert(payment.reservation.id);
        self.plan.payments.push(NewPaymentRow { from, balance_wei: balance.clone() });
        Ok(Committed::Stored(balance))
    }

    /// The sessions as all payments together leave them.
    fn finish(mut self) -> CommitPlan {
        for row in &self.plan.payments {
            let Some(payment) = self.batch.get(row.from) else { continue };
            let id = &payment.state_id;
            let before = self.before.get(id);
            // Absent: an earlier payment of the same session was here before.
            let Some(session) = self.read.sessions.remove(id) else { continue };
            match before {
                Some(before) => {
                    self.plan.advanced.insert(id.clone(), (*before, session));
                }
                None => {
                    let key = payment.new_session.as_ref();
                    let key = key.and_then(|new| new.idempotency_key.clone());
                    self.plan.new_sessions.insert(id.clone(), (session, key));
                }
            }
        }
        self.plan
    }
}

fn check(payment: &NewPayment) -> Result<(), LedgerError> {
    let refuse = |what| Err(LedgerError::Misuse(what));
    if (payment.sequence == 0) != payment.new_session.is_some() {
        return refuse("a first payment, and only it, opens a session");
    }
    if payment.reservation.nonces.count() == 0 {
        return refuse("empty nonce range");
    }
    if i64::try_from(payment.sequence).is_err() || i64::try_from(payment.units).is_err() {
        return refuse("sequence or units out of range");
    }
    let key = payment.new_session.as_ref().and_then(|new| new.idempotency_key.as_deref());
    let texts = is_storable(&payment.binding.account, MAX_ACCOUNT_BYTES)
        && is_storable(&payment.binding.app, MAX_LABEL_BYTES)
        && is_storable(key.unwrap_or(""), MAX_LABEL_BYTES);
    if !texts {
        return refuse("account name, app label or idempotency key");
    }
    Ok(())
}

fn first_of(payment: &NewPayment) -> Result<&NewSession, LedgerError> {
    payment.new_session.as_ref().ok_or(LedgerError::Misuse("payment for an unknown session"))
}

fn open_session(
    payment: &NewPayment,
    count: u32,
    credit: Rational,
) -> Result<Session, LedgerError> {
    Ok(Session {
        state_id: payment.state_id.clone(),
        binding: payment.binding.clone(),
        initial_price: first_of(payment)?.initial_price,
        sequence: 0,
        last_update_ns: payment.now_ns,
        tickets: count.into(),
        balance_wei: &credit - &payment.fee_wei,
        ticket_ev_total_wei: credit,
        fee_total_wei: payment.fee_wei.clone(),
        created_at_ms: payment.now_ns.div_euclid(1_000_000),
    })
}

/// Whether a payment may be the next of a session.
fn check_next(session: &Session, payment: &NewPayment) -> Result<(), LedgerError> {
    let (was, is) = (&session.binding, &payment.binding);
    if was.account != is.account || was.orchestrator != is.orchestrator || was.app != is.app {
        return Err(LedgerError::Misuse("payment bound to another account, orchestrator or app"));
    }
    if Some(payment.sequence) != session.sequence.checked_add(1) {
        return Err(LedgerError::Misuse("payment out of sequence"));
    }
    Ok(())
}

fn advance(session: &mut Session, payment: &NewPayment, count: u32, credit: &Rational) {
    session.binding.clone_from(&payment.binding);
    session.sequence = payment.sequence;
    session.last_update_ns = payment.now_ns;
    session.tickets = session.tickets.saturating_add(count.into());
    session.ticket_ev_total_wei += credit;
    session.fee_total_wei += &payment.fee_wei;
    session.balance_wei += credit;
    session.balance_wei -= &payment.fee_wei;
}
