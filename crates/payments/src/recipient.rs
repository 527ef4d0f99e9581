//! The recipient's checks on one ticket, in their documented order (payments.md section 10).
//!
//! They fall into three steps, so that the expensive one can run outside every lock:
//! [`verify_offer`] looks at what all tickets of a payment share, [`verify_ticket`] recovers the
//! signature and draws ([`verify_tickets`]: all of a payment), [`admit`] consults the nonces seen so far.

use crate::{
    nonces::{NonceError, NonceSet},
    rand::{RandInputs, RecipientRand, RecipientSecret, wins},
    signature::{Signature, SignatureError, verify_bytes, verify_many},
    ticket::{ExpirationParams, Ticket, TicketParams},
};
use penstock_domain::{Address, Rational, U256};
use thiserror::Error;

/// Why a ticket is not taken. The texts are the reference's, since peers show and match them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TicketError {
    /// The chain did not say how the sender stands. Ours, retry.
    #[error("could not get sender info for {sender}: {reason}")]
    SenderInfo {
        /// The sender.
        sender: Address,
        /// What the lookup said.
        reason: String,
    },
    /// The sender can withdraw its money before the ticket is redeemed.
    #[error("deposit and reserve for sender {0} is set to unlock soon")]
    SenderUnlocking(Address),
    /// The ticket pays somebody else.
    #[error("invalid ticket recipient")]
    Recipient,
    /// The ticket is by nobody.
    #[error("invalid ticket sender")]
    Sender,
    /// Not an offer of this recipient: price, face value, probability, expiry or round was
    /// altered, or the offer is from before a change of the secret.
    #[error("invalid recipientRand for ticket recipientRandHash")]
    RecipientRand,
    /// The sender did not sign this.
    #[error("invalid ticket signature")]
    Signature(#[source] SignatureError),
    /// The nonce was seen, or there were too many.
    #[error("invalid ticket senderNonce: {reason} sender={sender} nonce={nonce}")]
    Nonce {
        /// Seen before, or too many.
        #[source]
        reason: NonceError,
        /// The sender.
        sender: Address,
        /// The nonce.
        nonce: u32,
    },
    /// The offer has ended. The sender refreshes.
    #[error("TicketParams expired")]
    Expired,
}

impl TicketError {
    /// Whether the rest of the payment is not even looked at.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::SenderInfo { .. }
            | Self::SenderUnlocking(_)
            | Self::Recipient
            | Self::Sender
            | Self::RecipientRand => true,
            Self::Signature(_) | Self::Nonce { .. } | Self::Expired => false,
        }
    }
}

/// What the recipient knows when a payment arrives.
#[derive(Debug, Clone)]
pub struct RecipientContext<'a> {
    /// The account to be paid.
    pub recipient: Address,
    /// The key of its offers.
    pub secret: &'a RecipientSecret,
    /// The sender's withdraw round on the chain (0 = locked), or why it is not known.
    pub withdraw_round: Result<u64, String>,
    /// Last initialised round.
    pub last_initialized_round: u64,
}

/// What the tickets of one payment claim in common.
#[derive(Debug, Clone, Copy)]
pub struct OfferClaim<'a> {
    /// Who pays.
    pub sender: Address,
    /// The offer, as sent back.
    pub params: &'a TicketParams,
    /// Creation round and block hash of the tickets.
    pub expiration_params: ExpirationParams,
    /// The price that the offer was made for.
    pub price: &'a Rational,
}

/// An offer that is proven to be this recipient's own.
#[derive(Debug, Clone)]
pub struct VerifiedOffer {
    sender: Address,
    params: TicketParams,
    expiration_params: ExpirationParams,
    recipient_rand: RecipientRand,
    ev: Rational,
}

impl VerifiedOffer {
    /// Who pays.
    pub fn sender(&self) -> Address {
        self.sender
    }

    /// The offer.
    pub fn params(&self) -> &TicketParams {
        &self.params
    }

    /// Worth of one ticket.
    pub fn ev(&self) -> &Rational {
        &self.ev
    }

    /// Whether its price was asked for this work, as the recipient spells it.
    pub fn is_for_work(&self, secret: &RecipientSecret, work: &str) -> bool {
        crate::seed::is_for_work(self.params.seed, work, secret)
    }

    /// The offer's secret number.
    pub fn recipient_rand(&self) -> RecipientRand {
        self.recipient_rand
    }

    /// The ticket of this offer with this nonce.
    pub fn ticket(&self, sender_nonce: u32) -> Ticket {
        Ticket::from_params(&self.params, self.expiration_params, self.sender, sender_nonce)
    }

    /// The ticket with this nonce, whose signature was looked at.
    fn drawn(
        &self,
        sender_nonce: u32,
        signature: Result<Signature, SignatureError>,
    ) -> VerifiedTicket {
        let won = signature
            .is_ok_and(|signature| wins(&signature, &self.recipient_rand, self.params.win_prob));
        VerifiedTicket { sender_nonce, signature, won }
    }
}

/// Rows 1 to 4: the checks whose failure is fatal.
pub fn verify_offer(
    context: &RecipientContext<'_>,
    claim: &OfferClaim<'_>,
) -> Result<VerifiedOffer, TicketError> {
    let sender = claim.sender;
    match &context.withdraw_round {
        Err(reason) => {
            return Err(TicketError::SenderInfo { sender, reason: reason.clone() });
        }
        Ok(round) if unlocks_soon(*round, context.last_initialized_round) => {
            return Err(TicketError::SenderUnlocking(sender));
        }
        Ok(_) => {}
    }
    if claim.params.recipient != context.recipient {
        return Err(TicketError::Recipient);
    }
    if sender.is_zero() {
        return Err(TicketError::Sender);
    }
    let inputs = RandInputs::of(claim.params, sender, claim.price, &claim.expiration_params);
    let recipient_rand = inputs.recipient_rand(context.secret);
    // The hash binds the bytes, the seal which field each of them belongs to.
    let known = recipient_rand.hash() == claim.params.recipient_rand_hash;
    if !known || !inputs.is_sealed(context.secret) {
        return Err(TicketError::RecipientRand);
    }
    Ok(VerifiedOffer {
        sender,
        params: claim.params.clone(),
        expiration_params: claim.expiration_params,
        recipient_rand,
        ev: claim.params.ev(),
    })
}

/// Whether a withdraw round lets the sender take its money by the next round.
pub(crate) fn unlocks_soon(withdraw_round: u64, last_initialized_round: u64) -> bool {
    withdraw_round != 0 && withdraw_round <= last_initialized_round.saturating_add(1)
}

/// A ticket whose signature is known to be good (or not), and its draw.
#[derive(Debug, Clone)]
pub struct VerifiedTicket {
    /// Its nonce.
    pub sender_nonce: u32,
    /// The signature, if the sender made it.
    pub signature: Result<Signature, SignatureError>,
    /// Whether it wins. Never true with a bad signature.
    pub won: bool,
}

/// Rows 5 and 6: recovers the signature and draws. All the cost of a ticket is here.
pub fn verify_ticket(offer: &VerifiedOffer, sender_nonce: u32, signature: &[u8]) -> VerifiedTicket {
    let ticket = offer.ticket(sender_nonce);
    offer.drawn(sender_nonce, verify_bytes(signature, &ticket.digest(), offer.sender))
}

/// The same of all tickets of a payment, which cost less together.
pub fn verify_tickets<'a>(
    offer: &VerifiedOffer,
    tickets: impl Iterator<Item = (u32, &'a [u8])> + Clone,
) -> Vec<VerifiedTicket> {
    let signed = tickets.clone().map(|(nonce, bytes)| (bytes, offer.ticket(nonce).digest()));
    let signatures = verify_many(signed, offer.sender);
    tickets.zip(signatures).map(|((nonce, _), signature)| offer.drawn(nonce, signature)).collect()
}

/// What becomes of one ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Whether its nonce was recorded: it is, even if the offer turns out to have expired.
    pub nonce_recorded: bool,
    /// Whether it is to be redeemed. That holds for a winner that fails rows 7 to 9, too.
    pub won: bool,
    /// Whether it may be credited.
    pub result: Result<(), TicketError>,
}

/// Rows 5 to 9 for one verified ticket; records its nonce in `seen`.
pub fn admit(
    offer: &VerifiedOffer,
    ticket: &VerifiedTicket,
    seen: &mut NonceSet,
    last_seen_l1_block: u64,
) -> Admission {
    if let Err(error) = ticket.signature {
        let result = Err(TicketError::Signature(error));
        return Admission { nonce_recorded: false, won: false, result };
    }
    let recorded = seen.record(ticket.sender_nonce);
    let result = match recorded {
        Err(reason) => {
            Err(TicketError::Nonce { reason, sender: offer.sender, nonce: ticket.sender_nonce })
        }
        Ok(()) if offer_expired(&offer.params, last_seen_l1_block) => Err(TicketError::Expired),
        Ok(()) => Ok(()),
    };
    Admission { nonce_recorded: recorded.is_ok(), won: ticket.won, result }
}

/// The recipient's view of expiry: the offer lives while its expiration block is still to come.
/// Nonce sets of expired offers may be dropped.
pub fn offer_expired(params: &TicketParams, last_seen_l1_block: u64) -> bool {
    params.expiration_block <= U256::from(last_seen_l1_block)
}

/// All rows for one ticket on its own.
pub fn receive_ticket(
    context: &RecipientContext<'_>,
    claim: &OfferClaim<'_>,
    sender_nonce: u32,
    signature: &[u8],
    seen: &mut NonceSet,
    last_seen_l1_block: u64,
) -> Admission {
    match verify_offer(context, claim) {
        Err(error) => Admission { nonce_recorded: false, won: false, result: Err(error) },
        Ok(offer) => {
            let ticket = verify_ticket(&offer, sender_nonce, signature);
            admit(&offer, &ticket, seen, last_seen_l1_block)
        }
    }
}
