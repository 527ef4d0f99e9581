//! Who pays for the winners: some that have plenty, and some of which too little is there.

use super::args::open;
use penstock_chain::{Chain as _, NotesInMemory};
use penstock_chain_ethereum::EthereumChain;
use penstock_domain::{U256, Wei};
use penstock_keys::{LocalKey, TypedSigner};
use penstock_testkit::anvil::Anvil;
use std::sync::Arc;

/// What each that has plenty has paid in, in wei: enough for a million winners.
const DEPOSIT_WEI: u128 = 1_000_000_000_000_000_000_000;
/// Of those.
const MANY: usize = 3;
const ONE: u64 = 1_000_000_000_000_000_000;

/// All of them, and what they have paid in.
pub struct Senders {
    all: Vec<TypedSigner>,
    paid_in: U256,
}

impl Senders {
    /// Those that have plenty.
    pub async fn new(anvil: &Anvil) -> Self {
        let mut senders = Self { all: Vec::new(), paid_in: U256::ZERO };
        for _ in 0..MANY {
            let sender = account(anvil, U256::from(DEPOSIT_WEI));
            senders.fund(anvil, &sender, Wei(U256::from(DEPOSIT_WEI)), Wei::ZERO).await;
            senders.all.push(sender);
        }
        senders
    }

    /// One that has plenty.
    pub fn plenty(&self, number: usize) -> TypedSigner {
        self.all[number % MANY].clone()
    }

    /// One more, with no deposit and this reserve.
    pub async fn without_deposit(&mut self, anvil: &Anvil, reserve: Wei) -> TypedSigner {
        let sender = account(anvil, U256::ZERO);
        self.fund(anvil, &sender, Wei::ZERO, reserve).await;
        self.all.push(sender.clone());
        sender
    }

    /// One more, with this deposit and no reserve.
    pub async fn without_reserve(&mut self, anvil: &Anvil, deposit: Wei) -> TypedSigner {
        let sender = account(anvil, U256::ZERO);
        self.fund(anvil, &sender, deposit, Wei::ZERO).await;
        self.all.push(sender.clone());
        sender
    }

    /// So much went to somebody else, and is none of what is judged.
    pub fn paid_others(&mut self, wei: Wei) {
        self.paid_in -= wei.0;
    }

    /// It pays in.
    pub async fn fund(&mut self, anvil: &Anvil, sender: &TypedSigner, deposit: Wei, reserve: Wei) {
        self.paid_in += deposit.0 + reserve.0;
        acting(anvil, sender).fund_own(deposit, reserve).await.expect("a sender pays in");
    }

    /// What is gone of all that was paid in.
    pub async fn spent(&self, chain: &EthereumChain) -> Wei {
        let mut left = U256::ZERO;
        for sender in &self.all {
            let info = chain.sender_info(sender.address()).await.expect("the chain answers");
            left += info.deposit.0 + info.reserve.funds_remaining.0;
        }
        Wei(self.paid_in - left)
    }
}

/// A new account with these wei and some more for gas, and a token.
pub fn account(anvil: &Anvil, wei: U256) -> TypedSigner {
    let signer = TypedSigner::new(Arc::new(LocalKey::random().expect("a key")));
    anvil.give(signer.address(), wei + U256::from(ONE), U256::from(ONE));
    signer
}

/// The chain as this account, with nobody in between.
pub fn acting(anvil: &Anvil, account: &TypedSigner) -> EthereumChain {
    let notes = Arc::<NotesInMemory>::default();
    open(anvil, &anvil.url()).with_account(account.clone()).for_operation(notes)
}
