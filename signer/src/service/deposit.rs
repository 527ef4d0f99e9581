//! The account's own deposit and reserve, in its operator's hands: how they stand, and the transactions that change
//! them. Each is in the audit before it is sent, and goes on to its end when whoever asked for it goes away.

use super::{Clock, to_the_end};
use crate::{auth::operator_audit, error::SignerError};
use penstock_chain::{Chain, ChainError, Receipt, SenderInfo};
use penstock_domain::{Address, Wei};
use penstock_ledger::signer::SignerLedger;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Adds to both, out of the account's ether. An unlock in progress goes on.
    Fund {
        /// Added to the deposit.
        deposit: Wei,
        /// Added to the reserve.
        reserve: Wei,
    },
    /// Begins the way out: after the contract's time both can be withdrawn.
    Unlock,
    /// Ends an unlock in progress.
    CancelUnlock,
    /// Takes both back to the account, all of it.
    Withdraw,
}

impl Change {
    /// For the audit.
    fn words(self) -> String {
        match self {
            Self::Fund { deposit, reserve } => {
                format!("deposit funded with {deposit} wei, reserve with {reserve} wei")
            }
            Self::Unlock => "deposit and reserve: unlock begun".to_owned(),
            Self::CancelUnlock => "deposit and reserve: unlock cancelled".to_owned(),
            Self::Withdraw => "deposit and reserve withdrawn".to_owned(),
        }
    }
}

/// How deposit and reserve stand, as the chain says it now.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Whose.
    pub account: Address,
    /// Deposit, reserve, and the round from which they can be withdrawn.
    pub info: SenderInfo,
    /// The newest initialised round.
    pub round: u64,
    /// Whether this process changes them.
    pub is_allowed: bool,
}

/// The use case.
pub struct Deposit {
    chain: Arc<dyn Chain>,
    ledger: Arc<dyn SignerLedger>,
    account: Address,
    clock: Clock,
    is_allowed: bool,
    /// Held while one is on its way: the same asked for twice is more often one wish than two.
    on_its_way: Arc<Mutex<()>>,
}

impl Deposit {
    /// Acts as the account that `chain` was opened with, if that `is_allowed` (`--deposit-transactions`).
    pub fn new(
        chain: Arc<dyn Chain>,
        ledger: Arc<dyn SignerLedger>,
        account: Address,
        clock: Clock,
        is_allowed: bool,
    ) -> Self {
        Self { chain, ledger, account, clock, is_allowed, on_its_way: Arc::default() }
    }

    /// Asks the chain, not what is known of it: somebody decides by it.
    pub async fn standing(&self) -> Result<Standing, SignerError> {
        let (info, rounds) =
            tokio::try_join!(self.chain.sender_info(self.account), self.chain.rounds())
                .map_err(of_chain)?;
        let (account, is_allowed) = (self.account, self.is_allowed);
        Ok(Standing { account, info, round: rounds.last_initialized_round, is_allowed })
    }

    /// Sends it and waits until it is on the chain.
    pub async fn change(self: Arc<Self>, change: Change) -> Result<Receipt, SignerError> {
        if !self.is_allowed {
            let reason = "deposit and reserve are changed only with --deposit-transactions";
            return Err(SignerError::Forbidden(reason.to_owned()));
        }
        if let Change::Fund { deposit, reserve } = change
            && deposit.is_zero()
            && reserve.is_zero()
        {
            return Err(SignerError::BadField("deposit_wei and reserve_wei are both 0".to_owned()));
        }
        let on_its_way = Arc::clone(&self.on_its_way).try_lock_owned().map_err(|_| {
            let reason =
                "a change of deposit and reserve is on its way: look again when it is done";
            SignerError::Conflict(reason.to_owned())
        })?;
        to_the_end(async move {
            let _on_its_way = on_its_way;
            let entry = operator_audit::entry(operator_audit::ADMIN, "", None, &change.words());
            let now_ms = (self.clock)().div_euclid(1_000_000);
            self.ledger.record_signatures(vec![entry], now_ms).await?;
            let chain = &self.chain;
            let receipt = match change {
                Change::Fund { deposit, reserve } => {
                    chain.fund_deposit_and_reserve_for(self.account, deposit, reserve).await
                }
                Change::Unlock => chain.unlock().await,
                Change::CancelUnlock => chain.cancel_unlock().await,
                Change::Withdraw => chain.withdraw().await,
            };
            let receipt = match receipt {
                Ok(receipt) => receipt,
                Err(error) => {
                    let not_done = format!("not done: {}", change.words());
                    let entry = operator_audit::entry(operator_audit::ADMIN, "", None, &not_done);
                    self.ledger.record_signatures(vec![entry], now_ms).await?;
                    return Err(of_chain(error));
                }
            };
            tracing::info!(?change, tx = %receipt.tx_hash, "deposit and reserve are changed");
            Ok(receipt)
        })
        .await
    }
}

/// The operator is told the chain's own words: what to do next is in them.
fn of_chain(error: ChainError) -> SignerError {
    match error {
        ChainError::Unreachable { .. } | ChainError::BadAnswer { .. } => {
            tracing::warn!(%error, "the chain did not answer an operator");
            SignerError::ChainStale("not to be had now".to_owned())
        }
        other => SignerError::Conflict(other.to_string()),
    }
}
