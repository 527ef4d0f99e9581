//! The chain port over the devnet's own state and rules, in this thread. Answers to redemptions may be lost.

use crate::{
    chance::Chance,
    planted::{Planted, panics},
};
use async_trait::async_trait;
use penstock_chain::{
    ActiveOrchestrator, Chain, ChainError, Notes, OnChainTicket, Receipt, Redemption, Rounds,
    SenderInfo, WinningTicket,
};
use penstock_chain_devnet::{
    node::{Outcome, Rejection, Request, perform},
    state::{Genesis, Mining, State, claimable_reserve, register},
};
use penstock_domain::{Address, B256, Wei};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// L1 blocks of a round: more than an offer lives, so that its winners can be redeemed.
const ROUND_LENGTH: u64 = 60;
/// Wei per unit of gas, and gas of a redemption: so little that winners are worth redeeming.
const GAS_PRICE_WEI: u64 = 1;
const REDEEM_GAS: u64 = 3;

/// One chain; clones are the same.
#[derive(Debug, Clone)]
pub struct SimChain {
    state: Arc<Mutex<State>>,
    chance: Chance,
    /// Of a thousand redemptions, how many are lost on the way there or back, each.
    lost_per_mille: Arc<AtomicU32>,
    planted: Option<Planted>,
    /// Every redemption that was paid, in order.
    paid: Arc<Mutex<Vec<Redemption>>>,
}

impl SimChain {
    /// The first block.
    pub fn new(chance: Chance, planted: Option<Planted>) -> Self {
        let genesis = Genesis { chain_id: B256::repeat_byte(1), round_length: ROUND_LENGTH };
        let state = Arc::new(Mutex::new(State::new(genesis)));
        Self { state, chance, lost_per_mille: Arc::default(), planted, paid: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the contracts' state.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Every redemption that was paid, in order: noted here and not by the contract.
    pub fn paid(&self) -> Vec<Redemption> {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many redemptions of a thousand are lost from now on, on either way.
    pub fn lose(&self, per_mille: u32) {
        self.lost_per_mille.store(per_mille, Relaxed);
    }

    fn is_lost(&self) -> bool {
        self.chance.per_mille(self.lost_per_mille.load(Relaxed))
    }

    /// Performs it, or says why not.
    pub fn perform(&self, request: &Request) -> Result<Outcome, Rejection> {
        let mut state = self.lock();
        let (changes, outcome) = perform(&state, request)?;
        state.apply_all(&changes);
        Ok(outcome)
    }

    /// So many blocks; `initialize`: rounds that begin are initialised.
    pub fn mine(&self, blocks: u64, initialize: bool) {
        if self.planted == Some(Planted::ChainPanics) && self.chance.per_mille(100) {
            panics();
        }
        // In range: histories are short.
        let _ = self.perform(&Request::Mine { how: Mining::Blocks(blocks), initialize });
    }

    /// Joins the pool, from the next round on.
    pub fn join(&self, orchestrator: Address, uri: &str) {
        let mut state = self.lock();
        if let Ok(changes) = register(&state, orchestrator, uri) {
            state.apply_all(&changes);
        }
    }

    /// Deposit and reserve for an account.
    pub fn fund(&self, account: Address, deposit: u64, reserve: u64) {
        let (deposit, reserve) = (Wei::from_u64(deposit), Wei::from_u64(reserve));
        let _ = self.perform(&Request::Fund { account, deposit, reserve });
    }
}

fn lost() -> ChainError {
    ChainError::Unreachable { reason: "lost".to_owned() }
}

fn not_here<T>() -> Result<T, ChainError> {
    Err(ChainError::Refused { reason: "no role does that".to_owned() })
}

#[async_trait]
impl Chain for SimChain {
    async fn sender_info(&self, sender: Address) -> Result<SenderInfo, ChainError> {
        Ok(self.look(|state| state.sender_info(sender)))
    }

    async fn claimed_reserve(&self, holder: Address, claimant: Address) -> Result<Wei, ChainError> {
        Ok(self.look(|state| state.claimed_reserve(holder, claimant)))
    }

    async fn claimable_reserve(
        &self,
        holder: Address,
        claimant: Address,
    ) -> Result<Wei, ChainError> {
        self.look(|state| claimable_reserve(state, holder, claimant)).map_err(ChainError::Reverted)
    }

    async fn rounds(&self) -> Result<Rounds, ChainError> {
        Ok(self.look(|state| Rounds::from(&state.status(Wei::from_u64(GAS_PRICE_WEI)))))
    }

    async fn active_orchestrators(&self) -> Result<Vec<ActiveOrchestrator>, ChainError> {
        let views = self.look(State::active_orchestrators);
        Ok(views.into_iter().map(ActiveOrchestrator::from).collect())
    }

    async fn is_active(&self, orchestrator: Address) -> Result<bool, ChainError> {
        Ok(self.look(|state| state.is_active(orchestrator)))
    }

    async fn deactivation_round(&self, orchestrator: Address) -> Result<u64, ChainError> {
        let round =
            |state: &State| Some(state.orchestrators.get(&orchestrator)?.deactivation_round);
        Ok(self.look(round).unwrap_or_default())
    }

    async fn pool_size(&self) -> Result<u64, ChainError> {
        Ok(self.look(State::pool_size))
    }

    async fn gas_price(&self) -> Result<Wei, ChainError> {
        Ok(Wei::from_u64(GAS_PRICE_WEI))
    }

    fn redeem_gas(&self) -> u64 {
        REDEEM_GAS
    }

    async fn is_used_ticket(&self, ticket_hash: B256) -> Result<bool, ChainError> {
        Ok(self.look(|state| state.redemptions.contains_key(&ticket_hash)))
    }

    async fn redemption(&self, ticket: &OnChainTicket) -> Result<Option<Redemption>, ChainError> {
        Ok(self.look(|state| state.redemptions.get(&ticket.hash()).copied()))
    }

    async fn redeem(&self, winner: &WinningTicket) -> Result<Redemption, ChainError> {
        if self.is_lost() {
            return Err(lost());
        }
        tokio::time::sleep(self.chance.ms(0..500)).await;
        let performed = self.perform(&Request::Redeem(Box::new(winner.clone())));
        if let Ok(Outcome::Redeemed(redemption)) = &performed {
            self.paid.lock().unwrap_or_else(PoisonError::into_inner).push(*redemption);
            if self.planted == Some(Planted::TicketsAreForgotten) {
                self.lock().redemptions.remove(&redemption.ticket_hash);
            }
        }
        if self.is_lost() {
            return Err(lost());
        }
        match performed {
            Ok(Outcome::Redeemed(redemption)) => Ok(redemption),
            Ok(_) => Err(ChainError::BadAnswer { reason: "not a redemption".to_owned() }),
            Err(Rejection::Reverted(revert)) => Err(ChainError::Reverted(revert)),
            Err(other) => Err(ChainError::Refused { reason: other.to_string() }),
        }
    }

    fn noting(&self, _: Arc<dyn Notes>) -> Arc<dyn Chain> {
        Arc::new(self.clone())
    }

    async fn fund_deposit_and_reserve_for(
        &self,
        _: Address,
        _: Wei,
        _: Wei,
    ) -> Result<Receipt, ChainError> {
        not_here()
    }

    async fn unlock(&self) -> Result<Receipt, ChainError> {
        not_here()
    }

    async fn cancel_unlock(&self) -> Result<Receipt, ChainError> {
        not_here()
    }

    async fn withdraw(&self) -> Result<Receipt, ChainError> {
        not_here()
    }

    async fn register(&self, _: &str) -> Result<Option<Receipt>, ChainError> {
        not_here()
    }
}
