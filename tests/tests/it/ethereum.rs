//! Anvil in the place of the devnet: how roles are told of it, who has what at the start.

use std::path::Path;

use clap::Parser;
use penstock_chain::{Chain as _, NotesInMemory};
use penstock_chain_ethereum::{Endpoints, EthereumArgs, EthereumChain};
use penstock_domain::{U256, Wei};
use penstock_keys::{LocalKey, TypedSigner, keystore};
use penstock_testkit::{
    anvil::{Anvil, CHAIN_ID, ROUND_LENGTH},
    until,
};
use std::sync::Arc;

/// The sender's deposit, and as much reserve, in wei: what the devnet's senders have.
pub const FUNDS: u128 = 10_000_000_000_000_000_000;
/// An LPT.
const ONE: u64 = 1_000_000_000_000_000_000;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    ethereum: EthereumArgs,
}

/// A chain on which gas costs next to nothing, as the tickets of these tests do.
pub async fn start(sender: &str, recipient: &str) -> Anvil {
    let cheap = ["--block-base-fee-per-gas", "1", "--disable-min-priority-fee"];
    let anvil = Anvil::start_with(ROUND_LENGTH, &cheap).await;
    let [sender, recipient] = [sender, recipient].map(|text| text.parse().unwrap());
    let friend = LocalKey::random().unwrap();
    for account in [sender, recipient] {
        anvil.give(account, U256::from(ONE), U256::from(ONE));
    }
    anvil.give(friend.address(), U256::from(3 * FUNDS), U256::ZERO);
    let friend = TypedSigner::new(Arc::new(friend));
    let friend = chain(&anvil).with_account(friend).for_operation(Arc::<NotesInMemory>::default());
    let funds = Wei(U256::from(FUNDS));
    friend.fund_deposit_and_reserve_for(sender, funds, funds).await.unwrap();
    anvil
}

/// What a role has to be told besides `--chain`.
pub fn flags(anvil: &Anvil) -> Vec<String> {
    vec![
        format!("--eth-controller={}", anvil.controller()),
        format!("--eth-chain-id={CHAIN_ID}"),
        format!("--eth-stake-lptu={ONE}"),
        format!("--eth-poll-creator={}", anvil.poll_creator()),
        "--eth-tx-poll-ms=20".to_owned(),
        // Blocks come when a test makes them, and as many as it likes.
        "--eth-max-head-age-ms=0".to_owned(),
        "--eth-max-l1-jump-blocks=100000".to_owned(),
    ]
}

/// The chain, for whoever only looks.
pub fn chain(anvil: &Anvil) -> EthereumChain {
    let flags = std::iter::once("test".to_owned()).chain(flags(anvil));
    let settings = Flags::try_parse_from(flags).unwrap().ethereum;
    let endpoints = Endpoints::parse(&format!("ethereum:{}", anvil.url())).unwrap();
    EthereumChain::open(&endpoints, (&settings).into()).unwrap()
}

/// The chain as a new account with these wei beside those for gas, and an LPT.
pub fn as_new_account(anvil: &Anvil, wei: U256) -> (TypedSigner, EthereumChain) {
    let account = TypedSigner::new(Arc::new(LocalKey::random().unwrap()));
    anvil.give(account.address(), wei + U256::from(ONE), U256::from(ONE));
    let notes = Arc::<NotesInMemory>::default();
    (account.clone(), chain(anvil).with_account(account).for_operation(notes))
}

/// The chain as the account of a keystore.
pub fn open(anvil: &Anvil, key: &Path, password: &Path) -> EthereumChain {
    let password = std::fs::read_to_string(password).unwrap();
    let key = keystore::open(key, password.trim_end()).unwrap();
    chain(anvil).with_account(TypedSigner::new(Arc::new(key)))
}

/// Waits until an orchestrator has joined, and begins the round in which it is active.
pub async fn activate(anvil: &Anvil) {
    let chain = chain(anvil);
    until("an orchestrator joins the pool", || async { chain.pool_size().await.unwrap() == 1 })
        .await;
    anvil.next_round(true);
}
