//! Reads of contracts, blocks and events, as typed values.

use crate::{
    heights::Heights,
    lag::Lag,
    rpc::{
        Check, EVENTS, Rpc, RpcError,
        wire::{Account, Data, Event, Head, Mined, Quantity, Word},
    },
};
use alloy_sol_types::SolCall;
use penstock_chain::ChainError;
use penstock_domain::{Address, B256, U256, Wei};
use serde_json::{Value, json};
use std::sync::Arc;

/// Reads through the endpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub rpc: Arc<Rpc>,
    /// What heights are held against.
    pub heights: Arc<Heights>,
    /// The newest block, and when it was made.
    pub lag: Arc<Lag>,
}

/// As of which block something is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    Newest,
    Block(u64),
}

impl At {
    fn param(self) -> Value {
        match self {
            Self::Newest => json!("latest"),
            Self::Block(number) => json!(Quantity::from(number)),
        }
    }
}

/// Events to look for: of any of the contracts, with each topic one of those given (empty = any).
pub(crate) struct Search<'a> {
    pub contracts: &'a [Address],
    pub topics: &'a [Vec<B256>],
    pub from: u64,
    pub to: u64,
}

impl Reader {
    /// A contract's answer as of the newest block.
    pub(crate) async fn newest<C: SolCall>(
        &self,
        to: Address,
        call: &C,
    ) -> Result<C::Return, ChainError> {
        self.at(At::Newest, to, call).await
    }

    /// A contract's answer as of a block.
    pub(crate) async fn at<C: SolCall>(
        &self,
        at: At,
        to: Address,
        call: &C,
    ) -> Result<C::Return, ChainError> {
        let answer: Data = self.rpc.ask("eth_call", call_of(at, to, call)).await?;
        decoded::<C>(to, &answer).map_err(|reason| ChainError::BadAnswer { reason })
    }

    /// A number as of the newest block, from the first endpoint whose answer this check lets pass.
    pub(crate) async fn number<C: SolCall<Return = U256>>(
        &self,
        to: Address,
        call: &C,
        check: Check<'_, u64>,
    ) -> Result<u64, ChainError> {
        let checked = |answer: &Data| check(&number_in::<C>(to, answer)?);
        let params = call_of(At::Newest, to, call);
        let answer: Data = self.rpc.ask_checked("eth_call", params, &checked).await?;
        number_in::<C>(to, &answer).map_err(|reason| ChainError::BadAnswer { reason })
    }

    /// The lowest number that any endpoint says, as of its newest block.
    pub(crate) async fn lowest<C: SolCall<Return = U256>>(
        &self,
        to: Address,
        call: &C,
    ) -> Option<u64> {
        let answers: Vec<Data> =
            self.rpc.ask_each("eth_call", &call_of(At::Newest, to, call)).await;
        answers.iter().filter_map(|answer| number_in::<C>(to, answer).ok()).min()
    }

    /// What each endpoint says that is well, as of its newest block; what makes no sense is left out. Where none says
    /// anything, the first one that answers at all.
    pub(crate) async fn of_each<C: SolCall>(
        &self,
        to: Address,
        call: &C,
    ) -> Vec<Result<C::Return, ChainError>> {
        let said = self.rpc.ask_the_well("eth_call", &call_of(At::Newest, to, call)).await;
        let mut answers: Vec<Result<C::Return, ChainError>> = said
            .into_iter()
            .filter_map(|said: Result<Data, RpcError>| match said {
                Ok(answer) => decoded::<C>(to, &answer).ok().map(Ok),
                Err(error) => Some(Err(error.into())),
            })
            .collect();
        if answers.is_empty() {
            answers.push(self.newest(to, call).await);
        }
        answers
    }

    /// The newest block.
    pub(crate) async fn head(&self) -> Result<Head, ChainError> {
        let check = |head: &Option<Head>| {
            let head = head.as_ref().ok_or("it knows no newest block")?;
            let number = head.number.to_u64().ok_or("its newest block has no height")?;
            self.heights.check_block(number)
        };
        let newest = json!(["latest", false]);
        let head: Option<Head> =
            self.rpc.ask_checked("eth_getBlockByNumber", newest, &check).await?;
        let head =
            head.ok_or_else(|| ChainError::BadAnswer { reason: "no newest block".into() })?;
        self.heights.believe_block(height(head.number)?);
        self.lag.read(&head);
        Ok(head)
    }

    /// The newest block with so many on top of it; without a number, the one that the chain itself calls final. Of what
    /// endpoints say the lowest is believed, and none that is far above what is known: it would make final what may go.
    pub(crate) async fn final_block(&self, blocks: Option<u64>) -> Result<u64, ChainError> {
        let which = if blocks.is_some() { "latest" } else { "finalized" };
        let heads: Vec<Option<Head>> =
            self.rpc.ask_each("eth_getBlockByNumber", &json!([which, false])).await;
        let heights = heads.iter().flatten().filter_map(|head| head.number.to_u64());
        let heights = heights.filter(|height| self.heights.check_block(*height).is_ok());
        match (heights.min(), blocks) {
            (Some(height), blocks) => Ok(height.saturating_sub(blocks.unwrap_or(0))),
            (None, Some(_)) => Err(ChainError::Unreachable {
                reason: "no endpoint says a newest block that can be".into(),
            }),
            (None, None) => Err(ChainError::Unavailable {
                reason: "no endpoint says which block is final: set --eth-final-blocks".into(),
            }),
        }
    }

    /// The block of a height, if there is one.
    pub(crate) async fn block_at(&self, number: u64) -> Result<Option<Head>, ChainError> {
        let which = json!([Quantity::from(number), false]);
        Ok(self.rpc.ask("eth_getBlockByNumber", which).await?)
    }

    /// What became of a transaction; `None` = nothing yet.
    pub(crate) async fn mined(&self, tx_hash: B256) -> Result<Option<Mined>, ChainError> {
        Ok(self.rpc.ask("eth_getTransactionReceipt", json!([Word(tx_hash)])).await?)
    }

    /// The same of any endpoint: one may count a transaction before it knows its receipt.
    pub(crate) async fn mined_anywhere(&self, tx_hash: B256) -> Option<Mined> {
        let answers: Vec<Option<Mined>> =
            self.rpc.ask_each("eth_getTransactionReceipt", &json!([Word(tx_hash)])).await;
        answers.into_iter().flatten().next()
    }

    /// Wei for a unit of gas.
    pub(crate) async fn gas_price(&self) -> Result<Wei, ChainError> {
        let price: Quantity = self.rpc.ask("eth_gasPrice", json!([])).await?;
        Ok(Wei(price.0))
    }

    /// Events, the oldest first.
    pub(crate) async fn events(&self, search: &Search<'_>) -> Result<Vec<Event>, RpcError> {
        let contracts: Vec<Account> = search.contracts.iter().copied().map(Account).collect();
        let topics: Vec<Vec<Word>> =
            search.topics.iter().map(|any| any.iter().copied().map(Word).collect()).collect();
        let topics: Vec<Value> = topics
            .into_iter()
            .map(|any| if any.is_empty() { Value::Null } else { json!(any) })
            .collect();
        let filter = json!({
            "address": contracts,
            "topics": topics,
            "fromBlock": Quantity::from(search.from),
            "toBlock": Quantity::from(search.to),
        });
        self.rpc.ask(EVENTS, json!([filter])).await
    }
}

fn call_of<C: SolCall>(at: At, to: Address, call: &C) -> Value {
    let request = json!({ "to": Account(to), "data": Data(call.abi_encode()) });
    json!([request, at.param()])
}

/// What a contract answered, or why it is no answer.
fn decoded<C: SolCall>(to: Address, answer: &Data) -> Result<C::Return, String> {
    if answer.0.is_empty() {
        return Err(format!("no contract at {to} answers {}", C::SIGNATURE));
    }
    C::abi_decode_returns(&answer.0).map_err(|error| format!("{}: {error}", C::SIGNATURE))
}

fn number_in<C: SolCall<Return = U256>>(to: Address, answer: &Data) -> Result<u64, String> {
    let number = decoded::<C>(to, answer)?;
    u64::try_from(number).map_err(|_| format!("{} is {number}", C::SIGNATURE))
}

/// Rounds, heights and counts fit 64 bits on every chain that there is.
pub(crate) fn to_u64(number: U256, what: &'static str) -> Result<u64, ChainError> {
    u64::try_from(number)
        .map_err(|_| ChainError::BadAnswer { reason: format!("{what} is {number}") })
}

/// The same of a block's own numbers.
pub(crate) fn height(number: Quantity) -> Result<u64, ChainError> {
    to_u64(number.0, "a block's height")
}
