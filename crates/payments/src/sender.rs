//! The sender's checks before any batch, in the documented order and with the documented texts,
//! and the making of the batch (payments.md section 9).

use crate::{
    recipient::unlocks_soon,
    ticket::{ExpirationParams, Ticket, TicketParams},
};
use core::{num::NonZeroU64, ops::RangeInclusive};
use penstock_domain::{Address, B256, Rational, U256, Wei};
use thiserror::Error;

/// The reference's margin: an offer is used only while more than this many L1 blocks remain of it.
const EXPIRY_MARGIN_BLOCKS: u64 = 1;

/// How much a sender is ready to risk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderLimits {
    /// Most worth of one ticket, wei (`--max-ticket-ev`).
    pub max_ev: Rational,
    /// Most worth of one batch, wei (`--max-total-ev`).
    pub max_total_ev: Rational,
    /// A face value may be at most deposit / this (`--deposit-multiplier`).
    pub deposit_multiplier: NonZeroU64,
    /// An offer is used only while more than this many L1 blocks remain of it, so that its tickets
    /// are still valid when they arrive (`--ticket-expiry-margin-blocks`).
    pub expiry_margin_blocks: u64,
}

impl Default for SenderLimits {
    /// The network's usual values (payments.md section 15).
    fn default() -> Self {
        Self {
            max_ev: Rational::from(3_000_000_000_000_u64),
            max_total_ev: Rational::from(20_000_000_000_000_u64),
            deposit_multiplier: NonZeroU64::MIN,
            expiry_margin_blocks: EXPIRY_MARGIN_BLOCKS,
        }
    }
}

/// The sender's money on the chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderFunds {
    /// Deposit.
    pub deposit: Wei,
    /// What is left of the reserve.
    pub reserve_remaining: Wei,
    /// First round in which it can all be withdrawn; 0 = locked.
    pub withdraw_round: u64,
}

/// What the sender knows of the chain.
#[derive(Debug, Clone)]
pub struct SenderView {
    /// Height of L1.
    pub last_seen_l1_block: u64,
    /// Last initialised round.
    pub last_initialized_round: u64,
    /// Its L1 block hash.
    pub last_initialized_l1_block_hash: B256,
    /// The own money, or why it is not known.
    pub funds: Result<SenderFunds, String>,
}

/// Why a batch is not made, in the order of the checks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SenderError {
    /// No offer.
    #[error("ticketParams is nil")]
    NoParams,
    /// The low 64 bits of the expiration block are 0.
    #[error("ticketParams expiration block is 0")]
    NoExpiration,
    /// The offer has ended or is about to. Callers refresh.
    #[error("TicketParams expired")]
    Expired,
    /// A ticket that always wins is not a lottery: the worth equals the face value.
    #[error("ticket faceValue too low faceValue={0}")]
    FaceValueTooLow(Wei),
    /// One ticket is worth too much.
    #[error("ticket EV {} > max ticket EV {}", .ev.to_fixed(5), .max.to_fixed(5))]
    EvTooHigh {
        /// Of the offer.
        ev: Rational,
        /// Of the limits.
        max: Rational,
    },
    /// The chain did not answer. Ours; retry.
    #[error("{0}")]
    FundsUnknown(String),
    /// The own money can be withdrawn soon, so no recipient would take the ticket.
    #[error("unable to validate sender: deposit and reserve is set to unlock soon")]
    Unlocking,
    /// The own reserve is empty.
    #[error("no sender reserve")]
    NoReserve,
    /// The own deposit is empty.
    #[error("no sender deposit")]
    NoDeposit,
    /// The batch is worth too much.
    #[error(
        "total ticket EV {} for {tickets} tickets > max total ticket EV {}",
        .total.to_fixed(5), .max.to_fixed(5)
    )]
    TotalEvTooHigh {
        /// Of the batch.
        total: Rational,
        /// Its size.
        tickets: u64,
        /// Of the limits.
        max: Rational,
    },
    /// One win would take too much of the deposit.
    #[error("ticket faceValue {face_value} > max faceValue {max}")]
    FaceValueTooHigh {
        /// Of the offer.
        face_value: Wei,
        /// Of deposit and limits.
        max: Wei,
    },
}

impl SenderError {
    /// Whether a fresh offer may help: answered with "refresh" instead of an error.
    pub fn is_refresh(&self) -> bool {
        matches!(self, Self::Expired)
    }

    /// Whether the sender's own account is at fault ("sender validation" errors).
    pub fn is_sender_validation(&self) -> bool {
        matches!(self, Self::Unlocking | Self::NoReserve | Self::NoDeposit)
    }
}

/// Whether `num_tickets` tickets of this offer may be made. The stand-alone check uses 1.
pub fn check_batch(
    params: Option<&TicketParams>,
    num_tickets: u64,
    limits: &SenderLimits,
    view: &SenderView,
) -> Result<(), SenderError> {
    let params = params.ok_or(SenderError::NoParams)?;
    check_batch_worth(params, &params.ev(), num_tickets, limits, view)
}

/// The same for a caller that knows the worth of one ticket, [`TicketParams::ev`], already.
pub fn check_batch_worth(
    params: &TicketParams,
    ev: &Rational,
    num_tickets: u64,
    limits: &SenderLimits,
    view: &SenderView,
) -> Result<(), SenderError> {
    check_expiration(params, limits.expiry_margin_blocks, view.last_seen_l1_block)?;
    if !ev.is_positive() {
        return Ok(());
    }
    if *ev >= Rational::from(params.face_value) {
        return Err(SenderError::FaceValueTooLow(params.face_value));
    }
    if *ev > limits.max_ev {
        return Err(SenderError::EvTooHigh { ev: ev.clone(), max: limits.max_ev.clone() });
    }
    let funds = view.funds.as_ref().map_err(|why| SenderError::FundsUnknown(why.clone()))?;
    check_funds(funds, view.last_initialized_round)?;
    let total = ev.times(num_tickets);
    if total > limits.max_total_ev {
        let max = limits.max_total_ev.clone();
        return Err(SenderError::TotalEvTooHigh { total, tickets: num_tickets, max });
    }
    let divisor = U256::from(limits.deposit_multiplier.get());
    let max = Wei(funds.deposit.0.checked_div(divisor).unwrap_or_default());
    if params.face_value > max {
        return Err(SenderError::FaceValueTooHigh { face_value: params.face_value, max });
    }
    Ok(())
}

/// Rows 2 and 3.
fn check_expiration(
    params: &TicketParams,
    margin_blocks: u64,
    last_seen_l1_block: u64,
) -> Result<(), SenderError> {
    if params.expiration_block.wrapping_to::<u64>() == 0 {
        return Err(SenderError::NoExpiration);
    }
    let last_usable = U256::from(last_seen_l1_block) + U256::from(margin_blocks);
    if params.expiration_block <= last_usable { Err(SenderError::Expired) } else { Ok(()) }
}

/// Rows 8 to 10.
fn check_funds(funds: &SenderFunds, last_initialized_round: u64) -> Result<(), SenderError> {
    if unlocks_soon(funds.withdraw_round, last_initialized_round) {
        return Err(SenderError::Unlocking);
    }
    if funds.reserve_remaining.is_zero() {
        return Err(SenderError::NoReserve);
    }
    if funds.deposit.is_zero() {
        return Err(SenderError::NoDeposit);
    }
    Ok(())
}

/// The creation round of a batch: the recipient's if it gave both parts, else the sender's own.
pub fn batch_expiration_params(params: &TicketParams, view: &SenderView) -> ExpirationParams {
    if params.expiration_params.is_complete() {
        return params.expiration_params;
    }
    ExpirationParams {
        creation_round: view.last_initialized_round,
        creation_round_block_hash: view.last_initialized_l1_block_hash,
    }
}

/// The tickets of a batch, unsigned, one per nonce.
pub fn build_batch(
    params: &TicketParams,
    expiration_params: ExpirationParams,
    sender: Address,
    nonces: RangeInclusive<u32>,
) -> Vec<Ticket> {
    nonces.map(|nonce| Ticket::from_params(params, expiration_params, sender, nonce)).collect()
}

#[cfg(test)]
mod tests;
