//! Ticket parameters and payments: `net` messages ⇄ plain checked fields.
//!
//! This crate knows nothing of `penstock_payments` and that crate knows no wire, so the structs
//! here carry the same fields under the same names and a role moves them across.

use crate::{
    bytes,
    error::{WireError, at_most, bounded},
    limits, net,
};
use penstock_domain::{Address, B256, PriceInfo, U256, Wei, be_bytes};

/// Creation round of tickets (payments.md section 9).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpirationFields {
    /// Round on the chain; 0 is unset.
    pub creation_round: u64,
    /// L1 block hash of that round; zero is unset.
    pub creation_round_block_hash: B256,
}

/// What a recipient offers tickets for (payments.md section 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketParamsFields {
    /// Who is paid.
    pub recipient: Address,
    /// What a win pays.
    pub face_value: Wei,
    /// Chance of a win, out of 2^256 − 1.
    pub win_prob: U256,
    /// Keccak-256 of the secret that decides.
    pub recipient_rand_hash: B256,
    /// From which the recipient finds its secret again.
    pub seed: U256,
    /// L1 block at which the offer ends.
    pub expiration_block: U256,
    /// Creation round the recipient wants in tickets, all zero when it leaves that open.
    pub expiration_params: ExpirationFields,
}

/// One ticket of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderFields {
    /// Makes the ticket different from the others of its offer.
    pub sender_nonce: u32,
    /// The sender's signature, 65 bytes when it is one at all. A wrong length is a bad ticket,
    /// not a bad payment, so it is left to the recipient's checks.
    pub sig: Vec<u8>,
}

/// A payment (header `Livepeer-Payment`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaymentFields {
    /// Who pays; absent in the empty payment of a network without money.
    pub sender: Option<Address>,
    /// The offer the tickets are for; absent when there are none.
    pub ticket_params: Option<TicketParamsFields>,
    /// Creation round of the batch.
    pub expiration_params: ExpirationFields,
    /// The tickets.
    pub tickets: Vec<SenderFields>,
    /// The price the sender believes to pay; absent without a price.
    pub expected_price: Option<PriceInfo>,
}

impl TryFrom<&net::TicketExpirationParams> for ExpirationFields {
    type Error = WireError;

    fn try_from(m: &net::TicketExpirationParams) -> Result<Self, WireError> {
        let what = "creation round";
        Ok(Self {
            creation_round: u64::try_from(m.creation_round)
                .map_err(|_| WireError::invalid(what, "must not be negative"))?,
            creation_round_block_hash: bytes::hash(
                "creation round block hash",
                &m.creation_round_block_hash,
            )?,
        })
    }
}

fn expiration(m: Option<&net::TicketExpirationParams>) -> Result<ExpirationFields, WireError> {
    m.map_or(Ok(ExpirationFields::default()), TryInto::try_into)
}

impl ExpirationFields {
    /// The message, or `None` when nothing is set.
    pub fn to_message(self) -> Option<net::TicketExpirationParams> {
        // Rounds come from the chain and are far below 2^63; one beyond is unset rather than wrong.
        (self != Self::default()).then(|| net::TicketExpirationParams {
            creation_round: i64::try_from(self.creation_round).unwrap_or_default(),
            creation_round_block_hash: bytes::hash_field(self.creation_round_block_hash),
        })
    }
}

impl TryFrom<&net::TicketParams> for TicketParamsFields {
    type Error = WireError;

    fn try_from(m: &net::TicketParams) -> Result<Self, WireError> {
        Ok(Self {
            recipient: bytes::address("ticket recipient", &m.recipient)?
                .ok_or(WireError::Missing("ticket recipient"))?,
            face_value: bytes::integer("face value", &m.face_value)?.into(),
            win_prob: bytes::integer("win probability", &m.win_prob)?,
            recipient_rand_hash: bytes::hash("recipientRand hash", &m.recipient_rand_hash)?,
            seed: bytes::integer("seed", &m.seed)?,
            expiration_block: bytes::integer("expiration block", &m.expiration_block)?,
            expiration_params: expiration(m.expiration_params.as_ref())?,
        })
    }
}

impl TicketParamsFields {
    /// As an orchestrator offers them (field 7 inside).
    pub fn to_offer_message(&self) -> net::TicketParams {
        net::TicketParams {
            expiration_params: self.expiration_params.to_message(),
            ..self.to_payment_message()
        }
    }

    /// As a payment repeats them (field 7 left out, payments.md section 9).
    pub fn to_payment_message(&self) -> net::TicketParams {
        net::TicketParams {
            recipient: self.recipient.to_vec(),
            face_value: be_bytes(self.face_value.0),
            win_prob: be_bytes(self.win_prob),
            recipient_rand_hash: bytes::hash_field(self.recipient_rand_hash),
            seed: be_bytes(self.seed),
            expiration_block: be_bytes(self.expiration_block),
            expiration_params: None,
        }
    }
}

impl TryFrom<&net::Payment> for PaymentFields {
    type Error = WireError;

    fn try_from(m: &net::Payment) -> Result<Self, WireError> {
        at_most("ticket list", m.ticket_sender_params.len(), limits::TICKETS_PER_PAYMENT)?;
        let mut tickets = Vec::with_capacity(m.ticket_sender_params.len());
        for ticket in &m.ticket_sender_params {
            bounded("ticket signature", ticket.sig.len(), 128)?;
            tickets
                .push(SenderFields { sender_nonce: ticket.sender_nonce, sig: ticket.sig.clone() });
        }
        Ok(Self {
            sender: bytes::address("sender", &m.sender)?,
            ticket_params: m.ticket_params.as_ref().map(TryInto::try_into).transpose()?,
            expiration_params: expiration(m.expiration_params.as_ref())?,
            tickets,
            expected_price: m.expected_price.as_ref().map(crate::price::read).transpose()?,
        })
    }
}

impl PaymentFields {
    /// The message. Without tickets only sender and price are sent (payments.md section 9).
    pub fn to_message(&self) -> net::Payment {
        let head = net::Payment {
            sender: self.sender.map(|a| a.to_vec()).unwrap_or_default(),
            expected_price: self.expected_price.map(crate::price::write),
            ..net::Payment::default()
        };
        if self.tickets.is_empty() {
            return head;
        }
        let tickets = self
            .tickets
            .iter()
            .map(|t| net::TicketSenderParams { sender_nonce: t.sender_nonce, sig: t.sig.clone() });
        net::Payment {
            ticket_params: self.ticket_params.as_ref().map(TicketParamsFields::to_payment_message),
            expiration_params: self.expiration_params.to_message(),
            ticket_sender_params: tickets.collect(),
            ..head
        }
    }
}
