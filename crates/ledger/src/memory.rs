//! Books in memory, for simulations and tests: rows that outlive the process which wrote them, and
//! writes that go wrong when they are told to.
//!
//! A process is a handle. After [`Disk::crash`] what a handle does happens in a dead process: it changes
//! nothing.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is stored, and the caller is told so.
    Done,
    /// Nothing is stored, and the caller is told that the database is away.
    Refused,
    /// It is stored, and the caller hears nothing but that the database is away.
    Unanswered,
    /// Nothing is stored, and the caller is told that it is. No disk may do that: for tests of whether
    /// somebody would notice.
    Lied,
}

#[derive(Debug, Default)]
struct Kept<R> {
    rows: R,
    /// The newest process, and the newest that is dead.
    process: u64,
    dead: u64,
    /// Of the coming writes, first the next one's. Those after it are done.
    fates: VecDeque<Fate>,
}

/// What is on the disk. Clones are the same disk.
#[derive(Debug, Default)]
pub struct Disk<R> {
    kept: Arc<Mutex<Kept<R>>>,
    /// One transaction at a time, of all processes.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl<R> Clone for Disk<R> {
    fn clone(&self) -> Self {
        Self { kept: Arc::clone(&self.kept), turn: Arc::clone(&self.turn) }
    }
}

impl<R> Disk<R> {
    fn lock(&self) -> MutexGuard<'_, Kept<R>> {
        // Rows change as a whole or not at all.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of the write after those that have a fate already.
    pub fn fate(&self, fate: Fate) {
        self.lock().fates.push_back(fate);
    }

    /// Every write from now on is done.
    pub fn forget_fates(&self) {
        self.lock().fates.clear();
    }

    /// All processes die.
    pub fn crash(&self) {
        let mut kept = self.lock();
        kept.dead = kept.process;
        kept.fates.clear();
    }

    /// Changes rows behind everybody's back.
    pub(crate) fn meddle(&self, change: impl FnOnce(&mut R)) {
        change(&mut self.lock().rows);
    }

    /// The right to a transaction that is not one step.
    pub(crate) async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// A new process.
    pub(crate) fn process(&self) -> Process<R> {
        let mut kept = self.lock();
        kept.process = kept.process.saturating_add(1);
        Process { disk: self.clone(), number: kept.process }
    }
}

/// One process on the disk.
#[derive(Debug)]
pub(crate) struct Process<R> {
    disk: Disk<R>,
    number: u64,
}

impl<R: Clone> Process<R> {
    /// Where it is.
    pub fn disk(&self) -> &Disk<R> {
        &self.disk
    }

    /// Names the process among all on this disk.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Looks at the rows.
    pub fn read<T>(&self, look: impl FnOnce(&R) -> T) -> Result<T, sqlx::Error> {
        let kept = self.disk.lock();
        if self.number <= kept.dead {
            return Err(sqlx::Error::PoolClosed);
        }
        Ok(look(&kept.rows))
    }

    /// The rows as they are now, for a transaction that [`Self::put`] ends.
    pub fn copy(&self) -> Result<R, sqlx::Error> {
        self.read(R::clone)
    }

    /// Stores what a transaction made of the rows. Transactions must not overlap.
    pub fn put(&self, rows: R) -> Result<(), sqlx::Error> {
        let mut kept = self.disk.lock();
        if self.number <= kept.dead {
            return Err(sqlx::Error::PoolClosed);
        }
        let fate = kept.fates.pop_front().unwrap_or(Fate::Done);
        if matches!(fate, Fate::Done | Fate::Unanswered) {
            kept.rows = rows;
        }
        if matches!(fate, Fate::Done | Fate::Lied) { Ok(()) } else { Err(away()) }
    }

    /// One transaction: what `change` does to the rows happens as a whole, or not at all if it fails.
    pub fn write<T, E: From<sqlx::Error>>(
        &self,
        change: impl FnOnce(&mut R) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut rows = self.copy()?;
        let done = change(&mut rows)?;
        self.put(rows)?;
        Ok(done)
    }
}

fn away() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ConnectionReset, "away, as it was told"))
}
