//! When a winner that was not redeemed is tried again, and what is said of it meanwhile: ever later, and once for each
//! reason. What can be paid again is found out within the longest wait, which is far shorter than a round.

use crate::chain_view::Snapshot;
use penstock_ledger::orchestrator::StoredWinner;

/// The block before which one that fails, or is put off, now is not tried again. At the end of its last round it does not
/// wait long.
pub fn later(stored: &StoredWinner, snapshot: &Snapshot) -> u64 {
    after(stored.attempts.saturating_add(1), stored, snapshot)
}

/// The block before which a winner is not tried again of which nobody knows why it was not redeemed: at once when it was
/// tried once, since a process may have died; after that it waits as others do that failed.
pub fn interrupted_until(stored: &StoredWinner, snapshot: &Snapshot) -> u64 {
    match stored.attempts {
        0 | 1 => snapshot.rounds.last_seen_l1_block,
        attempts => after(attempts - 1, stored, snapshot),
    }
}

fn after(attempts: u32, stored: &StoredWinner, snapshot: &Snapshot) -> u64 {
    let created = stored.winner.ticket.expiration_params.creation_round;
    snapshot.queue_view().retry_block(created, attempts)
}

/// Whether this reason is another one than was said before. Amounts, prices and blocks in it change with every block.
pub fn is_news(stored: &StoredWinner, reason: &str) -> bool {
    let words = |text: &str| text.split(|c: char| c.is_ascii_digit()).collect::<String>();
    stored.reason.as_deref().map(words) != Some(words(reason))
}
