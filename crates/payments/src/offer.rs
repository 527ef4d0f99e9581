//! What a recipient offers: face value, win probability, and the params around them
//! (payments.md section 8). The steps and their order are the reference's.

use crate::{
    rand::{RandInputs, RecipientSecret},
    ticket::{ExpirationParams, TicketParams},
};
use penstock_domain::{Address, B256, Rational, U256, Wei};
use std::fmt;
use thiserror::Error;

/// Face value in redemption costs, and in EVs when gas is cheap.
const TX_COST_MULTIPLIER: u64 = 100;
const EV_MULTIPLIER: u64 = 100;
/// Gas price that a face value must cover if it does not cover today's: 3 gwei.
const AVERAGE_GAS_PRICE_WEI: u64 = 3_000_000_000;
/// Life of an offer in L1 blocks.
pub const OFFER_LIFETIME_BLOCKS: u64 = 40;

/// No offer is possible: a face value would be below the least that it has to be. The reference has one
/// text for both ("insufficient sender reserve"); here whose fault it is can be told apart.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OfferError {
    /// The sender's reserve does not cover it. The sender's to mend; another recipient's share may do.
    #[error(
        "insufficient sender reserve: {max_float} wei of it can stand behind a ticket here, {least} wei are \
         needed for {need}; the sender has to add to its reserve"
    )]
    SenderReserve {
        /// The sender's max float, whole wei rounded down; may be negative.
        max_float: Box<Rational>,
        /// The least that would do, wei.
        least: Wei,
        /// What for.
        need: Need,
    },
    /// The recipient's own limit is below it. The operator's to mend.
    #[error(
        "no ticket can be offered: --max-face-value is {max_face_value} wei, {least} wei are needed for {need}; \
         the orchestrator's operator has to raise it"
    )]
    MaxFaceValue {
        /// The limit, wei.
        max_face_value: Wei,
        /// The least that would do, wei.
        least: Wei,
        /// What for.
        need: Need,
    },
}

/// What a face value has to be enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A ticket's worth: a face value below it would have to win more than always.
    TicketEv,
    /// The gas of its redemption, today or at an average price.
    Redemption,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TicketEv => "a ticket's worth (--ticket-ev)",
            Self::Redemption => "the gas of a redemption",
        })
    }
}

/// The recipient's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferConfig {
    /// Worth of one ticket, wei (`--ticket-ev`, 8 gwei on the network).
    pub ticket_ev: Wei,
    /// Gas of one redemption on this network.
    pub redeem_gas: u64,
    /// Upper bound of a face value, wei; 0 = none (`--max-face-value`).
    pub max_face_value: Wei,
}

impl OfferConfig {
    /// Wei that one redemption costs. Saturates; no real price comes near.
    pub fn tx_cost(&self, gas_price: Wei) -> Wei {
        Wei(gas_price.0.saturating_mul(U256::from(self.redeem_gas)))
    }

    /// The face value for a sender with this max float (may be negative).
    pub fn face_value(&self, gas_price: Wei, max_float: &Rational) -> Result<Wei, OfferError> {
        let tx_cost = self.tx_cost(gas_price);
        let mut face = Wei(tx_cost.0.saturating_mul(U256::from(TX_COST_MULTIPLIER)));
        if face < self.ticket_ev {
            face = Wei(self.ticket_ev.0.saturating_mul(U256::from(EV_MULTIPLIER)));
        }
        if Rational::from(face) > *max_float {
            // A negative float is below every EV, so the check below would refuse it, too — but
            // for an EV of 0, and a face value cannot be negative.
            let short = || short_float(max_float, self.ticket_ev, Need::TicketEv);
            face = Wei(max_float.floor_u256().ok_or_else(short)?);
        }
        let is_limited = !self.max_face_value.is_zero() && self.max_face_value < face;
        if is_limited {
            face = self.max_face_value;
        }
        let average = self.tx_cost(Wei::from_u64(AVERAGE_GAS_PRICE_WEI));
        let (least, need) = if face < self.ticket_ev {
            (self.ticket_ev, Need::TicketEv)
        } else if face < tx_cost && face < average {
            (tx_cost.min(average), Need::Redemption)
        } else {
            return Ok(face);
        };
        Err(match is_limited {
            true => OfferError::MaxFaceValue { max_face_value: self.max_face_value, least, need },
            false => short_float(max_float, least, need),
        })
    }

    /// The probability that gives tickets of this face value the configured worth, rounded up so
    /// that the real worth is never below it.
    pub fn win_prob(&self, face_value: Wei) -> U256 {
        if face_value.is_zero() {
            return U256::ZERO;
        }
        if face_value == self.ticket_ev {
            return U256::MAX;
        }
        let (quotient, rest) = U256::MAX.div_rem(face_value.0);
        let ceiling = quotient + U256::from(u8::from(!rest.is_zero()));
        self.ticket_ev.0.saturating_mul(ceiling)
    }

    /// Face value in redemption costs, for the price overhead; 0 if redemption is free.
    pub fn tx_cost_multiplier(
        &self,
        gas_price: Wei,
        max_float: &Rational,
    ) -> Result<Rational, OfferError> {
        let face = self.face_value(gas_price, max_float)?;
        let tx_cost = Rational::from(self.tx_cost(gas_price));
        Ok(Rational::from(face).checked_div(&tx_cost).unwrap_or_default())
    }
}

fn short_float(max_float: &Rational, least: Wei, need: Need) -> OfferError {
    OfferError::SenderReserve { max_float: Box::new(max_float.floor()), least, need }
}

/// Rounds and blocks as the recipient sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundView {
    /// Last initialised round.
    pub last_initialized_round: u64,
    /// Its L1 block hash; zero for some rounds, by a fault of Arbitrum.
    pub l1_block_hash: B256,
    /// The hash of the round before.
    pub previous_round_l1_block_hash: B256,
    /// Height of L1.
    pub last_seen_l1_block: u64,
}

impl RoundView {
    /// The creation round to offer: the last one, or the one before if the last has no hash.
    pub fn expiration_params(&self) -> ExpirationParams {
        if self.l1_block_hash.is_zero() {
            return ExpirationParams {
                creation_round: self.last_initialized_round.saturating_sub(1),
                creation_round_block_hash: self.previous_round_l1_block_hash,
            };
        }
        ExpirationParams {
            creation_round: self.last_initialized_round,
            creation_round_block_hash: self.l1_block_hash,
        }
    }
}

/// Whom an offer is for, and what it depends on.
#[derive(Debug, Clone, Copy)]
pub struct OfferRequest<'a> {
    /// Who is to be paid.
    pub recipient: Address,
    /// Who is to pay.
    pub sender: Address,
    /// Price the offer is bound to, wei per unit. At or below 0 the offer is free of charge, and
    /// neither gas price nor max float is looked at.
    pub price: &'a Rational,
    /// Today's gas price; 0 when unknown.
    pub gas_price: Wei,
    /// The sender's max float (payments.md section 13).
    pub max_float: &'a Rational,
    /// The chain's state.
    pub rounds: RoundView,
    /// 32 bytes of a secure generator, as a number. The lower half goes into the offer's seed.
    pub seed: U256,
}

/// Makes an offer. Nothing has to be stored: the secret finds it again.
pub fn make_offer(
    config: &OfferConfig,
    secret: &RecipientSecret,
    request: &OfferRequest<'_>,
) -> Result<TicketParams, OfferError> {
    let face_value = if request.price.is_positive() {
        config.face_value(request.gas_price, request.max_float)?
    } else {
        Wei::ZERO
    };
    let last_block = request.rounds.last_seen_l1_block.saturating_add(OFFER_LIFETIME_BLOCKS);
    let mut params = TicketParams {
        recipient: request.recipient,
        face_value,
        win_prob: config.win_prob(face_value),
        recipient_rand_hash: B256::ZERO,
        seed: request.seed,
        expiration_block: U256::from(last_block),
        expiration_params: request.rounds.expiration_params(),
    };
    let round = params.expiration_params;
    let mut inputs = RandInputs::of(&params, request.sender, request.price, &round);
    inputs.seed = inputs.sealed_seed(secret);
    params.seed = inputs.seed;
    params.recipient_rand_hash = inputs.recipient_rand(secret).hash();
    Ok(params)
}

#[cfg(test)]
mod tests;
