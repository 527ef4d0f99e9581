//! The account's own deposit and reserve, in its operator's hands: how they stand, and the transactions that change
//! them. Each is asked for under an idempotency key, is in the audit and in the books before it is sent, and goes on to
//! its end when whoever asked for it goes away.

use super::{Clock, to_the_end};
use crate::{auth::operator_audit, error::SignerError};
use penstock_chain::{Chain, ChainError, Notes, Receipt, SenderInfo};
use penstock_domain::{Address, Wei, address_lower};
use penstock_ledger::{
    operations::{OperationError, Operations, SpendLimits, Wanted},
    signer::SignerLedger,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
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

/// A change as the books have it: the same for the same wish.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    account: String,
    #[serde(flatten)]
    change: Change,
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
    /// Among how many orchestrators the reserve is shared.
    pub orchestrators: u64,
    /// Whether this process changes them.
    pub is_allowed: bool,
    /// What that may cost.
    pub limits: SpendLimits,
    /// What transactions of this UTC day may cost so far.
    pub counted_today: Wei,
}

/// The use case.
pub struct Deposit {
    chain: Arc<dyn Chain>,
    ledger: Arc<dyn SignerLedger>,
    operations: Operations,
    account: Address,
    clock: Clock,
    is_allowed: bool,
}

impl Deposit {
    /// Acts as the account that `chain` was opened with, if that `is_allowed` (`--deposit-transactions`).
    pub fn new(
        chain: Arc<dyn Chain>,
        ledger: Arc<dyn SignerLedger>,
        operations: Operations,
        account: Address,
        clock: Clock,
        is_allowed: bool,
    ) -> Self {
        Self { chain, ledger, operations, account, clock, is_allowed }
    }

    /// Asks the chain, not what is known of it: somebody decides by it.
    pub async fn standing(&self) -> Result<Standing, SignerError> {
        let (info, rounds, orchestrators) = tokio::try_join!(
            self.chain.sender_info(self.account),
            self.chain.rounds(),
            self.chain.pool_size()
        )
        .map_err(of_chain)?;
        Ok(Standing {
            account: self.account,
            info,
            round: rounds.last_initialized_round,
            orchestrators,
            is_allowed: self.is_allowed,
            limits: self.operations.limits().unwrap_or_default(),
            counted_today: self.operations.counted_today().await?,
        })
    }

    /// Sends it, unless the same key did so before, and waits until it is on the chain.
    pub async fn change(
        self: Arc<Self>,
        key: String,
        change: Change,
    ) -> Result<Receipt, SignerError> {
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
        let content = Content { account: address_lower(&self.account), change };
        let content = serde_json::to_string(&content)
            .map_err(|_| SignerError::Internal("a change of funds is no JSON"))?;
        to_the_end(async move {
            let act = |content: String, notes| self.act(content, notes);
            let receipt = self.operations.perform(Wanted { key, content }, act).await;
            receipt.map_err(of_operation)
        })
        .await
    }

    /// In the audit, then on the chain. An earlier life's is in the audit twice.
    async fn act(&self, content: String, notes: Arc<dyn Notes>) -> Result<Receipt, ChainError> {
        let refused = |reason: String| ChainError::Refused { reason };
        let Content { account, change } = serde_json::from_str(&content)
            .map_err(|error| refused(format!("the books hold an unreadable change: {error}")))?;
        if account != address_lower(&self.account) {
            return Err(refused(format!("{account} has something on its way: start with its key")));
        }
        // Before anything is in the audit; with its gas it is counted again where there is any.
        if let Change::Fund { deposit, reserve } = change {
            let both = deposit.0.saturating_add(reserve.0);
            notes.afford(Wei(both)).await?;
        }
        self.record(&change.words()).await?;
        let chain = self.chain.noting(notes);
        let receipt = match change {
            Change::Fund { deposit, reserve } => {
                chain.fund_deposit_and_reserve_for(self.account, deposit, reserve).await
            }
            Change::Unlock => chain.unlock().await,
            Change::CancelUnlock => chain.cancel_unlock().await,
            Change::Withdraw => chain.withdraw().await,
        };
        match &receipt {
            Ok(receipt) => {
                tracing::info!(?change, tx = %receipt.tx_hash, "deposit and reserve are changed");
            }
            Err(_) => self.record(&format!("not done: {}", change.words())).await?,
        }
        receipt
    }

    async fn record(&self, words: &str) -> Result<(), ChainError> {
        let entry = operator_audit::entry(operator_audit::ADMIN, "", None, words);
        let now_ms = (self.clock)().div_euclid(1_000_000);
        let recorded = self.ledger.record_signatures(vec![entry], now_ms).await;
        recorded.map_err(|error| ChainError::Unavailable { reason: error.to_string() })
    }
}

fn of_operation(error: OperationError) -> SignerError {
    match error {
        OperationError::Chain(error) => of_chain(error),
        OperationError::Ledger(error) => error.into(),
        other => SignerError::Conflict(other.to_string()),
    }
}

/// The operator is told the chain's own words: what to do next is in them.
fn of_chain(error: ChainError) -> SignerError {
    match error {
        ChainError::OverLimit { reason } => SignerError::Forbidden(reason),
        ChainError::Unreachable { .. } | ChainError::BadAnswer { .. } => {
            tracing::warn!(%error, "the chain did not answer an operator");
            SignerError::ChainStale("not to be had now".to_owned())
        }
        other => SignerError::Conflict(other.to_string()),
    }
}
