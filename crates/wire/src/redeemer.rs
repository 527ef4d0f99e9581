//! What an orchestrator and a separate redeemer say to each other: `net.Ticket` and its answers ⇄ plain
//! checked fields (orchestrator-wire.md section 2, on-chain.md section 13).

use crate::{
    bytes,
    error::{WireError, bounded},
    net,
    ticket::ExpirationFields,
};
use penstock_domain::{Address, B256, U256, Wei, be_bytes};

/// A winning ticket on its way to a redeemer, with the number that proves the win.
#[derive(Clone, PartialEq, Eq)]
pub struct WinnerFields {
    /// Who is paid.
    pub recipient: Address,
    /// Who pays, and signed.
    pub sender: Address,
    /// What the win pays.
    pub face_value: Wei,
    /// Chance of a win, out of 2^256 − 1.
    pub win_prob: U256,
    /// Makes the ticket different from the others of its offer.
    pub sender_nonce: u32,
    /// Keccak-256 of `recipient_rand`.
    pub recipient_rand_hash: B256,
    /// The recipient's number. Not for the eyes of others before the offer has ended.
    pub recipient_rand: U256,
    /// L1 block at which the offer ends.
    pub expiration_block: U256,
    /// Creation round and block hash.
    pub expiration_params: ExpirationFields,
    /// As received, 65 bytes when it is a signature at all.
    pub sig: Vec<u8>,
}

/// Without the recipient's number.
impl core::fmt::Debug for WinnerFields {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WinnerFields")
            .field("sender", &self.sender)
            .field("recipient", &self.recipient)
            .field("sender_nonce", &self.sender_nonce)
            .field("recipient_rand_hash", &self.recipient_rand_hash)
            .finish_non_exhaustive()
    }
}

impl TryFrom<&net::Ticket> for WinnerFields {
    type Error = WireError;

    fn try_from(m: &net::Ticket) -> Result<Self, WireError> {
        let params = m.ticket_params.as_ref().ok_or(WireError::Missing("ticket params"))?;
        let signed = m.sender_params.as_ref().ok_or(WireError::Missing("sender params"))?;
        bounded("ticket signature", signed.sig.len(), 128)?;
        let expiration_params = match &m.expiration_params {
            Some(params) => params.try_into()?,
            None => ExpirationFields::default(),
        };
        Ok(Self {
            recipient: bytes::address("ticket recipient", &params.recipient)?
                .ok_or(WireError::Missing("ticket recipient"))?,
            sender: bytes::address("ticket sender", &m.sender)?
                .ok_or(WireError::Missing("ticket sender"))?,
            face_value: bytes::integer("face value", &params.face_value)?.into(),
            win_prob: bytes::integer("win probability", &params.win_prob)?,
            sender_nonce: signed.sender_nonce,
            recipient_rand_hash: bytes::hash("recipientRand hash", &params.recipient_rand_hash)?,
            recipient_rand: bytes::integer("recipientRand", &m.recipient_rand)?,
            expiration_block: bytes::integer("expiration block", &params.expiration_block)?,
            expiration_params,
            sig: signed.sig.clone(),
        })
    }
}

impl WinnerFields {
    /// The message. Nothing is left out for being zero but seed and the offer's own round: the
    /// reference's redeemer looks into both messages without asking whether they are there.
    pub fn to_message(&self) -> net::Ticket {
        let ExpirationFields { creation_round, creation_round_block_hash } = self.expiration_params;
        net::Ticket {
            ticket_params: Some(net::TicketParams {
                recipient: self.recipient.to_vec(),
                face_value: be_bytes(self.face_value.0),
                win_prob: be_bytes(self.win_prob),
                recipient_rand_hash: self.recipient_rand_hash.to_vec(),
                seed: Vec::new(),
                expiration_block: be_bytes(self.expiration_block),
                expiration_params: None,
            }),
            sender: self.sender.to_vec(),
            expiration_params: Some(net::TicketExpirationParams {
                // Rounds come from the chain and are far below 2^63.
                creation_round: i64::try_from(creation_round).unwrap_or(i64::MAX),
                creation_round_block_hash: creation_round_block_hash.to_vec(),
            }),
            sender_params: Some(net::TicketSenderParams {
                sender_nonce: self.sender_nonce,
                sig: self.sig.clone(),
            }),
            recipient_rand: be_bytes(self.recipient_rand),
        }
    }
}

/// Whose max float is asked for.
pub fn read_max_float_request(m: &net::MaxFloatReq) -> Result<Address, WireError> {
    bytes::address("sender", &m.sender)?.ok_or(WireError::Missing("sender"))
}

/// A max float in wei. The wire has no sign, so that less than nothing is told as nothing.
pub fn read_max_float(m: &net::MaxFloatUpdate) -> Result<Wei, WireError> {
    Ok(bytes::integer("max float", &m.max_float)?.into())
}

/// The answer that tells a max float.
pub fn write_max_float(max_float: Wei) -> net::MaxFloatUpdate {
    net::MaxFloatUpdate { max_float: be_bytes(max_float.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn winner() -> WinnerFields {
        WinnerFields {
            recipient: Address::repeat_byte(1),
            sender: Address::repeat_byte(2),
            face_value: Wei::from_u64(0x0300),
            win_prob: U256::from(4),
            sender_nonce: 5,
            recipient_rand_hash: B256::repeat_byte(6),
            recipient_rand: U256::from(7),
            expiration_block: U256::from(8),
            expiration_params: ExpirationFields {
                creation_round: 9,
                creation_round_block_hash: B256::repeat_byte(10),
            },
            sig: vec![11; 65],
        }
    }

    #[test]
    fn a_winner_comes_back_as_it_went() {
        let message = winner().to_message();
        assert_eq!(WinnerFields::try_from(&message), Ok(winner()));
        assert_eq!(message.recipient_rand, [7]);
        let params = message.ticket_params.as_ref().unwrap();
        assert!(params.seed.is_empty() && params.expiration_params.is_none());
        let decoded = net::Ticket::decode(message.encode_to_vec().as_slice()).unwrap();
        assert_eq!(WinnerFields::try_from(&decoded), Ok(winner()));
        assert!(!format!("{:?}", winner()).contains("recipient_rand:"));
    }

    #[test]
    fn all_zero_is_still_whole() {
        let zero = WinnerFields {
            expiration_params: ExpirationFields::default(),
            recipient_rand: U256::ZERO,
            ..winner()
        };
        let message = zero.to_message();
        assert!(message.expiration_params.is_some());
        assert_eq!(WinnerFields::try_from(&message), Ok(zero));
    }

    #[test]
    fn what_is_missing_or_of_another_length_is_refused() {
        type Spoil = fn(&mut net::Ticket);
        let spoils: [(&str, Spoil); 10] = [
            ("no params", |t| t.ticket_params = None),
            ("no sender params", |t| t.sender_params = None),
            ("no sender", |t| t.sender.clear()),
            ("a short sender", |t| t.sender.truncate(19)),
            ("no recipient", |t| t.ticket_params.as_mut().unwrap().recipient.clear()),
            ("a long number", |t| t.recipient_rand = vec![1; 33]),
            ("a long face value", |t| t.ticket_params.as_mut().unwrap().face_value = vec![1; 33]),
            ("a short hash", |t| {
                t.ticket_params.as_mut().unwrap().recipient_rand_hash.truncate(31);
            }),
            ("a negative round", |t| t.expiration_params.as_mut().unwrap().creation_round = -1),
            ("an endless signature", |t| t.sender_params.as_mut().unwrap().sig = vec![0; 129]),
        ];
        for (what, spoil) in spoils {
            let mut message = winner().to_message();
            spoil(&mut message);
            assert!(WinnerFields::try_from(&message).is_err(), "{what}");
        }
    }

    #[test]
    fn floats_are_unsigned_and_bounded() {
        assert!(write_max_float(Wei::ZERO).max_float.is_empty());
        for wei in [0, 1, 256, u64::MAX] {
            let wei = Wei::from_u64(wei);
            assert_eq!(read_max_float(&write_max_float(wei)), Ok(wei));
        }
        assert!(read_max_float(&net::MaxFloatUpdate { max_float: vec![1; 33] }).is_err());
        let asked = |sender: Vec<u8>| read_max_float_request(&net::MaxFloatReq { sender });
        assert_eq!(asked(vec![3; 20]), Ok(Address::repeat_byte(3)));
        assert!(asked(vec![]).is_err() && asked(vec![3; 32]).is_err());
    }
}
