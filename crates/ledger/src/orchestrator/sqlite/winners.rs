//! Winning tickets on their way to the chain.

use crate::orchestrator::{
    Fence, LedgerError, QueueLimits, Queued, StoredWinner, Totals, WinnerStatus,
    redemption::{self, End, add},
    rows::{self, address_text, block, hash_text, signed},
};
use penstock_chain::Standing;
use penstock_domain::{Address, B256, Wei};
use penstock_payments::Winner;
use sqlx::{Executor, Sqlite, SqliteConnection};

/// Stores a winner unless it is stored already; returns how many rows were added (0 or 1).
pub async fn keep(
    db: &mut SqliteConnection,
    winner: &Winner,
    session: &str,
    now_ms: i64,
) -> Result<usize, LedgerError> {
    let ticket = &winner.ticket;
    let added = sqlx::query(
        "INSERT INTO winners (ticket_hash, sender, recipient, session, face_value, win_prob, \
           sender_nonce, recipient_rand_hash, creation_round, creation_round_block_hash, sig, \
           recipient_rand, params_expiration_block, status, created_ms, updated_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?) \
         ON CONFLICT (ticket_hash) DO NOTHING",
    )
    .bind(hash_text(winner.ticket_hash))
    .bind(address_text(ticket.sender))
    .bind(address_text(ticket.recipient))
    .bind(session)
    .bind(ticket.face_value.to_string())
    .bind(ticket.win_prob.to_string())
    .bind(ticket.sender_nonce)
    .bind(hash_text(ticket.recipient_rand_hash))
    .bind(signed(ticket.expiration_params.creation_round))
    .bind(hash_text(ticket.expiration_params.creation_round_block_hash))
    .bind(hex::encode(winner.signature.as_bytes()))
    .bind(hash_text(B256::from(*winner.recipient_rand.as_bytes())))
    .bind(block(winner.params_expiration_block))
    .bind(now_ms)
    .bind(now_ms)
    .execute(db)
    .await?
    .rows_affected();
    Ok(usize::try_from(added).unwrap_or(usize::MAX))
}

/// Queued and expired: may be redeemed.
pub async fn due<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    at_block: u64,
    limit: u32,
) -> Result<Vec<StoredWinner>, LedgerError> {
    let found = sqlx::query(
        "SELECT * FROM winners WHERE status = 'queued' AND handed_over_ms IS NULL \
         AND params_expiration_block <= ? AND retry_block <= ? ORDER BY id LIMIT ?",
    )
    .bind(signed(at_block))
    .bind(signed(at_block))
    .bind(limit)
    .fetch_all(db)
    .await?;
    found.iter().map(rows::winner).collect()
}

/// By status, oldest first.
pub async fn with_status<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    status: WinnerStatus,
    limit: u32,
) -> Result<Vec<StoredWinner>, LedgerError> {
    let (text, handed_over) = redemption::stored(status);
    let found = sqlx::query(
        "SELECT * FROM winners WHERE status = ?1 \
         AND (?2 IS NULL OR (handed_over_ms IS NOT NULL) = ?2) ORDER BY id LIMIT ?3",
    )
    .bind(text)
    .bind(handed_over)
    .bind(limit)
    .fetch_all(db)
    .await?;
    found.iter().map(rows::winner).collect()
}

/// Newest first.
pub async fn list<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    limit: u32,
) -> Result<Vec<StoredWinner>, LedgerError> {
    let found = sqlx::query("SELECT * FROM winners ORDER BY id DESC LIMIT ?")
        .bind(limit)
        .fetch_all(db)
        .await?;
    found.iter().map(rows::winner).collect()
}

/// queued → redeeming.
pub async fn begin<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    ticket: B256,
    fence: Fence,
    now_ms: i64,
) -> Result<bool, LedgerError> {
    let changed = sqlx::query(
        "UPDATE winners SET status = 'redeeming', attempts = attempts + 1, updated_ms = ? \
         WHERE ticket_hash = ? AND status = 'queued' AND handed_over_ms IS NULL \
           AND EXISTS (SELECT 1 FROM leases WHERE name = 'redeemer' AND fence = ?)",
    )
    .bind(now_ms)
    .bind(hash_text(ticket))
    .bind(fence.0)
    .execute(db)
    .await?
    .rows_affected();
    Ok(changed == 1)
}

/// → any status but redeeming. A redeemed winner stays redeemed, until [`look`] finds its redemption gone.
pub async fn settle<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    ticket: B256,
    end: End<'_>,
    now_ms: i64,
) -> Result<(), LedgerError> {
    let row = end.row();
    sqlx::query(
        "UPDATE winners SET status = ?, tx_hash = COALESCE(?, tx_hash), reason = ?, \
           retry_block = COALESCE(?, retry_block), unsettled_block = ?, updated_ms = ? \
         WHERE ticket_hash = ? AND status != 'redeemed' AND (? IS NULL \
           OR EXISTS (SELECT 1 FROM leases WHERE name = 'redeemer' AND fence = ?))",
    )
    .bind(row.status.as_str())
    .bind(row.tx_hash)
    .bind(row.reason)
    .bind(row.retry_block)
    .bind(row.unsettled_block)
    .bind(now_ms)
    .bind(hash_text(ticket))
    .bind(row.fence)
    .bind(row.fence)
    .execute(db)
    .await?;
    Ok(())
}

/// Redeemed in blocks up to this one, and not known to be final.
pub async fn unsettled<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    up_to_block: u64,
    limit: u32,
) -> Result<Vec<StoredWinner>, LedgerError> {
    let found = sqlx::query(
        "SELECT * FROM winners WHERE status = 'redeemed' AND unsettled_block <= ? \
         ORDER BY unsettled_block, id LIMIT ?",
    )
    .bind(signed(up_to_block))
    .bind(limit)
    .fetch_all(db)
    .await?;
    found.iter().map(rows::winner).collect()
}

/// What a later look at a redemption showed.
pub async fn look<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    ticket: B256,
    fence: Fence,
    standing: Standing,
    now_ms: i64,
) -> Result<bool, LedgerError> {
    let row = redemption::look(standing);
    let changed = sqlx::query(
        "UPDATE winners SET status = ?1, tx_hash = CASE ?1 WHEN 'redeemed' THEN COALESCE(?2, tx_hash) END, \
           reason = ?3, unsettled_block = ?4, \
           retry_block = CASE ?1 WHEN 'redeemed' THEN retry_block ELSE 0 END, \
           handed_over_ms = CASE ?1 WHEN 'redeemed' THEN handed_over_ms END, updated_ms = ?5 \
         WHERE ticket_hash = ?6 AND status = 'redeemed' AND unsettled_block IS NOT NULL \
           AND EXISTS (SELECT 1 FROM leases WHERE name = 'redeemer' AND fence = ?7)",
    )
    .bind(row.status.as_str())
    .bind(row.tx_hash)
    .bind(row.reason)
    .bind(row.unsettled_block)
    .bind(now_ms)
    .bind(hash_text(ticket))
    .bind(fence.0)
    .execute(db)
    .await?
    .rows_affected();
    Ok(changed == 1)
}

/// Still here, oldest first.
pub async fn to_hand_over<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    at_block: u64,
    limit: u32,
) -> Result<Vec<StoredWinner>, LedgerError> {
    let found = sqlx::query(
        "SELECT * FROM winners WHERE status = 'queued' AND handed_over_ms IS NULL \
         AND retry_block <= ? ORDER BY id LIMIT ?",
    )
    .bind(signed(at_block))
    .bind(limit)
    .fetch_all(db)
    .await?;
    found.iter().map(rows::winner).collect()
}

/// queued → handed over.
pub async fn handed_over<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    ticket: B256,
    now_ms: i64,
) -> Result<(), LedgerError> {
    sqlx::query(
        "UPDATE winners SET handed_over_ms = ?1, reason = NULL, updated_ms = ?1 \
         WHERE ticket_hash = ?2 AND status = 'queued' AND handed_over_ms IS NULL",
    )
    .bind(now_ms)
    .bind(hash_text(ticket))
    .execute(db)
    .await?;
    Ok(())
}

/// Elsewhere, of an old round.
pub async fn handed_over_before<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    round: u64,
    limit: u32,
) -> Result<Vec<StoredWinner>, LedgerError> {
    let found = sqlx::query(
        "SELECT * FROM winners WHERE status = 'queued' AND handed_over_ms IS NOT NULL \
         AND creation_round < ? ORDER BY creation_round LIMIT ?",
    )
    .bind(signed(round))
    .bind(limit)
    .fetch_all(db)
    .await?;
    found.iter().map(rows::winner).collect()
}

/// Elsewhere for so long → queued here again.
pub async fn take_back<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    before_ms: i64,
    now_ms: i64,
) -> Result<u64, LedgerError> {
    let changed = sqlx::query(
        "UPDATE winners SET handed_over_ms = NULL, updated_ms = ? \
         WHERE status = 'queued' AND handed_over_ms IS NOT NULL AND handed_over_ms < ?",
    )
    .bind(now_ms)
    .bind(before_ms)
    .execute(db)
    .await?;
    Ok(changed.rows_affected())
}

/// Stores what was brought, if it is new and there is room.
pub async fn queue(
    db: &mut SqliteConnection,
    winner: &Winner,
    limits: QueueLimits,
    now_ms: i64,
) -> Result<Queued, LedgerError> {
    let known: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM winners WHERE ticket_hash = ?)")
            .bind(hash_text(winner.ticket_hash))
            .fetch_one(&mut *db)
            .await?;
    if known {
        return Ok(Queued::Before);
    }
    let has_room: bool = sqlx::query_scalar(
        "SELECT (SELECT COUNT(*) FROM winners WHERE status = 'queued') < ? \
           AND (SELECT COUNT(*) FROM winners WHERE sender = ? AND status = 'queued') < ?",
    )
    .bind(limits.all)
    .bind(address_text(winner.ticket.sender))
    .bind(limits.sender)
    .fetch_one(&mut *db)
    .await?;
    if !has_room {
        return Ok(Queued::Full);
    }
    keep(db, winner, "", now_ms).await?;
    Ok(Queued::Now)
}

/// Face values of what may still be paid to us.
pub async fn open_face_value<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    sender: Address,
    round: u64,
) -> Result<Wei, LedgerError> {
    let found = sqlx::query(
        "SELECT face_value FROM winners WHERE sender = ? AND status IN ('queued', 'redeeming') \
         AND creation_round >= ?",
    )
    .bind(address_text(sender))
    .bind(signed(round))
    .fetch_all(db)
    .await?;
    sum(&found)
}

/// Face values in flight for a sender.
pub async fn pending<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    sender: Address,
) -> Result<Wei, LedgerError> {
    let found =
        sqlx::query("SELECT face_value FROM winners WHERE status = 'redeeming' AND sender = ?")
            .bind(address_text(sender))
            .fetch_all(db)
            .await?;
    sum(&found)
}

/// Adds the winners up.
pub async fn add_totals<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    totals: &mut Totals,
) -> Result<(), LedgerError> {
    let found = sqlx::query("SELECT face_value, status, handed_over_ms FROM winners");
    for row in &found.fetch_all(db).await? {
        totals.add_winner(rows::winner_status(row)?, || rows::parsed(row, "face_value"))?;
    }
    Ok(())
}

fn sum(found: &[sqlx::sqlite::SqliteRow]) -> Result<Wei, LedgerError> {
    found.iter().try_fold(Wei::ZERO, |sum, row| add(sum, rows::parsed(row, "face_value")?))
}
