//! [`EthereumChain`]: the chain port over the contracts.

use crate::{
    address_book::AddressBook,
    ballots::Found,
    batch,
    contracts::{IBondingManager, IRoundsManager, IServiceRegistry, ITicketBroker, IToken},
    heights::{Heights, Start},
    location::Endpoints,
    pool::Pool,
    reader::{At, Reader, Search, height, to_u64},
    redemption::{Paid, Place, paid, redeems},
    rpc::{EndpointHealth, Rpc, RpcError, wire::Mined},
    settings::Settings,
    transactions::{Call, NotDone, Sender},
    worth,
};
use alloy_sol_types::{SolCall, SolEvent as _};
use async_trait::async_trait;
use penstock_chain::{
    ActiveOrchestrator, Chain, ChainError, Look, NEVER, Notes, OnChainTicket, Receipt, Redemption,
    Rounds, SenderInfo, Staking, Standing, WinningTicket, Worth,
};
use penstock_domain::{Address, B256, U256, Wei};
use penstock_keys::TypedSigner;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// How far back a redemption is looked for: two rounds of Arbitrum's blocks, a ticket's life, are some 560,000.
const MAX_SEARCH_BLOCKS: u64 = 700_000;
/// Blocks in the first search; fewer when the endpoint says that it is too many, more after each that it answers.
const FIRST_SEARCH_BLOCKS: u64 = 10_000;
/// What JSON-RPC answers to a question that an endpoint does not take at all.
const NO_SUCH_METHOD: i64 = -32_601;

/// The contracts, reached through one or several endpoints. Cheap to clone. Opening does no I/O, so that roles may
/// start in any order; the first call tells whether the chain is there.
#[derive(Debug, Clone)]
pub struct EthereumChain {
    pub(crate) reader: Reader,
    pub(crate) settings: Arc<Settings>,
    book: Arc<OnceCell<AddressBook>>,
    pool: Arc<Pool>,
    pub(crate) ballots: Arc<Found>,
    pub(crate) sender: Option<Sender>,
}

impl EthereumChain {
    /// A chain without an account.
    pub fn open(endpoints: &Endpoints, settings: Settings) -> Result<Self, ChainError> {
        let (timeout, max_head_age) = (settings.rpc_timeout, settings.max_head_age);
        let rpc = Rpc::new(endpoints, settings.chain_id, timeout, max_head_age)?;
        let heights = Arc::new(Heights::new(settings.max_l1_jump_blocks));
        Ok(Self {
            reader: Reader { rpc: Arc::new(rpc), heights, lag: Arc::default() },
            settings: Arc::new(settings),
            book: Arc::default(),
            pool: Arc::default(),
            ballots: Arc::default(),
            sender: None,
        })
    }

    /// Acts as this key's account from now on, and sends no ether along but for an operation with notes
    /// ([`Chain::noting`]). One handle for each account of a process, and clones of it: they send one after the other.
    #[must_use]
    pub fn with_account(self, signer: TypedSigner) -> Self {
        let Settings { patience, final_blocks, .. } = *self.settings;
        let sender = Sender::new(self.reader.clone(), signer, patience, final_blocks);
        Self { sender: Some(sender), ..self }
    }

    /// [`Chain::noting`].
    #[must_use]
    pub fn for_operation(&self, notes: Arc<dyn Notes>) -> Self {
        Self { sender: self.sender.as_ref().map(|sender| sender.noting(notes)), ..self.clone() }
    }

    /// Questions asked so far.
    pub fn questions(&self) -> u64 {
        self.reader.rpc.asked()
    }

    /// What an account has earned and not withdrawn yet.
    pub async fn pending_fees(&self, account: Address) -> Result<Wei, ChainError> {
        let call = IBondingManager::pendingFeesCall { delegator: account, endRound: U256::ZERO };
        Ok(Wei(self.reader.newest(self.book().await?.bonding_manager, &call).await?))
    }

    /// Funds the own account in its own name, which cancels an unlock in progress.
    pub async fn fund_own(&self, deposit: Wei, reserve: Wei) -> Result<Receipt, ChainError> {
        let call = ITicketBroker::fundDepositAndReserveCall {
            depositAmount: deposit.0,
            reserveAmount: reserve.0,
        };
        self.act("fund", self.book().await?.ticket_broker, sum(deposit, reserve)?, &call).await
    }

    pub(crate) async fn book(&self) -> Result<&AddressBook, ChainError> {
        self.book.get_or_try_init(|| AddressBook::read(&self.reader, &self.settings)).await
    }

    async fn rounds_answer<C: SolCall>(&self, call: &C) -> Result<C::Return, ChainError> {
        self.reader.newest(self.book().await?.rounds_manager, call).await
    }

    async fn rounds_number<C: SolCall<Return = U256>>(&self, call: &C) -> Result<u64, ChainError> {
        to_u64(self.rounds_answer(call).await?, "a number of the rounds manager")
    }

    /// The newest initialised round and the height of L1, held against what they were. What they are held against at
    /// first is the lowest that any endpoint says.
    async fn heights_now(&self) -> Result<(u64, u64), ChainError> {
        let (rounds, heights) = (self.book().await?.rounds_manager, &self.reader.heights);
        let l1 = IRoundsManager::blockNumCall {};
        if !heights.knows_l1()
            && let Some(lowest) = self.reader.lowest(rounds, &l1).await
        {
            heights.believe_l1(lowest);
        }
        let height = self.reader.number(rounds, &l1, &|said| heights.check_l1(*said)).await?;
        heights.believe_l1(height);
        if !heights.knows_round()
            && let Some(round) =
                self.reader.lowest(rounds, &IRoundsManager::currentRoundCall {}).await
        {
            let round_length = self.rounds_number(&IRoundsManager::roundLengthCall {}).await?;
            heights.start(Start { round, l1: height, round_length });
        }
        let initialized = IRoundsManager::lastInitializedRoundCall {};
        let check = |said: &u64| heights.check_round(*said);
        Ok((self.reader.number(rounds, &initialized, &check).await?, height))
    }

    /// Sends a call as the own account and waits for it.
    pub(crate) async fn transact<C: SolCall>(
        &self,
        operation: &'static str,
        to: Address,
        value: Wei,
        call: &C,
    ) -> Result<Mined, ChainError> {
        // What takes no ether along is refused by the contract when it was done before, or does no harm twice.
        let again = value.is_zero() && operation != "bond";
        let data = call.abi_encode();
        let call = Call { to, value, data, again, gas: None, least: Vec::new() };
        self.send(operation, call).await
    }

    async fn send(&self, operation: &'static str, call: Call) -> Result<Mined, ChainError> {
        self.send_or_say(operation, call).await.map_err(|not_done| not_done.error)
    }

    /// The same; one that fails says whether it may be done all the same.
    pub(crate) async fn send_or_say(
        &self,
        operation: &'static str,
        call: Call,
    ) -> Result<Mined, NotDone> {
        let sender = self.sender.as_ref().ok_or(ChainError::NoAccount { operation });
        let sender = sender.map_err(NotDone::not_sent)?;
        let mined = sender.send(call).await?;
        metrics::counter!("ethereum_transactions_total", "operation" => operation).increment(1);
        Ok(mined)
    }

    async fn act<C: SolCall>(
        &self,
        operation: &'static str,
        to: Address,
        value: Wei,
        call: &C,
    ) -> Result<Receipt, ChainError> {
        let mined = self.transact(operation, to, value, call).await?;
        self.receipt_of(&mined).await
    }

    /// The same of a call that is there already.
    pub(crate) async fn act_as(
        &self,
        operation: &'static str,
        call: Call,
    ) -> Result<Receipt, ChainError> {
        let mined = self.send(operation, call).await?;
        self.receipt_of(&mined).await
    }

    async fn receipt_of(&self, mined: &Mined) -> Result<Receipt, ChainError> {
        let l1_block = self.l1_block_of(height(mined.block_number)?).await?;
        Ok(Receipt { tx_hash: mined.transaction_hash.0, l1_block })
    }

    /// The height of L1 as contracts saw it in a block of this chain.
    async fn l1_block_of(&self, number: u64) -> Result<u64, ChainError> {
        if let Some(said) =
            self.reader.block_at(number).await?.and_then(|head| head.l1_block_number)
        {
            return height(said);
        }
        let rounds = self.book().await?.rounds_manager;
        let seen =
            self.reader.at(At::Block(number), rounds, &IRoundsManager::blockNumCall {}).await?;
        to_u64(seen, "the height of L1")
    }

    /// The round of an L1 block of the past. Rounds have had the same length for as long as tickets live.
    async fn round_of(&self, l1_block: u64) -> Result<u64, ChainError> {
        let (round, start, length) = tokio::try_join!(
            self.rounds_number(&IRoundsManager::currentRoundCall {}),
            self.rounds_number(&IRoundsManager::currentRoundStartBlockCall {}),
            self.rounds_number(&IRoundsManager::roundLengthCall {}),
        )?;
        let back = start.saturating_sub(l1_block);
        Ok(if length == 0 { round } else { round.saturating_sub(back.div_ceil(length)) })
    }

    /// Where a transaction is.
    pub(crate) async fn place_of(&self, mined: &Mined) -> Result<Place, ChainError> {
        let block = height(mined.block_number)?;
        let l1_block = self.l1_block_of(block).await?;
        let round = self.round_of(l1_block).await?;
        Ok(Place { tx_hash: mined.transaction_hash.0, block, l1_block, round })
    }

    /// The redemption of a ticket that this transaction redeemed.
    async fn redemption_in(
        &self,
        ticket: &OnChainTicket,
        mined: &Mined,
    ) -> Result<Redemption, ChainError> {
        let broker = self.book().await?.ticket_broker;
        let tx_hash = mined.transaction_hash.0;
        let paid = paid(&mined.logs, broker, ticket).ok_or_else(|| ChainError::BadAnswer {
            reason: format!("transaction {tx_hash} has no event of the ticket"),
        })?;
        Ok(paid.redemption(ticket, self.place_of(mined).await?))
    }

    /// The transaction that redeemed a ticket, looked for from the newest block back. `None` also where no endpoint
    /// lets events be searched: it is not the only way to know that a ticket is used.
    async fn redeemed_by(&self, ticket: &OnChainTicket) -> Result<Option<B256>, ChainError> {
        let broker = self.book().await?.ticket_broker;
        let topics = [
            vec![ITicketBroker::WinningTicketRedeemed::SIGNATURE_HASH],
            vec![ticket.sender.into_word()],
            vec![ticket.recipient.into_word()],
        ];
        let mut to = height(self.reader.head().await?.number)?;
        let oldest = to.saturating_sub(MAX_SEARCH_BLOCKS);
        let mut blocks = FIRST_SEARCH_BLOCKS;
        loop {
            let from = to.saturating_sub(blocks - 1).max(oldest);
            let search = Search { contracts: &[broker], topics: &topics, from, to };
            let events = match self.reader.events(&search).await {
                Ok(events) => events,
                // Too many blocks or events for this endpoint, in whatever words.
                Err(RpcError::Refused { code, .. }) if blocks > 1 && code != NO_SUCH_METHOD => {
                    blocks = (blocks / 2).max(1);
                    continue;
                }
                Err(error) => {
                    let hash = ticket.hash();
                    tracing::warn!(ticket = %hash, %error, "which transaction redeemed a ticket cannot be found");
                    return Ok(None);
                }
            };
            if let Some(event) = events.iter().find(|event| redeems(event, broker, ticket)) {
                return Ok(Some(event.transaction_hash.0));
            }
            if from <= oldest {
                return Ok(None);
            }
            to = from - 1;
            blocks = blocks.saturating_mul(2);
        }
    }

    /// Redeems one in a transaction of its own, if it brings so much at least.
    pub(crate) async fn redeem_alone(
        &self,
        winner: &WinningTicket,
        least: Wei,
    ) -> Result<Redemption, ChainError> {
        let call = batch::alone(self.book().await?.ticket_broker, winner, least);
        let mined = self.send("redeem", call).await?;
        self.redemption_in(&winner.ticket, &mined).await
    }

    /// Bonds the stake of the settings to the own account, if there is nothing bonded.
    async fn bond_own(&self, me: Address, book: &AddressBook) -> Result<Receipt, ChainError> {
        let stake = self.settings.stake_lptu.ok_or_else(|| ChainError::Refused {
            reason: format!(
                "{me} is not registered: bond LPT to it first, or say with --eth-stake-lptu how much to bond"
            ),
        })?;
        self.approve(me, book, stake).await?;
        let bond = IBondingManager::bondCall { amount: stake.0, to: me };
        self.act("bond", book.bonding_manager, Wei::ZERO, &bond).await
    }
}

impl EthereumChain {
    /// Lets the stake's contract take so many tokens, where it may not yet.
    pub(crate) async fn approve(
        &self,
        me: Address,
        book: &AddressBook,
        amount: Wei,
    ) -> Result<(), ChainError> {
        let allowance = IToken::allowanceCall { owner: me, spender: book.bonding_manager };
        if self.reader.newest(book.token, &allowance).await? < amount.0 {
            let approve = IToken::approveCall { spender: book.bonding_manager, amount: amount.0 };
            self.transact("approve", book.token, Wei::ZERO, &approve).await?;
        }
        Ok(())
    }
}

fn sum(deposit: Wei, reserve: Wei) -> Result<Wei, ChainError> {
    deposit
        .checked_add(reserve)
        .ok_or_else(|| ChainError::Refused { reason: "more than 2^256 − 1 wei".into() })
}

#[async_trait]
impl Chain for EthereumChain {
    async fn sender_info(&self, sender: Address) -> Result<SenderInfo, ChainError> {
        worth::sender_info(&self.reader, self.book().await?.ticket_broker, sender).await
    }

    async fn claimed_reserve(&self, holder: Address, claimant: Address) -> Result<Wei, ChainError> {
        let call = ITicketBroker::claimedReserveCall { holder, claimant };
        Ok(Wei(self.reader.newest(self.book().await?.ticket_broker, &call).await?))
    }

    async fn claimable_reserve(
        &self,
        holder: Address,
        claimant: Address,
    ) -> Result<Wei, ChainError> {
        let call = ITicketBroker::claimableReserveCall { holder, claimant };
        Ok(Wei(self.reader.newest(self.book().await?.ticket_broker, &call).await?))
    }

    async fn rounds(&self) -> Result<Rounds, ChainError> {
        let (round, last_seen_l1_block) = self.heights_now().await?;
        let hash_of = |round| IRoundsManager::blockHashForRoundCall { round: U256::from(round) };
        let (now, before) = (hash_of(round), hash_of(round.saturating_sub(1)));
        // Every look at the chain begins with the rounds: how old the newest block is by then is shown.
        let (l1_block_hash, previous_round_l1_block_hash, start, length, _head) = tokio::try_join!(
            self.rounds_answer(&now),
            self.rounds_answer(&before),
            self.rounds_answer(&IRoundsManager::currentRoundStartBlockCall {}),
            self.rounds_answer(&IRoundsManager::roundLengthCall {}),
            self.reader.head()
        )?;
        Ok(Rounds {
            last_initialized_round: round,
            l1_block_hash,
            previous_round_l1_block_hash,
            last_seen_l1_block,
            round_start_block: u64::try_from(start).unwrap_or(u64::MAX),
            // One that is no length of anything says nothing of the round's end.
            round_length: u64::try_from(length).unwrap_or(0),
        })
    }

    async fn active_orchestrators(&self) -> Result<Vec<ActiveOrchestrator>, ChainError> {
        self.pool.active(&self.reader, self.book().await?, &self.settings).await
    }

    async fn is_active(&self, orchestrator: Address) -> Result<bool, ChainError> {
        let call = IBondingManager::isActiveTranscoderCall { t: orchestrator };
        self.reader.newest(self.book().await?.bonding_manager, &call).await
    }

    async fn deactivation_round(&self, orchestrator: Address) -> Result<u64, ChainError> {
        let call = IBondingManager::getTranscoderCall { t: orchestrator };
        let terms = self.reader.newest(self.book().await?.bonding_manager, &call).await?;
        Ok(u64::try_from(terms.deactivationRound).unwrap_or(NEVER).min(NEVER))
    }

    async fn pool_size(&self) -> Result<u64, ChainError> {
        let call = IBondingManager::getTranscoderPoolSizeCall {};
        to_u64(
            self.reader.newest(self.book().await?.bonding_manager, &call).await?,
            "the pool's size",
        )
    }

    async fn gas_price(&self) -> Result<Wei, ChainError> {
        self.reader.gas_price().await
    }

    fn troubles(&self) -> Vec<String> {
        let ill = self.reader.rpc.health().into_iter().filter(|endpoint| !endpoint.is_well);
        let said = |endpoint: EndpointHealth| {
            let reason = endpoint.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{} of --chain does not answer well{reason}", endpoint.name)
        };
        // Looked at whenever metrics or readiness are read, so that it grows while nothing is read of the chain.
        let behind = self.reader.lag.tell(self.settings.max_head_age);
        ill.map(said).chain(behind).collect()
    }

    fn redeem_gas(&self) -> u64 {
        self.settings.redeem_gas
    }

    async fn is_used_ticket(&self, ticket_hash: B256) -> Result<bool, ChainError> {
        let call = ITicketBroker::usedTicketsCall { ticketHash: ticket_hash };
        self.reader.newest(self.book().await?.ticket_broker, &call).await
    }

    async fn redemption(&self, ticket: &OnChainTicket) -> Result<Option<Redemption>, ChainError> {
        if !self.is_used_ticket(ticket.hash()).await? {
            return Ok(None);
        }
        let Some(tx_hash) = self.redeemed_by(ticket).await? else { return Ok(None) };
        match self.reader.mined(tx_hash).await? {
            Some(mined) => self.redemption_in(ticket, &mined).await.map(Some),
            None => Ok(None),
        }
    }

    async fn final_block(&self) -> Result<Option<u64>, ChainError> {
        self.reader.final_block(self.settings.final_blocks).await.map(Some)
    }

    async fn look_again(
        &self,
        ticket: &OnChainTicket,
        tx_hash: Option<B256>,
        last_final: u64,
    ) -> Result<Look, ChainError> {
        if !self.is_used_ticket(ticket.hash()).await? {
            return Ok(Look { standing: Standing::Gone, paid: None });
        }
        let broker = self.book().await?.ticket_broker;
        if let Some(tx) = tx_hash
            && let Some(mined) = self.reader.mined(tx).await?
            && let Some(paid) = paid(&mined.logs, broker, ticket)
        {
            let standing = Standing::in_block(tx_hash, height(mined.block_number)?, last_final);
            return Ok(Look { standing, paid: Some(paid.all()) });
        }
        // By another transaction than was known, or nobody knew by which.
        if let Some(tx) = self.redeemed_by(ticket).await?
            && let Some(mined) = self.reader.mined(tx).await?
        {
            let standing = Standing::in_block(Some(tx), height(mined.block_number)?, last_final);
            let paid = paid(&mined.logs, broker, ticket).map(Paid::all);
            return Ok(Look { standing, paid });
        }
        // No endpoint lets events be searched: what the contract knew then says as much.
        let call = ITicketBroker::usedTicketsCall { ticketHash: ticket.hash() };
        match self.reader.at(At::Block(last_final), broker, &call).await {
            Ok(true) => {
                return Ok(Look { standing: Standing::Final { tx_hash: None }, paid: None });
            }
            Ok(false) => {}
            // An endpoint may know nothing of so old a block. Others wait for their look back: this one's turn comes again.
            Err(error) => {
                let hash = ticket.hash();
                tracing::warn!(ticket = %hash, %error, "whether a ticket was used then is not known");
            }
        }
        let block = height(self.reader.head().await?.number)?;
        Ok(Look { standing: Standing::InBlock { tx_hash: None, block }, paid: None })
    }

    async fn redeem(&self, winner: &WinningTicket) -> Result<Redemption, ChainError> {
        self.redeem_alone(winner, Wei::ZERO).await
    }

    fn most_in_a_batch(&self) -> usize {
        self.settings.redeem_batch
    }

    async fn redeem_batch(&self, winners: &[WinningTicket]) -> Vec<Result<Redemption, ChainError>> {
        let worth = winners.iter().map(|winner| Worth { winner: winner.clone(), least: Wei::ZERO });
        self.redeem_worth(&worth.collect::<Vec<_>>()).await
    }

    async fn call_off(&self, sender: Address) -> Result<(), ChainError> {
        match &self.sender {
            Some(own) => own.call_off(sender).await,
            None => Ok(()),
        }
    }

    async fn redeem_worth(&self, winners: &[Worth]) -> Vec<Result<Redemption, ChainError>> {
        match winners {
            [worth] => vec![self.redeem_alone(&worth.winner, worth.least).await],
            winners => batch::redeem(self, winners).await,
        }
    }

    fn noting(&self, notes: Arc<dyn Notes>) -> Arc<dyn Chain> {
        Arc::new(self.for_operation(notes))
    }

    fn staking(&self) -> Option<Arc<dyn Staking>> {
        self.sender.as_ref().map(|_| Arc::new(self.clone()) as Arc<dyn Staking>)
    }

    async fn fund_deposit_and_reserve_for(
        &self,
        account: Address,
        deposit: Wei,
        reserve: Wei,
    ) -> Result<Receipt, ChainError> {
        let call = ITicketBroker::fundDepositAndReserveForCall {
            addr: account,
            depositAmount: deposit.0,
            reserveAmount: reserve.0,
        };
        self.act("fund", self.book().await?.ticket_broker, sum(deposit, reserve)?, &call).await
    }

    async fn unlock(&self) -> Result<Receipt, ChainError> {
        let broker = self.book().await?.ticket_broker;
        self.act("unlock", broker, Wei::ZERO, &ITicketBroker::unlockCall {}).await
    }

    async fn cancel_unlock(&self) -> Result<Receipt, ChainError> {
        let broker = self.book().await?.ticket_broker;
        self.act("cancel_unlock", broker, Wei::ZERO, &ITicketBroker::cancelUnlockCall {}).await
    }

    async fn withdraw(&self) -> Result<Receipt, ChainError> {
        let broker = self.book().await?.ticket_broker;
        self.act("withdraw", broker, Wei::ZERO, &ITicketBroker::withdrawCall {}).await
    }

    async fn register(&self, service_uri: &str) -> Result<Option<Receipt>, ChainError> {
        let operation = "register";
        let me = self.sender.as_ref().ok_or(ChainError::NoAccount { operation })?.account();
        let book = self.book().await?;
        let registered = IBondingManager::isRegisteredTranscoderCall { t: me };
        let mut receipt = None;
        if !self.reader.newest(book.bonding_manager, &registered).await? {
            receipt = Some(self.bond_own(me, book).await?);
        }
        let uri = IServiceRegistry::getServiceURICall { addr: me };
        if self.reader.newest(book.service_registry, &uri).await? != service_uri {
            let set = IServiceRegistry::setServiceURICall { uri: service_uri.to_owned() };
            receipt =
                Some(self.act("set_service_uri", book.service_registry, Wei::ZERO, &set).await?);
        }
        Ok(receipt)
    }
}
