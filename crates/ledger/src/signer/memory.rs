//! The signer's books in memory, for simulations: a [`Store`] like the databases, below the same engine and
//! the same plans, and the suite of `conformance` runs over it too.

use super::{
    AuditChain, AuditRecord, Backlog, ChargedPayment, CounterKey, Event, LedgerError, NewPayment,
    OpenReservation, PaymentRow, Pruned, PrunedLine, ReservationId, Session, SignerLedger,
    StoredPayment, Summary, UsageQuery,
    audit::GENESIS,
    engine::{
        Books,
        store::{Applied, Lease, Moved, OldAnswer, Store},
    },
    plan::{
        AuditRow, CommitPlan, CommitRead, Head, Held, Line, LineKey, OldPayment, OpenAsk, OpenPlan,
        OpenRead, Placed, Totals, answered_places, places_of, summary_of,
    },
    retention::Mark,
    usage::{DAY_MS, UsageRow},
};
use crate::memory::{Disk, Process};
use penstock_domain::{AuthId, B256, Rational, StateId, Wei};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use tokio::sync::{OwnedMutexGuard, mpsc};
use uuid::Uuid;

type Answer<T> = Result<T, LedgerError>;

/// All rows.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    nonces: BTreeMap<B256, u32>,
    counters: BTreeMap<CounterKey, Wei>,
    reservations: BTreeMap<ReservationId, Held>,
    sessions: BTreeMap<StateId, SessionRow>,
    /// By number.
    payments: BTreeMap<i64, Arc<Payment>>,
    last_session: i64,
    last_payment: i64,
    totals: BTreeMap<String, Totals>,
    outbox: Vec<Event>,
    lease: Option<Lease>,
    chains: Vec<Chain>,
    mark: Option<Mark>,
    lines: BTreeMap<LineKey, (i64, Line)>,
}

#[derive(Debug, Clone)]
struct SessionRow {
    n: i64,
    session: Session,
    key: Option<String>,
}

#[derive(Debug, Clone)]
struct Payment {
    made: NewPayment,
    balance_wei: Rational,
}

#[derive(Debug, Clone)]
struct Chain {
    chain: AuditChain,
    records: Vec<Arc<AuditRow>>,
    anchored: u64,
}

impl Payment {
    fn stored(&self) -> StoredPayment {
        StoredPayment {
            state_id: self.made.state_id.clone(),
            sequence: self.made.sequence,
            binding: self.made.binding.clone(),
            units: self.made.units,
            answer: self.made.answer.clone(),
        }
    }

    fn is_at(&self, id: &StateId, sequence: u64) -> bool {
        self.made.state_id == *id && self.made.sequence == sequence
    }

    fn created_at_ms(&self) -> i64 {
        self.made.now_ns.div_euclid(1_000_000)
    }
}

fn subject(id: Option<&AuthId>) -> String {
    id.map_or_else(String::new, |id| id.as_str().to_owned())
}

fn most(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl Rows {
    fn at(&self, id: &StateId, sequence: u64) -> Option<&Arc<Payment>> {
        self.payments.values().find(|payment| payment.is_at(id, sequence))
    }

    fn of_key(&self, account: &str, key: &str) -> Option<&StateId> {
        let opened = |row: &&SessionRow| {
            row.session.binding.account == account && row.key.as_deref() == Some(key)
        };
        self.sessions.values().find(opened).map(|row| &row.session.state_id)
    }

    fn chain_mut(&mut self, id: i64) -> Option<&mut Chain> {
        self.chains.get_mut(usize::try_from(id.checked_sub(1)?).ok()?)
    }

    fn append(&mut self, rows: &[AuditRow], before: &Head) -> Applied {
        let Some(last) = rows.last() else { return Applied::Done };
        let chain = self.chain_mut(before.chain_id).filter(|chain| chain.chain.seq == before.seq);
        let Some(chain) = chain else { return Applied::Stale };
        chain.records.extend(rows.iter().cloned().map(Arc::new));
        (chain.chain.seq, chain.chain.hash) = (last.seq, last.hash);
        Applied::Done
    }

    fn end<'a>(&mut self, ids: impl Iterator<Item = &'a ReservationId>) -> bool {
        let mut complete = true;
        for id in ids {
            complete &= self.reservations.remove(id).is_some();
        }
        complete
    }

    fn open(&mut self, plan: &OpenPlan, before: &Head) -> Applied {
        let mut complete = self.end(plan.freed.iter());
        for (hash, change) in &plan.nonces {
            let old = self.nonces.insert(*hash, change.new);
            complete &= old.is_none_or(|old| old < change.new);
        }
        self.counters.extend(plan.counters.iter().map(|(key, change)| (key.clone(), change.new)));
        for held in &plan.reservations {
            complete &= self.reservations.insert(held.id, held.clone()).is_none();
        }
        complete &= self.append(&plan.audit, before) == Applied::Done;
        if complete { Applied::Done } else { Applied::Stale }
    }

    fn commit(&mut self, batch: &[NewPayment], plan: &CommitPlan) -> Answer<Applied> {
        for (id, (session, key)) in &plan.new_sessions {
            let taken = key.as_ref().and_then(|key| self.of_key(&session.binding.account, key));
            if self.sessions.contains_key(id) || taken.is_some() {
                return Ok(Applied::Stale);
            }
            self.last_session += 1;
            let row =
                SessionRow { n: self.last_session, session: session.clone(), key: key.clone() };
            self.sessions.insert(id.clone(), row);
        }
        for (id, (before, session)) in &plan.advanced {
            match self.sessions.get_mut(id).filter(|row| row.session.sequence == *before) {
                Some(row) => row.session = session.clone(),
                None => return Ok(Applied::Stale),
            }
        }
        for row in &plan.payments {
            let Some(made) = batch.get(row.from) else { continue };
            let payment = Payment { made: made.clone(), balance_wei: row.balance_wei.clone() };
            self.last_payment += 1;
            self.payments.insert(self.last_payment, Arc::new(payment));
            if let Some(event) = &made.event
                && !self.outbox.iter().any(|waiting| waiting.id == event.id)
            {
                self.outbox.push(Event {
                    id: event.id,
                    state_id: made.state_id.clone(),
                    sequence: made.sequence,
                    payload: event.payload.clone(),
                    created_at_ms: made.now_ns.div_euclid(1_000_000),
                });
            }
        }
        for (denominator, add) in &plan.totals {
            self.totals.entry(denominator.clone()).or_default().add(add);
        }
        let complete = self.end(plan.ended.iter());
        for (key, refund) in &plan.refunds {
            let held = self.counters.get_mut(key).ok_or(LedgerError::Corrupt("counter"))?;
            *held = held.checked_sub(*refund).ok_or(LedgerError::Corrupt("counter"))?;
        }
        Ok(if complete { Applied::Done } else { Applied::Stale })
    }

    fn read_open(&self, ask: &OpenAsk) -> OpenRead {
        let released: BTreeSet<_> = ask.releases.iter().map(|(id, _)| *id).collect();
        let mut freed: Vec<Held> =
            released.iter().filter_map(|id| self.reservations.get(id)).cloned().collect();
        if let Some((now_ms, limit)) = ask.expire {
            let over = self.reservations.values().filter(|held| held.expires_at_ms <= now_ms);
            freed.extend(over.take(most(limit)).cloned());
        }
        let sequences = ask.reserves.iter().filter_map(|request| {
            let row = self.sessions.get(&request.state_id)?;
            Some((request.state_id.clone(), row.session.sequence))
        });
        let sequences: HashMap<_, _> = sequences.collect();
        let places = answered_places(ask, &sequences).into_iter();
        let answered = places.filter_map(|place| {
            let stored = self.at(&place.0, place.1)?.stored();
            Some((place, stored))
        });
        let counters = ask.counters(&freed).into_iter();
        OpenRead {
            answered: answered.collect(),
            nonces: ask
                .hashes()
                .into_iter()
                .filter_map(|hash| Some((hash, *self.nonces.get(&hash)?)))
                .collect(),
            counters: counters
                .filter_map(|key| self.counters.get(&key).copied().map(|held| (key, held)))
                .collect(),
            sequences,
            freed,
            taken: HashSet::new(),
        }
    }

    fn read_commit(&self, batch: &[NewPayment], known: CommitRead) -> CommitRead {
        let mut read = known;
        for payment in batch {
            let id = payment.reservation.id;
            if let Some(held) = self.reservations.get(&id) {
                read.reservations.entry(id).or_insert_with(|| held.clone());
            }
            if let Some(row) = self.sessions.get(&payment.state_id) {
                let id = payment.state_id.clone();
                read.sessions.entry(id).or_insert_with(|| row.session.clone());
            }
            let key = payment.new_session.as_ref().and_then(|new| new.idempotency_key.as_ref());
            let account = &payment.binding.account;
            if let Some(key) = key
                && let Some(id) = self.of_key(account, key)
            {
                read.by_key.insert((account.clone(), key.clone()), id.clone());
            }
        }
        let places = places_of(batch, &read);
        let placed = places.into_iter().filter_map(|place| {
            let payment = self.at(&place.0, place.1)?;
            let placed = Placed {
                payment: payment.stored(),
                reservation: Some(payment.made.reservation.id),
                balance_wei: payment.balance_wei.clone(),
            };
            Some((place, placed))
        });
        read.placed = placed.collect();
        read
    }

    fn row(&self, payment: &Payment) -> PaymentRow {
        let made = &payment.made;
        let nonces = made.reservation.nonces;
        PaymentRow {
            state_id: made.state_id.clone(),
            sequence: made.sequence,
            manifest_id: made.binding.manifest.id.clone(),
            orchestrator: made.binding.orchestrator,
            account: made.binding.account.clone(),
            auth_id: made.binding.auth_id.clone(),
            job_type: made.binding.job_type,
            num_tickets: nonces.count(),
            face_value: made.face_value,
            win_prob: made.win_prob,
            ticket_ev_wei: made.ticket_ev_wei.clone(),
            units: made.units,
            fee_wei: made.fee_wei.clone(),
            balance_wei: payment.balance_wei.clone(),
            charged_wei: made.charged_wei,
            auth_expiry: made.auth_expiry,
            first_nonce: nonces.first,
            last_nonce: nonces.last,
            recipient_rand_hash: nonces.recipient_rand_hash,
            created_at_ms: payment.created_at_ms(),
        }
    }

    fn old_payment(&self, id: i64, payment: &Payment) -> Option<OldPayment> {
        let made = &payment.made;
        let price = self.sessions.get(&made.state_id)?.session.initial_price;
        Some(OldPayment {
            id,
            state_id: made.state_id.clone(),
            sequence: made.sequence,
            account: made.binding.account.clone(),
            auth_id: subject(made.binding.auth_id.as_ref()),
            tickets: made.reservation.nonces.count(),
            ticket_ev_wei: made.ticket_ev_wei.clone(),
            fee_wei: made.fee_wei.clone(),
            charged_wei: made.charged_wei,
            pixels_per_unit: price.pixels_per_unit(),
            created_at_ms: payment.created_at_ms(),
        })
    }

    fn drop_payments(&mut self, old: &[OldPayment], before_ms: i64) {
        for payment in old {
            self.payments.remove(&payment.id);
        }
        for payment in old.iter().filter(|payment| payment.sequence == 0) {
            if let Some(row) = self.sessions.get_mut(&payment.state_id) {
                row.key = None;
            }
        }
        for payment in old {
            let id = &payment.state_id;
            let is_over = |row: &SessionRow| {
                row.session.last_update_ns < before_ms.saturating_mul(1_000_000)
                    && !self.payments.values().any(|payment| payment.made.state_id == *id)
                    && !self.reservations.values().any(|held| held.state_id == *id)
            };
            if self.sessions.get(id).is_some_and(is_over) {
                self.sessions.remove(id);
            }
        }
    }

    fn usage(&self, query: &UsageQuery) -> Answer<Vec<UsageRow>> {
        let mut rows = Vec::new();
        let is_asked = |account: &str, at_ms: i64| {
            (query.from_ms..query.to_ms).contains(&at_ms)
                && query.account.as_deref().is_none_or(|asked| asked == account)
        };
        for payment in self.payments.values() {
            let made = &payment.made;
            if !is_asked(&made.binding.account, payment.created_at_ms()) {
                continue;
            }
            let tickets = made.reservation.nonces.count();
            rows.push(UsageRow {
                account: made.binding.account.clone(),
                auth_id: made.binding.auth_id.clone(),
                day: payment.created_at_ms().div_euclid(DAY_MS),
                payments: 1,
                tickets: tickets.into(),
                charged_wei: made.charged_wei,
                ticket_ev_wei: made.ticket_ev_wei.times(tickets.into()),
                fee_wei: made.fee_wei.clone(),
            });
        }
        for (key, (_, line)) in &self.lines {
            if !is_asked(&key.account, key.day.saturating_mul(DAY_MS)) {
                continue;
            }
            let row = [(key.denominator.clone(), line.totals.clone())];
            let sums = summary_of(&row)?;
            rows.push(UsageRow {
                account: key.account.clone(),
                auth_id: Some(key.auth_id.clone())
                    .filter(|id| !id.is_empty())
                    .map(AuthId::new)
                    .transpose()
                    .map_err(|_| LedgerError::Corrupt("auth_id"))?,
                day: key.day,
                payments: sums.payments,
                tickets: sums.tickets,
                charged_wei: line.charged_wei,
                ticket_ev_wei: sums.ticket_ev_total_wei,
                fee_wei: sums.fee_total_wei,
            });
        }
        rows.sort_by_key(|row| (row.account.clone(), subject(row.auth_id.as_ref()), row.day));
        Ok(rows)
    }
}

/// Nothing has gone yet.
const NO_MARK: Mark =
    Mark { answers: (0, 0), pruned: Pruned { before_ms: 0, payments: 0, tickets: 0 } };

/// Opens the books on this disk as one process more.
pub fn open(disk: &Disk<Rows>, replica: &str) -> Arc<dyn SignerLedger> {
    Arc::new(Books::new(MemoryStore::on(disk), replica))
}

/// One process's store.
pub struct MemoryStore {
    process: Process<Rows>,
}

impl MemoryStore {
    fn on(disk: &Disk<Rows>) -> Self {
        Self { process: disk.process() }
    }

    fn read<T>(&self, look: impl FnOnce(&Rows) -> T) -> Answer<T> {
        Ok(self.process.read(look)?)
    }
}

/// Rows as a transaction leaves them, once it is finished.
pub struct Tx {
    rows: Rows,
    _turn: OwnedMutexGuard<()>,
}

impl Store for MemoryStore {
    type Tx = Tx;
    const PARALLEL: bool = false;

    async fn begin(&self) -> Answer<Tx> {
        let turn = self.process.disk().turn().await;
        Ok(Tx { rows: self.process.copy()?, _turn: turn })
    }

    async fn finish(&self, tx: Tx) -> Answer<()> {
        Ok(self.process.put(tx.rows)?)
    }

    async fn read_open(&self, tx: &mut Tx, ask: &OpenAsk) -> Answer<OpenRead> {
        Ok(tx.rows.read_open(ask))
    }

    async fn apply_open(&self, tx: &mut Tx, plan: &OpenPlan, before: &Head) -> Answer<Applied> {
        Ok(tx.rows.open(plan, before))
    }

    async fn taken(&self, tx: &mut Tx, ids: &[ReservationId]) -> Answer<HashSet<ReservationId>> {
        let is_there = |id: &&ReservationId| tx.rows.reservations.contains_key(*id);
        Ok(ids.iter().filter(is_there).copied().collect())
    }

    async fn read_commit(
        &self,
        tx: &mut Tx,
        batch: &[NewPayment],
        known: CommitRead,
    ) -> Answer<CommitRead> {
        Ok(tx.rows.read_commit(batch, known))
    }

    async fn apply_commit(
        &self,
        tx: &mut Tx,
        batch: &[NewPayment],
        plan: &CommitPlan,
    ) -> Answer<Applied> {
        tx.rows.commit(batch, plan)
    }

    async fn head(&self, tx: &mut Tx, name: &str) -> Answer<Option<Head>> {
        let found = (1..).zip(&tx.rows.chains).find(|(_, chain)| chain.chain.name == name);
        Ok(found.map(|(chain_id, Chain { chain, .. })| Head {
            chain_id,
            name: chain.name.clone(),
            seq: chain.seq,
            hash: chain.hash,
        }))
    }

    async fn start_chain(&self, tx: &mut Tx, name: &str, at_ms: i64) -> Answer<Head> {
        let chain =
            AuditChain { name: name.to_owned(), started_at_ms: at_ms, seq: 0, hash: GENESIS };
        tx.rows.chains.push(Chain { chain, records: Vec::new(), anchored: 0 });
        let chain_id = i64::try_from(tx.rows.chains.len()).unwrap_or(i64::MAX);
        Ok(Head { chain_id, name: name.to_owned(), seq: 0, hash: GENESIS })
    }

    async fn moved_chains(&self, tx: &mut Tx, own: i64) -> Answer<Vec<Moved>> {
        let others = (1..)
            .zip(&tx.rows.chains)
            .filter(|(id, chain)| *id != own && chain.chain.seq > chain.anchored);
        Ok(others.map(|(chain_id, c)| Moved { chain_id, chain: c.chain.clone() }).collect())
    }

    async fn append_audit(&self, tx: &mut Tx, rows: &[AuditRow], before: &Head) -> Answer<Applied> {
        Ok(tx.rows.append(rows, before))
    }

    async fn note_anchored(&self, tx: &mut Tx, moved: &[Moved]) -> Answer<()> {
        for other in moved {
            if let Some(chain) = tx.rows.chain_mut(other.chain_id) {
                chain.anchored = chain.anchored.max(other.chain.seq);
            }
        }
        Ok(())
    }

    async fn lease(&self, tx: &mut Tx) -> Answer<Option<Lease>> {
        Ok(tx.rows.lease.clone())
    }

    async fn set_lease(&self, tx: &mut Tx, old: Option<&Lease>, new: &Lease) -> Answer<Applied> {
        if tx.rows.lease.as_ref() != old {
            return Ok(Applied::Stale);
        }
        tx.rows.lease = Some(new.clone());
        Ok(Applied::Done)
    }

    async fn events(&self, tx: &mut Tx, limit: u32) -> Answer<Vec<Event>> {
        Ok(tx.rows.outbox.iter().take(most(limit)).cloned().collect())
    }

    async fn drop_events(&self, tx: &mut Tx, ids: &[Uuid]) -> Answer<()> {
        tx.rows.outbox.retain(|event| !ids.contains(&event.id));
        Ok(())
    }

    async fn backlog(&self) -> Answer<Backlog> {
        self.read(|rows| Backlog {
            events: rows.outbox.len() as u64,
            oldest_ms: rows.outbox.first().map(|event| event.created_at_ms),
        })
    }

    async fn mark(&self, tx: &mut Tx) -> Answer<Option<Mark>> {
        Ok(Some(tx.rows.mark.unwrap_or(NO_MARK)))
    }

    async fn set_mark(&self, tx: &mut Tx, mark: &Mark) -> Answer<()> {
        tx.rows.mark = Some(*mark);
        Ok(())
    }

    async fn answers_after(
        &self,
        tx: &mut Tx,
        after: (i64, i64),
        before_ms: i64,
        limit: u32,
    ) -> Answer<Vec<OldAnswer>> {
        let old = tx.rows.payments.iter().filter(|(id, payment)| {
            let at_ms = payment.created_at_ms();
            (at_ms, **id) > after && at_ms < before_ms
        });
        let mut old: Vec<_> = old
            .map(|(id, payment)| OldAnswer {
                id: *id,
                created_at_ms: payment.created_at_ms(),
                answer: payment.made.answer.clone(),
            })
            .collect();
        old.sort_by_key(|answer| (answer.created_at_ms, answer.id));
        old.truncate(most(limit));
        Ok(old)
    }

    async fn put_answers(&self, tx: &mut Tx, answers: &[(i64, Vec<u8>)]) -> Answer<()> {
        for (id, answer) in answers {
            if let Some(payment) = tx.rows.payments.get_mut(id) {
                Arc::make_mut(payment).made.answer.clone_from(answer);
            }
        }
        Ok(())
    }

    async fn payments_before(
        &self,
        tx: &mut Tx,
        before_ms: i64,
        limit: u32,
    ) -> Answer<Vec<OldPayment>> {
        let rows = &tx.rows;
        let old = rows.payments.iter().filter(|(_, payment)| payment.created_at_ms() < before_ms);
        let old = old.map(|(id, payment)| {
            rows.old_payment(*id, payment).ok_or(LedgerError::Corrupt("session"))
        });
        let mut old = old.collect::<Answer<Vec<_>>>()?;
        old.sort_by_key(|payment| (payment.created_at_ms, payment.id));
        old.truncate(most(limit));
        Ok(old)
    }

    async fn add_lines(&self, tx: &mut Tx, lines: &BTreeMap<LineKey, Line>) -> Answer<()> {
        for (key, add) in lines {
            let n = i64::try_from(tx.rows.lines.len()).unwrap_or(i64::MAX).saturating_add(1);
            let new = || (n, Line::default());
            let (_, line) = tx.rows.lines.entry(key.clone()).or_insert_with(new);
            line.totals.add(&add.totals);
            let charged = line.charged_wei.checked_add(add.charged_wei);
            line.charged_wei = charged.ok_or(LedgerError::Corrupt("sum of charges"))?;
        }
        Ok(())
    }

    async fn drop_payments(&self, tx: &mut Tx, old: &[OldPayment], before_ms: i64) -> Answer<()> {
        tx.rows.drop_payments(old, before_ms);
        Ok(())
    }

    async fn drop_counters(&self, tx: &mut Tx, keys: &[CounterKey]) -> Answer<()> {
        tx.rows.counters.retain(|key, _| !keys.contains(key));
        Ok(())
    }

    async fn read_mark(&self) -> Answer<Option<Mark>> {
        self.read(|rows| Some(rows.mark.unwrap_or(NO_MARK)))
    }

    async fn lines_after(&self, after: i64, limit: u32) -> Answer<Vec<PrunedLine>> {
        let lines = self.read(|rows| {
            let mut lines: Vec<_> = rows.lines.iter().collect::<Vec<_>>();
            lines.retain(|(_, (n, _))| *n > after);
            lines.sort_by_key(|(_, (n, _))| *n);
            lines.truncate(most(limit));
            let line = |(key, (n, line)): (&LineKey, &(i64, Line))| {
                let id = Some(key.auth_id.clone()).filter(|id| !id.is_empty());
                Ok(PrunedLine {
                    n: *n,
                    account: key.account.clone(),
                    auth_id: id.map(AuthId::new).transpose().map_err(|_| "auth_id")?,
                    day_ms: key.day.saturating_mul(DAY_MS),
                    charged_wei: line.charged_wei,
                })
            };
            lines.into_iter().map(line).collect::<Result<Vec<_>, &'static str>>()
        })?;
        lines.map_err(LedgerError::Corrupt)
    }

    async fn sessions_by_id(&self, ids: &[StateId]) -> Answer<Vec<Session>> {
        self.read(|rows| {
            let found = ids.iter().filter_map(|id| rows.sessions.get(id));
            found.map(|row| row.session.clone()).collect()
        })
    }

    async fn payment(&self, id: &StateId, sequence: u64) -> Answer<Option<StoredPayment>> {
        self.read(|rows| rows.at(id, sequence).map(|payment| payment.stored()))
    }

    async fn first_payment(&self, account: &str, key: &str) -> Answer<Option<StoredPayment>> {
        self.read(|rows| {
            let id = rows.of_key(account, key)?;
            rows.at(id, 0).map(|payment| payment.stored())
        })
    }

    async fn payments(&self, limit: u32) -> Answer<Vec<PaymentRow>> {
        self.read(|rows| {
            let newest = rows.payments.values().rev().take(most(limit));
            newest.map(|payment| rows.row(payment)).collect()
        })
    }

    async fn sessions(&self, limit: u32) -> Answer<Vec<Session>> {
        self.read(|rows| {
            let mut all: Vec<_> = rows.sessions.values().collect();
            all.sort_by_key(|row| std::cmp::Reverse(row.n));
            all.truncate(most(limit));
            all.into_iter().map(|row| row.session.clone()).collect()
        })
    }

    async fn summary(&self) -> Answer<Summary> {
        let totals: Vec<_> = self.read(|rows| rows.totals.clone())?.into_iter().collect();
        summary_of(&totals)
    }

    async fn counters(&self, keys: &[CounterKey]) -> Answer<Vec<Wei>> {
        let held = |rows: &Rows, key| rows.counters.get(key).copied().unwrap_or(Wei::ZERO);
        self.read(|rows| keys.iter().map(|key| held(rows, key)).collect())
    }

    async fn usage(&self, query: &UsageQuery, rows: mpsc::Sender<UsageRow>) -> Answer<()> {
        for row in self.read(|rows| rows.usage(query))?? {
            if rows.send(row).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn payments_at(&self, places: &[(StateId, u64)]) -> Answer<Vec<StoredPayment>> {
        self.read(|rows| {
            let found = places.iter().filter_map(|(id, sequence)| rows.at(id, *sequence));
            found.map(|payment| payment.stored()).collect()
        })
    }

    async fn stored_after(&self, after: i64, limit: u32) -> Answer<Vec<(i64, StoredPayment)>> {
        self.read(|rows| {
            let later = rows.payments.range(after.saturating_add(1)..).take(most(limit));
            later.map(|(n, payment)| (*n, payment.stored())).collect()
        })
    }

    async fn charged_after(&self, after: i64, limit: u32) -> Answer<Vec<ChargedPayment>> {
        self.read(|rows| {
            let later = rows.payments.range(after.saturating_add(1)..).take(most(limit));
            let charged = later.map(|(n, payment)| ChargedPayment {
                n: *n,
                account: payment.made.binding.account.clone(),
                auth_id: payment.made.binding.auth_id.clone(),
                charged_wei: payment.made.charged_wei,
                created_at_ms: payment.created_at_ms(),
            });
            charged.collect()
        })
    }

    async fn counters_after(&self, after: &str, limit: u32) -> Answer<Vec<(CounterKey, Wei)>> {
        self.read(|rows| {
            let mut later: Vec<_> =
                rows.counters.iter().map(|(key, v)| (key.clone(), *v)).collect();
            later.retain(|(key, _)| key.as_str() > after);
            later.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
            later.truncate(most(limit));
            later
        })
    }

    async fn open_reservations(
        &self,
        after: Option<ReservationId>,
        limit: u32,
    ) -> Answer<Vec<OpenReservation>> {
        self.read(|rows| {
            let later = rows.reservations.values().filter(|held| Some(held.id) > after);
            let open = later.take(most(limit)).map(|held| OpenReservation {
                id: held.id,
                state_id: held.state_id.clone(),
                sequence: held.sequence,
                nonces: held.nonces,
                amount_wei: held.amount_wei,
                counters: held.counters.clone(),
                expires_at_ms: held.expires_at_ms,
            });
            open.collect()
        })
    }

    async fn audit_chains(&self) -> Answer<Vec<AuditChain>> {
        self.read(|rows| rows.chains.iter().map(|chain| chain.chain.clone()).collect())
    }

    async fn audit_records(
        &self,
        chain: &str,
        from_seq: u64,
        limit: u32,
    ) -> Answer<Vec<AuditRecord>> {
        self.read(|rows| {
            let named = rows.chains.iter().find(|known| known.chain.name == chain);
            let records = named.map_or(&[][..], |named| &named.records).iter();
            let wanted = records.filter(|row| row.seq >= from_seq).take(most(limit));
            let record = |row: &Arc<AuditRow>| AuditRecord {
                chain: chain.to_owned(),
                seq: row.seq,
                at_ms: row.at_ms,
                entry: row.entry.clone(),
                hash: row.hash,
            };
            wanted.map(record).collect()
        })
    }

    async fn fence(&self) -> Answer<u64> {
        let mut tx = self.begin().await?;
        for last in tx.rows.nonces.values_mut() {
            *last = u32::MAX;
        }
        let fenced = tx.rows.nonces.len() as u64;
        self.finish(tx).await?;
        Ok(fenced)
    }

    async fn ping(&self) -> Answer<()> {
        self.read(|_| ())
    }

    async fn close(&self) {}
}
