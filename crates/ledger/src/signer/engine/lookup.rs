//! The task that looks sessions up: every payment with a state needs one, and one question for all
//! that wait costs the database, and us, hardly more than one for each.

use super::{batch::Reply, store::Store};
use crate::signer::{LedgerError, Session};
use penstock_domain::StateId;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::mpsc;

/// Most sessions asked for at once.
const BATCH: usize = 128;

/// A session that somebody waits for.
pub type Wanted = (StateId, Reply<Option<Session>>);

/// Answers until the queue is closed and empty.
pub async fn run<S: Store>(store: Arc<S>, mut queue: mpsc::Receiver<Wanted>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let mut ids: Vec<StateId> = batch.iter().map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        let found = store.sessions_by_id(&ids).await;
        let found = found.map(|sessions| {
            let named = sessions.into_iter().map(|session| (session.state_id.clone(), session));
            named.collect::<HashMap<_, _>>()
        });
        for (id, reply) in batch.drain(..) {
            let answer: Result<_, LedgerError> = match &found {
                Ok(sessions) => Ok(sessions.get(&id).cloned()),
                Err(error) => Err(error.clone()),
            };
            // A caller that has gone is no concern.
            let _ = reply.send(answer);
        }
    }
}
