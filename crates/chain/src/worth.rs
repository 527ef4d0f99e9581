//! What a redemption would bring, as the contract reckons it: first the deposit, then what the recipient may still claim
//! of the reserve. A ticket is used up for whatever there is, also for nothing (on-chain.md section 3.2), so whoever
//! redeems looks before.

use crate::{Chain, ChainError, Revert, SenderInfo, WinningTicket};
use penstock_domain::Wei;

/// A winner, and what its redemption has to bring.
#[derive(Debug, Clone)]
pub struct Worth {
    /// To be redeemed.
    pub winner: WinningTicket,
    /// At least so much, or it is not sent.
    pub least: Wei,
}

/// What a sender can pay one recipient now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purse {
    /// Paid from first.
    pub deposit: Wei,
    /// What may be claimed of the reserve.
    pub claimable: Wei,
}

impl Purse {
    /// Of what the contract says, which reverts where its sum goes below zero after the pool grew: then the deposit is
    /// all there is.
    pub fn of(info: &SenderInfo, claimable: Result<Wei, ChainError>) -> Result<Self, ChainError> {
        let claimable = match claimable {
            Err(ChainError::Reverted(Revert::Arithmetic)) => Wei::ZERO,
            answer => answer?,
        };
        Ok(Self { deposit: info.deposit, claimable })
    }

    /// All of it.
    pub fn all(&self) -> Wei {
        sum(self.deposit, self.claimable)
    }

    /// Pays as the contract does: what it paid.
    pub fn pay(&mut self, face_value: Wei) -> Wei {
        let from_deposit = face_value.min(self.deposit);
        let from_reserve = face_value.saturating_sub(from_deposit).min(self.claimable);
        self.deposit = self.deposit.saturating_sub(from_deposit);
        self.claimable = self.claimable.saturating_sub(from_reserve);
        sum(from_deposit, from_reserve)
    }

    /// Pays if that is so much at least; what is refused takes nothing.
    pub fn pay_at_least(&mut self, face_value: Wei, least: Wei) -> Result<(), ChainError> {
        let before = *self;
        let paid = self.pay(face_value);
        if paid < least {
            *self = before;
            let Self { deposit, claimable } = before;
            let reason = format!(
                "of {face_value} wei it would bring {paid} now (deposit {deposit}, of the reserve {claimable}), \
                 less than {least}"
            );
            return Err(ChainError::Underpaid { reason });
        }
        Ok(())
    }
}

/// Saturates: more than 2^256 − 1 wei there are nowhere.
fn sum(a: Wei, b: Wei) -> Wei {
    Wei(a.0.saturating_add(b.0))
}

impl Worth {
    /// Whether it would bring enough, as the chain stands now.
    pub async fn check<C: Chain + ?Sized>(&self, chain: &C) -> Result<(), ChainError> {
        if self.least.is_zero() {
            return Ok(());
        }
        let ticket = &self.winner.ticket;
        let info = chain.sender_info(ticket.sender).await?;
        let claimable = chain.claimable_reserve(ticket.sender, ticket.recipient).await;
        Purse::of(&info, claimable)?.pay_at_least(ticket.face_value, self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wei(amount: u64) -> Wei {
        Wei::from_u64(amount)
    }

    #[test]
    fn a_purse_pays_from_the_deposit_first_and_once() {
        let mut purse = Purse { deposit: wei(10), claimable: wei(5) };
        assert_eq!(purse.all(), wei(15));
        assert_eq!(purse.pay_at_least(wei(12), wei(12)), Ok(()));
        assert_eq!(purse, Purse { deposit: Wei::ZERO, claimable: wei(3) });
        let refused = purse.pay_at_least(wei(12), wei(4)).unwrap_err();
        assert!(refused.is_retryable() && refused.to_string().contains("bring 3 now"), "{refused}");
        assert_eq!(purse.claimable, wei(3), "what is refused takes nothing");
        assert_eq!(purse.pay_at_least(wei(12), wei(3)), Ok(()));
        assert_eq!(purse, Purse::default());
    }

    #[test]
    fn a_sum_that_the_contract_cannot_make_is_nothing_to_claim() {
        let info = SenderInfo { deposit: wei(7), ..SenderInfo::default() };
        let purse = Purse::of(&info, Err(ChainError::Reverted(Revert::Arithmetic))).unwrap();
        assert_eq!(purse, Purse { deposit: wei(7), claimable: Wei::ZERO });
        Purse::of(&info, Err(ChainError::Unreachable { reason: "away".into() })).unwrap_err();
    }
}
