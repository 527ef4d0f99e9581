//! The smallest unit of change: one row's new content. The store writes it, [`State::apply`]
//! repeats it in memory; loading all rows gives the same state again.

use super::{Account, Claim, Flows, Head, Orchestrator, Sender, State};
use penstock_chain::Redemption;
use penstock_domain::{Address, B256};

/// A row's new content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The head.
    Head(Head),
    /// A round was initialised.
    Round(u64, B256),
    /// A sender.
    Sender(Address, Sender),
    /// What (holder, claimant) stands at.
    Claim(Address, Address, Claim),
    /// An orchestrator.
    Orchestrator(Address, Orchestrator),
    /// An account.
    Account(Address, Account),
    /// A ticket was redeemed. Never for a ticket that has one.
    Redemption(Redemption),
    /// The sums.
    Flows(Flows),
}

impl State {
    /// Takes over one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Head(head) => self.head = *head,
            Change::Round(round, hash) => {
                self.round_hashes.insert(*round, *hash);
            }
            Change::Sender(address, sender) => {
                self.senders.insert(*address, *sender);
            }
            Change::Claim(holder, claimant, claim) => {
                self.claims.insert((*holder, *claimant), *claim);
            }
            Change::Orchestrator(address, orchestrator) => {
                self.orchestrators.insert(*address, orchestrator.clone());
            }
            Change::Account(address, account) => {
                self.accounts.insert(*address, *account);
            }
            Change::Redemption(redemption) => {
                self.redemptions.insert(redemption.ticket_hash, *redemption);
            }
            Change::Flows(flows) => self.flows = *flows,
        }
    }

    /// Takes over all of a transaction's changes.
    pub fn apply_all(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply(change);
        }
    }
}
