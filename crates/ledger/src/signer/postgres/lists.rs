//! Reads: sessions, payments, totals, counters, usage.

use super::{Answer, open_batch::counter};
use crate::postgres::{bounded_pool::Lent, silence::Watch};
use crate::signer::{
    CounterKey, PaymentRow, Session, StoredPayment, Summary, UsageQuery,
    decode::{self, SESSION_COLUMNS, signed, stored_columns},
    plan::summary_of,
    usage::{DAY_MS, UsageRow, send_rows},
};
use penstock_domain::{StateId, Wei};
use sqlx::AssertSqlSafe;
use std::collections::HashMap;
use tokio::sync::mpsc;

pub async fn sessions_by_id(mut reader: Lent, ids: &[StateId]) -> Answer<Vec<Session>> {
    let ids: Vec<&str> = ids.iter().map(StateId::as_str).collect();
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {SESSION_COLUMNS} FROM sessions WHERE state_id = ANY($1)"
    )))
    .bind(ids)
    .fetch_all(&mut *reader)
    .await?;
    rows.iter().map(decode::session).collect()
}

pub async fn payment(
    mut reader: Lent,
    id: &StateId,
    sequence: u64,
) -> Answer<Option<StoredPayment>> {
    let row = sqlx::query(concat!(
        "SELECT ",
        stored_columns!(),
        " FROM payments p JOIN sessions s ON s.state_id = p.state_id \
         WHERE p.state_id = $1 AND p.sequence = $2"
    ))
    .bind(id.as_str())
    .bind(signed(sequence))
    .fetch_optional(&mut *reader)
    .await?;
    row.as_ref().map(decode::stored).transpose()
}

pub async fn first_payment(
    mut reader: Lent,
    account: &str,
    key: &str,
) -> Answer<Option<StoredPayment>> {
    let row = sqlx::query(concat!(
        "SELECT ",
        stored_columns!(),
        " FROM sessions s JOIN payments p ON p.state_id = s.state_id AND p.sequence = 0 \
         WHERE s.account = $1 AND s.idempotency_key = $2"
    ))
    .bind(account)
    .bind(key)
    .fetch_optional(&mut *reader)
    .await?;
    row.as_ref().map(decode::stored).transpose()
}

pub async fn payments(mut reader: Lent, limit: u32) -> Answer<Vec<PaymentRow>> {
    let rows = sqlx::query(
        "SELECT p.state_id, p.sequence, p.manifest_id, s.orchestrator, p.account, p.auth_id, \
         p.job_type, p.num_tickets, p.face_value::text, p.win_prob::text, p.ticket_ev, p.units, \
         p.fee, p.balance, p.charged::text, p.auth_expiry, p.first_nonce, p.last_nonce, \
         p.recipient_rand_hash, p.created_at_ms \
         FROM payments p JOIN sessions s ON s.state_id = p.state_id ORDER BY p.id DESC LIMIT $1",
    )
    .bind(i64::from(limit))
    .fetch_all(&mut *reader)
    .await?;
    rows.iter().map(decode::payment).collect()
}

pub async fn sessions(mut reader: Lent, limit: u32) -> Answer<Vec<Session>> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {SESSION_COLUMNS} FROM sessions ORDER BY id DESC LIMIT $1"
    )))
    .bind(i64::from(limit))
    .fetch_all(&mut *reader)
    .await?;
    rows.iter().map(decode::session).collect()
}

pub async fn summary(mut reader: Lent) -> Answer<Summary> {
    let rows = sqlx::query(
        "SELECT denominator::text, payments, tickets, ticket_ev_parts::text, fee_parts::text \
         FROM totals",
    )
    .fetch_all(&mut *reader)
    .await?;
    summary_of(&rows.iter().map(decode::totals).collect::<Answer<Vec<_>>>()?)
}

pub async fn counters(mut reader: Lent, keys: &[CounterKey]) -> Answer<Vec<Wei>> {
    let names: Vec<&str> = keys.iter().map(CounterKey::as_str).collect();
    let rows = sqlx::query("SELECT key, charged::text FROM counters WHERE key = ANY($1)")
        .bind(names)
        .fetch_all(&mut *reader)
        .await?;
    let held: HashMap<CounterKey, Wei> = rows.iter().map(counter).collect::<Answer<_>>()?;
    Ok(keys.iter().map(|key| held.get(key).copied().unwrap_or(Wei::ZERO)).collect())
}

pub async fn usage(
    mut reader: Lent,
    watch: &Watch,
    query: &UsageQuery,
    lines: mpsc::Sender<UsageRow>,
) -> Answer<()> {
    // Payments that are alike are added up here, so that fewer rows come back.
    let found = sqlx::query(
        "SELECT account, auth_id, day, charged::text, ticket_ev, fee, tickets, payments, \
         denominator FROM (SELECT account, auth_id, created_at_ms / $1 AS day, charged, ticket_ev, \
         fee, num_tickets AS tickets, count(*) AS payments, '' AS denominator FROM payments \
         WHERE created_at_ms >= $2 AND created_at_ms < $3 AND ($4::text IS NULL OR account = $4) \
         GROUP BY 1, 2, 3, 4, 5, 6, 7 UNION ALL \
         SELECT account, auth_id, day, charged, ticket_ev_parts::text, fee_parts::text, tickets, \
         payments, denominator::text FROM usage_lines WHERE day * $1 >= $2 AND day * $1 < $3 \
         AND ($4::text IS NULL OR account = $4)) AS u \
         ORDER BY account COLLATE \"C\", auth_id COLLATE \"C\", day",
    )
    .bind(DAY_MS)
    .bind(query.from_ms)
    .bind(query.to_ms)
    .bind(query.account.as_deref())
    .fetch(&mut *reader);
    send_rows(found, lines, Some(watch)).await
}
