//! Which processes use the store now. Whoever finds something held by another learns here, without
//! waiting, that the other one is gone: a process that ends loses its connections at once, whatever it
//! had in hand. That somebody is *not* seen means something only together with how long the store has
//! been seen without a break, because after a break everybody connects anew, some sooner than others.

use crate::StoreError;
use async_trait::async_trait;

/// Whether a process is connected to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The store cannot tell.
    Unknown,
    /// It is.
    Here,
    /// It is not: it has ended, or has lost its way to the store and knows it.
    Gone {
        /// For how long the same server has answered us on the same connection, milliseconds.
        unbroken_ms: u64,
    },
}

/// See the module. A store that serves one process, or cannot tell, has nothing to add.
#[async_trait]
pub trait MemberStore: Send + Sync {
    /// The name under which this process is seen now; `None`: it is not, and is not to be looked for.
    fn seen_as(&self) -> Option<String> {
        None
    }

    /// Whether the process of that name is connected now.
    async fn sight(&self, _name: &str) -> Result<Sight, StoreError> {
        Ok(Sight::Unknown)
    }
}
