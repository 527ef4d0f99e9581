//! Where a chain keeps what of one operation is on its way, so that whoever goes on with it sends nothing twice.
//!
//! An operation is what somebody asked for once: one transaction, or a few that belong together. Its note is durable
//! before anybody has a transaction of it. The store belongs to one operation and lets nobody write who has lost it.

use crate::ChainError;
use async_trait::async_trait;
use core::fmt;
use penstock_domain::Wei;

/// The note of one operation.
#[async_trait]
pub trait Notes: Send + Sync + fmt::Debug {
    /// What an earlier life left of this operation.
    async fn read(&self) -> Result<Option<Vec<u8>>, ChainError>;

    /// Durable when it returns. An error says that nothing may be sent.
    async fn write(&self, note: Vec<u8>) -> Result<(), ChainError>;

    /// No endpoint has anything of what was noted, and nobody can send it any more.
    async fn clear(&self) -> Result<(), ChainError>;

    /// Counts what the next transaction may cost at most, ether that goes along and gas, before it is signed; again with
    /// more before a dearer version of it is. An error says that this is not to be signed. Without a count anything may be.
    async fn afford(&self, most: Wei) -> Result<(), ChainError> {
        let _ = most;
        Ok(())
    }

    /// What was noted is on the chain, and whoever asked is about to be told. A store that answers for the operation
    /// when it is asked for again keeps the note until it has that answer.
    async fn landed(&self) -> Result<(), ChainError>;
}

/// For tests: notes that outlive the handle which wrote them, and are forgotten with what landed. Clones are the same.
#[cfg(feature = "testing")]
#[derive(Debug, Clone, Default)]
pub struct NotesInMemory {
    kept: std::sync::Arc<std::sync::Mutex<Option<Vec<u8>>>>,
    /// Whether nothing can be written.
    is_broken: bool,
}

#[cfg(feature = "testing")]
impl NotesInMemory {
    /// A store that takes nothing.
    pub fn broken() -> Self {
        Self { is_broken: true, ..Self::default() }
    }

    fn set(&self, note: Option<Vec<u8>>) {
        *self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = note;
    }
}

#[cfg(feature = "testing")]
#[async_trait]
impl Notes for NotesInMemory {
    async fn read(&self) -> Result<Option<Vec<u8>>, ChainError> {
        Ok(self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }

    async fn write(&self, note: Vec<u8>) -> Result<(), ChainError> {
        if self.is_broken {
            return Err(ChainError::Unavailable { reason: "nothing can be noted".to_owned() });
        }
        self.set(Some(note));
        Ok(())
    }

    async fn clear(&self) -> Result<(), ChainError> {
        self.set(None);
        Ok(())
    }

    async fn landed(&self) -> Result<(), ChainError> {
        self.clear().await
    }
}
