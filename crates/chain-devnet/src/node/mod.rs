//! One chain, one writer: transactions wait in a bounded queue and are performed one by one. Each is
//! decided by a pure function, made durable, and only then seen by readers and answered.

mod request;
mod writer;

use crate::{
    state::{Genesis, State},
    store::{Store, StoreError, random_chain_id},
    wire::Status,
};
use penstock_chain::Redemption;
use penstock_domain::Wei;
use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicBool, atomic::Ordering},
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

pub use request::{Outcome, Rejection, Request, perform};

/// Transactions that may wait. Each takes one disk flush, so a full queue is seconds of work.
const QUEUE: usize = 256;

/// A transaction was not performed, or it is not known whether it was.
#[derive(Debug, Error)]
pub enum NodeError {
    /// It must not be. It changed nothing.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Too many wait already. Retry; it changed nothing.
    #[error("too many transactions are waiting")]
    Busy,
    /// The store failed. Ask for the outcome before trying again.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The node is stopping. Ask for the outcome after it is back.
    #[error("the devnet is stopping")]
    Stopping,
}

/// The memory that readers see.
#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    healthy: AtomicBool,
}

impl Shared {
    fn read<T>(&self, question: impl FnOnce(&State) -> T) -> T {
        // Nothing panics under the lock; were it so, the state would still be a whole one.
        question(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }
}

type Answer = oneshot::Sender<Result<Outcome, NodeError>>;

/// A running chain. Cheap to clone; it stops when [`close`](Self::close) is called.
#[derive(Debug, Clone)]
pub struct Node {
    shared: Arc<Shared>,
    queue: mpsc::Sender<(Request, Answer)>,
    store: Store,
    gas_price: Wei,
}

impl Node {
    /// Opens the chain of a data folder, or begins one there, and starts its writer.
    pub async fn open(
        data_dir: &Path,
        round_length: u64,
        gas_price: Wei,
    ) -> Result<Self, StoreError> {
        let new = Genesis { chain_id: random_chain_id(), round_length };
        let (store, state) = Store::open(data_dir, new).await?;
        let shared = Arc::new(Shared { state: RwLock::new(state), healthy: AtomicBool::new(true) });
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(writer::run(Arc::clone(&shared), store.clone(), waiting));
        Ok(Self { shared, queue, store, gas_price })
    }

    /// Performs a transaction: when this answers, its outcome is on the disk. Dropping the future
    /// does not take the transaction back.
    pub async fn submit(&self, request: Request) -> Result<Outcome, NodeError> {
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send((request, answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NodeError::Busy,
            mpsc::error::TrySendError::Closed(_) => NodeError::Stopping,
        })?;
        outcome.await.map_err(|_| NodeError::Stopping)?
    }

    /// Looks at the state. The question must be quick: the writer waits for it.
    pub fn read<T>(&self, question: impl FnOnce(&State) -> T) -> T {
        self.shared.read(question)
    }

    /// Everything there is one of.
    pub fn status(&self) -> Status {
        self.read(|state| state.status(self.gas_price))
    }

    /// The newest redemptions first.
    pub async fn redemptions(&self, limit: u32) -> Result<Vec<Redemption>, NodeError> {
        Ok(self.store.redemptions(limit).await?)
    }

    /// Whether the last commit worked.
    pub fn is_healthy(&self) -> bool {
        self.shared.healthy.load(Ordering::Relaxed)
    }

    /// Lets go of the data folder; transactions after it are refused.
    pub async fn close(&self) {
        self.store.close().await;
    }
}

#[cfg(test)]
mod tests;
