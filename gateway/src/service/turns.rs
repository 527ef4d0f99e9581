//! One purchase of a session at a time in this replica: whoever finds no credit while another job here buys
//! some waits for its end, and then looks for credit again. (Between replicas there is the session's lease.)

use penstock_store::SessionKey;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Purchases that are being made here.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Mutex<HashMap<SessionKey, watch::Receiver<()>>>>);

/// The right to buy. Dropped, everybody who waits is woken.
#[derive(Debug)]
pub struct Turn {
    all: Turns,
    key: SessionKey,
    /// Dropped after the place is free.
    _end: watch::Sender<()>,
}

/// A purchase of somebody else here.
#[derive(Debug)]
pub struct Others(watch::Receiver<()>);

impl Turns {
    fn all(&self) -> MutexGuard<'_, HashMap<SessionKey, watch::Receiver<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to buy for a session, unless somebody here has it.
    pub fn take(&self, key: &SessionKey) -> Result<Turn, Others> {
        let mut all = self.all();
        if let Some(end) = all.get(key) {
            return Err(Others(end.clone()));
        }
        let (end, ended) = watch::channel(());
        all.insert(key.clone(), ended);
        Ok(Turn { all: self.clone(), key: key.clone(), _end: end })
    }

    /// The purchase that is being made here.
    pub fn running(&self, key: &SessionKey) -> Option<Others> {
        self.all().get(key).cloned().map(Others)
    }
}

impl Turn {
    /// For which session.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.all().remove(&self.key);
    }
}

impl Others {
    /// Waits until it is over, however it went.
    pub async fn end(mut self) {
        // Nothing is ever sent: this is the sender's end.
        while self.0.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn key(scope: &str) -> SessionKey {
        SessionKey { scope: scope.into(), orchestrator: "o".into() }
    }

    #[test]
    fn whoever_waits_is_woken_when_the_purchase_is_over() {
        let turns = Turns::default();
        assert!(turns.running(&key("a")).is_none());
        let turn = turns.take(&key("a")).unwrap();
        let _another = turns.take(&key("b")).unwrap();
        let mut waiting = [
            Box::pin(turns.take(&key("a")).unwrap_err().end()),
            Box::pin(turns.running(&key("a")).unwrap().end()),
        ];
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
        drop(turn);
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_some()));
        let next = turns.take(&key("a")).unwrap();
        assert!(turns.take(&key("a")).is_err());
        drop(next);
        assert_eq!(turns.all().len(), 1);
    }
}
