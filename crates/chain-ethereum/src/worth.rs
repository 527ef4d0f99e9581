//! What redemptions would bring as the newest block stands. The contract uses a ticket up for whatever there is, also for
//! nothing, and a simulation of it passes: so what the sender has is read right before each version is sent. An endpoint
//! that is behind knows of money that is gone, so every endpoint that is well is asked, and the least is believed.

use crate::{
    contracts::ITicketBroker,
    reader::{Reader, to_u64},
};
use penstock_chain::{ChainError, Purse, ReserveInfo, Revert, SenderInfo, WinningTicket, Worth};
use penstock_domain::{Address, Wei};
use std::collections::HashMap;

/// A ticket that is to be redeemed, as far as it matters here, and what it has to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Least {
    pub sender: Address,
    pub recipient: Address,
    pub face_value: Wei,
    pub least: Wei,
}

impl Least {
    pub(crate) fn of(winner: &WinningTicket, least: Wei) -> Self {
        let ticket = &winner.ticket;
        let (sender, recipient) = (ticket.sender, ticket.recipient);
        Self { sender, recipient, face_value: ticket.face_value, least }
    }
}

impl From<&Worth> for Least {
    fn from(worth: &Worth) -> Self {
        Self::of(&worth.winner, worth.least)
    }
}

/// Whether each would bring enough, one after the other; one that would not is passed over.
pub(crate) async fn check(
    reader: &Reader,
    broker: Address,
    tickets: impl IntoIterator<Item = Least>,
) -> Result<Vec<Result<(), ChainError>>, ChainError> {
    let tickets: Vec<Least> = tickets.into_iter().collect();
    if tickets.iter().all(|ticket| ticket.least.is_zero()) {
        return Ok(vec![Ok(()); tickets.len()]);
    }
    let mut deposits = HashMap::new();
    let mut shares = HashMap::new();
    let mut checked = Vec::with_capacity(tickets.len());
    for Least { sender, recipient, face_value, least } in tickets {
        let known = deposits.get(&sender).zip(shares.get(&(sender, recipient)));
        let mut purse = match known {
            Some((deposit, claimable)) => Purse { deposit: *deposit, claimable: *claimable },
            None => {
                let read = purse(reader, broker, sender, recipient).await?;
                let deposit = deposits.get(&sender).copied().unwrap_or(read.deposit);
                Purse { deposit, ..read }
            }
        };
        checked.push(purse.pay_at_least(face_value, least));
        deposits.insert(sender, purse.deposit);
        shares.insert((sender, recipient), purse.claimable);
    }
    Ok(checked)
}

async fn purse(
    reader: &Reader,
    broker: Address,
    sender: Address,
    recipient: Address,
) -> Result<Purse, ChainError> {
    let claimable = ITicketBroker::claimableReserveCall { holder: sender, claimant: recipient };
    let info = ITicketBroker::getSenderInfoCall { sender };
    let (infos, claimable) =
        tokio::join!(reader.of_each(broker, &info), reader.of_each(broker, &claimable));
    let deposits = infos.into_iter().map(|info| info.map(|info| Wei(info.account.deposit)));
    let info = SenderInfo { deposit: least(deposits)?, ..SenderInfo::default() };
    let claimable = claimable.into_iter().map(|one| match one {
        // The contract's sum goes below zero: nothing is left.
        Err(ChainError::Reverted(Revert::Arithmetic)) => Ok(Wei::ZERO),
        one => one.map(Wei),
    });
    Purse::of(&info, least(claimable))
}

/// The least of what was said; an error where nobody says anything else.
fn least(said: impl Iterator<Item = Result<Wei, ChainError>>) -> Result<Wei, ChainError> {
    let mut found: Option<Result<Wei, ChainError>> = None;
    for one in said {
        found = Some(match (found, one) {
            (Some(Ok(a)), Ok(b)) => Ok(a.min(b)),
            (Some(Ok(a)), Err(_)) => Ok(a),
            (_, one) => one,
        });
    }
    let nobody = || ChainError::Unavailable { reason: "nobody says what a sender has".into() };
    found.ok_or_else(nobody)?
}

/// `getSenderInfo`.
pub(crate) async fn sender_info(
    reader: &Reader,
    broker: Address,
    sender: Address,
) -> Result<SenderInfo, ChainError> {
    let info = reader.newest(broker, &ITicketBroker::getSenderInfoCall { sender }).await?;
    Ok(SenderInfo {
        deposit: Wei(info.account.deposit),
        withdraw_round: to_u64(info.account.withdrawRound, "a withdraw round")?,
        reserve: ReserveInfo {
            funds_remaining: Wei(info.reserve.fundsRemaining),
            claimed_in_current_round: Wei(info.reserve.claimedInCurrentRound),
        },
    })
}
