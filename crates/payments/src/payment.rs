//! A whole payment at the recipient (payments.md section 11), as a list of effects that the ledger
//! stores in one transaction.
//!
//! [`verify_payment`] does what costs time (signatures) without any state. [`VerifiedPayment::settle`]
//! is cheap, wants the nonces seen so far, and is meant to run inside the transaction that read them:
//! then two copies of a payment that arrive together cannot both be credited.
//!
//! Faults of the reference that are not copied (payments.md section 18): the price of a session is
//! fixed only by a payment that was credited, so nobody can pin a price that was never offered; a
//! payment without ticket params pins the price 0 only where the service is free.

use crate::{
    nonces::NonceSet,
    rand::{RecipientRand, wins},
    recipient::{
        OfferClaim, RecipientContext, TicketError, VerifiedOffer, VerifiedTicket, admit,
        verify_offer, verify_tickets,
    },
    signature::{Signature, SignatureError},
    ticket::{ExpirationParams, Ticket, TicketParams},
};
use penstock_domain::{Address, B256, BadPrice, PriceInfo, Rational, U256};
use thiserror::Error;

/// Most tickets in one payment. No more nonces than this are taken for one offer, and each costs
/// a signature recovery, so a longer list is refused before any work.
pub const MAX_TICKETS_PER_PAYMENT: usize = crate::nonces::MAX_NONCES;

/// A payment as received, in domain types: `net.Payment` after decoding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payment {
    /// Who pays; `None` when the field is absent.
    pub sender: Option<Address>,
    /// The offer that the tickets are of; `None` in a payment of nothing.
    pub ticket_params: Option<TicketParams>,
    /// Creation round and block hash of the tickets.
    pub expiration_params: ExpirationParams,
    /// Nonce and signature of each ticket.
    pub tickets: Vec<SignedNonce>,
    /// The price the sender expects; `None` when the field is absent.
    pub expected_price: Option<Result<PriceInfo, BadPrice>>,
}

/// What differs between the tickets of one payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNonce {
    /// The ticket's nonce.
    pub sender_nonce: u32,
    /// As received: a wrong length spoils this ticket only.
    pub signature: Vec<u8>,
}

/// What is wrong with the expected price; part of [`PaymentError::ExpectedPrice`]'s text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ExpectedPriceError {
    /// The field is absent.
    #[error("expected price is nil")]
    Absent,
    /// Its numbers are no price.
    #[error(transparent)]
    Bad(#[from] BadPrice),
}

/// Why a payment is not taken, or not whole. Callers answer 400 with the text. The sender's fault,
/// unless [`TicketError::SenderInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PaymentError {
    /// Tickets by nobody.
    #[error("Could not find Sender for payment: ticket params without sender")]
    NoSender,
    /// The recipient is not in the pool this round, so its tickets cannot be redeemed.
    #[error("orchestrator {recipient} is inactive in round {round}, cannot process payments")]
    Inactive {
        /// The recipient named in the payment.
        recipient: Address,
        /// The current round.
        round: u64,
    },
    /// The expected price is absent or no price.
    #[error("invalid expected price sent with payment err=\"{0}\"")]
    ExpectedPrice(ExpectedPriceError),
    /// More tickets than one offer has nonces.
    #[error("{0} tickets in one payment, at most 600")]
    TooManyTickets(usize),
    /// A ticket failed; the text is the ticket's own.
    #[error(transparent)]
    Ticket(#[from] TicketError),
}

/// What the recipient knows when a payment arrives.
#[derive(Debug, Clone)]
pub struct PaymentContext<'a> {
    /// For the tickets.
    pub recipient: RecipientContext<'a>,
    /// Whether the recipient **named in the payment** is active this round.
    pub recipient_active: bool,
}

/// A payment whose signatures were checked; what it is worth depends on the nonces seen.
#[derive(Debug, Clone)]
pub enum VerifiedPayment {
    /// No ticket params: nothing is paid.
    Nothing,
    /// Tickets of one offer.
    Tickets {
        /// The offer.
        offer: Box<VerifiedOffer>,
        /// The price it was made for, now authenticated.
        price: Rational,
        /// The tickets in their order.
        tickets: Vec<VerifiedTicket>,
    },
}

/// Steps 2 to 7 of section 11 as far as they need no state. An error here stores nothing.
pub fn verify_payment(
    payment: &Payment,
    context: &PaymentContext<'_>,
) -> Result<VerifiedPayment, PaymentError> {
    let Some(params) = &payment.ticket_params else {
        return Ok(VerifiedPayment::Nothing);
    };
    let sender = payment.sender.ok_or(PaymentError::NoSender)?;
    if !context.recipient_active {
        return Err(PaymentError::Inactive {
            recipient: params.recipient,
            round: context.recipient.last_initialized_round,
        });
    }
    let price = match payment.expected_price {
        Some(Ok(price)) => price.rational(),
        Some(Err(bad)) => return Err(PaymentError::ExpectedPrice(bad.into())),
        None => return Err(PaymentError::ExpectedPrice(ExpectedPriceError::Absent)),
    };
    if payment.tickets.len() > MAX_TICKETS_PER_PAYMENT {
        return Err(PaymentError::TooManyTickets(payment.tickets.len()));
    }
    let claim =
        OfferClaim { sender, params, expiration_params: payment.expiration_params, price: &price };
    let offer = verify_offer(&context.recipient, &claim)?;
    let signed =
        payment.tickets.iter().map(|ticket| (ticket.sender_nonce, ticket.signature.as_slice()));
    let tickets = verify_tickets(&offer, signed);
    Ok(VerifiedPayment::Tickets { offer: Box::new(offer), price, tickets })
}

/// A winning ticket with all that redemption needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Winner {
    /// The ticket.
    pub ticket: Ticket,
    /// Its hash, by which the chain and the queue know it.
    pub ticket_hash: B256,
    /// The sender's signature, exactly as it was drawn with.
    pub signature: Signature,
    /// Shown to the chain at redemption, not before [`Self::params_expiration_block`].
    pub recipient_rand: RecipientRand,
    /// L1 block at which the offer ends and redemption may begin.
    pub params_expiration_block: U256,
}

/// Why a winner that somebody else brings is not one. Always the bringer's fault, and final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotAWinner {
    /// It pays nothing.
    #[error("the ticket has no face value")]
    Worthless,
    /// By nobody.
    #[error("invalid ticket sender")]
    Sender,
    /// The number is not the one that was hashed.
    #[error("invalid recipientRand for ticket recipientRandHash")]
    RecipientRand,
    /// The sender did not sign this.
    #[error("invalid ticket signature: {0}")]
    Signature(#[from] SignatureError),
    /// It did not win.
    #[error("the ticket did not win")]
    Lost,
}

impl Winner {
    /// Whether the ticket is its sender's, and has won: everything that can be told without a chain.
    pub fn prove(&self) -> Result<(), NotAWinner> {
        if self.ticket.face_value.is_zero() {
            return Err(NotAWinner::Worthless);
        }
        if self.ticket.sender.is_zero() {
            return Err(NotAWinner::Sender);
        }
        if self.recipient_rand.hash() != self.ticket.recipient_rand_hash {
            return Err(NotAWinner::RecipientRand);
        }
        self.ticket.verify(&self.signature)?;
        if wins(&self.signature, &self.recipient_rand, self.ticket.win_prob) {
            Ok(())
        } else {
            Err(NotAWinner::Lost)
        }
    }
}

/// One thing for the ledger to store. All of a payment's effects go into one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A nonce is used up.
    RecordNonce {
        /// Key of the nonce set.
        recipient_rand_hash: B256,
        /// The nonce.
        sender_nonce: u32,
        /// L1 block from which the set may be dropped.
        expiration_block: U256,
    },
    /// The sender's account of this session gains a ticket's worth.
    Credit {
        /// The ticket's nonce, for the record.
        sender_nonce: u32,
        /// Exact wei.
        ev: Rational,
    },
    /// A winner is to be redeemed. Idempotent by ticket hash: a replayed winner comes again.
    QueueWinner(Box<Winner>),
    /// The session's price is this from now on. Only if it has none yet.
    FixPrice(Rational),
}

/// What one payment does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaymentOutcome {
    /// To be stored, whether there is an error or not.
    pub effects: Vec<Effect>,
    /// Sum of the credits.
    pub credited: Rational,
    /// The **last** ticket's error, if any: the caller answers 400 with it after storing.
    pub error: Option<TicketError>,
}

/// What the session's account says before the payment.
#[derive(Debug, Clone, Copy)]
pub struct SessionPrice<'a> {
    /// The price fixed by an earlier payment.
    pub fixed: Option<&'a Rational>,
    /// What this recipient asks today.
    pub own: &'a Rational,
}

impl SessionPrice<'_> {
    /// What work in this session costs per unit. The price that a request merely states counts for
    /// nothing: only a payment whose recipientRand was right can have fixed one.
    pub fn charged(&self) -> &Rational {
        self.fixed.unwrap_or(self.own)
    }
}

impl VerifiedPayment {
    /// Key of the nonces to read before [`Self::settle`], if any are needed.
    pub fn nonce_key(&self) -> Option<B256> {
        match self {
            Self::Nothing => None,
            Self::Tickets { offer, .. } => Some(offer.params().recipient_rand_hash),
        }
    }

    /// The rest of section 11: credits ticket by ticket. After the first error no later ticket is
    /// credited, but all are still checked, their nonces recorded and winners queued.
    pub fn settle(
        &self,
        mut seen: NonceSet,
        last_seen_l1_block: u64,
        session: &SessionPrice<'_>,
    ) -> PaymentOutcome {
        let mut outcome = PaymentOutcome::default();
        let pinned = match self {
            Self::Nothing => session.own.is_zero().then_some(Rational::ZERO),
            Self::Tickets { offer, price, tickets } => {
                for ticket in tickets {
                    outcome.take(offer, ticket, &mut seen, last_seen_l1_block);
                }
                let paid = outcome.effects.iter().any(|e| matches!(e, Effect::Credit { .. }));
                paid.then(|| price.clone())
            }
        };
        if let (None, Some(price)) = (session.fixed, pinned) {
            outcome.effects.push(Effect::FixPrice(price));
        }
        outcome
    }
}

impl PaymentOutcome {
    fn take(
        &mut self,
        offer: &VerifiedOffer,
        ticket: &VerifiedTicket,
        seen: &mut NonceSet,
        last_seen_l1_block: u64,
    ) {
        let admission = admit(offer, ticket, seen, last_seen_l1_block);
        let params = offer.params();
        if admission.nonce_recorded {
            self.effects.push(Effect::RecordNonce {
                recipient_rand_hash: params.recipient_rand_hash,
                sender_nonce: ticket.sender_nonce,
                expiration_block: params.expiration_block,
            });
        }
        if let Err(error) = admission.result {
            self.error = Some(error);
        }
        if self.error.is_none() {
            self.credited += offer.ev();
            self.effects
                .push(Effect::Credit { sender_nonce: ticket.sender_nonce, ev: offer.ev().clone() });
        }
        if let (true, Ok(signature)) = (admission.won, ticket.signature) {
            let won = offer.ticket(ticket.sender_nonce);
            self.effects.push(Effect::QueueWinner(Box::new(Winner {
                ticket_hash: won.hash(),
                ticket: won,
                signature,
                recipient_rand: offer.recipient_rand(),
                params_expiration_block: params.expiration_block,
            })));
        }
    }
}
