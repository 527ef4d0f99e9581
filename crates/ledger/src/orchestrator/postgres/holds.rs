//! What jobs under way are going to cost, for all processes to see. They are decided on under the
//! account's row, so that no two jobs begin on the same balance; those of a process whose lease has
//! lapsed do not count.

use super::{Answer, LedgerError, Step, accounts};
use crate::{
    orchestrator::{
        Held, HoldId, HoldLeft, HoldRequest,
        rows::{address_text, parsed},
    },
    postgres::{pools::Pools, transaction::Tx},
};
use penstock_domain::Rational;
use uuid::Uuid;

/// Sets it aside, if there is enough beside the others; the caller commits. `gone`: let go by this
/// process, though the row may still be there. The inner `None`: this process is dead to the others.
pub async fn take(
    tx: &mut Tx,
    process: Uuid,
    ask: &HoldRequest,
    gone: &[Vec<u8>],
) -> Step<Option<Held>> {
    let Some(account) = accounts::find_to_change(tx, &ask.account).await? else {
        return Ok(Some(Some(Held::Short(None))));
    };
    let rows = sqlx::query(
        "SELECT h.amount FROM holds h JOIN processes p ON p.id = h.process \
         WHERE h.sender = $1 AND h.session = $2 AND h.id <> $3 AND h.id <> ALL($4) \
           AND p.lease_until > clock_timestamp()",
    )
    .bind(address_text(ask.account.sender()))
    .bind(ask.account.session())
    .bind(ask.id.0.as_bytes().as_slice())
    .bind(gone)
    .fetch_all(&mut **tx)
    .await?;
    let mut free = account.balance();
    for row in &rows {
        free -= &parsed::<Rational>(row, "amount")?;
    }
    if free < ask.least {
        return Ok(Some(Some(Held::Short(Some(free)))));
    }
    // The process's row is locked: it does not go before its hold is there to go with it.
    let added = sqlx::query(
        "WITH alive AS (SELECT id FROM processes WHERE id = $2 FOR KEY SHARE) \
         INSERT INTO holds (id, process, sender, session, amount) \
         SELECT $1, id, $3, $4, $5 FROM alive \
         ON CONFLICT (id) DO UPDATE SET amount = excluded.amount",
    )
    .bind(ask.id.0.as_bytes().as_slice())
    .bind(process.as_bytes().as_slice())
    .bind(address_text(ask.account.sender()))
    .bind(ask.account.session())
    .bind(ask.amount.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(Some((added.rows_affected() == 1).then_some(Held::Aside)))
}

/// What is left of a hold when a fee is booked; the account's row is locked.
pub async fn change(tx: &mut Tx, hold: &HoldLeft) -> Answer<()> {
    let id = hold.id.0;
    let query = if hold.left.is_zero() {
        sqlx::query("DELETE FROM holds WHERE id = $1").bind(id.as_bytes().as_slice())
    } else {
        sqlx::query("UPDATE holds SET amount = $2 WHERE id = $1")
            .bind(id.as_bytes().as_slice())
            .bind(hold.left.to_string())
    };
    query.execute(&mut **tx).await?;
    Ok(())
}

/// Removes some.
pub async fn remove(pools: &Pools, holds: &[HoldId]) -> Answer<()> {
    let ids: Vec<Vec<u8>> = holds.iter().map(|hold| hold.0.as_bytes().to_vec()).collect();
    let mut tx = pools.begin_with::<LedgerError>(super::LIGHT).await?;
    let work = async {
        sqlx::query("DELETE FROM holds WHERE id = ANY($1)").bind(ids).execute(&mut *tx).await?;
        Answer::Ok(())
    };
    pools.watch.answer(work).await?;
    pools.commit(tx).await
}
