//! Accounts that were paid for sessions of live video, and in whose hands they are: of a session that begins or
//! runs, or of nobody, with what is left for the sender's next one. What a process that is dead
//! to the others had is anybody's. A row of this table is the last that a transaction locks.

use super::Answer;
use crate::{
    orchestrator::{
        AccountKey, Start,
        plan::{Left, MOST_STARTS},
        rows::{self, account_columns, address_text},
    },
    postgres::transaction::Tx,
};
use penstock_domain::Address;
use uuid::Uuid;

/// An account is paid for a start of this process; one that is in other hands by now stays there.
pub async fn open(
    tx: &mut Tx,
    key: &AccountKey,
    process: Uuid,
    attempt: Uuid,
    now_ms: i64,
) -> Answer<()> {
    sqlx::query(
        "INSERT INTO starts (sender, session, process, attempt, created_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (sender, session) DO UPDATE SET process = excluded.process, attempt = excluded.attempt \
         WHERE starts.process IS NULL OR starts.attempt = excluded.attempt",
    )
    .bind(address_text(key.sender()))
    .bind(key.session())
    .bind(process.as_bytes().as_slice())
    .bind(attempt.as_bytes().as_slice())
    .bind(now_ms)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// In nobody's hands, or in those of a process that is dead to the others; $1 is the sender, $2 this process.
macro_rules! free {
    () => {
        "sender = $1 AND (process IS NULL OR (process <> $2 AND NOT EXISTS \
           (SELECT 1 FROM processes p WHERE p.id = process AND p.lease_until > clock_timestamp())))"
    };
}

/// Of a sender's that are in nobody's hands, the one with the most left; the caller commits. One
/// that another process takes just now is that process's.
pub async fn adopt(
    tx: &mut Tx,
    sender: Address,
    process: Uuid,
    attempt: Uuid,
    spent_before_ms: i64,
) -> Answer<Option<AccountKey>> {
    let (sender, process) = (address_text(sender), process.as_bytes().as_slice());
    let found = sqlx::query(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts WHERE sender = $1 AND (credited <> debited OR updated_ms < $3) AND session IN \
           (SELECT session FROM starts WHERE ",
        free!(),
        ") ORDER BY updated_ms, session LIMIT $4"
    ))
    .bind(&sender)
    .bind(process)
    .bind(spent_before_ms)
    .bind(i64::from(MOST_STARTS))
    .fetch_all(&mut **tx)
    .await?;
    let found = found.iter().map(rows::account).collect::<Answer<Vec<_>>>()?;
    let left = Left::of(found, spent_before_ms);
    for key in left.free {
        let taken = sqlx::query(concat!(
            "UPDATE starts SET process = $2, attempt = $4 WHERE session = $3 AND ",
            free!()
        ))
        .bind(&sender)
        .bind(process)
        .bind(key.session())
        .bind(attempt.as_bytes().as_slice())
        .execute(&mut **tx)
        .await?;
        if taken.rows_affected() == 1 {
            return Ok(Some(key));
        }
    }
    let spent: Vec<_> = left.spent.iter().map(|key| key.session().to_owned()).collect();
    sqlx::query(concat!(
        "DELETE FROM starts WHERE sender = $1 AND session IN (SELECT session FROM starts WHERE session = ANY($3) AND ",
        free!(),
        " FOR UPDATE SKIP LOCKED)"
    ))
    .bind(&sender)
    .bind(process)
    .bind(&spent)
    .execute(&mut **tx)
    .await?;
    Ok(None)
}

/// It is in nobody's hands, if it was in this attempt's.
pub async fn end(tx: &mut Tx, start: &Start, process: Uuid) -> Answer<()> {
    sqlx::query(
        "UPDATE starts SET process = NULL, attempt = NULL \
         WHERE sender = $1 AND session = $2 AND process = $3 AND attempt = $4",
    )
    .bind(address_text(start.account.sender()))
    .bind(start.account.session())
    .bind(process.as_bytes().as_slice())
    .bind(start.attempt.as_bytes().as_slice())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
