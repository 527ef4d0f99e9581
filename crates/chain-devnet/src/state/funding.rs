//! Deposits and reserves: in, and by way of an unlock out again (on-chain.md section 3.1).

use super::{Change, Flows, Sender, State, UNLOCK_PERIOD};
use penstock_chain::Revert;
use penstock_domain::{Address, Wei};

/// Who sends the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Funder {
    /// The account itself: funding then cancels an unlock in progress.
    Owner,
    /// Somebody else, for the account: an unlock goes on.
    ThirdParty,
}

/// `fundDepositAndReserve` and `fundDepositAndReserveFor`.
pub fn fund(
    state: &State,
    account: Address,
    deposit: Wei,
    reserve: Wei,
    funder: Funder,
) -> Result<Vec<Change>, Revert> {
    let before = state.sender(account);
    let funded = deposit
        .checked_add(reserve)
        .and_then(|sum| state.flows.funded.checked_add(sum))
        .ok_or(Revert::Arithmetic)?;
    let after = Sender {
        deposit: before.deposit.checked_add(deposit).ok_or(Revert::Arithmetic)?,
        reserve: before.reserve.checked_add(reserve).ok_or(Revert::Arithmetic)?,
        withdraw_round: match funder {
            Funder::Owner => 0,
            Funder::ThirdParty => before.withdraw_round,
        },
        ..before
    };
    Ok(vec![Change::Sender(account, after), Change::Flows(Flows { funded, ..state.flows })])
}

/// `unlock`.
pub fn unlock(state: &State, account: Address) -> Result<Vec<Change>, Revert> {
    let sender = state.sender(account);
    if is_empty(&sender) {
        return Err(Revert::SenderEmpty);
    }
    if sender.withdraw_round != 0 {
        return Err(Revert::UnlockInProgress);
    }
    let withdraw_round = state.current_round().saturating_add(UNLOCK_PERIOD);
    Ok(vec![Change::Sender(account, Sender { withdraw_round, ..sender })])
}

/// `cancelUnlock`.
pub fn cancel_unlock(state: &State, account: Address) -> Result<Vec<Change>, Revert> {
    let sender = state.sender(account);
    if sender.withdraw_round == 0 {
        return Err(Revert::NoUnlock);
    }
    Ok(vec![Change::Sender(account, Sender { withdraw_round: 0, ..sender })])
}

/// `withdraw`. Leaves `withdraw_round` as it is: the account stays unlocked until its owner funds
/// it again.
pub fn withdraw(state: &State, account: Address) -> Result<Vec<Change>, Revert> {
    let sender = state.sender(account);
    if is_empty(&sender) {
        return Err(Revert::SenderEmpty);
    }
    if sender.withdraw_round == 0 {
        return Err(Revert::NoUnlock);
    }
    if is_locked(&sender, state.current_round()) {
        return Err(Revert::Locked);
    }
    let amount = sender.deposit.checked_add(sender.reserve).ok_or(Revert::Arithmetic)?;
    let mut owner = state.account(account);
    owner.withdrawn = owner.withdrawn.checked_add(amount).ok_or(Revert::Arithmetic)?;
    let withdrawn = state.flows.withdrawn.checked_add(amount).ok_or(Revert::Arithmetic)?;
    Ok(vec![
        Change::Sender(account, Sender { deposit: Wei::ZERO, reserve: Wei::ZERO, ..sender }),
        Change::Account(account, owner),
        Change::Flows(Flows { withdrawn, ..state.flows }),
    ])
}

/// Nothing to pay from.
pub(super) fn is_empty(sender: &Sender) -> bool {
    sender.deposit.is_zero() && sender.reserve.is_zero()
}

/// Whether the money may still be paid to recipients, and not yet be taken home.
pub(super) fn is_locked(sender: &Sender, round: u64) -> bool {
    sender.withdraw_round == 0 || round < sender.withdraw_round
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Genesis, Mining, mine};
    use penstock_domain::B256;

    const A: Address = Address::repeat_byte(1);

    fn wei(n: u64) -> Wei {
        Wei::from_u64(n)
    }

    fn funded() -> State {
        let mut state = State::new(Genesis { chain_id: B256::ZERO, round_length: 5 });
        let changes = fund(&state, A, wei(10), wei(20), Funder::ThirdParty).unwrap();
        state.apply_all(&changes);
        state
    }

    fn next_round(state: &mut State) {
        let changes = mine(state, Mining::Rounds(1), true).unwrap();
        state.apply_all(&changes);
    }

    #[test]
    fn funding_adds_up_and_cannot_overflow() {
        let mut state = funded();
        let more = fund(&state, A, wei(1), wei(2), Funder::Owner).unwrap();
        state.apply_all(&more);
        assert_eq!((state.sender(A).deposit, state.sender(A).reserve), (wei(11), wei(22)));
        assert_eq!(state.flows.funded, wei(33));
        let max = Wei(penstock_domain::U256::MAX);
        for (deposit, reserve) in [(max, Wei::ZERO), (Wei::ZERO, max), (max, max)] {
            let refused = fund(&state, A, deposit, reserve, Funder::Owner);
            assert_eq!(refused, Err(Revert::Arithmetic));
        }
    }

    #[test]
    fn the_way_out_takes_the_unlock_period() {
        let mut state = funded();
        assert_eq!(withdraw(&state, A), Err(Revert::NoUnlock));
        let changes = unlock(&state, A).unwrap();
        state.apply_all(&changes);
        assert_eq!(unlock(&state, A), Err(Revert::UnlockInProgress));
        assert_eq!(state.sender(A).withdraw_round, state.current_round() + UNLOCK_PERIOD);
        next_round(&mut state);
        assert_eq!(withdraw(&state, A), Err(Revert::Locked));
        next_round(&mut state);
        let changes = withdraw(&state, A).unwrap();
        state.apply_all(&changes);
        assert_eq!(state.account(A).withdrawn, wei(30));
        assert!(is_empty(&state.sender(A)) && state.sender(A).withdraw_round != 0);
        assert_eq!(withdraw(&state, A), Err(Revert::SenderEmpty));
        assert_eq!(unlock(&state, A), Err(Revert::SenderEmpty));
    }

    #[test]
    fn only_the_owners_funding_cancels_an_unlock() {
        let mut state = funded();
        assert_eq!(cancel_unlock(&state, A), Err(Revert::NoUnlock));
        let changes = unlock(&state, A).unwrap();
        state.apply_all(&changes);
        let other = fund(&state, A, wei(1), wei(0), Funder::ThirdParty).unwrap();
        state.apply_all(&other);
        assert_ne!(state.sender(A).withdraw_round, 0);
        let mut cancelled = state.clone();
        cancelled.apply_all(&cancel_unlock(&state, A).unwrap());
        assert_eq!(cancelled.sender(A).withdraw_round, 0);
        let own = fund(&state, A, wei(1), wei(0), Funder::Owner).unwrap();
        state.apply_all(&own);
        assert_eq!(state.sender(A).withdraw_round, 0);
    }
}
