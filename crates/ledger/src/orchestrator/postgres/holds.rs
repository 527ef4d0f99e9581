//! What jobs under way are going to cost, for all processes to see. They are decided on under the
//! account's row, so that no two jobs begin on the same balance. A hold counts as long as its row is there;
//! those of a process whose lease has lapsed go with the row of the process, which whoever needs their room
//! removes. A process that comes back to life meanwhile waits for that row, or keeps it: so that either its
//! holds count, or it finds them gone.

use super::{Answer, LedgerError, Step, accounts};
use crate::{
    orchestrator::{
        AccountKey, Held, HoldId, HoldRequest, HoldSpent,
        rows::{address_text, parsed},
    },
    postgres::{pools::Pools, transaction::Tx},
};
use penstock_domain::Rational;
use uuid::Uuid;

/// This process among those that share the books.
#[derive(Debug, Clone, Copy)]
pub struct Us<'a> {
    /// Its row.
    pub process: Uuid,
    /// Holds that it let go, though their rows may still be there.
    pub gone: &'a [Vec<u8>],
}

impl Us<'_> {
    /// Whether a hold is gone for this process.
    pub fn has_let_go(&self, hold: HoldId) -> bool {
        self.gone.iter().any(|gone| gone == hold.0.as_bytes())
    }
}

/// Sets it aside, if there is enough beside the others; the caller commits. The inner `None`: this process
/// is dead to the others.
pub async fn take(tx: &mut Tx, us: Us<'_>, ask: &HoldRequest) -> Step<Option<Held>> {
    let Some(account) = accounts::find_to_change(tx, &ask.account).await? else {
        return Ok(Some(Some(Held::Short(None))));
    };
    let balance = account.balance();
    let mut free = &balance - &others(tx, us, ask.id, &ask.account).await?;
    if free < ask.least && bury(tx, us, &ask.account).await? {
        free = &balance - &others(tx, us, ask.id, &ask.account).await?;
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
    .bind(us.process.as_bytes().as_slice())
    .bind(address_text(ask.account.sender()))
    .bind(ask.account.session())
    .bind(ask.amount.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(Some((added.rows_affected() == 1).then_some(Held::Aside)))
}

/// What all jobs but one hold of an account, whose row is locked.
pub async fn others(
    tx: &mut Tx,
    us: Us<'_>,
    but: HoldId,
    account: &AccountKey,
) -> Answer<Rational> {
    let rows = sqlx::query(
        "SELECT amount FROM holds \
         WHERE sender = $1 AND session = $2 AND id <> $3 AND id <> ALL($4)",
    )
    .bind(address_text(account.sender()))
    .bind(account.session())
    .bind(but.0.as_bytes().as_slice())
    .bind(us.gone)
    .fetch_all(&mut **tx)
    .await?;
    let mut sum = Rational::ZERO;
    for row in &rows {
        sum += &parsed::<Rational>(row, "amount")?;
    }
    Ok(sum)
}

/// What all jobs hold of an account, whose row is locked; those of the dead are gone.
pub async fn all(tx: &mut Tx, us: Us<'_>, account: &AccountKey) -> Answer<Rational> {
    let nobody = HoldId(Uuid::nil());
    let held = others(tx, us, nobody, account).await?;
    if held.is_zero() || !bury(tx, us, account).await? {
        return Ok(held);
    }
    others(tx, us, nobody, account).await
}

/// Removes those whose lease has lapsed and that hold something of an account, with all that they hold.
/// Whether there were any.
pub async fn bury(tx: &mut Tx, us: Us<'_>, account: &AccountKey) -> Answer<bool> {
    let buried = sqlx::query(
        "DELETE FROM processes WHERE lease_until < clock_timestamp() AND id <> $3 \
           AND id IN (SELECT process FROM holds WHERE sender = $1 AND session = $2)",
    )
    .bind(address_text(account.sender()))
    .bind(account.session())
    .bind(us.process.as_bytes().as_slice())
    .execute(&mut **tx)
    .await?;
    Ok(buried.rows_affected() > 0)
}

/// A fee comes out of a hold of this size, or ends it; the account's row is locked.
pub async fn spend(tx: &mut Tx, spent: &HoldSpent, held: &Rational, fee: &Rational) -> Answer<()> {
    let id = spent.id.0;
    let query = match spent.left(held, fee) {
        None => sqlx::query("DELETE FROM holds WHERE id = $1").bind(id.as_bytes().as_slice()),
        Some(left) => sqlx::query("UPDATE holds SET amount = $2 WHERE id = $1")
            .bind(id.as_bytes().as_slice())
            .bind(left.to_string()),
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
