//! The redeemer, as the orchestrator that hands over to it sees it: one client, and whether it is there.

use penstock_clients::{CallError, CallErrorKind, RedeemerClient};
use penstock_domain::{Address, Wei};
use penstock_http_kit::health::NotReady;
use penstock_payments::Winner;
use penstock_wire::{ExpirationFields, redeemer::WinnerFields};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// gRPC codes of a redeemer that is not there, whoever says so: CANCELLED, UNKNOWN, DEADLINE_EXCEEDED,
/// UNAVAILABLE.
const AWAY: [i32; 4] = [1, 2, 4, 14];
/// gRPC code of one that does not know us: UNAUTHENTICATED.
const STRANGER: i32 = 16;

/// The redeemer.
#[derive(Debug)]
pub struct Remote {
    /// Calls it.
    pub client: RedeemerClient,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// Why it is of no use now; nothing while it is. At first nobody knows.
    away: Option<String>,
    /// When it was last heard, or tried.
    last: Option<Instant>,
}

impl Remote {
    /// One that nobody has called yet.
    pub fn new(client: RedeemerClient) -> Self {
        let away = Some("--redeemer-addr was not reached yet".to_owned());
        metrics::gauge!("orchestrator_redeemer_up").set(0.0);
        Self { client, seen: Mutex::new(Seen { away, last: None }) }
    }

    /// Hands a winner over. `Ok`: it is on the redeemer's disk.
    pub async fn queue(&self, winner: &Winner) -> Result<(), CallError> {
        let sent = self.client.queue_ticket(&fields(winner)).await;
        self.note(sent.as_ref().err());
        sent
    }

    /// Asks for a max float.
    pub async fn max_float(&self, sender: Address) -> Result<Wei, CallError> {
        let told = self.client.max_float(sender).await;
        self.note(told.as_ref().err());
        told
    }

    /// What a call says about whether the redeemer is there.
    pub fn note(&self, error: Option<&CallError>) {
        let away = error.and_then(why_away);
        let mut seen = self.seen();
        seen.last = Some(Instant::now());
        if seen.away.is_some() != away.is_some() {
            match &away {
                Some(reason) => tracing::warn!(
                    redeemer = self.client.origin(),
                    reason,
                    "the redeemer is away: winners wait here"
                ),
                None => tracing::info!(redeemer = self.client.origin(), "the redeemer is there"),
            }
            metrics::gauge!("orchestrator_redeemer_up").set(if away.is_none() { 1.0 } else { 0.0 });
        }
        seen.away = away;
    }

    /// When it was last called.
    pub fn last_call(&self) -> Option<Instant> {
        self.seen().last
    }

    /// For `/readyz`: what works less well while the redeemer is away.
    pub fn readiness(&self) -> Option<NotReady> {
        let reason = self.seen().away.clone()?;
        Some(NotReady::degraded("redeemer", reason))
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Plain values, each whole.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a failed call means that nothing can be handed over now; `None` if it was about what was sent.
pub fn why_away(error: &CallError) -> Option<String> {
    match &error.kind {
        CallErrorKind::Grpc { code: STRANGER, .. } => {
            Some("--redeemer-addr wants another secret (--redeemer-secret-file)".to_owned())
        }
        CallErrorKind::Grpc { code, .. } if !AWAY.contains(code) => None,
        CallErrorKind::Answer(_) | CallErrorKind::Request(_) => None,
        kind => Some(format!("--redeemer-addr does not answer: {kind}")),
    }
}

/// A winner as it travels.
fn fields(winner: &Winner) -> WinnerFields {
    let ticket = &winner.ticket;
    WinnerFields {
        recipient: ticket.recipient,
        sender: ticket.sender,
        face_value: ticket.face_value,
        win_prob: ticket.win_prob,
        sender_nonce: ticket.sender_nonce,
        recipient_rand_hash: ticket.recipient_rand_hash,
        recipient_rand: winner.recipient_rand.to_u256(),
        expiration_block: winner.params_expiration_block,
        expiration_params: ExpirationFields {
            creation_round: ticket.expiration_params.creation_round,
            creation_round_block_hash: ticket.expiration_params.creation_round_block_hash,
        },
        sig: winner.signature.as_bytes().to_vec(),
    }
}
