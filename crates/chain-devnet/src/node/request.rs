//! What can be asked of a chain, and the one pure function that decides it.

use crate::state::{
    AccountError, Change, Funder, Mining, MiningError, PoolError, State, act, fund, mine, redeem,
};
use penstock_chain::{Receipt, Redemption, Revert, WinningTicket};
use penstock_domain::{Address, Wei};
use thiserror::Error;

/// A transaction, or the mining of blocks.
#[derive(Debug, Clone)]
pub enum Request {
    /// L1 goes on.
    Mine {
        /// How far.
        how: Mining,
        /// Whether new rounds are initialised.
        initialize: bool,
    },
    /// Money from nowhere.
    Fund {
        /// For whom.
        account: Address,
        /// Into the deposit.
        deposit: Wei,
        /// Into the reserve.
        reserve: Wei,
    },
    /// A winning ticket.
    Redeem(Box<WinningTicket>),
    /// A signed transaction.
    Act {
        /// What is signed.
        payload: String,
        /// The signature.
        sig: Vec<u8>,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Blocks were mined.
    Mined,
    /// The transaction is on the chain.
    Done(Receipt),
    /// The ticket was redeemed.
    Redeemed(Redemption),
}

/// Why not. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejection {
    /// The contract refused.
    #[error("{0}")]
    Reverted(Revert),
    /// The signed transaction is not one.
    #[error(transparent)]
    Account(AccountError),
    /// The pool refused.
    #[error(transparent)]
    Pool(PoolError),
    /// Absurd mining.
    #[error(transparent)]
    Mining(#[from] MiningError),
}

/// Decides a request: the changes to make, and what to answer once they are durable.
pub fn perform(state: &State, request: &Request) -> Result<(Vec<Change>, Outcome), Rejection> {
    match request {
        Request::Mine { how, initialize } => Ok((mine(state, *how, *initialize)?, Outcome::Mined)),
        Request::Fund { account, deposit, reserve } => {
            let mut changes = fund(state, *account, *deposit, *reserve, Funder::ThirdParty)?;
            let (tx_hash, head) = state.next_transaction();
            changes.push(Change::Head(head));
            Ok((changes, Outcome::Done(Receipt { tx_hash, l1_block: head.l1_block })))
        }
        Request::Redeem(winner) => {
            let (changes, redemption) = redeem(state, winner)?;
            Ok((changes, Outcome::Redeemed(redemption)))
        }
        Request::Act { payload, sig } => {
            let (changes, receipt) = act(state, payload, sig)?;
            Ok((changes, Outcome::Done(receipt)))
        }
    }
}

impl Request {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mine { .. } => "mine",
            Self::Fund { .. } => "fund",
            Self::Redeem(_) => "redeem",
            Self::Act { .. } => "act",
        }
    }
}

impl From<Revert> for Rejection {
    fn from(revert: Revert) -> Self {
        Self::Reverted(revert)
    }
}

impl From<AccountError> for Rejection {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Reverted(revert) => Self::Reverted(revert),
            AccountError::Pool(error) => Self::Pool(error),
            other => Self::Account(other),
        }
    }
}
