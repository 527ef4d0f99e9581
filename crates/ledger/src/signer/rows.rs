//! Rows back into values. Anything that does not read back is [`LedgerError::Corrupt`].

use super::{Binding, LedgerError, ManifestBinding, PaymentRow, Session, StoredPayment};
use core::str::FromStr;
use penstock_domain::{AuthId, ManifestId, PriceInfo, StateId, parse_address, parse_b256};
use penstock_payments::BillingType;
use sqlx::{Row, sqlite::SqliteRow};

/// Columns that [`session`] reads.
pub(super) const SESSION: &str = "SELECT state_id, account, auth_id, orchestrator, app, job_type, manifest_id, manifest_named, \
     initial_price_per_unit, initial_pixels_per_unit, sequence, last_update_ns, tickets, \
     ticket_ev_total, fee_total, balance, created_at_ms FROM sessions ";

/// Columns that [`stored`] reads.
pub(super) const STORED: &str = "SELECT p.state_id, p.sequence, s.account, p.auth_id, s.orchestrator, s.app, p.job_type, \
     p.manifest_id, p.manifest_named, p.units, p.answer \
     FROM payments p JOIN sessions s ON s.state_id = p.state_id ";

/// Columns that [`payment`] reads.
pub(super) const PAYMENT: &str = "SELECT p.state_id, p.sequence, p.manifest_id, s.orchestrator, s.account, p.auth_id, p.job_type, \
     p.num_tickets, p.face_value, p.win_prob, p.ticket_ev, p.units, p.fee, p.balance, \
     p.first_nonce, p.last_nonce, p.recipient_rand_hash, p.created_at_ms \
     FROM payments p JOIN sessions s ON s.state_id = p.state_id ";

pub(super) fn session(row: &SqliteRow) -> Result<Session, LedgerError> {
    Ok(Session {
        state_id: state_id(row)?,
        binding: binding(row)?,
        initial_price: PriceInfo::new(
            get(row, "initial_price_per_unit")?,
            get(row, "initial_pixels_per_unit")?,
        )
        .map_err(|_| LedgerError::Corrupt("initial price"))?,
        sequence: unsigned(row, "sequence")?,
        last_update_ns: get(row, "last_update_ns")?,
        tickets: unsigned(row, "tickets")?,
        ticket_ev_total_wei: parse(row, "ticket_ev_total")?,
        fee_total_wei: parse(row, "fee_total")?,
        balance_wei: parse(row, "balance")?,
        created_at_ms: get(row, "created_at_ms")?,
    })
}

pub(super) fn stored(row: &SqliteRow) -> Result<StoredPayment, LedgerError> {
    Ok(StoredPayment {
        state_id: state_id(row)?,
        sequence: unsigned(row, "sequence")?,
        binding: binding(row)?,
        units: unsigned(row, "units")?,
        answer: get(row, "answer")?,
    })
}

pub(super) fn payment(row: &SqliteRow) -> Result<PaymentRow, LedgerError> {
    Ok(PaymentRow {
        state_id: state_id(row)?,
        sequence: unsigned(row, "sequence")?,
        manifest_id: manifest_id(row)?,
        orchestrator: orchestrator(row)?,
        account: get(row, "account")?,
        auth_id: auth_id(row)?,
        job_type: job_type(row)?,
        num_tickets: unsigned(row, "num_tickets")?,
        face_value: parse(row, "face_value")?,
        win_prob: parse::<penstock_domain::Wei>(row, "win_prob")?.0,
        ticket_ev_wei: parse(row, "ticket_ev")?,
        units: unsigned(row, "units")?,
        fee_wei: parse(row, "fee")?,
        balance_wei: parse(row, "balance")?,
        charged_wei: penstock_domain::Wei::ZERO,
        auth_expiry: 0,
        first_nonce: unsigned(row, "first_nonce")?,
        last_nonce: unsigned(row, "last_nonce")?,
        recipient_rand_hash: parse_b256(&get::<String>(row, "recipient_rand_hash")?)
            .ok_or(LedgerError::Corrupt("recipient_rand_hash"))?,
        created_at_ms: get(row, "created_at_ms")?,
    })
}

fn binding(row: &SqliteRow) -> Result<Binding, LedgerError> {
    Ok(Binding {
        account: get(row, "account")?,
        auth_id: auth_id(row)?,
        orchestrator: orchestrator(row)?,
        app: get(row, "app")?,
        job_type: job_type(row)?,
        manifest: ManifestBinding { id: manifest_id(row)?, named: get(row, "manifest_named")? },
    })
}

fn state_id(row: &SqliteRow) -> Result<StateId, LedgerError> {
    StateId::new(get::<String>(row, "state_id")?).map_err(|_| LedgerError::Corrupt("state_id"))
}

fn manifest_id(row: &SqliteRow) -> Result<ManifestId, LedgerError> {
    ManifestId::new(get::<String>(row, "manifest_id")?)
        .map_err(|_| LedgerError::Corrupt("manifest_id"))
}

fn orchestrator(row: &SqliteRow) -> Result<penstock_domain::Address, LedgerError> {
    parse_address(&get::<String>(row, "orchestrator")?).ok_or(LedgerError::Corrupt("orchestrator"))
}

fn auth_id(row: &SqliteRow) -> Result<Option<AuthId>, LedgerError> {
    let text = get::<String>(row, "auth_id")?;
    if text.is_empty() {
        return Ok(None);
    }
    AuthId::new(text).map(Some).map_err(|_| LedgerError::Corrupt("auth_id"))
}

fn job_type(row: &SqliteRow) -> Result<BillingType, LedgerError> {
    parse(row, "job_type")
}

pub(super) fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, LedgerError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(|_| LedgerError::Corrupt(column))
}

pub(super) fn parse<T: FromStr>(row: &SqliteRow, column: &'static str) -> Result<T, LedgerError> {
    get::<String>(row, column)?.parse().map_err(|_| LedgerError::Corrupt(column))
}

pub(super) fn unsigned<T: TryFrom<i64>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, LedgerError> {
    T::try_from(get::<i64>(row, column)?).map_err(|_| LedgerError::Corrupt(column))
}
