//! Payments: the rows that a batch rests on, locked in key order, and its changes in one statement.

use super::{
    Answer, Tx,
    open_batch::{columns_of, counters},
    or_stale,
};
use crate::signer::{
    NewPayment, Session,
    decode::{self, Fields, SESSION_COLUMNS, auth_text, held_columns, signed, stored_columns},
    engine::store::Applied,
    plan::{CommitPlan, CommitRead, places_of},
};
use penstock_domain::{StateId, address_lower};
use sqlx::{AssertSqlSafe, Postgres, Row, postgres::PgArguments, query::Query};
use std::collections::HashMap;

pub async fn read(tx: &mut Tx, batch: &[NewPayment], known: CommitRead) -> Answer<CommitRead> {
    let mut read = known;
    let ids = batch.iter().map(|payment| &payment.reservation.id);
    let ids = ids.filter(|id| !read.reservations.contains_key(id));
    let ids: Vec<Vec<u8>> = ids.map(|id| id.0.to_vec()).collect();
    if !ids.is_empty() {
        let rows = sqlx::query(concat!(
            "SELECT amount::text, ",
            held_columns!(),
            " FROM reservations WHERE id = ANY($1) ORDER BY id FOR UPDATE"
        ))
        .bind(ids)
        .fetch_all(&mut **tx)
        .await?;
        for row in &rows {
            let held = decode::held(row)?;
            read.reservations.insert(held.id, held);
        }
    }
    read_sessions(tx, batch, &mut read.sessions).await?;
    read.by_key = read_keys(tx, batch).await?;
    let places = places_of(batch, &read);
    if !places.is_empty() {
        let (ids, sequences) = columns_of(&places);
        let rows = sqlx::query(concat!(
            "SELECT p.reservation_id, p.balance, ",
            stored_columns!(),
            " FROM UNNEST($1::text[], $2::bigint[]) AS j (state_id, sequence) \
             JOIN payments p ON p.state_id = j.state_id AND p.sequence = j.sequence \
             JOIN sessions s ON s.state_id = p.state_id"
        ))
        .bind(ids)
        .bind(sequences)
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

/// All of them are locked, in the order of their keys; only unknown ones are read.
async fn read_sessions(
    tx: &mut Tx,
    batch: &[NewPayment],
    sessions: &mut HashMap<StateId, Session>,
) -> Answer<()> {
    let ids: Vec<&str> = batch.iter().map(|payment| payment.state_id.as_str()).collect();
    if batch.iter().all(|payment| sessions.contains_key(&payment.state_id)) {
        sqlx::query(
            "SELECT count(*) FROM (SELECT 1 FROM sessions WHERE state_id = ANY($1) \
             ORDER BY state_id COLLATE \"C\" FOR NO KEY UPDATE) AS locked",
        )
        .bind(ids)
        .fetch_one(&mut **tx)
        .await?;
        return Ok(());
    }
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {SESSION_COLUMNS} FROM sessions WHERE state_id = ANY($1) \
         ORDER BY state_id COLLATE \"C\" FOR NO KEY UPDATE"
    )))
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?;
    for row in &rows {
        let session = decode::session(row)?;
        sessions.insert(session.state_id.clone(), session);
    }
    Ok(())
}

async fn read_keys(
    tx: &mut Tx,
    batch: &[NewPayment],
) -> Answer<HashMap<(String, String), StateId>> {
    let key_of = |payment: &NewPayment| {
        let key = payment.new_session.as_ref()?.idempotency_key.clone()?;
        Some((payment.binding.account.clone(), key))
    };
    let (accounts, keys): (Vec<_>, Vec<_>) = batch.iter().filter_map(key_of).unzip();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(
        "SELECT s.account, s.idempotency_key, s.state_id FROM \
         UNNEST($1::text[], $2::text[]) AS j (account, key) \
         JOIN sessions s ON s.account = j.account AND s.idempotency_key = j.key",
    )
    .bind(accounts)
    .bind(keys)
    .fetch_all(&mut **tx)
    .await?;
    let entry = |row: &sqlx::postgres::PgRow| {
        Ok(((row.text("account")?, row.text("idempotency_key")?), decode::state_id(row)?))
    };
    rows.iter().map(entry).collect()
}

/// All changes of a batch. Each part reports how many rows it changed.
const APPLY: &str = "WITH \
 opened AS (INSERT INTO sessions (state_id, auth_id, job_type, manifest_id, manifest_named, \
   sequence, last_update_ns, tickets, ticket_ev_total, fee_total, balance, account, \
   idempotency_key, orchestrator, app, initial_price_per_unit, initial_pixels_per_unit, \
   created_at_ms) SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], \
   $5::boolean[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[], \
   $12::text[], $13::text[], $14::text[], $15::text[], $16::bigint[], $17::bigint[], \
   $18::bigint[]) ON CONFLICT DO NOTHING RETURNING 1), \
 advanced AS (UPDATE sessions s SET auth_id = j.auth_id, job_type = j.job_type, \
   manifest_id = j.manifest_id, manifest_named = j.manifest_named, sequence = j.sequence, \
   last_update_ns = j.last_update_ns, tickets = j.tickets, ticket_ev_total = j.ticket_ev_total, \
   fee_total = j.fee_total, balance = j.balance FROM UNNEST($19::text[], $20::text[], \
   $21::text[], $22::text[], $23::boolean[], $24::bigint[], $25::bigint[], $26::bigint[], \
   $27::text[], $28::text[], $29::text[], $30::bigint[]) AS j (state_id, auth_id, job_type, \
   manifest_id, manifest_named, sequence, last_update_ns, tickets, ticket_ev_total, fee_total, \
   balance, before) WHERE s.state_id = j.state_id AND s.sequence = j.before RETURNING 1), \
 paid AS (INSERT INTO payments (state_id, sequence, reservation_id, account, auth_id, job_type, \
   manifest_id, manifest_named, recipient_rand_hash, first_nonce, last_nonce, num_tickets, \
   face_value, win_prob, ticket_ev, units, fee, balance, charged, auth_expiry, created_at_ms, \
   answer) SELECT state_id, sequence, reservation_id, account, auth_id, job_type, manifest_id, \
   manifest_named, hash, first, last, last - first + 1, face_value::numeric, win_prob::numeric, \
   ticket_ev, units, fee, balance, charged::numeric, auth_expiry, created_at_ms, answer \
   FROM UNNEST($31::text[], $32::bigint[], $33::bytea[], $34::text[], $35::text[], $36::text[], \
   $37::text[], $38::boolean[], $39::bytea[], $40::bigint[], $41::bigint[], $42::text[], \
   $43::text[], $44::text[], $45::bigint[], $46::text[], $47::text[], $48::text[], $49::bigint[], \
   $50::bigint[], $51::bytea[]) AS j (state_id, sequence, reservation_id, account, auth_id, \
   job_type, manifest_id, manifest_named, hash, first, last, face_value, win_prob, ticket_ev, \
   units, fee, balance, charged, auth_expiry, created_at_ms, answer) RETURNING 1), \
 told AS (INSERT INTO outbox (id, state_id, sequence, created_at_ms, payload) \
   SELECT * FROM UNNEST($52::bytea[], $53::text[], $54::bigint[], $55::bigint[], $56::bytea[]) \
   ON CONFLICT (id) DO NOTHING), \
 ended AS (DELETE FROM reservations WHERE id = ANY($57) RETURNING 1), \
 refunded AS (UPDATE counters c SET charged = c.charged - j.refund FROM \
   (SELECT key, refund::numeric FROM UNNEST($58::text[], $59::text[]) AS u (key, refund)) AS j \
   WHERE c.key = j.key RETURNING 1), \
 added AS (INSERT INTO totals AS t (writer, denominator, payments, tickets, ticket_ev_parts, \
   fee_parts) SELECT $60, denominator::numeric, payments, tickets, ev::numeric, fee::numeric FROM \
   UNNEST($61::text[], $62::bigint[], $63::bigint[], $64::text[], $65::text[]) \
   AS u (denominator, payments, tickets, ev, fee) ON CONFLICT (writer, denominator) DO UPDATE SET \
   payments = t.payments + excluded.payments, tickets = t.tickets + excluded.tickets, \
   ticket_ev_parts = t.ticket_ev_parts + excluded.ticket_ev_parts, \
   fee_parts = t.fee_parts + excluded.fee_parts RETURNING 1) \
 SELECT (SELECT count(*) FROM opened), (SELECT count(*) FROM advanced), \
   (SELECT count(*) FROM paid), (SELECT count(*) FROM ended), \
   (SELECT count(*) FROM refunded), (SELECT count(*) FROM added)";

pub async fn apply(
    tx: &mut Tx,
    batch: &[NewPayment],
    plan: &CommitPlan,
    writer: &str,
) -> Answer<Applied> {
    if !plan.refunds.is_empty() {
        // Locked in their order before they are changed in any.
        counters(tx, &plan.refunds.keys().cloned().collect()).await?;
    }
    let paid: Vec<_> =
        plan.payments.iter().filter_map(|row| Some((batch.get(row.from)?, row))).collect();
    let events: Vec<_> =
        paid.iter().filter_map(|(payment, _)| Some((*payment, payment.event.as_ref()?))).collect();
    let opened: Vec<_> = plan.new_sessions.values().collect();
    let query = bind_sessions(sqlx::query(APPLY), opened.iter().map(|(session, _)| session))
        .bind(opened.iter().map(|(s, _)| s.binding.account.as_str()).collect::<Vec<_>>())
        .bind(opened.iter().map(|(_, key)| key.as_deref()).collect::<Vec<_>>())
        .bind(opened.iter().map(|(s, _)| orchestrator(s)).collect::<Vec<_>>())
        .bind(opened.iter().map(|(s, _)| s.binding.app.as_str()).collect::<Vec<_>>())
        .bind(opened.iter().map(|(s, _)| s.initial_price.price_per_unit()).collect::<Vec<_>>())
        .bind(opened.iter().map(|(s, _)| s.initial_price.pixels_per_unit()).collect::<Vec<_>>())
        .bind(opened.iter().map(|(s, _)| s.created_at_ms).collect::<Vec<_>>());
    let query = bind_sessions(query, plan.advanced.values().map(|(_, session)| session))
        .bind(plan.advanced.values().map(|(before, _)| signed(*before)).collect::<Vec<_>>());
    let query = bind_payments(query, &paid)
        .bind(events.iter().map(|(_, e)| e.id.as_bytes().to_vec()).collect::<Vec<_>>())
        .bind(events.iter().map(|(p, _)| p.state_id.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|(p, _)| signed(p.sequence)).collect::<Vec<_>>())
        .bind(events.iter().map(|(p, _)| p.now_ns.div_euclid(1_000_000)).collect::<Vec<_>>())
        .bind(events.iter().map(|(_, e)| e.payload.as_slice()).collect::<Vec<_>>())
        .bind(plan.ended.iter().map(|id| id.0.to_vec()).collect::<Vec<_>>())
        .bind(plan.refunds.keys().map(|key| key.as_str()).collect::<Vec<_>>())
        .bind(plan.refunds.values().map(ToString::to_string).collect::<Vec<_>>())
        .bind(writer)
        .bind(plan.totals.keys().map(String::as_str).collect::<Vec<_>>())
        .bind(plan.totals.values().map(|t| signed(t.payments)).collect::<Vec<_>>())
        .bind(plan.totals.values().map(|t| signed(t.tickets)).collect::<Vec<_>>())
        .bind(plan.totals.values().map(|t| t.ticket_ev_parts.to_string()).collect::<Vec<_>>())
        .bind(plan.totals.values().map(|t| t.fee_parts.to_string()).collect::<Vec<_>>());
    let row = match query.fetch_one(&mut **tx).await {
        Ok(row) => row,
        Err(error) => return or_stale(error),
    };
    let expected = [
        opened.len(),
        plan.advanced.len(),
        paid.len(),
        plan.ended.len(),
        plan.refunds.len(),
        plan.totals.len(),
    ];
    for (column, expected) in expected.into_iter().enumerate() {
        let changed: i64 = row.try_get(column)?;
        if usize::try_from(changed).ok() != Some(expected) {
            return Ok(Applied::Stale);
        }
    }
    Ok(Applied::Done)
}

type Bound<'q> = Query<'q, Postgres, PgArguments>;

fn orchestrator(session: &Session) -> String {
    address_lower(&session.binding.orchestrator)
}

/// The eleven columns that a session's payments change, its id first.
fn bind_sessions<'q, 's>(
    query: Bound<'q>,
    sessions: impl Iterator<Item = &'s Session> + Clone,
) -> Bound<'q> {
    let (mut ids, mut auth_ids, mut job_types, mut manifests) = (vec![], vec![], vec![], vec![]);
    let (mut named, mut sequences, mut updates, mut tickets) = (vec![], vec![], vec![], vec![]);
    let (mut credits, mut fees, mut balances) = (vec![], vec![], vec![]);
    for session in sessions {
        let binding = &session.binding;
        ids.push(session.state_id.as_str().to_owned());
        auth_ids.push(auth_text(binding.auth_id.as_ref()));
        job_types.push(binding.job_type.as_str());
        manifests.push(binding.manifest.id.as_str().to_owned());
        named.push(binding.manifest.named);
        sequences.push(signed(session.sequence));
        updates.push(session.last_update_ns);
        tickets.push(signed(session.tickets));
        credits.push(session.ticket_ev_total_wei.to_string());
        fees.push(session.fee_total_wei.to_string());
        balances.push(session.balance_wei.to_string());
    }
    query
        .bind(ids)
        .bind(auth_ids)
        .bind(job_types)
        .bind(manifests)
        .bind(named)
        .bind(sequences)
        .bind(updates)
        .bind(tickets)
        .bind(credits)
        .bind(fees)
        .bind(balances)
}

fn bind_payments<'q>(
    query: Bound<'q>,
    paid: &[(&'q NewPayment, &'q crate::signer::plan::NewPaymentRow)],
) -> Bound<'q> {
    let nonces = |p: &NewPayment| p.reservation.nonces;
    query
        .bind(paid.iter().map(|(p, _)| p.state_id.as_str()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| signed(p.sequence)).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.reservation.id.0.to_vec()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.binding.account.as_str()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| auth_text(p.binding.auth_id.as_ref())).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.binding.job_type.as_str()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.binding.manifest.id.as_str()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.binding.manifest.named).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| nonces(p).recipient_rand_hash.to_vec()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| i64::from(nonces(p).first)).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| i64::from(nonces(p).last)).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.face_value.to_string()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.win_prob.to_string()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.ticket_ev_wei.to_string()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| signed(p.units)).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.fee_wei.to_string()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(_, row)| row.balance_wei.to_string()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.charged_wei.to_string()).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.auth_expiry).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.now_ns.div_euclid(1_000_000)).collect::<Vec<_>>())
        .bind(paid.iter().map(|(p, _)| p.answer.as_slice()).collect::<Vec<_>>())
}
