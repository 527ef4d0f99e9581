//! The reserve: each active orchestrator may take an equal part of it in a round
//! (on-chain.md section 3.3).

use super::State;
use penstock_chain::Revert;
use penstock_domain::{Address, U256, Wei};

/// `claimableReserve`: `floor((funds + claimed by all) / pool size) − claimed by claimant`, and 0
/// for an account that is not active. Underflows, as the contract does, when the pool grew or the
/// reserve shrank after a claim.
pub fn claimable_reserve(state: &State, holder: Address, claimant: Address) -> Result<Wei, Revert> {
    let pool_size = state.pool_size();
    if pool_size == 0 || !state.is_active(claimant) {
        return Ok(Wei::ZERO);
    }
    let sender = state.sender(holder);
    let claimed = sender.claimed.in_round(state.current_round());
    let total = sender.reserve.checked_add(claimed).ok_or(Revert::Arithmetic)?;
    let part = total.0.checked_div(U256::from(pool_size)).ok_or(Revert::Arithmetic)?;
    Wei(part).checked_sub(state.claimed_reserve(holder, claimant)).ok_or(Revert::Arithmetic)
}
