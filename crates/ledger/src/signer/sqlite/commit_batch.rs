//! Payments: the rows that a batch rests on, and its changes.

use super::{
    Answer, hash_text,
    open_batch::{counters, end_reservations, held, set_counters},
};
use crate::signer::{
    LedgerError, NewPayment, Session,
    decode::{self, SESSION_COLUMNS, signed, stored_columns},
    engine::store::Applied,
    plan::{Change, CommitPlan, CommitRead, Placed, Totals, places_of},
};
use crate::sqlite::writer::{Tx, find};
use penstock_domain::{StateId, address_lower};
use rusqlite::params;
use std::collections::{BTreeMap, HashMap};

pub fn read(tx: &Tx, batch: &[NewPayment], known: CommitRead) -> Answer<CommitRead> {
    let mut read = known;
    let ids = batch.iter().map(|payment| &payment.reservation.id);
    let unknown: Vec<_> = ids.filter(|id| !read.reservations.contains_key(id)).collect();
    read.reservations.extend(held(tx, unknown.into_iter())?);
    read_sessions(tx, batch, &mut read.sessions)?;
    read.by_key = read_keys(tx, batch)?;
    read.placed = read_placed(tx, places_of(batch, &read))?;
    Ok(read)
}

fn read_sessions(
    tx: &Tx,
    batch: &[NewPayment],
    sessions: &mut HashMap<StateId, Session>,
) -> Answer<()> {
    let mut by_id =
        tx.prepare_cached(&format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE state_id = ?"))?;
    for id in batch.iter().map(|payment| &payment.state_id) {
        if sessions.contains_key(id) {
            continue;
        }
        if let Some(session) = find(&mut by_id, [id.as_str()], |row| decode::session(row))? {
            sessions.insert(id.clone(), session);
        }
    }
    Ok(())
}

fn read_keys(tx: &Tx, batch: &[NewPayment]) -> Answer<HashMap<(String, String), StateId>> {
    let mut keys = HashMap::new();
    for payment in batch {
        let key = payment.new_session.as_ref().and_then(|new| new.idempotency_key.as_deref());
        let Some(key) = key else { continue };
        let account = &payment.binding.account;
        let mut by_key = tx.prepare_cached(
            "SELECT state_id FROM sessions WHERE account = ? AND idempotency_key = ?",
        )?;
        if let Some(id) = find(&mut by_key, params![account, key], |row| decode::state_id(row))? {
            keys.insert((account.clone(), key.to_owned()), id);
        }
    }
    Ok(keys)
}

fn read_placed(tx: &Tx, places: Vec<(StateId, u64)>) -> Answer<HashMap<(StateId, u64), Placed>> {
    let mut placed = HashMap::new();
    let mut by_place = tx.prepare_cached(concat!(
        "SELECT p.reservation_id, p.balance, ",
        stored_columns!(),
        " FROM payments p JOIN sessions s ON s.state_id = p.state_id \
         WHERE p.state_id = ? AND p.sequence = ?"
    ))?;
    for (state_id, sequence) in places {
        let key = params![state_id.as_str(), signed(sequence)];
        if let Some(found) = find(&mut by_place, key, |row| decode::placed(row))? {
            placed.insert((state_id, sequence), found);
        }
    }
    Ok(placed)
}

pub fn apply(tx: &Tx, batch: &[NewPayment], plan: &CommitPlan, writer: &str) -> Answer<Applied> {
    if !(insert_sessions(tx, plan)? && advance_sessions(tx, plan)?) {
        return Ok(Applied::Stale);
    }
    insert_payments(tx, batch, plan)?;
    insert_events(tx, batch, plan)?;
    add_to_totals(tx, writer, &plan.totals)?;
    let complete = end_reservations(tx, plan.ended.iter())?;
    if !plan.refunds.is_empty() {
        let held = counters(tx, &plan.refunds.keys().cloned().collect())?;
        let change = |(key, refund): (&crate::signer::CounterKey, _)| {
            let old = held.get(key).copied().ok_or(LedgerError::Corrupt("counter"))?;
            let new = old.checked_sub(refund).ok_or(LedgerError::Corrupt("counter"))?;
            Ok((key.clone(), Change { old: Some(old), new }))
        };
        let changes = plan.refunds.iter().map(|(key, refund)| change((key, *refund)));
        set_counters(tx, &changes.collect::<Answer<_>>()?)?;
    }
    Ok(if complete { Applied::Done } else { Applied::Stale })
}

/// No subject is the empty text.
fn subject(binding: &crate::signer::Binding) -> &str {
    binding.auth_id.as_ref().map_or("", |id| id.as_str())
}

fn insert_sessions(tx: &Tx, plan: &CommitPlan) -> Answer<bool> {
    let mut complete = true;
    let mut insert = tx.prepare_cached(
        "INSERT INTO sessions (state_id, account, idempotency_key, auth_id, orchestrator, app, \
         job_type, manifest_id, manifest_named, initial_price_per_unit, initial_pixels_per_unit, \
         sequence, last_update_ns, tickets, ticket_ev_total, fee_total, balance, created_at_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )?;
    for (session, key) in plan.new_sessions.values() {
        let binding = &session.binding;
        let inserted = insert.execute(params![
            session.state_id.as_str(),
            binding.account,
            key,
            subject(binding),
            address_lower(&binding.orchestrator),
            binding.app,
            binding.job_type.as_str(),
            binding.manifest.id.as_str(),
            binding.manifest.named,
            session.initial_price.price_per_unit(),
            session.initial_price.pixels_per_unit(),
            signed(session.sequence),
            session.last_update_ns,
            signed(session.tickets),
            session.ticket_ev_total_wei.to_string(),
            session.fee_total_wei.to_string(),
            session.balance_wei.to_string(),
            session.created_at_ms,
        ])?;
        complete &= inserted == 1;
    }
    Ok(complete)
}

fn advance_sessions(tx: &Tx, plan: &CommitPlan) -> Answer<bool> {
    let mut complete = true;
    let mut advance = tx.prepare_cached(
        "UPDATE sessions SET auth_id = ?, job_type = ?, manifest_id = ?, manifest_named = ?, \
         sequence = ?, last_update_ns = ?, tickets = ?, ticket_ev_total = ?, fee_total = ?, \
         balance = ? WHERE state_id = ? AND sequence = ?",
    )?;
    for (before, session) in plan.advanced.values() {
        let binding = &session.binding;
        let advanced = advance.execute(params![
            subject(binding),
            binding.job_type.as_str(),
            binding.manifest.id.as_str(),
            binding.manifest.named,
            signed(session.sequence),
            session.last_update_ns,
            signed(session.tickets),
            session.ticket_ev_total_wei.to_string(),
            session.fee_total_wei.to_string(),
            session.balance_wei.to_string(),
            session.state_id.as_str(),
            signed(*before),
        ])?;
        complete &= advanced == 1;
    }
    Ok(complete)
}

fn insert_payments(tx: &Tx, batch: &[NewPayment], plan: &CommitPlan) -> Answer<()> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO payments (state_id, sequence, reservation_id, account, auth_id, job_type, \
         manifest_id, manifest_named, recipient_rand_hash, first_nonce, last_nonce, num_tickets, \
         face_value, win_prob, ticket_ev, units, fee, balance, charged, auth_expiry, \
         created_at_ms, answer) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for row in &plan.payments {
        let Some(payment) = batch.get(row.from) else { continue };
        let (binding, nonces) = (&payment.binding, &payment.reservation.nonces);
        insert.execute(params![
            payment.state_id.as_str(),
            signed(payment.sequence),
            payment.reservation.id.0,
            binding.account,
            subject(binding),
            binding.job_type.as_str(),
            binding.manifest.id.as_str(),
            binding.manifest.named,
            hash_text(&nonces.recipient_rand_hash),
            nonces.first,
            nonces.last,
            nonces.count(),
            payment.face_value.to_string(),
            payment.win_prob.to_string(),
            payment.ticket_ev_wei.to_string(),
            signed(payment.units),
            payment.fee_wei.to_string(),
            row.balance_wei.to_string(),
            payment.charged_wei.to_string(),
            payment.auth_expiry,
            payment.now_ns.div_euclid(1_000_000),
            payment.answer,
        ])?;
    }
    Ok(())
}

fn insert_events(tx: &Tx, batch: &[NewPayment], plan: &CommitPlan) -> Answer<()> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO outbox (id, state_id, sequence, created_at_ms, payload) \
         VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )?;
    for payment in plan.payments.iter().filter_map(|row| batch.get(row.from)) {
        let Some(event) = &payment.event else { continue };
        insert.execute(params![
            event.id.as_bytes(),
            payment.state_id.as_str(),
            signed(payment.sequence),
            payment.now_ns.div_euclid(1_000_000),
            event.payload,
        ])?;
    }
    Ok(())
}

pub fn add_to_totals(tx: &Tx, writer: &str, added: &BTreeMap<String, Totals>) -> Answer<()> {
    let mut old = tx.prepare_cached(
        "SELECT denominator, payments, tickets, ticket_ev_parts, fee_parts FROM totals \
         WHERE writer = ? AND denominator = ?",
    )?;
    let mut set = tx.prepare_cached(
        "INSERT INTO totals (writer, denominator, payments, tickets, ticket_ev_parts, fee_parts) \
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (writer, denominator) DO UPDATE SET \
         payments = excluded.payments, tickets = excluded.tickets, \
         ticket_ev_parts = excluded.ticket_ev_parts, fee_parts = excluded.fee_parts",
    )?;
    for (denominator, add) in added {
        let old = find(&mut old, [writer, denominator], |row| decode::totals(row))?;
        let mut sum = old.map(|(_, totals)| totals).unwrap_or_default();
        sum.add(add);
        set.execute(params![
            writer,
            denominator,
            signed(sum.payments),
            signed(sum.tickets),
            sum.ticket_ev_parts.to_string(),
            sum.fee_parts.to_string(),
        ])?;
    }
    Ok(())
}
