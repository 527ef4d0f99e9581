//! Transactions that only an account itself may make: signature, chain, nonce, then the action.

use super::{
    Change, Funder, PoolError, State, cancel_unlock, fund, register, resign, unlock, withdraw,
};
use crate::wire::{Action, Payload};
use penstock_chain::{Receipt, Revert};
use penstock_payments::{devnet_transaction_digest, verify_bytes};
use thiserror::Error;

/// A signed transaction was refused; it changed nothing, the nonce included.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccountError {
    /// The payload is not one. The caller's fault; final.
    #[error("the payload is not a transaction: {0}")]
    Malformed(String),
    /// Not signed by the account that acts. The caller's fault; final.
    #[error("the transaction is not signed by its account")]
    Signature,
    /// For another chain. The caller's fault; final.
    #[error("the transaction is for another chain")]
    WrongChain,
    /// Made before, or out of order: sign again with the right nonce.
    #[error("the account's nonce is {expected}, not {given}")]
    Nonce {
        /// What it must be.
        expected: u64,
        /// What it was.
        given: u64,
    },
    /// The contract refused.
    #[error("{0}")]
    Reverted(Revert),
    /// The pool refused.
    #[error(transparent)]
    Pool(PoolError),
}

/// Verifies and performs a signed transaction.
pub fn act(
    state: &State,
    payload: &str,
    sig: &[u8],
) -> Result<(Vec<Change>, Receipt), AccountError> {
    let parsed: Payload =
        serde_json::from_str(payload).map_err(|e| AccountError::Malformed(e.to_string()))?;
    verify_bytes(sig, &devnet_transaction_digest(payload.as_bytes()), parsed.account)
        .map_err(|_| AccountError::Signature)?;
    if parsed.chain_id != state.genesis.chain_id {
        return Err(AccountError::WrongChain);
    }
    let account = parsed.account;
    let expected = state.account(account).nonce;
    if parsed.nonce != expected {
        return Err(AccountError::Nonce { expected, given: parsed.nonce });
    }
    let mut changes = match &parsed.action {
        Action::Fund { deposit_wei, reserve_wei } => {
            fund(state, account, *deposit_wei, *reserve_wei, Funder::Owner)?
        }
        Action::Unlock {} => unlock(state, account)?,
        Action::CancelUnlock {} => cancel_unlock(state, account)?,
        Action::Withdraw {} => withdraw(state, account)?,
        Action::Register { service_uri } => register(state, account, service_uri)?,
        Action::Resign {} => resign(state, account)?,
    };
    count_nonce(state, account, &mut changes);
    let (tx_hash, head) = state.next_transaction();
    changes.push(Change::Head(head));
    Ok((changes, Receipt { tx_hash, l1_block: head.l1_block }))
}

/// Adds one to the nonce, in the account row that the action wrote or in a new one.
fn count_nonce(state: &State, account: penstock_domain::Address, changes: &mut Vec<Change>) {
    let nonce = state.account(account).nonce.saturating_add(1);
    for change in changes.iter_mut() {
        if let Change::Account(address, row) = change
            && *address == account
        {
            row.nonce = nonce;
            return;
        }
    }
    let row = super::Account { nonce, ..state.account(account) };
    changes.push(Change::Account(account, row));
}

impl From<Revert> for AccountError {
    fn from(revert: Revert) -> Self {
        Self::Reverted(revert)
    }
}

impl From<PoolError> for AccountError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Reverted(reverted) => Self::Reverted(reverted.0),
            other => Self::Pool(other),
        }
    }
}
