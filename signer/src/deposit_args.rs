//! What operators may do with the account's deposit and reserve, what that may cost, and when is said that they run low.

use crate::service::reserve_watch::ReserveWatch;
use penstock_domain::{U256, Wei};
use penstock_ledger::operations::SpendLimits;

/// The command line's part.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct DepositArgs {
    /// Let operators fund, unlock and withdraw the account's own deposit and reserve over the admin address
    /// (`penstock deposit` and the like): transactions of the signing key, paid for with ether of its account. What is on
    /// its way is noted in the ledger.
    #[arg(long, env = "PENSTOCK_DEPOSIT_TRANSACTIONS")]
    pub deposit_transactions: bool,

    /// Most wei that one transaction of the signing key may take out of its account: what goes into deposit and reserve, and
    /// gas at most. Default: no limit.
    #[arg(long, env = "PENSTOCK_MAX_CHAIN_SPEND_PER_TRANSACTION", value_name = "WEI",
          value_parser = crate::args::whole_wei)]
    pub max_chain_spend_per_transaction: Option<Wei>,

    /// Most wei that all transactions of the signing key in a UTC day may take out of its account, counted in the ledger
    /// before each is signed. Default: no limit.
    #[arg(long, env = "PENSTOCK_MAX_CHAIN_SPEND_PER_DAY", value_name = "WEI",
          value_parser = crate::args::whole_wei)]
    pub max_chain_spend_per_day: Option<Wei>,

    /// Say so (log, /readyz, `penstock funds`) when the deposit lasts for fewer days than this at the rate of the last
    /// seven. 0 = never.
    #[arg(long, env = "PENSTOCK_DEPOSIT_WARN_DAYS", value_name = "DAYS", default_value_t = 7,
          value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    pub deposit_warn_days: u64,

    /// Say so when the reserve guarantees less than this many wei to each active orchestrator: a ticket's face value is at
    /// most that, and where it is less than ten times what a redemption costs, orchestrators raise their prices by a tenth
    /// and more. The default is ten redemptions on Arbitrum at 0.01 gwei. 0 = never.
    #[arg(long, env = "PENSTOCK_RESERVE_WARN_FLOAT_WEI", value_name = "WEI",
          default_value = "120000000000000", value_parser = wei_or_none)]
    pub reserve_warn_float_wei: Wei,
}

/// Checked.
#[derive(Debug, Clone, Copy)]
pub struct DepositSettings {
    /// `--deposit-transactions`
    pub transactions: bool,
    /// `--max-chain-spend-…`
    pub limits: SpendLimits,
    /// `--deposit-warn-days`
    pub warn_days: u64,
    /// `--reserve-warn-float-wei`
    pub reserve: ReserveWatch,
}

impl DepositArgs {
    /// Checked.
    pub fn settings(&self) -> DepositSettings {
        DepositSettings {
            transactions: self.deposit_transactions,
            limits: SpendLimits {
                per_transaction: self.max_chain_spend_per_transaction,
                per_day: self.max_chain_spend_per_day,
            },
            warn_days: self.deposit_warn_days,
            reserve: ReserveWatch { warn_float: self.reserve_warn_float_wei },
        }
    }
}

fn wei_or_none(text: &str) -> Result<Wei, String> {
    let n = U256::from_str_radix(text, 10).ok().filter(|n| n.bit_len() <= 128);
    n.map(Wei).ok_or_else(|| "expected a whole number of wei, from 0 to 2^128 − 1".to_owned())
}
