//! How a ticket was redeemed, from the contract's events.
//!
//! `WinningTicketRedeemed` does not name the ticket's hash, but holds everything that the hash is made of. The events of
//! one redemption stand together in their transaction: what was claimed from the reserve, what was paid in all, and
//! last that it is redeemed. In a batch the next ticket's follow.

use crate::{
    contracts::{
        ITicketBroker::{
            ReserveClaimed, WinningTicketRedeemed, WinningTicketTransfer, redeemWinningTicketCall,
        },
        Ticket,
    },
    rpc::wire::Event,
};
use alloy_sol_types::SolEvent;
use penstock_chain::{OnChainTicket, Redemption, WinningTicket};
use penstock_domain::{Address, B256, Wei, keccak256};

/// What a redemption paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paid {
    pub from_deposit: Wei,
    pub from_reserve: Wei,
}

/// Where a transaction is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub tx_hash: B256,
    /// The chain's own.
    pub block: u64,
    pub l1_block: u64,
    pub round: u64,
}

impl Paid {
    /// All of it: the contract's own sum.
    pub(crate) fn all(self) -> Wei {
        Wei(self.from_deposit.0.saturating_add(self.from_reserve.0))
    }

    /// The same as the ticket's redemption there.
    pub(crate) fn redemption(self, ticket: &OnChainTicket, place: Place) -> Redemption {
        Redemption {
            ticket_hash: ticket.hash(),
            tx_hash: place.tx_hash,
            l1_block: place.l1_block,
            round: place.round,
            block: Some(place.block),
            sender: ticket.sender,
            recipient: ticket.recipient,
            face_value: ticket.face_value,
            paid_from_deposit: self.from_deposit,
            paid_from_reserve: self.from_reserve,
        }
    }
}

/// A ticket as the contract takes it.
pub(crate) fn as_argument(ticket: &OnChainTicket) -> Ticket {
    Ticket {
        recipient: ticket.recipient,
        sender: ticket.sender,
        faceValue: ticket.face_value.0,
        winProb: ticket.win_prob,
        senderNonce: ticket.sender_nonce,
        recipientRandHash: ticket.recipient_rand_hash,
        auxData: ticket.aux_data.clone().into(),
    }
}

impl From<&WinningTicket> for redeemWinningTicketCall {
    fn from(winner: &WinningTicket) -> Self {
        Self {
            ticket: as_argument(&winner.ticket),
            sig: winner.sig.clone().into(),
            recipientRand: winner.recipient_rand,
        }
    }
}

/// Whether this event says that the ticket is redeemed.
pub(crate) fn redeems(event: &Event, broker: Address, ticket: &OnChainTicket) -> bool {
    of::<WinningTicketRedeemed>(event, broker)
        .is_some_and(|redeemed| hash(&redeemed) == ticket.hash())
}

/// What the redemption of a ticket paid, if the events of a transaction tell of it.
pub(crate) fn paid(events: &[Event], broker: Address, ticket: &OnChainTicket) -> Option<Paid> {
    let (mut total, mut reserve) = (Wei::ZERO, Wei::ZERO);
    for event in events {
        if let Some(claimed) = of::<ReserveClaimed>(event, broker) {
            reserve = Wei(claimed.amount);
        } else if let Some(transfer) = of::<WinningTicketTransfer>(event, broker) {
            total = Wei(transfer.amount);
        } else if of::<WinningTicketRedeemed>(event, broker).is_some() {
            if redeems(event, broker, ticket) {
                return Some(Paid {
                    from_deposit: total.saturating_sub(reserve),
                    from_reserve: reserve,
                });
            }
            // The end of another ticket's events.
            (total, reserve) = (Wei::ZERO, Wei::ZERO);
        }
    }
    None
}

/// The event, if it is one of this kind and of this contract.
fn of<E: SolEvent>(event: &Event, contract: Address) -> Option<E> {
    if event.address.0 != contract || event.topics.first().map(|t| t.0) != Some(E::SIGNATURE_HASH) {
        return None;
    }
    E::decode_raw_log(event.topics.iter().map(|t| t.0), &event.data.0).ok()
}

fn hash(redeemed: &WinningTicketRedeemed) -> B256 {
    OnChainTicket {
        recipient: redeemed.recipient,
        sender: redeemed.sender,
        face_value: Wei(redeemed.faceValue),
        win_prob: redeemed.winProb,
        sender_nonce: redeemed.senderNonce,
        recipient_rand_hash: keccak256(redeemed.recipientRand.to_be_bytes::<32>()),
        aux_data: redeemed.auxData.to_vec(),
    }
    .hash()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::wire::{Account, Data, Word};
    use penstock_domain::U256;

    const BROKER: Address = Address::repeat_byte(9);

    fn ticket(nonce: u64, rand: u64) -> OnChainTicket {
        OnChainTicket {
            recipient: Address::repeat_byte(1),
            sender: Address::repeat_byte(2),
            face_value: Wei::from_u64(50),
            win_prob: U256::MAX,
            sender_nonce: U256::from(nonce),
            recipient_rand_hash: keccak256(U256::from(rand).to_be_bytes::<32>()),
            aux_data: OnChainTicket::aux_data_of(7, B256::repeat_byte(3)),
        }
    }

    fn event<E: SolEvent>(contract: Address, event: &E) -> Event {
        let log = event.encode_log_data();
        Event {
            address: Account(contract),
            topics: log.topics().iter().copied().map(Word).collect(),
            data: Data(log.data.to_vec()),
            transaction_hash: Word(B256::ZERO),
            block_number: None,
        }
    }

    fn redeemed(contract: Address, nonce: u64, rand: u64) -> Event {
        let t = ticket(nonce, rand);
        event(
            contract,
            &WinningTicketRedeemed {
                sender: t.sender,
                recipient: t.recipient,
                faceValue: t.face_value.0,
                winProb: t.win_prob,
                senderNonce: t.sender_nonce,
                recipientRand: U256::from(rand),
                auxData: t.aux_data.into(),
            },
        )
    }

    fn transfer(amount: u64) -> Event {
        let t = ticket(1, 1);
        let amount = U256::from(amount);
        event(BROKER, &WinningTicketTransfer { sender: t.sender, recipient: t.recipient, amount })
    }

    fn claimed(amount: u64) -> Event {
        let t = ticket(1, 1);
        let amount = U256::from(amount);
        event(BROKER, &ReserveClaimed { reserveHolder: t.sender, claimant: t.recipient, amount })
    }

    fn of_both(deposit: u64, reserve: u64) -> Option<Paid> {
        Some(Paid { from_deposit: Wei::from_u64(deposit), from_reserve: Wei::from_u64(reserve) })
    }

    #[test]
    fn each_ticket_of_a_batch_has_its_own_payment() {
        let events = [
            claimed(20),
            transfer(50),
            redeemed(BROKER, 1, 5),
            transfer(30),
            redeemed(BROKER, 2, 5),
            redeemed(BROKER, 3, 5),
        ];
        assert_eq!(paid(&events, BROKER, &ticket(1, 5)), of_both(30, 20));
        assert_eq!(paid(&events, BROKER, &ticket(2, 5)), of_both(30, 0));
        assert_eq!(paid(&events, BROKER, &ticket(3, 5)), of_both(0, 0), "burnt");
        assert_eq!(paid(&events, BROKER, &ticket(4, 5)), None);
        assert_eq!(paid(&events, BROKER, &ticket(1, 6)), None, "another number, another ticket");
    }

    #[test]
    fn another_contract_may_say_what_it_likes() {
        let elsewhere = Address::repeat_byte(8);
        assert_eq!(paid(&[transfer(50), redeemed(elsewhere, 1, 5)], BROKER, &ticket(1, 5)), None);
        let mut cut = redeemed(BROKER, 1, 5);
        cut.data.0.truncate(40);
        assert_eq!(paid(&[cut], BROKER, &ticket(1, 5)), None);
    }
}
