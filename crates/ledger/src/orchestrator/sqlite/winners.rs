//! Winning tickets on their way to the chain.

use crate::{
    orchestrator::{
        Fence, LedgerError, QueueLimits, Queued, StoredWinner, Totals, WinnerStatus,
        redemption::{self, EndRow, add},
        rows::{self, address_text, block, hash_text, in_turn, signed},
    },
    sqlite::writer::Tx,
};
use penstock_chain::Standing;
use penstock_domain::{Address, B256, Wei};
use penstock_payments::Winner;
use rusqlite::params;
use sqlx::{Executor, Sqlite};

/// Stores a winner unless it is stored already; returns how many rows were added (0 or 1).
pub fn keep(tx: &Tx, winner: &Winner, session: &str, now_ms: i64) -> Result<usize, LedgerError> {
    let ticket = &winner.ticket;
    let mut insert = tx.prepare_cached(
        "INSERT INTO winners (ticket_hash, sender, recipient, session, face_value, win_prob, \
           sender_nonce, recipient_rand_hash, creation_round, creation_round_block_hash, sig, \
           recipient_rand, params_expiration_block, status, created_ms, updated_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?) \
         ON CONFLICT (ticket_hash) DO NOTHING",
    )?;
    let added = insert.execute(params![
        hash_text(winner.ticket_hash),
        address_text(ticket.sender),
        address_text(ticket.recipient),
        session,
        ticket.face_value.to_string(),
        ticket.win_prob.to_string(),
        ticket.sender_nonce,
        hash_text(ticket.recipient_rand_hash),
        signed(ticket.expiration_params.creation_round),
        hash_text(ticket.expiration_params.creation_round_block_hash),
        hex::encode(winner.signature.as_bytes()),
        hash_text(B256::from(*winner.recipient_rand.as_bytes())),
        block(winner.params_expiration_block),
        now_ms,
        now_ms,
    ])?;
    Ok(added)
}

/// How many of a sender's wait, here or where they were handed over.
pub fn waiting(tx: &Tx, sender: Address) -> Result<u64, LedgerError> {
    let mut count =
        tx.prepare_cached("SELECT COUNT(*) FROM winners WHERE sender = ? AND status = 'queued'")?;
    let count: i64 = count.query_row([address_text(sender)], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// Queued and expired: may be redeemed.
pub async fn due<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    at_block: u64,
    limit: u32,
) -> Result<Vec<StoredWinner>, LedgerError> {
    let found = sqlx::query(in_turn!("params_expiration_block <= ? AND retry_block <= ?", "?"))
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
pub fn begin(tx: &Tx, ticket: B256, fence: Fence, now_ms: i64) -> Result<bool, LedgerError> {
    let changed = tx.execute(
        "UPDATE winners SET status = 'redeeming', attempts = attempts + 1, updated_ms = ? \
         WHERE ticket_hash = ? AND status = 'queued' AND handed_over_ms IS NULL \
           AND EXISTS (SELECT 1 FROM leases WHERE name = 'redeemer' AND fence = ?)",
        params![now_ms, hash_text(ticket), fence.0],
    )?;
    Ok(changed == 1)
}

/// → any status but redeeming. A redeemed winner stays redeemed, until [`look`] finds its redemption gone.
pub fn settle(tx: &Tx, ticket: B256, end: &EndRow, now_ms: i64) -> Result<(), LedgerError> {
    tx.execute(
        "UPDATE winners SET status = ?1, tx_hash = COALESCE(?2, tx_hash), reason = ?3, \
           attempts = attempts + (status = 'queued' AND COALESCE(?4 > retry_block, FALSE)), \
           retry_block = COALESCE(?4, retry_block), unsettled_block = ?5, updated_ms = ?6 \
         WHERE ticket_hash = ?7 AND status != 'redeemed' AND (?8 IS NULL \
           OR EXISTS (SELECT 1 FROM leases WHERE name = 'redeemer' AND fence = ?8))",
        params![
            end.status.as_str(),
            end.tx_hash,
            end.reason,
            end.retry_block,
            end.unsettled_block,
            now_ms,
            hash_text(ticket),
            end.fence,
        ],
    )?;
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
pub fn look(
    tx: &Tx,
    ticket: B256,
    fence: Fence,
    standing: Standing,
    short: Option<&str>,
    now_ms: i64,
) -> Result<bool, LedgerError> {
    let row = redemption::look(standing, short);
    let changed = tx.execute(
        "UPDATE winners SET status = ?1, tx_hash = CASE ?1 WHEN 'redeemed' THEN COALESCE(?2, tx_hash) END, \
           reason = ?3, unsettled_block = ?4, \
           retry_block = CASE ?1 WHEN 'redeemed' THEN retry_block ELSE 0 END, \
           handed_over_ms = CASE ?1 WHEN 'redeemed' THEN handed_over_ms END, updated_ms = ?5 \
         WHERE ticket_hash = ?6 AND status = 'redeemed' AND unsettled_block IS NOT NULL \
           AND EXISTS (SELECT 1 FROM leases WHERE name = 'redeemer' AND fence = ?7)",
        params![
            row.status.as_str(),
            row.tx_hash,
            row.reason,
            row.unsettled_block,
            now_ms,
            hash_text(ticket),
            fence.0,
        ],
    )?;
    Ok(changed == 1)
}

/// Still here, oldest first.
pub async fn to_hand_over<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    at_block: u64,
    limit: u32,
) -> Result<Vec<StoredWinner>, LedgerError> {
    let found = sqlx::query(in_turn!("retry_block <= ?", "?"))
        .bind(signed(at_block))
        .bind(limit)
        .fetch_all(db)
        .await?;
    found.iter().map(rows::winner).collect()
}

/// queued → handed over.
pub fn handed_over(tx: &Tx, ticket: B256, now_ms: i64) -> Result<(), LedgerError> {
    tx.execute(
        "UPDATE winners SET handed_over_ms = ?1, reason = NULL, updated_ms = ?1 \
         WHERE ticket_hash = ?2 AND status = 'queued' AND handed_over_ms IS NULL",
        params![now_ms, hash_text(ticket)],
    )?;
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
pub fn take_back(tx: &Tx, before_ms: i64, now_ms: i64) -> Result<u64, LedgerError> {
    let changed = tx.execute(
        "UPDATE winners SET handed_over_ms = NULL, updated_ms = ? \
         WHERE status = 'queued' AND handed_over_ms IS NOT NULL AND handed_over_ms < ?",
        params![now_ms, before_ms],
    )?;
    Ok(u64::try_from(changed).unwrap_or(u64::MAX))
}

/// Stores what was brought, if it is new and there is room.
pub fn queue(
    tx: &Tx,
    winner: &Winner,
    limits: QueueLimits,
    now_ms: i64,
) -> Result<Queued, LedgerError> {
    let mut by_hash =
        tx.prepare_cached("SELECT EXISTS (SELECT 1 FROM winners WHERE ticket_hash = ?)")?;
    if by_hash.query_row([hash_text(winner.ticket_hash)], |row| row.get(0))? {
        return Ok(Queued::Before);
    }
    let mut room = tx.prepare_cached(
        "SELECT (SELECT COUNT(*) FROM winners WHERE status = 'queued') < ? \
           AND (SELECT COUNT(*) FROM winners WHERE sender = ? AND status = 'queued') < ?",
    )?;
    let sender = address_text(winner.ticket.sender);
    let has_room: bool =
        room.query_row(params![limits.all, sender, limits.sender], |row| row.get(0))?;
    if !has_room {
        return Ok(Queued::Full);
    }
    keep(tx, winner, "", now_ms)?;
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
