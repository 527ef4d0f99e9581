//! Old rows: answers that shrink, payments that become lines of usage.

use super::Answer;
use crate::signer::{
    CounterKey, LedgerError, PrunedLine,
    decode::{self, old_payment_columns, signed},
    engine::store::OldAnswer,
    plan::{Line, LineKey, OldPayment},
    retention::Mark,
};
use crate::sqlite::writer::{Tx, all, find};
use penstock_domain::Wei;
use rusqlite::params;
use sqlx::SqlitePool;
use std::collections::{BTreeMap, BTreeSet};

pub fn mark(tx: &Tx) -> Answer<Option<Mark>> {
    let mut mark = tx.prepare_cached(
        "SELECT answers_at_ms, answers_id, before_ms, payments, tickets FROM retention",
    )?;
    find(&mut mark, [], |row| decode::mark(row))
}

pub fn set_mark(tx: &Tx, mark: &Mark) -> Answer<()> {
    tx.prepare_cached(
        "UPDATE retention SET answers_at_ms = ?, answers_id = ?, before_ms = ?, payments = ?, \
         tickets = ?",
    )?
    .execute(params![
        mark.answers.0,
        mark.answers.1,
        mark.pruned.before_ms,
        signed(mark.pruned.payments),
        signed(mark.pruned.tickets),
    ])?;
    Ok(())
}

pub fn answers_after(
    tx: &Tx,
    (at_ms, id): (i64, i64),
    before_ms: i64,
    limit: u32,
) -> Answer<Vec<OldAnswer>> {
    let mut old = tx.prepare_cached(
        "SELECT id, created_at_ms, answer FROM payments \
         WHERE (created_at_ms, id) > (?1, ?2) AND created_at_ms >= ?1 AND created_at_ms < ?3 \
         ORDER BY created_at_ms, id LIMIT ?4",
    )?;
    all(&mut old, params![at_ms, id, before_ms, limit], |row| decode::old_answer(row))
}

pub fn put_answers(tx: &Tx, answers: &[(i64, Vec<u8>)]) -> Answer<()> {
    let mut put = tx.prepare_cached("UPDATE payments SET answer = ? WHERE id = ?")?;
    for (id, answer) in answers {
        put.execute(params![answer, id])?;
    }
    Ok(())
}

pub fn payments_before(tx: &Tx, before_ms: i64, limit: u32) -> Answer<Vec<OldPayment>> {
    let mut old = tx.prepare_cached(concat!(
        "SELECT ",
        old_payment_columns!(),
        ", p.charged FROM payments p JOIN sessions s ON s.state_id = p.state_id \
         WHERE p.created_at_ms < ? ORDER BY p.created_at_ms, p.id LIMIT ?"
    ))?;
    all(&mut old, params![before_ms, limit], |row| decode::old_payment(row))
}

pub fn add_lines(tx: &Tx, lines: &BTreeMap<LineKey, Line>) -> Answer<()> {
    let mut old = tx.prepare_cached(
        "SELECT denominator, payments, tickets, ticket_ev_parts, fee_parts, charged \
         FROM usage_lines WHERE day = ? AND account = ? AND auth_id = ? AND denominator = ?",
    )?;
    let mut set = tx.prepare_cached(
        "INSERT INTO usage_lines (day, account, auth_id, denominator, payments, tickets, charged, \
         ticket_ev_parts, fee_parts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (day, account, auth_id, denominator) DO UPDATE SET \
         payments = excluded.payments, tickets = excluded.tickets, charged = excluded.charged, \
         ticket_ev_parts = excluded.ticket_ev_parts, fee_parts = excluded.fee_parts",
    )?;
    for (key, add) in lines {
        let LineKey { day, account, auth_id, denominator } = key;
        let place = params![day, account, auth_id, denominator];
        let old = find(&mut old, place, |row| {
            let (_, totals) = decode::totals(row)?;
            Answer::Ok((totals, decode::parse::<Wei>(row, "charged")?))
        })?;
        let (mut sum, charged) = old.unwrap_or_default();
        sum.add(&add.totals);
        let charged = charged.checked_add(add.charged_wei);
        let charged = charged.ok_or(LedgerError::Corrupt("sum of charges"))?;
        set.execute(params![
            day,
            account,
            auth_id,
            denominator,
            signed(sum.payments),
            signed(sum.tickets),
            charged.to_string(),
            sum.ticket_ev_parts.to_string(),
            sum.fee_parts.to_string(),
        ])?;
    }
    Ok(())
}

pub fn drop_payments(tx: &Tx, old: &[OldPayment], before_ms: i64) -> Answer<()> {
    let mut drop = tx.prepare_cached("DELETE FROM payments WHERE id = ?")?;
    for payment in old {
        drop.execute([payment.id])?;
    }
    // Whoever comes with that key begins a new session: there is no first answer to repeat.
    let mut free_key =
        tx.prepare_cached("UPDATE sessions SET idempotency_key = NULL WHERE state_id = ?")?;
    for payment in old.iter().filter(|payment| payment.sequence == 0) {
        free_key.execute([payment.state_id.as_str()])?;
    }
    let mut end = tx.prepare_cached(
        "DELETE FROM sessions WHERE state_id = ?1 AND last_update_ns < ?2 \
         AND NOT EXISTS (SELECT 1 FROM payments WHERE state_id = ?1) \
         AND NOT EXISTS (SELECT 1 FROM reservations WHERE state_id = ?1)",
    )?;
    let states: BTreeSet<&str> = old.iter().map(|payment| payment.state_id.as_str()).collect();
    for state in states {
        end.execute(params![state, before_ms.saturating_mul(1_000_000)])?;
    }
    Ok(())
}

pub fn drop_counters(tx: &Tx, keys: &[CounterKey]) -> Answer<()> {
    let mut drop = tx.prepare_cached("DELETE FROM counters WHERE key = ?")?;
    for key in keys {
        drop.execute([key.as_str()])?;
    }
    Ok(())
}

pub async fn read_mark(readers: &SqlitePool) -> Answer<Option<Mark>> {
    let row = sqlx::query(
        "SELECT answers_at_ms, answers_id, before_ms, payments, tickets FROM retention",
    )
    .fetch_optional(readers)
    .await?;
    row.as_ref().map(decode::mark).transpose()
}

pub async fn lines_after(readers: &SqlitePool, after: i64, limit: u32) -> Answer<Vec<PrunedLine>> {
    let rows = sqlx::query(
        "SELECT n, account, auth_id, day, charged FROM usage_lines WHERE n > ? ORDER BY n LIMIT ?",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.iter().map(decode::pruned_line).collect()
}
