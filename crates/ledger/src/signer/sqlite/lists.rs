//! Reads: sessions, payments, totals, counters, usage.

use super::{Answer, json::list};
use crate::signer::{
    CounterKey, LedgerError, PaymentRow, Session, StoredPayment, Summary, UsageQuery,
    decode::{self, Fields, SESSION_COLUMNS, signed, stored_columns},
    plan::summary_of,
    usage::{DAY_MS, UsageRow, send_rows},
};
use penstock_domain::{StateId, Wei};
use sqlx::{AssertSqlSafe, SqlitePool};
use std::collections::HashMap;
use tokio::sync::mpsc;

pub async fn sessions_by_id(readers: &SqlitePool, ids: &[StateId]) -> Answer<Vec<Session>> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {SESSION_COLUMNS} FROM sessions \
         WHERE state_id IN (SELECT value FROM json_each(?))"
    )))
    .bind(list(ids))
    .fetch_all(readers)
    .await?;
    rows.iter().map(decode::session).collect()
}

pub async fn payment(
    readers: &SqlitePool,
    id: &StateId,
    sequence: u64,
) -> Answer<Option<StoredPayment>> {
    let row = sqlx::query(concat!(
        "SELECT ",
        stored_columns!(),
        " FROM payments p JOIN sessions s ON s.state_id = p.state_id \
         WHERE p.state_id = ? AND p.sequence = ?"
    ))
    .bind(id.as_str())
    .bind(signed(sequence))
    .fetch_optional(readers)
    .await?;
    row.as_ref().map(decode::stored).transpose()
}

pub async fn first_payment(
    readers: &SqlitePool,
    account: &str,
    key: &str,
) -> Answer<Option<StoredPayment>> {
    let row = sqlx::query(concat!(
        "SELECT ",
        stored_columns!(),
        " FROM sessions s JOIN payments p ON p.state_id = s.state_id AND p.sequence = 0 \
         WHERE s.account = ? AND s.idempotency_key = ?"
    ))
    .bind(account)
    .bind(key)
    .fetch_optional(readers)
    .await?;
    row.as_ref().map(decode::stored).transpose()
}

pub async fn payments(readers: &SqlitePool, limit: u32) -> Answer<Vec<PaymentRow>> {
    let rows = sqlx::query(
        "SELECT p.state_id, p.sequence, p.manifest_id, s.orchestrator, p.account, p.auth_id, \
         p.job_type, p.num_tickets, p.face_value, p.win_prob, p.ticket_ev, p.units, p.fee, \
         p.balance, p.charged, p.auth_expiry, p.first_nonce, p.last_nonce, p.recipient_rand_hash, \
         p.created_at_ms FROM payments p JOIN sessions s ON s.state_id = p.state_id \
         ORDER BY p.id DESC LIMIT ?",
    )
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.iter().map(decode::payment).collect()
}

pub async fn sessions(readers: &SqlitePool, limit: u32) -> Answer<Vec<Session>> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {SESSION_COLUMNS} FROM sessions ORDER BY id DESC LIMIT ?"
    )))
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.iter().map(decode::session).collect()
}

pub async fn summary(readers: &SqlitePool) -> Answer<Summary> {
    let rows = sqlx::query(
        "SELECT denominator, payments, tickets, ticket_ev_parts, fee_parts FROM totals",
    )
    .fetch_all(readers)
    .await?;
    summary_of(&rows.iter().map(decode::totals).collect::<Answer<Vec<_>>>()?)
}

pub async fn counters(readers: &SqlitePool, keys: &[CounterKey]) -> Answer<Vec<Wei>> {
    let rows = sqlx::query(
        "SELECT key, charged FROM counters WHERE key IN (SELECT value FROM json_each(?))",
    )
    .bind(serde_json::Value::from_iter(keys.iter().map(CounterKey::as_str)).to_string())
    .fetch_all(readers)
    .await?;
    let held: HashMap<CounterKey, Wei> = rows.iter().map(counter).collect::<Answer<_>>()?;
    Ok(keys.iter().map(|key| held.get(key).copied().unwrap_or(Wei::ZERO)).collect())
}

pub(super) fn counter(row: &impl Fields) -> Answer<(CounterKey, Wei)> {
    let key = CounterKey::from_books(row.text("key")?);
    Ok((key.ok_or(LedgerError::Corrupt("counter"))?, decode::parse(row, "charged")?))
}

pub async fn usage(
    readers: &SqlitePool,
    query: &UsageQuery,
    lines: mpsc::Sender<UsageRow>,
) -> Answer<()> {
    // Payments that are alike are added up here, so that fewer rows come back.
    let found = sqlx::query(
        "SELECT account, auth_id, created_at_ms / ?1 AS day, charged, ticket_ev, fee, \
         num_tickets AS tickets, count(*) AS payments, '' AS denominator FROM payments \
         WHERE created_at_ms >= ?2 AND created_at_ms < ?3 AND (?4 IS NULL OR account = ?4) \
         GROUP BY 1, 2, 3, 4, 5, 6, 7 UNION ALL \
         SELECT account, auth_id, day, charged, ticket_ev_parts, fee_parts, tickets, payments, \
         denominator FROM usage_lines WHERE day * ?1 >= ?2 AND day * ?1 < ?3 \
         AND (?4 IS NULL OR account = ?4) ORDER BY 1, 2, 3",
    )
    .bind(DAY_MS)
    .bind(query.from_ms)
    .bind(query.to_ms)
    .bind(query.account.as_deref())
    .fetch(readers);
    send_rows(found, lines, None).await
}
