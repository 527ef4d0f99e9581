//! Winners that were paid less than they promised: the contract uses a ticket up for whatever its sender has.

use penstock_domain::{B256, Wei};

/// What is said of one that was paid so much, if that is less than it promised.
pub fn short(paid: Wei, promised: Wei) -> Option<String> {
    (paid < promised).then(|| format!("paid {paid} of {promised} wei: the sender had no more"))
}

/// One more, of which the ledger says so now.
pub fn underpaid(ticket: B256, tx_hash: Option<B256>, reason: &str) {
    count(1);
    tracing::warn!(%ticket, tx = tx_hash.map(tracing::field::display), reason,
        "a winning ticket is used up");
}

/// Shows the counter before there is anything to count.
pub fn show() {
    count(0);
}

fn count(winners: u64) {
    metrics::counter!("orchestrator_winners_underpaid_total").increment(winners);
}
