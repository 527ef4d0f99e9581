//! The writer: takes requests from the queue, one at a time, for as long as the node lives.

use super::{Answer, NodeError, Outcome, Request, Shared, perform};
use crate::store::{Store, StoreError};
use std::sync::{Arc, atomic::Ordering};
use tokio::sync::mpsc;

/// Ends when the last [`Node`](super::Node) is gone.
pub(super) async fn run(
    shared: Arc<Shared>,
    store: Store,
    mut waiting: mpsc::Receiver<(Request, Answer)>,
) {
    while let Some((request, answer)) = waiting.recv().await {
        let kind = request.kind();
        let result = step(&shared, &store, &request).await;
        note(kind, &result);
        // The asker may have gone; what is done stays done.
        let _ = answer.send(result);
    }
}

/// Decides, makes durable, then shows.
async fn step(shared: &Shared, store: &Store, request: &Request) -> Result<Outcome, NodeError> {
    if !shared.healthy.load(Ordering::Relaxed) {
        recover(shared, store).await?;
    }
    let (changes, outcome) = shared.read(|state| perform(state, request))?;
    if let Err(error) = store.commit(&changes).await {
        // It may be on the disk for all that: read the truth back before going on.
        shared.healthy.store(false, Ordering::Relaxed);
        return Err(error.into());
    }
    shared.write(|state| state.apply_all(&changes));
    Ok(outcome)
}

/// Takes the state from the disk again after a failed commit.
async fn recover(shared: &Shared, store: &Store) -> Result<(), StoreError> {
    let state = store.load().await?.ok_or(StoreError::Damaged { what: "chain" })?;
    shared.write(|memory| *memory = state);
    shared.healthy.store(true, Ordering::Relaxed);
    Ok(())
}

fn note(kind: &'static str, result: &Result<Outcome, NodeError>) {
    let outcome = match result {
        Ok(_) => "done",
        Err(NodeError::Rejected(_)) => "rejected",
        Err(_) => "failed",
    };
    metrics::counter!("devnet_requests_total", "kind" => kind, "outcome" => outcome).increment(1);
    match result {
        Ok(Outcome::Redeemed(r)) => tracing::info!(
            ticket_hash = %r.ticket_hash, recipient = %r.recipient,
            face_value_wei = %r.face_value, paid_wei = %r.paid(), "ticket redeemed"
        ),
        Ok(_) => {}
        Err(NodeError::Rejected(rejection)) => {
            tracing::info!(kind, reason = %rejection, "transaction rejected");
        }
        Err(error) => tracing::error!(kind, %error, "transaction failed"),
    }
}
