//! Transactions on connections that are kept between them.
//!
//! A pool asks whether a connection is well each time it gets one back, which it does twice and which
//! are round trips: as many as a small batch itself takes. So a connection whose transaction ended
//! well waits here for the next one, and the pool gets only those that may not be well.

use super::bounded_pool::{Lent, Pool};
use core::ops::{Deref, DerefMut};
use sqlx::{Executor as _, PgConnection};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Then a connection goes back to the pool, which decides on its further life.
const KEPT: Duration = Duration::from_secs(600);

/// Connections between two transactions.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    idle: Vec<Lent>,
    /// How many are waiting for one of the pool's: none is kept from them.
    waiting: usize,
    closed: bool,
}

impl Kept {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a transaction with `sql`, in one round trip. The error may be the connection's, which is
    /// not kept then.
    pub async fn begin(&self, pool: &Pool, sql: &'static str) -> Result<Tx, sqlx::Error> {
        // The pool looks at those that it lends itself.
        let well = |lent: &Lent| lent.age() < KEPT && !lent.is_suspect();
        let mut waiting = None;
        let kept = self.with(|state| {
            let kept = std::iter::from_fn(|| state.idle.pop()).find(well);
            if kept.is_none() {
                state.waiting = state.waiting.saturating_add(1);
                waiting = Some(Waiting(self));
            }
            kept
        });
        let lent = match kept {
            Some(lent) => lent,
            None => pool.lend().await?,
        };
        drop(waiting);
        let mut tx = Tx(lent);
        tx.execute(sql).await?;
        Ok(tx)
    }

    /// Ends a transaction.
    pub async fn commit(&self, mut tx: Tx) -> Result<(), sqlx::Error> {
        tx.execute("COMMIT").await?;
        self.with(|state| {
            if state.waiting == 0 && !state.closed {
                state.idle.push(tx.0);
            }
        });
        Ok(())
    }

    /// Gives all connections back to the pool, now and later.
    pub fn close(&self) {
        let idle = self.with(|state| {
            state.closed = true;
            std::mem::take(&mut state.idle)
        });
        drop(idle);
    }
}

/// Somebody who waits for the pool, until dropped.
struct Waiting<'a>(&'a Kept);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.waiting = state.waiting.saturating_sub(1));
    }
}

/// An open transaction; dropped, the pool gets its connection and rolls it back.
#[derive(Debug)]
pub struct Tx(Lent);

impl Deref for Tx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}
