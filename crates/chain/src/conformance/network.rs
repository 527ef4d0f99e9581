//! What the suite needs of a chain under test beside the port: accounts, time, and a way to fall.

use crate::{Chain, OnChainTicket, Revert, Rounds, WinningTicket};
use async_trait::async_trait;
use penstock_domain::{Address, B256, U256, Wei, keccak256};
use penstock_payments::{ExpirationParams, Signature, Ticket};
use std::sync::Arc;

/// A chain of the test's own, with accounts by number (0 to 9 at least) that never acted before.
/// A round is at least three L1 blocks long, and none is mined but when asked for.
#[async_trait]
pub trait Network: Send {
    /// The chain without an account.
    fn chain(&self) -> Arc<dyn Chain>;
    /// The chain as somebody who sends what anyone may send, and has what that costs.
    fn anyone(&self) -> Arc<dyn Chain>;
    /// The chain as one of the accounts.
    fn account(&self, number: usize) -> Arc<dyn Chain>;
    /// An account's address.
    fn address(&self, number: usize) -> Address;
    /// An account's signature of a ticket that it pays.
    async fn sign(&self, number: usize, ticket: &Ticket) -> Signature;
    /// Mines this many L1 blocks, initialising rounds.
    async fn mine_blocks(&self, blocks: u64);
    /// Mines to the first block of the next round and initialises it.
    async fn next_round(&self);
    /// Mines to the first block of the next round and leaves it uninitialised.
    async fn next_round_uninitialized(&self);
    /// Kills the chain's process (or its connection) and comes back to the same chain.
    async fn restart(&mut self);
}

/// The account that pays in every case.
pub(super) const SENDER: usize = 0;

/// Some wei.
pub(super) fn wei(amount: u64) -> Wei {
    Wei::from_u64(amount)
}

/// A ticket of [`SENDER`] that wins, made in the newest round. `nonce` makes it unique.
pub(super) async fn winner(
    network: &dyn Network,
    recipient: usize,
    face_value: u64,
    nonce: u32,
) -> WinningTicket {
    let rounds = network.chain().rounds().await.unwrap();
    winner_of(network, network.address(recipient), face_value, nonce, &rounds).await
}

/// The same for any recipient, made in any round.
pub(super) async fn winner_of(
    network: &dyn Network,
    recipient: Address,
    face_value: u64,
    nonce: u32,
    rounds: &Rounds,
) -> WinningTicket {
    let recipient_rand = U256::from(1_000 + u64::from(nonce));
    let ticket = Ticket {
        recipient,
        sender: network.address(SENDER),
        face_value: wei(face_value),
        win_prob: U256::MAX,
        sender_nonce: nonce,
        recipient_rand_hash: hash_of(recipient_rand),
        expiration_params: ExpirationParams {
            creation_round: rounds.last_initialized_round,
            creation_round_block_hash: rounds.l1_block_hash,
        },
    };
    let sig = network.sign(SENDER, &ticket).await;
    WinningTicket {
        ticket: OnChainTicket::from(&ticket),
        sig: sig.as_bytes().to_vec(),
        recipient_rand,
    }
}

/// The commitment to a recipient's number.
pub(super) fn hash_of(recipient_rand: U256) -> B256 {
    keccak256(recipient_rand.to_be_bytes::<32>())
}

/// Registers orchestrators and goes to the round in which they are active.
pub(super) async fn activate(network: &dyn Network, numbers: &[usize]) {
    for number in numbers {
        let uri = format!("https://127.0.0.1:{number}");
        network.account(*number).register(&uri).await.unwrap();
    }
    network.next_round().await;
}

/// Funds [`SENDER`].
pub(super) async fn fund(network: &dyn Network, deposit: u64, reserve: u64) {
    let sender = network.address(SENDER);
    network
        .anyone()
        .fund_deposit_and_reserve_for(sender, wei(deposit), wei(reserve))
        .await
        .unwrap();
}

/// Redeems and expects this revert.
pub(super) async fn expect_revert(network: &dyn Network, ticket: &WinningTicket, want: Revert) {
    let error = network.anyone().redeem(ticket).await.unwrap_err();
    assert_eq!(error.revert(), Some(&want), "{error}");
}
