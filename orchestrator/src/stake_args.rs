//! Settings of the orchestrator's own stake on a chain that has it.

use crate::service::stake::Automatic;
use clap::Args;
use std::time::Duration;

/// Who changes stake, terms and name, and what is done by itself in each round. Used when --chain is ethereum:URL.
#[derive(Debug, Clone, Args)]
pub struct StakeArgs {
    /// Let operators bond, unbond and withdraw, set rates and service address, and call rewards over the admin address
    /// (`penstock orchestrator`): transactions of --key, from its account and to it.
    #[arg(long, env = "PENSTOCK_STAKE_TRANSACTIONS")]
    pub stake_transactions: bool,

    /// Call each round's reward while this orchestrator is active. Of several processes on one ledger one does it.
    #[arg(long, env = "PENSTOCK_CALL_REWARDS")]
    pub call_rewards: bool,

    /// Begin each round that nobody else begins.
    #[arg(long, env = "PENSTOCK_INITIALIZE_ROUNDS")]
    pub initialize_rounds: bool,

    /// How long a new round is left to others at most, in milliseconds: each process waits for a time of its own.
    #[arg(long, env = "PENSTOCK_INITIALIZE_ROUNDS_MAX_DELAY_MS", value_name = "MS", default_value_t = 30_000,
          value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub initialize_rounds_max_delay_ms: u64,
}

impl From<&StakeArgs> for Automatic {
    fn from(args: &StakeArgs) -> Self {
        let most = Duration::from_millis(args.initialize_rounds_max_delay_ms);
        Self { rewards: args.call_rewards, rounds: args.initialize_rounds.then_some(most) }
    }
}
