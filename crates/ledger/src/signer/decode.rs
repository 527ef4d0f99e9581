//! Rows back into values, the same for both databases. Anything that does not read back is
//! [`LedgerError::Corrupt`].

use super::{
    AuditChain, AuditEntry, AuditRecord, Binding, ChargedPayment, CounterKey, Event, LedgerError,
    ManifestBinding, NonceRange, OpenReservation, PaymentRow, Pruned, PrunedLine, ReservationId,
    Session, StoredPayment,
    engine::store::OldAnswer,
    plan::{Held, OldPayment, Placed, Totals, ev_denominator},
    retention::Mark,
    usage::{DAY_MS, UsageRow},
};
use core::str::FromStr;
use penstock_domain::{
    Address, AuthId, B256, ManifestId, PriceInfo, Rational, StateId, U256, Wei, parse_address,
};
use penstock_payments::BillingType;
use uuid::Uuid;

type Answer<T> = Result<T, LedgerError>;

/// A row of either database. Money columns are selected as text.
pub(super) trait Fields {
    fn text(&self, column: &'static str) -> Answer<String>;
    fn int(&self, column: &'static str) -> Answer<i64>;
    fn blob(&self, column: &'static str) -> Answer<Vec<u8>>;
    fn flag(&self, column: &'static str) -> Answer<bool>;
    /// NULL is `None`.
    fn optional_blob(&self, column: &'static str) -> Answer<Option<Vec<u8>>>;
    /// A `recipient_rand_hash`.
    fn rand_hash(&self, column: &'static str) -> Answer<B256>;
}

/// Columns that [`session`] reads.
pub(super) const SESSION_COLUMNS: &str = "state_id, account, auth_id, orchestrator, app, job_type, \
     manifest_id, manifest_named, initial_price_per_unit, initial_pixels_per_unit, sequence, \
     last_update_ns, tickets, ticket_ev_total, fee_total, balance, created_at_ms";

/// Columns that [`stored`] reads, of payments p and sessions s.
macro_rules! stored_columns {
    () => {
        "p.state_id, p.sequence, p.account, p.auth_id, s.orchestrator, s.app, p.job_type, \
         p.manifest_id, p.manifest_named, p.units, p.answer"
    };
}
pub(super) use stored_columns;

/// Columns that [`old_payment`] reads, of payments p and sessions s, but for `charged`.
macro_rules! old_payment_columns {
    () => {
        "p.id, p.state_id, p.sequence, p.account, p.auth_id, p.num_tickets, p.ticket_ev, p.fee, \
         p.created_at_ms, s.initial_pixels_per_unit"
    };
}
pub(super) use old_payment_columns;

/// Columns that [`held`] reads, but for `amount`.
macro_rules! held_columns {
    () => {
        "id, state_id, sequence, account, auth_id, recipient_rand_hash, first_nonce, last_nonce, \
         counters, reserved_at_ms, expires_at_ms"
    };
}
pub(super) use held_columns;

pub(super) fn session(row: &impl Fields) -> Answer<Session> {
    let price =
        PriceInfo::new(row.int("initial_price_per_unit")?, row.int("initial_pixels_per_unit")?);
    Ok(Session {
        state_id: state_id(row)?,
        binding: binding(row)?,
        initial_price: price.map_err(|_| LedgerError::Corrupt("initial price"))?,
        sequence: unsigned(row, "sequence")?,
        last_update_ns: row.int("last_update_ns")?,
        tickets: unsigned(row, "tickets")?,
        ticket_ev_total_wei: parse(row, "ticket_ev_total")?,
        fee_total_wei: parse(row, "fee_total")?,
        balance_wei: parse(row, "balance")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

pub(super) fn stored(row: &impl Fields) -> Answer<StoredPayment> {
    Ok(StoredPayment {
        state_id: state_id(row)?,
        sequence: unsigned(row, "sequence")?,
        binding: binding(row)?,
        units: unsigned(row, "units")?,
        answer: row.blob("answer")?,
    })
}

/// A stored payment with `reservation_id` and `balance`.
pub(super) fn placed(row: &impl Fields) -> Answer<Placed> {
    let id = row.optional_blob("reservation_id")?;
    Ok(Placed {
        payment: stored(row)?,
        reservation: id.map(reservation_id).transpose()?,
        balance_wei: parse(row, "balance")?,
    })
}

pub(super) fn payment(row: &impl Fields) -> Answer<PaymentRow> {
    Ok(PaymentRow {
        state_id: state_id(row)?,
        sequence: unsigned(row, "sequence")?,
        manifest_id: manifest_id(row)?,
        orchestrator: orchestrator(row)?,
        account: row.text("account")?,
        auth_id: auth_id(row)?,
        job_type: parse(row, "job_type")?,
        num_tickets: unsigned(row, "num_tickets")?,
        face_value: parse(row, "face_value")?,
        win_prob: parse::<Wei>(row, "win_prob")?.0,
        ticket_ev_wei: parse(row, "ticket_ev")?,
        units: unsigned(row, "units")?,
        fee_wei: parse(row, "fee")?,
        balance_wei: parse(row, "balance")?,
        charged_wei: parse(row, "charged")?,
        auth_expiry: row.int("auth_expiry")?,
        first_nonce: unsigned(row, "first_nonce")?,
        last_nonce: unsigned(row, "last_nonce")?,
        recipient_rand_hash: row.rand_hash("recipient_rand_hash")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

pub(super) fn held(row: &impl Fields) -> Answer<Held> {
    let names: Vec<String> = serde_json::from_str(&row.text("counters")?)
        .map_err(|_| LedgerError::Corrupt("counters"))?;
    let counters: Option<Vec<_>> = names.into_iter().map(CounterKey::from_books).collect();
    Ok(Held {
        id: reservation_id(row.blob("id")?)?,
        state_id: state_id(row)?,
        sequence: unsigned(row, "sequence")?,
        account: row.text("account")?,
        auth_id: auth_id(row)?,
        nonces: NonceRange {
            recipient_rand_hash: row.rand_hash("recipient_rand_hash")?,
            first: unsigned(row, "first_nonce")?,
            last: unsigned(row, "last_nonce")?,
        },
        amount_wei: parse(row, "amount")?,
        counters: counters.ok_or(LedgerError::Corrupt("counters"))?,
        reserved_at_ms: row.int("reserved_at_ms")?,
        expires_at_ms: row.int("expires_at_ms")?,
    })
}

/// The part of a reservation that readers see.
pub(super) fn open_reservation(row: &impl Fields) -> Answer<OpenReservation> {
    let Held { id, state_id, sequence, nonces, amount_wei, counters, expires_at_ms, .. } =
        held(row)?;
    Ok(OpenReservation { id, state_id, sequence, nonces, amount_wei, counters, expires_at_ms })
}

pub(super) fn charged(row: &impl Fields) -> Answer<ChargedPayment> {
    Ok(ChargedPayment {
        n: row.int("id")?,
        account: row.text("account")?,
        auth_id: auth_id(row)?,
        charged_wei: parse(row, "charged")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

/// The counters of a reservation as one column.
pub(super) fn counters_text(counters: &[CounterKey]) -> String {
    let names: Vec<&str> = counters.iter().map(CounterKey::as_str).collect();
    serde_json::Value::from(names).to_string()
}

pub(super) fn totals(row: &impl Fields) -> Answer<(String, Totals)> {
    let totals = Totals {
        payments: unsigned(row, "payments")?,
        tickets: unsigned(row, "tickets")?,
        ticket_ev_parts: parse(row, "ticket_ev_parts")?,
        fee_parts: parse(row, "fee_parts")?,
    };
    Ok((row.text("denominator")?, totals))
}

/// Payments that are alike, or (with a denominator) a line of usage.
pub(super) fn usage(row: &impl Fields) -> Answer<UsageRow> {
    let payments: u64 = unsigned(row, "payments")?;
    let tickets: u64 = unsigned(row, "tickets")?;
    let (charged_wei, ev, fee): (Wei, Rational, Rational) =
        (parse(row, "charged")?, parse(row, "ticket_ev")?, parse(row, "fee")?);
    let denominator = row.text("denominator")?;
    let (tickets, charged, ticket_ev_wei, fee_wei) = if denominator.is_empty() {
        let tickets = tickets.saturating_mul(payments);
        let charged = charged_wei.0.checked_mul(U256::from(payments)).map(Wei);
        (tickets, charged, Rational::from(tickets) * ev, Rational::from(payments) * fee)
    } else {
        let bad = LedgerError::Corrupt("line of usage");
        let denominator: Rational = denominator.parse().map_err(|_| bad.clone())?;
        let fee = fee.checked_div(&denominator).ok_or(bad.clone())?;
        (tickets, Some(charged_wei), ev.checked_div(&ev_denominator()).ok_or(bad)?, fee)
    };
    Ok(UsageRow {
        account: row.text("account")?,
        auth_id: auth_id(row)?,
        day: row.int("day")?,
        payments,
        tickets,
        charged_wei: charged.ok_or(LedgerError::Corrupt("sum of charges"))?,
        ticket_ev_wei,
        fee_wei,
    })
}

pub(super) fn mark(row: &impl Fields) -> Answer<Mark> {
    Ok(Mark {
        answers: (row.int("answers_at_ms")?, row.int("answers_id")?),
        pruned: Pruned {
            before_ms: row.int("before_ms")?,
            payments: unsigned(row, "payments")?,
            tickets: unsigned(row, "tickets")?,
        },
    })
}

pub(super) fn old_answer(row: &impl Fields) -> Answer<OldAnswer> {
    Ok(OldAnswer {
        id: row.int("id")?,
        created_at_ms: row.int("created_at_ms")?,
        answer: row.blob("answer")?,
    })
}

pub(super) fn old_payment(row: &impl Fields) -> Answer<OldPayment> {
    Ok(OldPayment {
        id: row.int("id")?,
        state_id: state_id(row)?,
        sequence: unsigned(row, "sequence")?,
        account: row.text("account")?,
        auth_id: row.text("auth_id")?,
        tickets: unsigned(row, "num_tickets")?,
        ticket_ev_wei: parse(row, "ticket_ev")?,
        fee_wei: parse(row, "fee")?,
        charged_wei: parse(row, "charged")?,
        pixels_per_unit: row.int("initial_pixels_per_unit")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

pub(super) fn pruned_line(row: &impl Fields) -> Answer<PrunedLine> {
    Ok(PrunedLine {
        n: row.int("n")?,
        account: row.text("account")?,
        auth_id: auth_id(row)?,
        day_ms: row.int("day")?.saturating_mul(DAY_MS),
        charged_wei: parse(row, "charged")?,
    })
}

pub(super) fn event(row: &impl Fields) -> Answer<Event> {
    let id = Uuid::from_slice(&row.blob("id")?).map_err(|_| LedgerError::Corrupt("event id"))?;
    Ok(Event {
        id,
        state_id: state_id(row)?,
        sequence: unsigned(row, "sequence")?,
        payload: row.blob("payload")?,
        created_at_ms: row.int("created_at_ms")?,
    })
}

pub(super) fn audit_chain(row: &impl Fields) -> Answer<AuditChain> {
    Ok(AuditChain {
        name: row.text("name")?,
        started_at_ms: row.int("started_at_ms")?,
        seq: unsigned(row, "seq")?,
        hash: b256(&row.blob("hash")?, "audit hash")?,
    })
}

pub(super) fn audit_record(row: &impl Fields, chain: &str) -> Answer<AuditRecord> {
    Ok(AuditRecord {
        chain: chain.to_owned(),
        seq: unsigned(row, "seq")?,
        at_ms: row.int("at_ms")?,
        entry: AuditEntry {
            kind: row.text("kind")?.parse().map_err(|()| LedgerError::Corrupt("audit kind"))?,
            digest: b256(&row.blob("digest")?, "audit digest")?,
            account: row.text("account")?,
            auth_id: auth_id(row)?,
            reference: row.text("reference")?,
        },
        hash: b256(&row.blob("hash")?, "audit hash")?,
    })
}

fn binding(row: &impl Fields) -> Answer<Binding> {
    Ok(Binding {
        account: row.text("account")?,
        auth_id: auth_id(row)?,
        orchestrator: orchestrator(row)?,
        app: row.text("app")?,
        job_type: parse::<BillingType>(row, "job_type")?,
        manifest: ManifestBinding { id: manifest_id(row)?, named: row.flag("manifest_named")? },
    })
}

pub(super) fn state_id(row: &impl Fields) -> Answer<StateId> {
    StateId::new(row.text("state_id")?).map_err(|_| LedgerError::Corrupt("state_id"))
}

fn manifest_id(row: &impl Fields) -> Answer<ManifestId> {
    ManifestId::new(row.text("manifest_id")?).map_err(|_| LedgerError::Corrupt("manifest_id"))
}

fn orchestrator(row: &impl Fields) -> Answer<Address> {
    parse_address(&row.text("orchestrator")?).ok_or(LedgerError::Corrupt("orchestrator"))
}

fn auth_id(row: &impl Fields) -> Answer<Option<AuthId>> {
    let text = row.text("auth_id")?;
    if text.is_empty() {
        return Ok(None);
    }
    AuthId::new(text).map(Some).map_err(|_| LedgerError::Corrupt("auth_id"))
}

/// As written: no subject is the empty text.
pub(super) fn auth_text(auth_id: Option<&AuthId>) -> String {
    auth_id.map_or_else(String::new, |id| id.as_str().to_owned())
}

pub(super) fn reservation_id(bytes: Vec<u8>) -> Answer<ReservationId> {
    let id = bytes.try_into().map_err(|_| LedgerError::Corrupt("reservation id"))?;
    Ok(ReservationId(id))
}

pub(super) fn b256(bytes: &[u8], what: &'static str) -> Answer<B256> {
    B256::try_from(bytes).map_err(|_| LedgerError::Corrupt(what))
}

pub(super) fn parse<T: FromStr>(row: &impl Fields, column: &'static str) -> Answer<T> {
    row.text(column)?.parse().map_err(|_| LedgerError::Corrupt(column))
}

pub(super) fn unsigned<T: TryFrom<i64>>(row: &impl Fields, column: &'static str) -> Answer<T> {
    T::try_from(row.int(column)?).map_err(|_| LedgerError::Corrupt(column))
}

/// A number that fits, because a plan checked it.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
