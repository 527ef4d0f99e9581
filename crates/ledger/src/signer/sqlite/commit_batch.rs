//! Payments: the rows that a batch rests on, and its changes.

use super::{
    Answer, Tx, hash_text,
    json::{Blobs, Rows, list},
    open_batch::{counters, end_reservations, places_json, set_counters},
};
use crate::signer::{
    LedgerError, NewPayment, Session,
    decode::{self, Fields, SESSION_COLUMNS, auth_text, held_columns, signed, stored_columns},
    engine::store::Applied,
    plan::{Change, CommitPlan, CommitRead, Totals, places_of},
};
use penstock_domain::{StateId, address_lower};
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, HashMap};

pub async fn read(tx: &mut Tx, batch: &[NewPayment]) -> Answer<CommitRead> {
    let rows = sqlx::query(concat!(
        "SELECT amount, ",
        held_columns!(),
        " FROM reservations WHERE id IN (SELECT unhex(value) FROM json_each(?))"
    ))
    .bind(list(batch.iter().map(|p| p.reservation.id)))
    .fetch_all(&mut **tx)
    .await?;
    let reservations = rows.iter().map(|row| decode::held(row).map(|held| (held.id, held)));
    let mut read =
        CommitRead { reservations: reservations.collect::<Answer<_>>()?, ..Default::default() };
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {SESSION_COLUMNS} FROM sessions \
         WHERE state_id IN (SELECT value FROM json_each(?))"
    )))
    .bind(list(batch.iter().map(|p| &p.state_id)))
    .fetch_all(&mut **tx)
    .await?;
    for row in &rows {
        let session = decode::session(row)?;
        read.sessions.insert(session.state_id.clone(), session);
    }
    read.by_key = read_keys(tx, batch).await?;
    let places = places_of(batch, &read);
    if !places.is_empty() {
        let rows = sqlx::query(concat!(
            "SELECT p.reservation_id, p.balance, ",
            stored_columns!(),
            " FROM json_each(?) j \
             JOIN payments p ON p.state_id = j.value ->> 0 AND p.sequence = j.value ->> 1 \
             JOIN sessions s ON s.state_id = p.state_id"
        ))
        .bind(places_json(&places))
        .fetch_all(&mut **tx)
        .await?;
        for row in &rows {
            let placed = decode::placed(row)?;
            let place = (placed.payment.state_id.clone(), placed.payment.sequence);
            read.placed.insert(place, placed);
        }
    }
    Ok(read)
}

async fn read_keys(
    tx: &mut Tx,
    batch: &[NewPayment],
) -> Answer<HashMap<(String, String), StateId>> {
    let mut keys = Rows::new();
    let mut any = false;
    for payment in batch {
        let key = payment.new_session.as_ref().and_then(|new| new.idempotency_key.as_deref());
        if let Some(key) = key {
            keys.row().text(&payment.binding.account).text(key);
            any = true;
        }
    }
    if !any {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(
        "SELECT s.account, s.idempotency_key, s.state_id FROM json_each(?) j \
         JOIN sessions s ON s.account = j.value ->> 0 AND s.idempotency_key = j.value ->> 1",
    )
    .bind(keys.finish())
    .fetch_all(&mut **tx)
    .await?;
    let entry = |row: &sqlx::sqlite::SqliteRow| {
        Ok(((row.text("account")?, row.text("idempotency_key")?), decode::state_id(row)?))
    };
    rows.iter().map(entry).collect()
}

pub async fn apply(
    tx: &mut Tx,
    batch: &[NewPayment],
    plan: &CommitPlan,
    writer: &str,
) -> Answer<Applied> {
    let mut complete = true;
    if !plan.new_sessions.is_empty() {
        complete &= insert_sessions(tx, plan).await? == plan.new_sessions.len() as u64;
    }
    if !plan.advanced.is_empty() {
        complete &= advance_sessions(tx, plan).await? == plan.advanced.len() as u64;
    }
    if !complete {
        return Ok(Applied::Stale);
    }
    if !plan.payments.is_empty() {
        insert_payments(tx, batch, plan).await?;
        insert_events(tx, batch, plan).await?;
        let before = read_totals(tx, writer, plan.totals.keys()).await?;
        set_totals(tx, writer, &plan.totals, &before).await?;
    }
    let ended = end_reservations(tx, plan.ended.iter()).await?;
    complete &= ended == plan.ended.len() as u64;
    if !plan.refunds.is_empty() {
        let keys = plan.refunds.keys().cloned().collect();
        let held = counters(tx, &keys).await?;
        let change = |(key, refund): (&crate::signer::CounterKey, _)| {
            let old = held.get(key).copied().ok_or(LedgerError::Corrupt("counter"))?;
            let new = old.checked_sub(refund).ok_or(LedgerError::Corrupt("counter"))?;
            Ok((key.clone(), Change { old: Some(old), new }))
        };
        let changes = plan.refunds.iter().map(|(key, refund)| change((key, *refund)));
        set_counters(tx, &changes.collect::<Answer<_>>()?).await?;
    }
    Ok(if complete { Applied::Done } else { Applied::Stale })
}

fn session_row(rows: &mut Rows, session: &Session) {
    let binding = &session.binding;
    rows.row()
        .plain(&session.state_id)
        .text(&auth_text(binding.auth_id.as_ref()))
        .plain(binding.job_type.as_str())
        .text(binding.manifest.id.as_str())
        .int(binding.manifest.named.into())
        .int(signed(session.sequence))
        .int(session.last_update_ns)
        .int(signed(session.tickets))
        .plain(&session.ticket_ev_total_wei)
        .plain(&session.fee_total_wei)
        .plain(&session.balance_wei);
}

async fn insert_sessions(tx: &mut Tx, plan: &CommitPlan) -> Answer<u64> {
    let mut rows = Rows::new();
    for (session, key) in plan.new_sessions.values() {
        session_row(&mut rows, session);
        rows.text(&session.binding.account)
            .optional_text(key.as_deref())
            .plain(address_lower(&session.binding.orchestrator))
            .text(&session.binding.app)
            .int(session.initial_price.price_per_unit())
            .int(session.initial_price.pixels_per_unit())
            .int(session.created_at_ms);
    }
    let done = sqlx::query(
        "INSERT INTO sessions (state_id, auth_id, job_type, manifest_id, manifest_named, sequence, \
         last_update_ns, tickets, ticket_ev_total, fee_total, balance, account, idempotency_key, \
         orchestrator, app, initial_price_per_unit, initial_pixels_per_unit, created_at_ms) \
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, \
         value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, \
         value ->> 12, value ->> 13, value ->> 14, value ->> 15, value ->> 16, value ->> 17 \
         FROM json_each(?) WHERE true ON CONFLICT DO NOTHING",
    )
    .bind(rows.finish())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

async fn advance_sessions(tx: &mut Tx, plan: &CommitPlan) -> Answer<u64> {
    let mut rows = Rows::new();
    for (before, session) in plan.advanced.values() {
        session_row(&mut rows, session);
        rows.int(signed(*before));
    }
    let done = sqlx::query(
        "UPDATE sessions SET auth_id = j.value ->> 1, job_type = j.value ->> 2, \
         manifest_id = j.value ->> 3, manifest_named = j.value ->> 4, sequence = j.value ->> 5, \
         last_update_ns = j.value ->> 6, tickets = j.value ->> 7, ticket_ev_total = j.value ->> 8, \
         fee_total = j.value ->> 9, balance = j.value ->> 10 FROM json_each(?) j \
         WHERE sessions.state_id = j.value ->> 0 AND sessions.sequence = j.value ->> 11",
    )
    .bind(rows.finish())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

async fn insert_payments(tx: &mut Tx, batch: &[NewPayment], plan: &CommitPlan) -> Answer<()> {
    let mut rows = Rows::new();
    let mut answers = Blobs::default();
    for row in &plan.payments {
        let Some(payment) = batch.get(row.from) else { continue };
        let (binding, nonces) = (&payment.binding, &payment.reservation.nonces);
        let (start, length) = answers.push(&payment.answer);
        rows.row()
            .plain(&payment.state_id)
            .int(signed(payment.sequence))
            .plain(payment.reservation.id)
            .text(&binding.account)
            .text(&auth_text(binding.auth_id.as_ref()))
            .plain(binding.job_type.as_str())
            .text(binding.manifest.id.as_str())
            .int(binding.manifest.named.into())
            .plain(hash_text(&nonces.recipient_rand_hash))
            .int(nonces.first.into())
            .int(nonces.last.into())
            .int(nonces.count().into())
            .plain(payment.face_value)
            .plain(payment.win_prob)
            .plain(&payment.ticket_ev_wei)
            .int(signed(payment.units))
            .plain(&payment.fee_wei)
            .plain(&row.balance_wei)
            .plain(payment.charged_wei)
            .int(payment.auth_expiry)
            .int(payment.now_ns.div_euclid(1_000_000))
            .int(start)
            .int(length);
    }
    sqlx::query(
        "INSERT INTO payments (state_id, sequence, reservation_id, account, auth_id, job_type, \
         manifest_id, manifest_named, recipient_rand_hash, first_nonce, last_nonce, num_tickets, \
         face_value, win_prob, ticket_ev, units, fee, balance, charged, auth_expiry, \
         created_at_ms, answer) \
         SELECT value ->> 0, value ->> 1, unhex(value ->> 2), value ->> 3, value ->> 4, \
         value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, \
         value ->> 11, value ->> 12, value ->> 13, value ->> 14, value ->> 15, value ->> 16, \
         value ->> 17, value ->> 18, value ->> 19, value ->> 20, \
         substr(?2, value ->> 21, value ->> 22) FROM json_each(?1)",
    )
    .bind(rows.finish())
    .bind(answers.finish())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_events(tx: &mut Tx, batch: &[NewPayment], plan: &CommitPlan) -> Answer<()> {
    let mut rows = Rows::new();
    let mut payloads = Blobs::default();
    let mut any = false;
    for payment in plan.payments.iter().filter_map(|row| batch.get(row.from)) {
        let Some(event) = &payment.event else { continue };
        let (start, length) = payloads.push(&event.payload);
        rows.row()
            .plain(event.id.simple())
            .plain(&payment.state_id)
            .int(signed(payment.sequence))
            .int(payment.now_ns.div_euclid(1_000_000))
            .int(start)
            .int(length);
        any = true;
    }
    if !any {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO outbox (id, state_id, sequence, created_at_ms, payload) \
         SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, \
         substr(?2, value ->> 4, value ->> 5) FROM json_each(?1) WHERE true \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(rows.finish())
    .bind(payloads.finish())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn read_totals(
    tx: &mut Tx,
    writer: &str,
    denominators: impl Iterator<Item = &String>,
) -> Answer<HashMap<String, Totals>> {
    let rows = sqlx::query(
        "SELECT denominator, payments, tickets, ticket_ev_parts, fee_parts FROM totals \
         WHERE writer = ? AND denominator IN (SELECT value FROM json_each(?))",
    )
    .bind(writer)
    .bind(list(denominators))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(decode::totals).collect()
}

pub(super) async fn set_totals(
    tx: &mut Tx,
    writer: &str,
    added: &BTreeMap<String, Totals>,
    before: &HashMap<String, Totals>,
) -> Answer<()> {
    let mut rows = Rows::new();
    for (denominator, add) in added {
        let old = before.get(denominator).cloned().unwrap_or_default();
        rows.row()
            .plain(denominator)
            .int(signed(old.payments.saturating_add(add.payments)))
            .int(signed(old.tickets.saturating_add(add.tickets)))
            .plain(&old.ticket_ev_parts + &add.ticket_ev_parts)
            .plain(&old.fee_parts + &add.fee_parts);
    }
    sqlx::query(
        "INSERT INTO totals (writer, denominator, payments, tickets, ticket_ev_parts, fee_parts) \
         SELECT ?2, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 \
         FROM json_each(?1) WHERE true ON CONFLICT (writer, denominator) DO UPDATE SET \
         payments = excluded.payments, tickets = excluded.tickets, \
         ticket_ev_parts = excluded.ticket_ev_parts, fee_parts = excluded.fee_parts",
    )
    .bind(rows.finish())
    .bind(writer)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
