//! Anvil with the contracts, and accounts that use them.

use async_trait::async_trait;
use penstock_chain::{Chain, NotesInMemory, OnChainTicket, WinningTicket, conformance::Network};
use penstock_chain_ethereum::{Endpoints, EthereumArgs, EthereumChain, Settings};
use penstock_domain::{Address, U256, Wei, keccak256};
use penstock_keys::{LocalKey, TypedSigner};
use penstock_payments::{ExpirationParams, Signature, Ticket};
use penstock_testkit::anvil::{Anvil, CHAIN_ID};
use std::sync::Arc;

/// 10^18: one ether, one LPT.
pub const ONE: u64 = 1_000_000_000_000_000_000;
/// The account that sends what anyone may send.
const ANYONE: usize = 9;

/// The settings of a role, from its command line.
#[derive(Debug, clap::Parser)]
struct Flags {
    #[command(flatten)]
    ethereum: EthereumArgs,
}

/// Settings for a chain of anvil's; `more` overrides.
pub fn settings(anvil: &Anvil, more: &[&str]) -> Settings {
    let (controller, chain_id) = (anvil.controller().to_string(), CHAIN_ID.to_string());
    let stake = ONE.to_string();
    let mut argv = vec!["test", "--eth-controller", &controller, "--eth-chain-id", &chain_id];
    argv.extend(["--eth-stake-lptu", &stake]);
    // Blocks come when a test makes them, and as many as it likes.
    let usual = [
        ("--eth-tx-poll-ms", "10"),
        ("--eth-max-head-age-ms", "0"),
        ("--eth-max-l1-jump-blocks", "100000"),
    ];
    for (name, value) in usual {
        if !more.contains(&name) {
            argv.extend([name, value]);
        }
    }
    argv.extend(more);
    let flags: Flags = clap::Parser::try_parse_from(argv).unwrap();
    Settings::from(&flags.ethereum)
}

/// A signer whose key is its number.
pub fn signer(number: usize) -> TypedSigner {
    let byte = u8::try_from(number + 1).unwrap();
    TypedSigner::new(Arc::new(LocalKey::from_bytes([byte; 32].into()).unwrap()))
}

/// The chain under test.
pub struct World {
    pub anvil: Anvil,
    chain: EthereumChain,
    accounts: Vec<EthereumChain>,
}

impl World {
    pub async fn start() -> Self {
        let anvil = Anvil::start_with(10, &[]).await;
        for number in 0..10 {
            anvil.give(
                signer(number).address(),
                U256::from(100 * u128::from(ONE)),
                U256::from(ONE),
            );
        }
        let endpoints = Endpoints::parse(&format!("ethereum:{}", anvil.url())).unwrap();
        let chain = EthereumChain::open(&endpoints, settings(&anvil, &[])).unwrap();
        let account = |n| {
            chain.clone().with_account(signer(n)).for_operation(Arc::<NotesInMemory>::default())
        };
        let accounts = (0..10).map(account).collect();
        Self { anvil, chain, accounts }
    }

    /// The chain with other settings and a memory of its own.
    pub fn with_settings(&self, change: impl FnOnce(&mut Settings)) -> EthereumChain {
        let mut settings = settings(&self.anvil, &[]);
        change(&mut settings);
        let endpoints = Endpoints::parse(&format!("ethereum:{}", self.anvil.url())).unwrap();
        EthereumChain::open(&endpoints, settings).unwrap()
    }

    /// The chain as this account.
    pub fn ethereum(&self, number: usize) -> &EthereumChain {
        &self.accounts[number]
    }
}

/// A ticket that wins.
pub async fn winner(
    world: &World,
    sender: usize,
    recipient: usize,
    face_value: u64,
    nonce: u32,
) -> WinningTicket {
    let rounds = world.chain.rounds().await.unwrap();
    let recipient_rand = U256::from(1_000 + u64::from(nonce));
    let ticket = Ticket {
        recipient: signer(recipient).address(),
        sender: signer(sender).address(),
        face_value: Wei::from_u64(face_value),
        win_prob: U256::MAX,
        sender_nonce: nonce,
        recipient_rand_hash: keccak256(recipient_rand.to_be_bytes::<32>()),
        expiration_params: ExpirationParams {
            creation_round: rounds.last_initialized_round,
            creation_round_block_hash: rounds.l1_block_hash,
        },
    };
    let sig = signer(sender).sign_ticket(&ticket).await.unwrap().as_bytes().to_vec();
    WinningTicket { ticket: OnChainTicket::from(&ticket), sig, recipient_rand }
}

#[async_trait]
impl Network for World {
    fn chain(&self) -> Arc<dyn Chain> {
        Arc::new(self.chain.clone())
    }

    fn anyone(&self) -> Arc<dyn Chain> {
        self.account(ANYONE)
    }

    fn account(&self, number: usize) -> Arc<dyn Chain> {
        Arc::new(self.accounts[number].clone())
    }

    fn address(&self, number: usize) -> Address {
        signer(number).address()
    }

    async fn sign(&self, number: usize, ticket: &Ticket) -> Signature {
        signer(number).sign_ticket(ticket).await.unwrap()
    }

    async fn mine_blocks(&self, blocks: u64) {
        self.anvil.mine_blocks(blocks);
    }

    async fn next_round(&self) {
        self.anvil.next_round(true);
    }

    async fn next_round_uninitialized(&self) {
        self.anvil.next_round(false);
    }

    async fn restart(&mut self) {
        self.anvil.stop().await;
        self.anvil.start_again().await;
    }
}
