//! Which processes are alive, who redeems, and what all have in common. Times are the server's own, so
//! that the clocks of the processes do not matter.

use super::{Answer, LedgerError};
use crate::{
    orchestrator::{Fence, LeaseTime, Mark},
    postgres::{pools::Pools, transaction::Tx},
};
use uuid::Uuid;

/// Says that a process is alive. `false`: it has no row, be it that it is new, or that it was buried and
/// what it held with it.
pub async fn renew(pools: &Pools, process: Uuid, lease: LeaseTime) -> Answer<bool> {
    let mut tx = pools.begin_with::<LedgerError>(super::LIGHT).await?;
    let work = async {
        let renewed = sqlx::query(
            "UPDATE processes SET lease_until = clock_timestamp() + make_interval(secs => $2) \
             WHERE id = $1",
        )
        .bind(process.as_bytes().as_slice())
        .bind(lease.0.as_secs_f64())
        .execute(&mut *tx)
        .await?;
        Answer::Ok(renewed.rows_affected() > 0)
    };
    let is_known = pools.watch.answer(work).await?;
    pools.commit::<LedgerError>(tx).await?;
    Ok(is_known)
}

/// A process begins, or begins anew.
pub async fn enter(pools: &Pools, process: Uuid, lease: LeaseTime) -> Answer<()> {
    let mut tx = pools.begin_with::<LedgerError>(super::LIGHT).await?;
    let work = async {
        sqlx::query(
            "INSERT INTO processes (id, lease_until) \
             VALUES ($1, clock_timestamp() + make_interval(secs => $2)) \
             ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until",
        )
        .bind(process.as_bytes().as_slice())
        .bind(lease.0.as_secs_f64())
        .execute(&mut *tx)
        .await?;
        Answer::Ok(())
    };
    pools.watch.answer(work).await?;
    pools.commit(tx).await
}

/// Removes those that have not said for too long that they are alive, with what they hold.
pub async fn bury(pools: &Pools) -> Answer<()> {
    let mut tx = pools.begin_with::<LedgerError>(super::LIGHT).await?;
    let work = async {
        sqlx::query(
            "DELETE FROM processes WHERE id IN (SELECT id FROM processes \
             WHERE lease_until < clock_timestamp() FOR UPDATE SKIP LOCKED)",
        )
        .execute(&mut *tx)
        .await?;
        Answer::Ok(())
    };
    pools.watch.answer(work).await?;
    pools.commit(tx).await
}

/// A process ends by itself: its holds go with its row, and nobody has to wait for its lease.
pub async fn resign(pools: &Pools, process: Uuid) -> Answer<()> {
    let mut tx = pools.begin::<LedgerError>().await?;
    let work = async {
        sqlx::query("DELETE FROM processes WHERE id = $1")
            .bind(process.as_bytes().as_slice())
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE leases SET lease_until = '-infinity' WHERE owner = $1")
            .bind(process.as_bytes().as_slice())
            .execute(&mut *tx)
            .await?;
        Answer::Ok(())
    };
    pools.watch.answer(work).await?;
    pools.commit(tx).await
}

/// The right to redeem: kept by whoever has it, taken from whoever let it lapse.
pub async fn redeemer(tx: &mut Tx, process: Uuid, lease: LeaseTime) -> Answer<Option<Fence>> {
    let fence: Option<i64> = sqlx::query_scalar(
        "INSERT INTO leases (name, owner, fence, lease_until) \
         VALUES ('redeemer', $1, 1, clock_timestamp() + make_interval(secs => $2)) \
         ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, \
           fence = leases.fence + (leases.owner <> excluded.owner)::int, \
           lease_until = excluded.lease_until \
         WHERE leases.owner = excluded.owner OR leases.lease_until < clock_timestamp() \
         RETURNING fence",
    )
    .bind(process.as_bytes().as_slice())
    .bind(lease.0.as_secs_f64())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(fence.map(Fence))
}

/// Remembers what is new, and names what is another.
pub async fn claim(tx: &mut Tx, marks: &[Mark], replace: bool) -> Answer<Vec<&'static str>> {
    let mut others = Vec::new();
    for Mark { name, mark } in marks {
        // Of those that start together the first one's stays: the others wait for it here.
        let sql = if replace {
            "INSERT INTO marks (name, mark) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET mark = excluded.mark RETURNING mark"
        } else {
            "INSERT INTO marks (name, mark) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET mark = marks.mark RETURNING mark"
        };
        let kept: String =
            sqlx::query_scalar(sql).bind(name).bind(mark).fetch_one(&mut **tx).await?;
        if kept != *mark {
            others.push(*name);
        }
    }
    Ok(others)
}
