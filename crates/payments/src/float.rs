//! Max float: how much of a sender's reserve stands behind its tickets to one recipient
//! (payments.md section 13). Results are whole wei but may be negative, hence `Rational`.

use penstock_domain::{Rational, U256, Wei};
use thiserror::Error;

/// Redemptions in flight are ignored while the deposit is at least this many times their sum.
const MIN_DEPOSIT_PENDING_RATIO: u64 = 3;

/// A sender's money, as one recipient sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderFloat {
    /// Deposit.
    pub deposit: Wei,
    /// What is left of the reserve.
    pub reserve_remaining: Wei,
    /// What all recipients claimed of the reserve this round.
    pub claimed_in_current_round: Wei,
    /// What this recipient claimed of it this round.
    pub claimed_by_me: Wei,
    /// Recipients that share the reserve: active orchestrators this round.
    pub pool_size: u64,
    /// Face values of this recipient's redemptions in flight.
    pub pending: Wei,
}

impl SenderFloat {
    /// This recipient's share of the reserve, less what it claimed; 0 with an empty pool.
    pub fn reserve_alloc(&self) -> Rational {
        let reserve =
            Rational::from(self.reserve_remaining) + Rational::from(self.claimed_in_current_round);
        match reserve.checked_div(&Rational::from(self.pool_size)) {
            Some(share) => share.floor() - Rational::from(self.claimed_by_me),
            None => Rational::ZERO,
        }
    }

    /// The largest face value to offer.
    pub fn max_float(&self) -> Rational {
        let alloc = self.reserve_alloc();
        let pending = Rational::from(self.pending);
        let deposit_is_ample =
            Rational::from(self.deposit) >= &pending * &Rational::from(MIN_DEPOSIT_PENDING_RATIO);
        if pending.is_positive() && deposit_is_ample { alloc } else { alloc - pending }
    }

    /// The largest face value to offer where nobody says what becomes of earlier winners: all that are
    /// not known to be paid (`open`) are taken for lost reserve, however large the deposit.
    pub fn cautious_max_float(&self, open: Wei) -> Rational {
        self.reserve_alloc() - Rational::from(open)
    }

    /// What can pay for one more redemption now.
    pub fn available_funds(&self) -> Rational {
        self.reserve_alloc() + Rational::from(self.deposit) - Rational::from(self.pending)
    }
}

/// More is taken from the pending amount than was put in: a fault of the bookkeeping, to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("cannot subtract from insufficient pendingAmount")]
pub struct PendingUnderflow;

/// Takes a finished redemption's face value out of the pending amount, in every case of its end.
pub fn subtract_pending(pending: Wei, face_value: Wei) -> Result<Wei, PendingUnderflow> {
    pending.checked_sub(face_value).ok_or(PendingUnderflow)
}

/// Why a winner is not worth redeeming now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RedeemRefusal {
    /// The sender's money does not even cover the transaction. Try again later.
    #[error("insufficient sender funds for redeem tx cost")]
    SenderFunds,
    /// The ticket is worth no more than the transaction. Try again when gas is cheaper.
    #[error("insufficient ticket face value for redeem tx cost")]
    FaceValue,
}

/// Whether redeeming pays (payments.md section 14); equality is refused.
pub fn check_redemption(
    available_funds: &Rational,
    face_value: Wei,
    redeem_gas: u64,
    gas_price: Wei,
) -> Result<(), RedeemRefusal> {
    let tx_cost = Rational::from(gas_price) * Rational::from(U256::from(redeem_gas));
    if *available_funds <= tx_cost {
        return Err(RedeemRefusal::SenderFunds);
    }
    if Rational::from(face_value) <= tx_cost {
        return Err(RedeemRefusal::FaceValue);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(reserve: u64, pool_size: u64, mine: u64, deposit: u64, pending: u64) -> SenderFloat {
        SenderFloat {
            deposit: Wei::from_u64(deposit),
            reserve_remaining: Wei::from_u64(reserve),
            claimed_in_current_round: Wei::ZERO,
            claimed_by_me: Wei::from_u64(mine),
            pool_size,
            pending: Wei::from_u64(pending),
        }
    }

    fn r(text: &str) -> Rational {
        text.parse().unwrap()
    }

    #[test]
    fn the_worked_examples() {
        assert_eq!(float(500, 50, 100, 0, 0).max_float(), r("-90"));
        // Pending is ignored at a ratio of exactly 3.
        assert_eq!(float(500, 1, 0, 300, 100).max_float(), r("500"));
        assert_eq!(float(500, 1, 0, 299, 100).max_float(), r("400"));
    }

    #[test]
    fn shares_are_cut_to_whole_wei_and_count_what_was_claimed() {
        assert_eq!(float(100, 3, 0, 0, 0).reserve_alloc(), r("33"));
        assert_eq!(float(100, 0, 7, 0, 0).reserve_alloc(), Rational::ZERO);
        let claimed =
            SenderFloat { claimed_in_current_round: Wei::from_u64(50), ..float(100, 3, 20, 0, 0) };
        assert_eq!(claimed.reserve_alloc(), r("30"));
        assert_eq!(float(100, 2, 0, 30, 20).available_funds(), r("60"));
        assert_eq!(float(0, 2, 0, 0, 20).available_funds(), r("-20"));
    }

    #[test]
    fn caution_counts_all_that_is_open_and_no_deposit() {
        let rich = float(500, 1, 0, 1_000_000, 100);
        assert_eq!(rich.max_float(), r("500"));
        assert_eq!(rich.cautious_max_float(Wei::from_u64(120)), r("380"));
        assert_eq!(rich.cautious_max_float(Wei::from_u64(501)), r("-1"));
    }

    #[test]
    fn redeeming_must_pay() {
        let check = |funds: &str, face: u64| {
            check_redemption(&r(funds), Wei::from_u64(face), 10, Wei::from_u64(10))
                .map_err(|error| error.to_string())
        };
        assert_eq!(check("101", 101), Ok(()));
        assert_eq!(
            check("100", 101),
            Err("insufficient sender funds for redeem tx cost".to_owned())
        );
        assert_eq!(check("-5", 101), check("100", 101));
        assert_eq!(
            check("101", 100),
            Err("insufficient ticket face value for redeem tx cost".to_owned())
        );
    }

    #[test]
    fn pending_cannot_go_below_zero() {
        let (five, six) = (Wei::from_u64(5), Wei::from_u64(6));
        assert_eq!(subtract_pending(six, five), Ok(Wei::from_u64(1)));
        let error = subtract_pending(five, six).unwrap_err();
        assert_eq!(error.to_string(), "cannot subtract from insufficient pendingAmount");
    }
}
