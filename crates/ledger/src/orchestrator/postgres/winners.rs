//! Winning tickets on their way to the chain.

use super::Answer;
use crate::{
    orchestrator::{
        Fence, QueueLimits, Queued, StoredWinner, Totals, WinnerStatus,
        redemption::{self, End, add},
        rows::{self, address_text, block, hash_text, in_turn, signed},
    },
    postgres::transaction::Tx,
};
use penstock_chain::Standing;
use penstock_domain::{Address, B256, Wei};
use penstock_payments::Winner;
use sqlx::{PgConnection, postgres::PgRow};
use uuid::Uuid;

/// Stores a winner unless it is stored already; returns how many rows were added (0 or 1).
pub async fn keep(tx: &mut Tx, winner: &Winner, session: &str, now_ms: i64) -> Answer<usize> {
    let ticket = &winner.ticket;
    let added = sqlx::query(
        "INSERT INTO winners (ticket_hash, sender, recipient, session, face_value, win_prob, \
           sender_nonce, recipient_rand_hash, creation_round, creation_round_block_hash, sig, \
           recipient_rand, params_expiration_block, status, created_ms, updated_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'queued', $14, $14) \
         ON CONFLICT (ticket_hash) DO NOTHING",
    )
    .bind(hash_text(winner.ticket_hash))
    .bind(address_text(ticket.sender))
    .bind(address_text(ticket.recipient))
    .bind(session)
    .bind(ticket.face_value.to_string())
    .bind(ticket.win_prob.to_string())
    .bind(i64::from(ticket.sender_nonce))
    .bind(hash_text(ticket.recipient_rand_hash))
    .bind(signed(ticket.expiration_params.creation_round))
    .bind(hash_text(ticket.expiration_params.creation_round_block_hash))
    .bind(hex::encode(winner.signature.as_bytes()))
    .bind(hash_text(B256::from(*winner.recipient_rand.as_bytes())))
    .bind(block(winner.params_expiration_block))
    .bind(now_ms)
    .execute(&mut **tx)
    .await?;
    Ok(usize::try_from(added.rows_affected()).unwrap_or(usize::MAX))
}

/// How many of a sender's wait, here or where they were handed over.
pub async fn waiting(tx: &mut Tx, sender: Address) -> Answer<u64> {
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM winners WHERE sender = $1 AND status = 'queued'")
            .bind(address_text(sender))
            .fetch_one(&mut **tx)
            .await?;
    Ok(count.unsigned_abs())
}

/// Queued and expired: may be redeemed.
pub async fn due(db: &mut PgConnection, at_block: u64, limit: u32) -> Answer<Vec<StoredWinner>> {
    let found = sqlx::query(in_turn!("params_expiration_block <= $1 AND retry_block <= $1", "$2"))
        .bind(signed(at_block))
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?;
    found.iter().map(rows::winner).collect()
}

/// By status, oldest first.
pub async fn with_status(
    db: &mut PgConnection,
    status: WinnerStatus,
    limit: u32,
) -> Answer<Vec<StoredWinner>> {
    let (text, handed_over) = redemption::stored(status);
    let found = sqlx::query(
        "SELECT * FROM winners WHERE status = $1 \
         AND ($2::bool IS NULL OR (handed_over_ms IS NOT NULL) = $2) ORDER BY id LIMIT $3",
    )
    .bind(text)
    .bind(handed_over)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(rows::winner).collect()
}

/// Newest first.
pub async fn list(db: &mut PgConnection, limit: u32) -> Answer<Vec<StoredWinner>> {
    let found = sqlx::query("SELECT * FROM winners ORDER BY id DESC LIMIT $1")
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?;
    found.iter().map(rows::winner).collect()
}

/// queued → redeeming, for whoever has the right, which stays where it is until the commit.
pub async fn begin(
    tx: &mut Tx,
    process: Uuid,
    ticket: B256,
    fence: Fence,
    now_ms: i64,
) -> Answer<bool> {
    let holds: Option<i32> = sqlx::query_scalar(
        "SELECT 1 FROM leases WHERE name = 'redeemer' AND fence = $1 AND owner = $2 \
           AND lease_until > clock_timestamp() FOR SHARE",
    )
    .bind(fence.0)
    .bind(process.as_bytes().as_slice())
    .fetch_optional(&mut **tx)
    .await?;
    if holds.is_none() {
        return Ok(false);
    }
    let changed = sqlx::query(
        "UPDATE winners SET status = 'redeeming', attempts = attempts + 1, updated_ms = $1 \
         WHERE ticket_hash = $2 AND status = 'queued' AND handed_over_ms IS NULL",
    )
    .bind(now_ms)
    .bind(hash_text(ticket))
    .execute(&mut **tx)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Whether this is the newest right to redeem, which stays so until the commit.
async fn has_right(tx: &mut Tx, fence: i64) -> Answer<bool> {
    let holds: Option<i32> =
        sqlx::query_scalar("SELECT 1 FROM leases WHERE name = 'redeemer' AND fence = $1 FOR SHARE")
            .bind(fence)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(holds.is_some())
}

/// → any status but redeeming. A redeemed winner stays redeemed, until [`look`] finds its redemption gone.
pub async fn settle(tx: &mut Tx, ticket: B256, end: End<'_>, now_ms: i64) -> Answer<()> {
    let row = end.row();
    if let Some(fence) = row.fence
        && !has_right(tx, fence).await?
    {
        return Ok(());
    }
    sqlx::query(
        "UPDATE winners SET status = $1, tx_hash = COALESCE($2, tx_hash), reason = $3, \
           attempts = attempts + CASE WHEN status = 'queued' AND $4 > retry_block THEN 1 ELSE 0 END, \
           retry_block = COALESCE($4, retry_block), unsettled_block = $5, updated_ms = $6 \
         WHERE ticket_hash = $7 AND status <> 'redeemed'",
    )
    .bind(row.status.as_str())
    .bind(row.tx_hash)
    .bind(row.reason)
    .bind(row.retry_block)
    .bind(row.unsettled_block)
    .bind(now_ms)
    .bind(hash_text(ticket))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Redeemed in blocks up to this one, and not known to be final.
pub async fn unsettled(
    db: &mut PgConnection,
    up_to_block: u64,
    limit: u32,
) -> Answer<Vec<StoredWinner>> {
    let found = sqlx::query(
        "SELECT * FROM winners WHERE status = 'redeemed' AND unsettled_block <= $1 \
         ORDER BY unsettled_block, id LIMIT $2",
    )
    .bind(signed(up_to_block))
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(rows::winner).collect()
}

/// What a later look at a redemption showed.
pub async fn look(
    tx: &mut Tx,
    ticket: B256,
    fence: Fence,
    standing: Standing,
    short: Option<&str>,
    now_ms: i64,
) -> Answer<bool> {
    if !has_right(tx, fence.0).await? {
        return Ok(false);
    }
    let row = redemption::look(standing, short);
    let changed = sqlx::query(
        "UPDATE winners SET status = $1, tx_hash = CASE $1 WHEN 'redeemed' THEN COALESCE($2, tx_hash) END, \
           reason = $3, unsettled_block = $4, \
           retry_block = CASE $1 WHEN 'redeemed' THEN retry_block ELSE 0 END, \
           handed_over_ms = CASE $1 WHEN 'redeemed' THEN handed_over_ms END, updated_ms = $5 \
         WHERE ticket_hash = $6 AND status = 'redeemed' AND unsettled_block IS NOT NULL",
    )
    .bind(row.status.as_str())
    .bind(row.tx_hash)
    .bind(row.reason)
    .bind(row.unsettled_block)
    .bind(now_ms)
    .bind(hash_text(ticket))
    .execute(&mut **tx)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Still here, oldest first.
pub async fn to_hand_over(
    db: &mut PgConnection,
    at_block: u64,
    limit: u32,
) -> Answer<Vec<StoredWinner>> {
    let found = sqlx::query(in_turn!("retry_block <= $1", "$2"))
        .bind(signed(at_block))
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?;
    found.iter().map(rows::winner).collect()
}

/// queued → handed over.
pub async fn handed_over(tx: &mut Tx, ticket: B256, now_ms: i64) -> Answer<()> {
    sqlx::query(
        "UPDATE winners SET handed_over_ms = $1, reason = NULL, updated_ms = $1 \
         WHERE ticket_hash = $2 AND status = 'queued' AND handed_over_ms IS NULL",
    )
    .bind(now_ms)
    .bind(hash_text(ticket))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Elsewhere, of an old round.
pub async fn handed_over_before(
    db: &mut PgConnection,
    round: u64,
    limit: u32,
) -> Answer<Vec<StoredWinner>> {
    let found = sqlx::query(
        "SELECT * FROM winners WHERE status = 'queued' AND handed_over_ms IS NOT NULL \
         AND creation_round < $1 ORDER BY creation_round LIMIT $2",
    )
    .bind(signed(round))
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(rows::winner).collect()
}

/// Elsewhere for so long → queued here again.
pub async fn take_back(tx: &mut Tx, before_ms: i64, now_ms: i64) -> Answer<u64> {
    let changed = sqlx::query(
        "UPDATE winners SET handed_over_ms = NULL, updated_ms = $1 \
         WHERE status = 'queued' AND handed_over_ms IS NOT NULL AND handed_over_ms < $2",
    )
    .bind(now_ms)
    .bind(before_ms)
    .execute(&mut **tx)
    .await?;
    Ok(changed.rows_affected())
}

/// Stores what was brought, if it is new and there is room.
pub async fn queue(
    tx: &mut Tx,
    winner: &Winner,
    limits: QueueLimits,
    now_ms: i64,
) -> Answer<Queued> {
    let known: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM winners WHERE ticket_hash = $1)")
            .bind(hash_text(winner.ticket_hash))
            .fetch_one(&mut **tx)
            .await?;
    if known {
        return Ok(Queued::Before);
    }
    let has_room: bool = sqlx::query_scalar(
        "SELECT (SELECT COUNT(*) FROM winners WHERE status = 'queued') < $1 \
           AND (SELECT COUNT(*) FROM winners WHERE sender = $2 AND status = 'queued') < $3",
    )
    .bind(i64::from(limits.all))
    .bind(address_text(winner.ticket.sender))
    .bind(i64::from(limits.sender))
    .fetch_one(&mut **tx)
    .await?;
    if !has_room {
        return Ok(Queued::Full);
    }
    // Whoever was faster with the same one has stored it: it is waited for until it is committed.
    let added = keep(tx, winner, "", now_ms).await?;
    Ok(if added == 0 { Queued::Before } else { Queued::Now })
}

/// Face values of what may still be paid to us.
pub async fn open_face_value(db: &mut PgConnection, sender: Address, round: u64) -> Answer<Wei> {
    let found = sqlx::query(
        "SELECT face_value FROM winners WHERE sender = $1 AND status IN ('queued', 'redeeming') \
         AND creation_round >= $2",
    )
    .bind(address_text(sender))
    .bind(signed(round))
    .fetch_all(db)
    .await?;
    sum(&found)
}

/// Face values in flight for a sender.
pub async fn pending(db: &mut PgConnection, sender: Address) -> Answer<Wei> {
    let found =
        sqlx::query("SELECT face_value FROM winners WHERE status = 'redeeming' AND sender = $1")
            .bind(address_text(sender))
            .fetch_all(db)
            .await?;
    sum(&found)
}

fn sum(found: &[PgRow]) -> Answer<Wei> {
    found.iter().try_fold(Wei::ZERO, |sum, row| add(sum, rows::parsed(row, "face_value")?))
}

/// Adds the winners up.
pub async fn add_totals(db: &mut PgConnection, totals: &mut Totals) -> Answer<()> {
    let found = sqlx::query("SELECT face_value, status, handed_over_ms FROM winners");
    for row in &found.fetch_all(db).await? {
        totals.add_winner(rows::winner_status(row)?, || rows::parsed(row, "face_value"))?;
    }
    Ok(())
}
