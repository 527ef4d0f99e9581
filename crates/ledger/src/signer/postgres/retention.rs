//! Old rows: answers that shrink, payments that become lines of usage.

use super::{Answer, Tx};
use crate::postgres::bounded_pool::Lent;
use crate::signer::{
    CounterKey, LedgerError, PrunedLine,
    decode::{self, old_payment_columns, signed},
    engine::store::OldAnswer,
    plan::{Line, LineKey, OldPayment},
    retention::Mark,
};
use std::collections::{BTreeMap, BTreeSet};

/// `None`: another replica has it.
pub async fn mark(tx: &mut Tx) -> Answer<Option<Mark>> {
    let row = sqlx::query(
        "SELECT answers_at_ms, answers_id, before_ms, payments, tickets FROM retention \
         FOR UPDATE SKIP LOCKED",
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(decode::mark).transpose()
}

pub async fn set_mark(tx: &mut Tx, mark: &Mark) -> Answer<()> {
    sqlx::query(
        "UPDATE retention SET answers_at_ms = $1, answers_id = $2, before_ms = $3, payments = $4, \
         tickets = $5",
    )
    .bind(mark.answers.0)
    .bind(mark.answers.1)
    .bind(mark.pruned.before_ms)
    .bind(signed(mark.pruned.payments))
    .bind(signed(mark.pruned.tickets))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn answers_after(
    tx: &mut Tx,
    (at_ms, id): (i64, i64),
    before_ms: i64,
    limit: u32,
) -> Answer<Vec<OldAnswer>> {
    let rows = sqlx::query(
        "SELECT id, created_at_ms, answer FROM payments \
         WHERE (created_at_ms, id) > ($1, $2) AND created_at_ms >= $1 AND created_at_ms < $3 \
         ORDER BY created_at_ms, id LIMIT $4",
    )
    .bind(at_ms)
    .bind(id)
    .bind(before_ms)
    .bind(i64::from(limit))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(decode::old_answer).collect()
}

pub async fn put_answers(tx: &mut Tx, answers: &[(i64, Vec<u8>)]) -> Answer<()> {
    let (ids, answers): (Vec<i64>, Vec<&[u8]>) =
        answers.iter().map(|(id, answer)| (*id, answer.as_slice())).unzip();
    sqlx::query(
        "UPDATE payments p SET answer = j.answer \
         FROM UNNEST($1::bigint[], $2::bytea[]) AS j (id, answer) WHERE p.id = j.id",
    )
    .bind(ids)
    .bind(answers)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn payments_before(tx: &mut Tx, before_ms: i64, limit: u32) -> Answer<Vec<OldPayment>> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        old_payment_columns!(),
        ", p.charged::text FROM payments p JOIN sessions s ON s.state_id = p.state_id \
         WHERE p.created_at_ms < $1 ORDER BY p.created_at_ms, p.id LIMIT $2"
    ))
    .bind(before_ms)
    .bind(i64::from(limit))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(decode::old_payment).collect()
}

pub async fn add_lines(tx: &mut Tx, lines: &BTreeMap<LineKey, Line>) -> Answer<()> {
    let keys: Vec<&LineKey> = lines.keys().collect();
    let sums: Vec<&Line> = lines.values().collect();
    sqlx::query(
        "INSERT INTO usage_lines AS u (day, account, auth_id, denominator, payments, tickets, \
         charged, ticket_ev_parts, fee_parts) SELECT day, account, auth_id, denominator::numeric, \
         payments, tickets, charged::numeric, ev::numeric, fee::numeric FROM UNNEST($1::bigint[], \
         $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], \
         $9::text[]) AS j (day, account, auth_id, denominator, payments, tickets, charged, ev, fee) \
         ON CONFLICT (day, account, auth_id, denominator) DO UPDATE SET \
         payments = u.payments + excluded.payments, tickets = u.tickets + excluded.tickets, \
         charged = u.charged + excluded.charged, \
         ticket_ev_parts = u.ticket_ev_parts + excluded.ticket_ev_parts, \
         fee_parts = u.fee_parts + excluded.fee_parts",
    )
    .bind(keys.iter().map(|k| k.day).collect::<Vec<_>>())
    .bind(keys.iter().map(|k| k.account.as_str()).collect::<Vec<_>>())
    .bind(keys.iter().map(|k| k.auth_id.as_str()).collect::<Vec<_>>())
    .bind(keys.iter().map(|k| k.denominator.as_str()).collect::<Vec<_>>())
    .bind(sums.iter().map(|l| signed(l.totals.payments)).collect::<Vec<_>>())
    .bind(sums.iter().map(|l| signed(l.totals.tickets)).collect::<Vec<_>>())
    .bind(sums.iter().map(|l| l.charged_wei.to_string()).collect::<Vec<_>>())
    .bind(sums.iter().map(|l| l.totals.ticket_ev_parts.to_string()).collect::<Vec<_>>())
    .bind(sums.iter().map(|l| l.totals.fee_parts.to_string()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn drop_payments(tx: &mut Tx, old: &[OldPayment], before_ms: i64) -> Answer<()> {
    let ids: Vec<i64> = old.iter().map(|payment| payment.id).collect();
    let count = ids.len();
    let dropped =
        sqlx::query("DELETE FROM payments WHERE id = ANY($1)").bind(ids).execute(&mut **tx).await?;
    if usize::try_from(dropped.rows_affected()).ok() != Some(count) {
        // The mark's row is ours, so that nobody else should have.
        return Err(LedgerError::Corrupt("payments that went while they were pruned"));
    }
    // Whoever comes with that key begins a new session: there is no first answer to repeat.
    let first = old.iter().filter(|payment| payment.sequence == 0);
    let first: Vec<&str> = first.map(|payment| payment.state_id.as_str()).collect();
    let states: BTreeSet<&str> = old.iter().map(|payment| payment.state_id.as_str()).collect();
    let states: Vec<&str> = states.into_iter().collect();
    // Locked in the order of their keys, as by payments.
    sqlx::query(
        "SELECT 1 FROM sessions WHERE state_id = ANY($1) ORDER BY state_id COLLATE \"C\" FOR UPDATE",
    )
    .bind(&states)
    .fetch_all(&mut **tx)
    .await?;
    sqlx::query("UPDATE sessions SET idempotency_key = NULL WHERE state_id = ANY($1)")
        .bind(first)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "DELETE FROM sessions s WHERE state_id = ANY($1) AND last_update_ns < $2 \
         AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.state_id = s.state_id) \
         AND NOT EXISTS (SELECT 1 FROM reservations r WHERE r.state_id = s.state_id)",
    )
    .bind(&states)
    .bind(before_ms.saturating_mul(1_000_000))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn drop_counters(tx: &mut Tx, keys: &[CounterKey]) -> Answer<()> {
    let keys: Vec<&str> = keys.iter().map(CounterKey::as_str).collect();
    sqlx::query("DELETE FROM counters WHERE key = ANY($1)").bind(keys).execute(&mut **tx).await?;
    Ok(())
}

pub async fn read_mark(mut reader: Lent) -> Answer<Option<Mark>> {
    let row = sqlx::query(
        "SELECT answers_at_ms, answers_id, before_ms, payments, tickets FROM retention",
    )
    .fetch_optional(&mut *reader)
    .await?;
    row.as_ref().map(decode::mark).transpose()
}

pub async fn lines_after(mut reader: Lent, after: i64, limit: u32) -> Answer<Vec<PrunedLine>> {
    let rows = sqlx::query(
        "SELECT n, account, auth_id, day, charged::text FROM usage_lines WHERE n > $1 \
         ORDER BY n LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(&mut *reader)
    .await?;
    rows.iter().map(decode::pruned_line).collect()
}
