//! Calls of an account on their way onto the chain: one at a time, tried before it is sent, replaced when it is stuck.
//!
//! The chain itself keeps the count. Before each transaction it is asked how many of the account are in blocks: that is
//! the number of the next one. With one in flight, whatever else waits under that number was left by an earlier life of
//! the process; it is given its time, and then replaced. So a restart needs no memory of its own: what a call was for,
//! and whether it must be made again, is in the caller's ledger, and the contract refuses what was done before.
//!
//! Ether is not refused by anybody when it comes twice, and who asks again wants the same answer. What an operation with
//! notes sends is noted with its number, its hash and its bytes before it is sent, and stays under that number until it
//! is known what became of it: whoever did not answer may have it. Ether is sent in no other way. Where its number seems
//! to have gone to another transaction, every endpoint is asked for its receipt, and if none has one it is not sent anew
//! before it is known whose the number is, as of a final block: an endpoint may count a transaction before it knows its
//! receipt. Where no endpoint can tell, the operator says what became of it.
//!
//! What redeems and would bring too little by now is called off: its number goes to a transaction that does nothing.

mod call_off;
mod fees;
mod holder;
mod notes;
mod offers;
mod sender;
mod taken;
mod waiting;

pub(crate) use sender::{NotDone, Sender};

use crate::worth::Least;
use penstock_domain::{Address, Wei};
use std::time::Duration;

/// How long, how often and for how much a transaction is tried.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Without a receipt for so long, it is replaced.
    pub before_replacement: Duration,
    /// Replacements until it is given up for now.
    pub replacements: u32,
    /// Between two looks for a receipt.
    pub poll: Duration,
    /// Blocks that have to be there, the transaction's own included, before it counts; 0 and 1 are the same.
    pub confirmations: u64,
    /// The number of a transaction of which the operator says that it is another one than was noted under it.
    pub lost_nonce: Option<u64>,
    /// Wei for a unit of gas at most.
    pub max_gas_price_wei: u128,
    /// Gas of one transaction at most.
    pub max_gas: u64,
}

/// A call of a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The contract.
    pub to: Address,
    /// Ether that goes along.
    pub value: Wei,
    /// Selector and arguments.
    pub data: Vec<u8>,
    /// Whether the contract refuses it once it was done, so that it may be made again when it is not known.
    pub again: bool,
    /// Gas for it, headroom included, that was measured before, where an endpoint's estimate would say too little;
    /// `None` = it is estimated.
    pub gas: Option<u64>,
    /// What it has to bring, in the order in which the contract pays: looked at right before each version of it is sent.
    pub least: Vec<Least>,
}

impl Call {
    /// Whether both do the same; how they are tried is no part of it.
    fn is_same(&self, other: &Self) -> bool {
        (self.to, self.value, &self.data) == (other.to, other.value, &other.data)
    }
}
