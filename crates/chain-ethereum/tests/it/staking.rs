//! An orchestrator's stake, from the first token to the last: every call, and what the contract refuses.

use crate::world::{ONE, World, signer, winner};
use penstock_chain::{
    Chain, ChainError, NotesInMemory, Receipt, StakeAction, StakeStanding, Staking,
    conformance::Network,
};
use penstock_chain_ethereum::EthereumChain;
use penstock_domain::Wei;
use std::sync::Arc;

fn lpt(tenths: u64) -> Wei {
    Wei::from_u64(tenths * (ONE / 10))
}

async fn done(chain: &EthereumChain, action: StakeAction) -> Receipt {
    chain.preview(&action).await.unwrap_or_else(|error| panic!("{action:?}: {error}"));
    let notes = Arc::<NotesInMemory>::default();
    chain.perform(&action, notes).await.unwrap_or_else(|error| panic!("{action:?}: {error}"))
}

/// Refused before it is sent, in these words.
async fn refused(chain: &EthereumChain, action: StakeAction, words: &str) {
    let said = chain.preview(&action).await.unwrap_err().to_string();
    assert!(said.contains(words), "{action:?}: {said}");
    let notes = Arc::<NotesInMemory>::default();
    let said = chain.perform(&action, notes).await.unwrap_err().to_string();
    assert!(said.contains(words), "{action:?}: {said}");
}

async fn standing(chain: &EthereumChain) -> StakeStanding {
    chain.standing().await.unwrap()
}

#[tokio::test]
async fn stake_goes_in_earns_and_comes_out() {
    let world = World::start().await;
    let chain = world.with_settings(|_| {}).with_account(signer(1));
    let before = standing(&chain).await;
    assert!(!before.is_registered && !before.is_active);
    let rates = StakeAction::SetRates { reward_cut_ppm: 250_000, fee_share_ppm: 500_000 };
    refused(&chain, rates.clone(), "transcoder must be registered").await;
    refused(&chain, StakeAction::Bond { amount_lptu: Wei::from_u64(u64::MAX) }, "LPTU").await;

    done(&chain, StakeAction::Bond { amount_lptu: lpt(6) }).await;
    done(&chain, rates.clone()).await;
    let uri = "https://orchestrator.example:8935".to_owned();
    done(&chain, StakeAction::SetServiceUri { service_uri: uri.clone() }).await;
    let now = standing(&chain).await;
    assert!(now.is_registered && !now.is_active, "active from the next round on");
    assert_eq!((now.reward_cut_ppm, now.fee_share_ppm, now.service_uri), (250_000, 500_000, uri));
    assert_eq!((now.own_stake_lptu, now.total_stake_lptu), (lpt(6), lpt(6)));
    assert_eq!(now.balance_lptu.0, before.balance_lptu.0 - lpt(6).0);
    assert_eq!(now.activation_round, now.round.current_round + 1);
    refused(&chain, StakeAction::Reward { round: now.round.current_round }, "active").await;

    // A round that nobody has begun: first that, then its reward, once.
    world.anvil.next_round(false);
    let round = chain.round().await.unwrap();
    assert!(!round.is_initialized);
    let (round, reward) = (round.current_round, StakeAction::Reward { round: round.current_round });
    refused(&chain, reward.clone(), "current round is not initialized").await;
    done(&chain, StakeAction::InitializeRound { round }).await;
    refused(&chain, StakeAction::InitializeRound { round }, "round already initialized").await;
    refused(&chain, StakeAction::Reward { round: round + 1 }, "now is").await;
    // While active, terms change only after the reward.
    refused(&chain, rates.clone(), "must have already called reward").await;
    done(&chain, reward.clone()).await;
    refused(&chain, reward, "already called reward").await;
    done(&chain, rates).await;
    let earned = standing(&chain).await;
    assert_eq!(earned.last_reward_round, round);
    assert!(earned.is_active && earned.own_stake_lptu > lpt(6), "{earned:?}");
    done(&chain, StakeAction::Claim { round }).await;

    // Fees.
    world.ethereum(0).fund_own(Wei::from_u64(ONE), Wei::from_u64(3)).await.unwrap();
    let ticket = winner(&world, 0, 1, ONE / 4, 1).await;
    chain.redeem(&ticket).await.unwrap();
    let fees = standing(&chain).await.pending_fees_wei;
    assert!(!fees.is_zero());
    let more = Wei(fees.0 + fees.0);
    refused(&chain, StakeAction::WithdrawFees { amount_wei: Some(more) }, "insufficient fees")
        .await;
    let had = world.anvil.balance(signer(1).address());
    let receipt = done(&chain, StakeAction::WithdrawFees { amount_wei: None }).await;
    let gas = world.anvil.gas_paid(receipt.tx_hash);
    assert_eq!(world.anvil.balance(signer(1).address()), had + fees.0 - gas);

    refused(&chain, StakeAction::WithdrawFees { amount_wei: None }, "no fees").await;

    // Some of it out, back in, and all of it out, which leaves the pool.
    done(&chain, StakeAction::Unbond { amount_lptu: lpt(1) }).await;
    let lock = standing(&chain).await.unbonding_locks[0];
    assert_eq!((lock.lock_id, lock.amount_lptu), (0, lpt(1)));
    let early = StakeAction::WithdrawStake { lock_id: 0 };
    refused(&chain, early, "withdraw round must be before or equal").await;
    done(&chain, StakeAction::Rebond { lock_id: 0 }).await;
    refused(&chain, StakeAction::Rebond { lock_id: 0 }, "invalid unbonding lock ID").await;
    let all = standing(&chain).await.own_stake_lptu;
    done(&chain, StakeAction::Unbond { amount_lptu: all }).await;
    let gone = standing(&chain).await;
    assert!(!gone.is_registered);
    assert_eq!(gone.deactivation_round, Some(round + 1));
    for _ in 0..7 {
        world.next_round().await;
    }
    done(&chain, StakeAction::WithdrawStake { lock_id: 1 }).await;
    let out = standing(&chain).await;
    assert_eq!(out.balance_lptu.0, now.balance_lptu.0 + all.0, "all of it, to the unit");
    assert_eq!(out.unbonding_locks, []);
}

#[tokio::test]
async fn unbonded_stake_is_bonded_again_and_a_repetition_finds_it() {
    let world = World::start().await;
    let chain = world.with_settings(|_| {}).with_account(signer(1));
    done(&chain, StakeAction::Bond { amount_lptu: lpt(5) }).await;
    world.next_round().await;
    done(&chain, StakeAction::Unbond { amount_lptu: lpt(5) }).await;
    // Its answer is lost: the note stays, as in books that have no end of it.
    let notes = Arc::new(Kept::default());
    let action = StakeAction::Rebond { lock_id: 0 };
    let first = chain.perform(&action, Arc::clone(&notes) as _).await.unwrap();
    assert!(standing(&chain).await.is_registered);
    let again = chain.perform(&action, Arc::clone(&notes) as _).await.unwrap();
    assert_eq!(again, first, "though the contract would be called in another way by now");
    // Two transactions of one operation, too: approved once, bonded once.
    let notes = Arc::new(Kept::default());
    let action = StakeAction::Bond { amount_lptu: lpt(2) };
    let first = chain.perform(&action, Arc::clone(&notes) as _).await.unwrap();
    let again = chain.perform(&action, Arc::clone(&notes) as _).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(standing(&chain).await.own_stake_lptu, lpt(7));
}

/// Notes of an operation whose end nobody wrote.
#[derive(Debug, Default)]
struct Kept(NotesInMemory);

#[async_trait::async_trait]
impl penstock_chain::Notes for Kept {
    async fn read(&self) -> Result<Option<Vec<u8>>, ChainError> {
        self.0.read().await
    }

    async fn write(&self, note: Vec<u8>) -> Result<(), ChainError> {
        self.0.write(note).await
    }

    async fn clear(&self) -> Result<(), ChainError> {
        self.0.clear().await
    }

    async fn landed(&self) -> Result<(), ChainError> {
        Ok(())
    }
}
