//! The port: what signer, orchestrator and operator need from the contracts.

use crate::{
    ActiveOrchestrator, ChainError, Look, Notes, OnChainTicket, Receipt, Redemption, Rounds,
    SenderInfo, Staking, Standing, WinningTicket, Worth,
};
use async_trait::async_trait;
use penstock_domain::{Address, B256, Wei};
use std::sync::Arc;

/// The contracts, behind whatever speaks to them. Answers are as of the newest block.
///
/// Reads need no account. Operations that move the caller's own money or name (`unlock`, `withdraw`,
/// `register`…) act as the account whose key the handle was opened with, and answer
/// [`ChainError::NoAccount`] without one. [`redeem`](Self::redeem) and
/// [`fund_deposit_and_reserve_for`](Self::fund_deposit_and_reserve_for) anyone may send; where a
/// transaction costs gas, they too need an account, which pays for it.
#[async_trait]
pub trait Chain: Send + Sync + core::fmt::Debug {
    /// `getSenderInfo`; all zero for an account that never funded.
    async fn sender_info(&self, sender: Address) -> Result<SenderInfo, ChainError>;

    /// What `claimant` took from `holder`'s reserve in the current round.
    async fn claimed_reserve(&self, holder: Address, claimant: Address) -> Result<Wei, ChainError>;

    /// `claimableReserve`: what `claimant` may take from `holder`'s reserve now; nothing for one who is not active in the
    /// current round. Reverts with [`Revert::Arithmetic`](crate::Revert::Arithmetic) where the contract's sum does,
    /// and then a redemption that needs the reserve does too.
    async fn claimable_reserve(
        &self,
        holder: Address,
        claimant: Address,
    ) -> Result<Wei, ChainError>;

    /// Rounds and the height of L1.
    async fn rounds(&self) -> Result<Rounds, ChainError>;

    /// The orchestrators that are active in the current round.
    async fn active_orchestrators(&self) -> Result<Vec<ActiveOrchestrator>, ChainError>;

    /// Whether this orchestrator is active in the current round.
    async fn is_active(&self, orchestrator: Address) -> Result<bool, ChainError>;

    /// The first round in which this orchestrator is not active any more; [`NEVER`](crate::NEVER) while it stays. Says
    /// nothing of one that never was.
    async fn deactivation_round(&self, orchestrator: Address) -> Result<u64, ChainError>;

    /// Entries of the orchestrator pool: the divisor of every reserve allocation. Counts those who
    /// joined this round and are active from the next (on-chain.md section 3.3).
    async fn pool_size(&self) -> Result<u64, ChainError>;

    /// Wei per unit of gas.
    async fn gas_price(&self) -> Result<Wei, ChainError>;

    /// What of the way to the chain works less well now, in words for its operator.
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }

    /// Gas that one redemption uses on this network (on-chain.md section 10.1).
    fn redeem_gas(&self) -> u64;

    /// Whether the ticket of this hash was redeemed.
    async fn is_used_ticket(&self, ticket_hash: B256) -> Result<bool, ChainError>;

    /// How it was redeemed, by whomever. `None` = not redeemed, or so long ago that nothing but
    /// [`is_used_ticket`](Self::is_used_ticket) tells. This is how a redeemer that died between
    /// sending and noting the outcome learns it. It takes the whole ticket, because the contract's
    /// events are found by sender and recipient, not by the ticket's hash.
    async fn redemption(&self, ticket: &OnChainTicket) -> Result<Option<Redemption>, ChainError>;

    /// The newest block that is not taken back any more, in the chain's own blocks. `None` = no block ever is.
    async fn final_block(&self) -> Result<Option<u64>, ChainError> {
        Ok(None)
    }

    /// What became of a redemption that was seen before, in this transaction if it was known, when blocks up to
    /// `last_final` are final, and what it paid. An endpoint that is behind may say that it is gone: to redeem it again
    /// does no harm, the contract takes a ticket once.
    async fn look_again(
        &self,
        ticket: &OnChainTicket,
        tx_hash: Option<B256>,
        last_final: u64,
    ) -> Result<Look, ChainError> {
        if !self.is_used_ticket(ticket.hash()).await? {
            return Ok(Look { standing: Standing::Gone, paid: None });
        }
        let found = self.redemption(ticket).await?;
        let tx_hash = found.map(|found| found.tx_hash).or(tx_hash);
        let standing = Standing::in_block(tx_hash, last_final, last_final);
        Ok(Look { standing, paid: found.map(|found| found.paid()) })
    }

    /// [`look_again`](Self::look_again) without the amount.
    async fn redemption_standing(
        &self,
        ticket: &OnChainTicket,
        tx_hash: Option<B256>,
        last_final: u64,
    ) -> Result<Standing, ChainError> {
        Ok(self.look_again(ticket, tx_hash, last_final).await?.standing)
    }

    /// `redeemWinningTicket`: waits until it is on the chain. A ticket that was redeemed before
    /// reverts with [`Revert::Used`](crate::Revert::Used).
    async fn redeem(&self, winner: &WinningTicket) -> Result<Redemption, ChainError>;

    /// How many winners [`redeem_batch`](Self::redeem_batch) takes at most, > 0.
    fn most_in_a_batch(&self) -> usize {
        1
    }

    /// Redeems several, in as few transactions as the chain allows; the outcomes are in the winners' order, one for
    /// each, as [`redeem`](Self::redeem) would give it. What one becomes changes nothing for the others.
    async fn redeem_batch(&self, winners: &[WinningTicket]) -> Vec<Result<Redemption, ChainError>> {
        let mut outcomes = Vec::with_capacity(winners.len());
        for winner in winners {
            outcomes.push(self.redeem(winner).await);
        }
        outcomes
    }

    /// The same of winners that are to bring something: one that would bring less, as the chain stands right before it
    /// is sent, is not sent and answers [`ChainError::Underpaid`]. The contract itself uses a ticket up for whatever
    /// there is.
    async fn redeem_worth(&self, winners: &[Worth]) -> Vec<Result<Redemption, ChainError>> {
        let mut outcomes = Vec::with_capacity(winners.len());
        for worth in winners {
            outcomes.push(match worth.check(self).await {
                Ok(()) => self.redeem(&worth.winner).await,
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    /// Sees to it that a redemption of a ticket of this sender's which this handle sent last, and which still waits for a
    /// block, does not come any more: for when what it would be paid is gone. An error: it may still come, and it is to be
    /// asked again. A chain that answers at once has none that waits.
    async fn call_off(&self, _sender: Address) -> Result<(), ChainError> {
        Ok(())
    }

    /// The same chain and account, for one operation: what it sends is noted there before anybody has it, and what an
    /// earlier life sent for the operation is brought to its end and not sent again. A chain that answers at once, with
    /// nothing on its way in between, has no use for notes.
    fn noting(&self, notes: Arc<dyn Notes>) -> Arc<dyn Chain>;

    /// The own account's stake and name, where orchestrators have a stake and the handle has an account.
    fn staking(&self) -> Option<Arc<dyn Staking>> {
        None
    }

    /// `fundDepositAndReserveFor`: anyone may fund anyone; an unlock in progress goes on.
    async fn fund_deposit_and_reserve_for(
        &self,
        account: Address,
        deposit: Wei,
        reserve: Wei,
    ) -> Result<Receipt, ChainError>;

    /// `unlock` as the own account: starts the way to [`withdraw`](Self::withdraw).
    async fn unlock(&self) -> Result<Receipt, ChainError>;

    /// `cancelUnlock` as the own account.
    async fn cancel_unlock(&self) -> Result<Receipt, ChainError>;

    /// `withdraw` as the own account: deposit and reserve, all of it.
    async fn withdraw(&self) -> Result<Receipt, ChainError>;

    /// Joins the pool as the own account, active from the next round, and sets the service URI.
    /// Idempotent: an orchestrator of the pool only gets its URI changed, at once, and `None` says
    /// that there was nothing to change where a transaction costs gas.
    async fn register(&self, service_uri: &str) -> Result<Option<Receipt>, ChainError>;
}
