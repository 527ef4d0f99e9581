//! The orchestrator pool and the service registry. The devnet has no stake: whoever registers is
//! in, until the pool is full.

use super::{Change, Orchestrator, State};
use penstock_chain::{NEVER, Revert};
use penstock_domain::Address;
use thiserror::Error;

/// Places in the pool. The contract's number is a setting of it, 100 as deployed; here a crowd has
/// room.
pub const POOL_MAX: u64 = 1_024;
/// Longest service URI kept, in bytes. (The contract takes any; a stranger's megabyte is no URI.)
pub const MAX_SERVICE_URI: usize = 1024;

/// Registration was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PoolError {
    /// By the contract.
    #[error(transparent)]
    Reverted(#[from] Reverted),
    /// No place; on the real chain a place is won with stake.
    #[error("the orchestrator pool is full: it holds {POOL_MAX}")]
    Full,
    /// The URI is too long.
    #[error("the service URI is longer than {MAX_SERVICE_URI} bytes")]
    UriTooLong,
}

/// A [`Revert`] as a source of other errors.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Reverted(pub Revert);

/// Joins the pool with a service URI; active from the next round. In the pool already, only the
/// URI changes.
pub fn register(
    state: &State,
    account: Address,
    service_uri: &str,
) -> Result<Vec<Change>, PoolError> {
    if service_uri.len() > MAX_SERVICE_URI {
        return Err(PoolError::UriTooLong);
    }
    let service_uri = service_uri.to_owned();
    if let Some(known) = state.orchestrators.get(&account).filter(|o| o.registered) {
        let known = Orchestrator { service_uri, ..known.clone() };
        return Ok(vec![Change::Orchestrator(account, known)]);
    }
    if !state.is_round_initialized() {
        return Err(Reverted(Revert::RoundNotInitialized).into());
    }
    if state.pool_size() >= POOL_MAX {
        return Err(PoolError::Full);
    }
    let orchestrator = Orchestrator {
        service_uri,
        activation_round: state.current_round().saturating_add(1),
        deactivation_round: NEVER,
        registered: true,
    };
    Ok(vec![Change::Orchestrator(account, orchestrator)])
}

/// Unbonds everything: out of the pool at once, active until the round ends.
pub fn resign(state: &State, account: Address) -> Result<Vec<Change>, Revert> {
    if !state.is_round_initialized() {
        return Err(Revert::RoundNotInitialized);
    }
    let Some(known) = state.orchestrators.get(&account).filter(|o| o.registered) else {
        return Err(Revert::NotRegistered);
    };
    let deactivation_round = state.current_round().saturating_add(1);
    let gone = Orchestrator { registered: false, deactivation_round, ..known.clone() };
    Ok(vec![Change::Orchestrator(account, gone)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Genesis, Mining, mine};
    use penstock_domain::B256;

    const A: Address = Address::repeat_byte(1);

    fn chain() -> State {
        State::new(Genesis { chain_id: B256::ZERO, round_length: 5 })
    }

    fn next_round(state: &mut State) {
        let changes = mine(state, Mining::Rounds(1), true).unwrap();
        state.apply_all(&changes);
    }

    #[test]
    fn active_from_the_next_round_until_the_end_of_the_last() {
        let mut state = chain();
        let changes = register(&state, A, "https://a:1").unwrap();
        state.apply_all(&changes);
        assert!(!state.is_active(A));
        assert_eq!(state.pool_size(), 1);
        next_round(&mut state);
        assert!(state.is_active(A));
        let changes = register(&state, A, "https://b:1").unwrap();
        state.apply_all(&changes);
        assert!(state.is_active(A), "a new URI does not start over");
        assert_eq!(state.orchestrators[&A].service_uri, "https://b:1");
        let changes = resign(&state, A).unwrap();
        state.apply_all(&changes);
        assert_eq!((state.pool_size(), state.is_active(A)), (0, true));
        assert_eq!(resign(&state, A), Err(Revert::NotRegistered));
        next_round(&mut state);
        assert!(!state.is_active(A));
    }

    #[test]
    fn the_pool_is_bounded() {
        let mut state = chain();
        let nth = |n: u64| Address::left_padding_from(&(n + 2).to_be_bytes());
        for n in 0..POOL_MAX {
            let changes = register(&state, nth(n), "").unwrap();
            state.apply_all(&changes);
        }
        assert_eq!(register(&state, A, ""), Err(PoolError::Full));
        let long = "x".repeat(MAX_SERVICE_URI + 1);
        assert_eq!(register(&state, A, &long), Err(PoolError::UriTooLong));
        let known = nth(0);
        assert!(register(&state, known, "new").is_ok(), "those inside may still move");
    }

    #[test]
    fn nobody_joins_a_round_that_is_not_initialised() {
        let mut state = chain();
        let changes = mine(&state, Mining::Rounds(1), false).unwrap();
        state.apply_all(&changes);
        let refused = register(&state, A, "").unwrap_err();
        assert_eq!(refused, Reverted(Revert::RoundNotInitialized).into());
    }
}
