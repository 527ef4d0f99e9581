//! What of the books may go when it is old, and what is left of it.
//!
//! Two steps, each with its own age. An *answer* shrinks to the digests of its tickets, which is what
//! the audit is compared with; the payment stays. A *payment* is added to its day's line of usage and
//! its row goes, a session's row with its last payment, and counters of periods that are over. Never
//! taken away: nonces (a hash that was forgotten would begin at 1 again), the audit with its heads,
//! events that wait, open reservations, totals, accounts.

use penstock_domain::{AuthId, B256, Wei};

/// First byte of what is left of an answer. An answer is JSON and never begins so.
const SHRUNK: u8 = 0;

/// Which tickets an answer holds, by the digests that were signed; `None`: it cannot be read, and
/// stays as it is.
pub type ReadDigests = fn(&[u8]) -> Option<Vec<B256>>;

/// How much was taken out of the books.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Payments from this moment on are all there, Unix milliseconds.
    pub before_ms: i64,
    /// Payments that are in lines of usage only.
    pub payments: u64,
    /// Tickets in them.
    pub tickets: u64,
}

/// What pruned payments of one day were charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedLine {
    /// Its number in the books.
    pub n: i64,
    /// Account that asked.
    pub account: String,
    /// Subject the account acted for.
    pub auth_id: Option<AuthId>,
    /// The day's first moment, Unix milliseconds.
    pub day_ms: i64,
    /// Whole wei, to each of their counters.
    pub charged_wei: Wei,
}

/// How far answers have shrunk, beside [`Pruned`]: the row that is locked while something is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Time and number of the last payment whose answer was looked at.
    pub answers: (i64, i64),
    pub pruned: Pruned,
}

/// What is left of an answer.
pub(super) fn shrink(digests: &[B256]) -> Vec<u8> {
    core::iter::once(SHRUNK).chain(digests.iter().flat_map(|digest| digest.0)).collect()
}

/// The digests that are left of an answer; `None`: it is whole.
pub fn digests_left(answer: &[u8]) -> Option<Vec<B256>> {
    let (first, digests) = answer.split_first()?;
    (*first == SHRUNK).then(|| digests.chunks_exact(32).map(B256::from_slice).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_reads_back() {
        for digests in [vec![], vec![B256::ZERO], vec![B256::repeat_byte(1), B256::repeat_byte(2)]]
        {
            assert_eq!(digests_left(&shrink(&digests)), Some(digests));
        }
        for whole in [&b"{}"[..], b"", b"1"] {
            assert_eq!(digests_left(whole), None);
        }
    }
}
