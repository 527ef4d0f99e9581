//! What the state looks like from outside.

use super::State;
use crate::wire::{AccountView, OrchestratorView, Status, Totals};
use penstock_chain::{ReserveInfo, SenderInfo};
use penstock_domain::{Address, B256, U256, Wei};

impl State {
    /// `getSenderInfo`.
    pub fn sender_info(&self, address: Address) -> SenderInfo {
        let sender = self.sender(address);
        SenderInfo {
            deposit: sender.deposit,
            withdraw_round: sender.withdraw_round,
            reserve: ReserveInfo {
                funds_remaining: sender.reserve,
                claimed_in_current_round: sender.claimed.in_round(self.current_round()),
            },
        }
    }

    /// Everything there is one of.
    pub fn status(&self, gas_price: Wei) -> Status {
        let last = self.head.last_initialized_round;
        let hash = |round| self.round_hashes.get(&round).copied().unwrap_or(B256::ZERO);
        Status {
            chain_id: self.genesis.chain_id,
            l1_block: self.head.l1_block,
            round_length: self.genesis.round_length,
            current_round: self.current_round(),
            last_initialized_round: last,
            l1_block_hash: hash(last),
            previous_round_l1_block_hash: hash(last.saturating_sub(1)),
            pool_size: self.pool_size(),
            gas_price_wei: gas_price,
            redemptions: u64::try_from(self.redemptions.len()).unwrap_or(u64::MAX),
            totals: self.totals(),
        }
    }

    /// Where the money is. Saturates, which cannot happen: all of it is within `funded`.
    pub fn totals(&self) -> Totals {
        let sum = |amounts: &mut dyn Iterator<Item = Wei>| {
            Wei(amounts.fold(U256::ZERO, |sum, wei| sum.saturating_add(wei.0)))
        };
        Totals {
            funded_wei: self.flows.funded,
            deposits_wei: sum(&mut self.senders.values().map(|s| s.deposit)),
            reserves_wei: sum(&mut self.senders.values().map(|s| s.reserve)),
            paid_wei: self.flows.paid,
            withdrawn_wei: self.flows.withdrawn,
        }
    }

    /// An orchestrator; one that never joined is all zero.
    pub fn orchestrator_view(&self, address: Address) -> OrchestratorView {
        let orchestrator = self.orchestrators.get(&address).cloned().unwrap_or_default();
        OrchestratorView {
            address,
            service_uri: orchestrator.service_uri,
            activation_round: orchestrator.activation_round,
            deactivation_round: orchestrator.deactivation_round,
            registered: orchestrator.registered,
            active: self.is_active(address),
        }
    }

    /// The orchestrators that are active in the current round, by address.
    pub fn active_orchestrators(&self) -> Vec<OrchestratorView> {
        let active = |address: &&Address| self.is_active(**address);
        self.orchestrators.keys().filter(active).map(|a| self.orchestrator_view(*a)).collect()
    }

    /// An account.
    pub fn account_view(&self, address: Address) -> AccountView {
        let account = self.account(address);
        AccountView {
            address,
            nonce: account.nonce,
            earned_wei: account.earned,
            withdrawn_wei: account.withdrawn,
        }
    }
}
