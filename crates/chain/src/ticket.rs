//! A ticket in the contract's own shape: creation round and block hash are bytes of `auxData`.

use penstock_domain::{Address, B256, U256, Wei, keccak256};

/// `Ticket` of the TicketBroker ABI (on-chain.md section 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnChainTicket {
    /// Who is paid.
    pub recipient: Address,
    /// Who pays, and signed the ticket.
    pub sender: Address,
    /// What a win pays.
    pub face_value: Wei,
    /// Chance of a win, out of 2^256 − 1.
    pub win_prob: U256,
    /// Makes tickets of one `recipient_rand_hash` different.
    pub sender_nonce: U256,
    /// keccak256 of the 32-byte recipientRand.
    pub recipient_rand_hash: B256,
    /// Creation round and its L1 block hash, 32 bytes each; the contract takes no other length.
    pub aux_data: Vec<u8>,
}

impl OnChainTicket {
    /// `auxData` of a creation round and its block hash.
    pub fn aux_data_of(creation_round: u64, creation_round_block_hash: B256) -> Vec<u8> {
        let mut aux = U256::from(creation_round).to_be_bytes::<32>().to_vec();
        aux.extend_from_slice(creation_round_block_hash.as_slice());
        aux
    }

    /// The hash that is signed, and by which the contract remembers used tickets: keccak256 of the
    /// packed fields (on-chain.md section 3.4).
    pub fn hash(&self) -> B256 {
        let mut packed = Vec::with_capacity(168 + self.aux_data.len());
        packed.extend_from_slice(self.recipient.as_slice());
        packed.extend_from_slice(self.sender.as_slice());
        for number in [self.face_value.0, self.win_prob, self.sender_nonce] {
            packed.extend_from_slice(&number.to_be_bytes::<32>());
        }
        packed.extend_from_slice(self.recipient_rand_hash.as_slice());
        packed.extend_from_slice(&self.aux_data);
        keccak256(packed)
    }
}

/// A ticket of the network has a short nonce and a creation round; the contract takes more.
impl From<&penstock_payments::Ticket> for OnChainTicket {
    fn from(ticket: &penstock_payments::Ticket) -> Self {
        Self {
            recipient: ticket.recipient,
            sender: ticket.sender,
            face_value: ticket.face_value,
            win_prob: ticket.win_prob,
            sender_nonce: U256::from(ticket.sender_nonce),
            recipient_rand_hash: ticket.recipient_rand_hash,
            aux_data: ticket.expiration_params.aux_data(),
        }
    }
}

/// A ticket that won, with what proves it.
#[derive(Clone, PartialEq, Eq)]
pub struct WinningTicket {
    /// The ticket.
    pub ticket: OnChainTicket,
    /// The sender's signature: 65 bytes r ‖ s ‖ v, v 27 or 28. Untrusted until the chain took it.
    pub sig: Vec<u8>,
    /// The recipient's number. Revealing it lets anyone forge wins of its ticket parameters, so it
    /// is shown to the chain only after they expired, and never printed.
    pub recipient_rand: U256,
}

impl core::fmt::Debug for WinningTicket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WinningTicket").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_one_the_contract_computed() {
        // on-chain.md section 3.4: accepted by the deployed bytecode.
        let ticket = OnChainTicket {
            recipient: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8".parse().unwrap(),
            sender: "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC".parse().unwrap(),
            face_value: Wei::from_u64(1_000_000_000_000_000),
            win_prob:
                "57896044618658097711785492504343953926634992332820282019728792003956564819967"
                    .parse()
                    .unwrap(),
            sender_nonce: U256::from(1),
            recipient_rand_hash: keccak256(
                U256::from(0x0123_4567_89ab_cdef_u64).to_be_bytes::<32>(),
            ),
            aux_data: OnChainTicket::aux_data_of(3500, B256::repeat_byte(0xab)),
        };
        assert_eq!(
            ticket.recipient_rand_hash.to_string(),
            "0x7b276d8223c5a0cb1c37fd6dad4c34e7bce284ccfae986d781d252f852fb9d6d"
        );
        assert_eq!(
            ticket.hash().to_string(),
            "0x5a699a7b15afa73e3ff03ad5ed3c06e4cfbe520f7c1bb2689104bfa80830a905"
        );
    }

    #[test]
    fn both_shapes_of_a_ticket_hash_alike() {
        for (creation_round, hash) in [(3500, B256::repeat_byte(0xab)), (0, B256::ZERO)] {
            let ticket = penstock_payments::Ticket {
                recipient: Address::repeat_byte(1),
                sender: Address::repeat_byte(2),
                face_value: Wei::from_u64(3),
                win_prob: U256::MAX,
                sender_nonce: 4,
                recipient_rand_hash: B256::repeat_byte(5),
                expiration_params: penstock_payments::ExpirationParams {
                    creation_round,
                    creation_round_block_hash: hash,
                },
            };
            assert_eq!(OnChainTicket::from(&ticket).hash(), ticket.hash());
        }
    }

    #[test]
    fn recipient_rand_is_not_printed() {
        let winner = WinningTicket {
            ticket: OnChainTicket {
                recipient: Address::ZERO,
                sender: Address::ZERO,
                face_value: Wei::ZERO,
                win_prob: U256::ZERO,
                sender_nonce: U256::ZERO,
                recipient_rand_hash: B256::ZERO,
                aux_data: vec![],
            },
            sig: vec![],
            recipient_rand: U256::from(987_654_321_u64),
        };
        assert!(!format!("{winner:?}").contains("987654321"));
    }
}
