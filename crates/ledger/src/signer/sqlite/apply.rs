//! The two transitions, each inside a transaction that the caller holds.

use super::super::{
    Committed, LedgerError, NewPayment, NonceRange, Reservation, ReservationId, ReserveRequest,
    Reserved, StoredPayment, rows,
};
use penstock_domain::{B256, Rational, StateId, address_lower};
use sqlx::{AssertSqlSafe, SqliteConnection};

fn hash_text(hash: &B256) -> String {
    format!("{hash:#x}")
}

fn row_id(id: ReservationId) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = id.0;
    i64::from_be_bytes([a >> 1, b, c, d, e, f, g, h])
}

fn signed(n: u64, what: &'static str) -> Result<i64, LedgerError> {
    i64::try_from(n).map_err(|_| LedgerError::Misuse(what))
}

pub(super) async fn stored(
    connection: &mut SqliteConnection,
    id: &StateId,
    sequence: u64,
) -> Result<Option<StoredPayment>, LedgerError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "{}WHERE p.state_id = ? AND p.sequence = ?",
        rows::STORED
    )))
    .bind(id.as_str())
    .bind(signed(sequence, "sequence out of range")?)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(rows::stored).transpose()
}

pub(super) async fn stored_by_key(
    connection: &mut SqliteConnection,
    account: &str,
    key: &str,
) -> Result<Option<StoredPayment>, LedgerError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "{}WHERE s.account = ? AND s.idempotency_key = ? AND p.sequence = 0",
        rows::STORED
    )))
    .bind(account)
    .bind(key)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(rows::stored).transpose()
}

async fn sequence_of(
    connection: &mut SqliteConnection,
    id: &StateId,
) -> Result<Option<u64>, LedgerError> {
    let row = sqlx::query("SELECT sequence FROM sessions WHERE state_id = ?")
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(|row| rows::unsigned(row, "sequence")).transpose()
}

pub(super) async fn reserve(
    connection: &mut SqliteConnection,
    request: &ReserveRequest,
) -> Result<Reserved, LedgerError> {
    if request.count == 0 {
        return Err(LedgerError::Misuse("no nonces asked for"));
    }
    match (request.sequence, sequence_of(connection, &request.state_id).await?) {
        (0, None) => {}
        (0, Some(_)) => return Ok(Reserved::StateIdTaken),
        (_, None) => return Ok(Reserved::UnknownState),
        (wanted, Some(newest)) if wanted <= newest => {
            let answer = stored(connection, &request.state_id, wanted).await?;
            return answer.map(Reserved::Answered).ok_or(LedgerError::Corrupt("payment sequence"));
        }
        (wanted, Some(newest)) if wanted == newest + 1 => {}
        (_, Some(_)) => return Ok(Reserved::UnknownState),
    }
    let hash = hash_text(&request.tickets.recipient_rand_hash);
    let before: Option<i64> =
        sqlx::query_scalar("SELECT last_nonce FROM nonces WHERE recipient_rand_hash = ?")
            .bind(&hash)
            .fetch_optional(&mut *connection)
            .await?;
    let before =
        u32::try_from(before.unwrap_or(0)).map_err(|_| LedgerError::Corrupt("last_nonce"))?;
    let Some(last) = before.checked_add(request.count).filter(|last| *last <= request.max_nonce)
    else {
        return Ok(Reserved::Exhausted);
    };
    // Compare-and-swap, although the transaction excludes other writers already: the row says
    // what was read, or nothing is handed out.
    let moved = sqlx::query(
        "INSERT INTO nonces (recipient_rand_hash, last_nonce) VALUES (?1, ?2) \
         ON CONFLICT (recipient_rand_hash) DO UPDATE SET last_nonce = ?2 WHERE last_nonce = ?3",
    )
    .bind(&hash)
    .bind(last)
    .bind(before)
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() != 1 {
        return Err(LedgerError::Corrupt("nonce row moved inside a transaction"));
    }
    let first = before.saturating_add(1);
    sqlx::query(
        "INSERT INTO reservations \
         (id, recipient_rand_hash, first_nonce, last_nonce, state_id, sequence, reserved_at_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(row_id(request.id))
    .bind(&hash)
    .bind(first)
    .bind(last)
    .bind(request.state_id.as_str())
    .bind(signed(request.sequence, "sequence out of range")?)
    .bind(request.now_ms)
    .execute(connection)
    .await?;
    let nonces =
        NonceRange { recipient_rand_hash: request.tickets.recipient_rand_hash, first, last };
    Ok(Reserved::Nonces(Reservation { id: request.id, nonces }))
}

pub(super) async fn commit(
    connection: &mut SqliteConnection,
    payment: &NewPayment,
) -> Result<Committed, LedgerError> {
    if (payment.sequence == 0) != payment.new_session.is_some() {
        return Err(LedgerError::Misuse("a first payment, and only it, opens a session"));
    }
    if let Some(earlier) = earlier(connection, payment).await? {
        return Ok(Committed::Superseded(earlier));
    }
    check_reservation(connection, payment).await?;
    let count = payment
        .reservation
        .nonces
        .last
        .checked_sub(payment.reservation.nonces.first)
        .and_then(|n| n.checked_add(1))
        .ok_or(LedgerError::Misuse("empty nonce range"))?;
    let credit = Rational::from_int(count.into()) * payment.ticket_ev_wei.clone();
    let balance = if payment.sequence == 0 {
        open_session(connection, payment, count, &credit).await?
    } else {
        advance_session(connection, payment, count, &credit).await?
    };
    insert_payment(connection, payment, count, &balance).await?;
    Ok(Committed::Stored(balance))
}

/// The payment that already has this place, if any.
async fn earlier(
    connection: &mut SqliteConnection,
    payment: &NewPayment,
) -> Result<Option<StoredPayment>, LedgerError> {
    if let Some(key) = payment.new_session.as_ref().and_then(|s| s.idempotency_key.as_deref()) {
        return stored_by_key(connection, &payment.binding.account, key).await;
    }
    if payment.sequence == 0 {
        return Ok(None);
    }
    stored(connection, &payment.state_id, payment.sequence).await
}

/// Tickets are stored only with nonces that were reserved for exactly this payment.
async fn check_reservation(
    connection: &mut SqliteConnection,
    payment: &NewPayment,
) -> Result<(), LedgerError> {
    let held: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM reservations WHERE id = ? AND recipient_rand_hash = ? AND first_nonce = ? \
         AND last_nonce = ? AND state_id = ? AND sequence = ?",
    )
    .bind(row_id(payment.reservation.id))
    .bind(hash_text(&payment.reservation.nonces.recipient_rand_hash))
    .bind(payment.reservation.nonces.first)
    .bind(payment.reservation.nonces.last)
    .bind(payment.state_id.as_str())
    .bind(signed(payment.sequence, "sequence out of range")?)
    .fetch_optional(connection)
    .await?;
    held.map(|_| ()).ok_or(LedgerError::Misuse("nonces that were not reserved for this payment"))
}

async fn open_session(
    connection: &mut SqliteConnection,
    payment: &NewPayment,
    count: u32,
    credit: &Rational,
) -> Result<Rational, LedgerError> {
    let Some(new) = &payment.new_session else {
        return Err(LedgerError::Misuse("a first payment opens a session"));
    };
    let balance = credit - &payment.fee_wei;
    let binding = &payment.binding;
    sqlx::query(
        "INSERT INTO sessions (state_id, account, idempotency_key, auth_id, orchestrator, app, \
         job_type, manifest_id, manifest_named, initial_price_per_unit, initial_pixels_per_unit, \
         sequence, last_update_ns, tickets, ticket_ev_total, fee_total, balance, created_at_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?)",
    )
    .bind(payment.state_id.as_str())
    .bind(&binding.account)
    .bind(new.idempotency_key.as_deref())
    .bind(binding.auth_id.as_ref().map_or("", |id| id.as_str()))
    .bind(address_lower(&binding.orchestrator))
    .bind(&binding.app)
    .bind(binding.job_type.as_str())
    .bind(binding.manifest.id.as_str())
    .bind(binding.manifest.named)
    .bind(new.initial_price.price_per_unit())
    .bind(new.initial_price.pixels_per_unit())
    .bind(payment.now_ns)
    .bind(count)
    .bind(credit.to_string())
    .bind(payment.fee_wei.to_string())
    .bind(balance.to_string())
    .bind(payment.now_ns / 1_000_000)
    .execute(connection)
    .await?;
    Ok(balance)
}

async fn advance_session(
    connection: &mut SqliteConnection,
    payment: &NewPayment,
    count: u32,
    credit: &Rational,
) -> Result<Rational, LedgerError> {
    let row = sqlx::query(AssertSqlSafe(format!("{}WHERE state_id = ?", rows::SESSION)))
        .bind(payment.state_id.as_str())
        .fetch_optional(&mut *connection)
        .await?
        .ok_or(LedgerError::Misuse("payment for an unknown session"))?;
    let session = rows::session(&row)?;
    let same = session.binding.account == payment.binding.account
        && session.binding.orchestrator == payment.binding.orchestrator
        && session.binding.app == payment.binding.app;
    if !same {
        return Err(LedgerError::Misuse("payment bound to another account, orchestrator or app"));
    }
    let balance = &(&session.balance_wei + credit) - &payment.fee_wei;
    let binding = &payment.binding;
    let moved = sqlx::query(
        "UPDATE sessions SET auth_id = ?, job_type = ?, manifest_id = ?, manifest_named = ?, \
         sequence = ?, last_update_ns = ?, tickets = tickets + ?, ticket_ev_total = ?, \
         fee_total = ?, balance = ? WHERE state_id = ? AND sequence = ?",
    )
    .bind(binding.auth_id.as_ref().map_or("", |id| id.as_str()))
    .bind(binding.job_type.as_str())
    .bind(binding.manifest.id.as_str())
    .bind(binding.manifest.named)
    .bind(signed(payment.sequence, "sequence out of range")?)
    .bind(payment.now_ns)
    .bind(count)
    .bind((&session.ticket_ev_total_wei + credit).to_string())
    .bind((&session.fee_total_wei + &payment.fee_wei).to_string())
    .bind(balance.to_string())
    .bind(payment.state_id.as_str())
    .bind(signed(payment.sequence.saturating_sub(1), "sequence out of range")?)
    .execute(connection)
    .await?;
    if moved.rows_affected() != 1 {
        return Err(LedgerError::Misuse("payment out of sequence"));
    }
    Ok(balance)
}

async fn insert_payment(
    connection: &mut SqliteConnection,
    payment: &NewPayment,
    count: u32,
    balance: &Rational,
) -> Result<(), LedgerError> {
    let binding = &payment.binding;
    sqlx::query(
        "INSERT INTO payments (state_id, sequence, reservation_id, auth_id, job_type, manifest_id, \
         manifest_named, recipient_rand_hash, first_nonce, last_nonce, num_tickets, face_value, \
         win_prob, ticket_ev, units, fee, balance, answer, created_at_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(payment.state_id.as_str())
    .bind(signed(payment.sequence, "sequence out of range")?)
    .bind(row_id(payment.reservation.id))
    .bind(binding.auth_id.as_ref().map_or("", |id| id.as_str()))
    .bind(binding.job_type.as_str())
    .bind(binding.manifest.id.as_str())
    .bind(binding.manifest.named)
    .bind(hash_text(&payment.reservation.nonces.recipient_rand_hash))
    .bind(payment.reservation.nonces.first)
    .bind(payment.reservation.nonces.last)
    .bind(count)
    .bind(payment.face_value.to_string())
    .bind(payment.win_prob.to_string())
    .bind(payment.ticket_ev_wei.to_string())
    .bind(signed(payment.units, "units out of range")?)
    .bind(payment.fee_wei.to_string())
    .bind(balance.to_string())
    .bind(&payment.answer)
    .bind(payment.now_ns / 1_000_000)
    .execute(connection)
    .await?;
    Ok(())
}
