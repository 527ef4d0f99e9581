//! What the devnet remembers.

use penstock_chain::Redemption;
use penstock_domain::{Address, B256, Wei, keccak256};
use std::collections::BTreeMap;

/// What is fixed when the chain is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Genesis {
    /// Random; keeps signatures for one devnet from being good on another.
    pub chain_id: B256,
    /// L1 blocks in a round, at least 1.
    pub round_length: u64,
}

/// What moves with every block and transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Height of L1.
    pub l1_block: u64,
    /// Newest initialised round.
    pub last_initialized_round: u64,
    /// Transactions so far; the next one's hash is made of it.
    pub transactions: u64,
}

/// A sender's account at the TicketBroker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sender {
    /// Paid from first.
    pub deposit: Wei,
    /// 0 = locked.
    pub withdraw_round: u64,
    /// What is left of the reserve.
    pub reserve: Wei,
    /// What all recipients claimed from the reserve, in the round it names.
    pub claimed: Claim,
}

/// An amount that counts in one round only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claim {
    /// The round.
    pub round: u64,
    /// The amount.
    pub amount: Wei,
}

impl Claim {
    /// The amount, if `round` is the one it counts in.
    pub fn in_round(&self, round: u64) -> Wei {
        if self.round == round { self.amount } else { Wei::ZERO }
    }
}

/// An orchestrator that is, or once was, in the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orchestrator {
    /// As registered.
    pub service_uri: String,
    /// First active round.
    pub activation_round: u64,
    /// First inactive round.
    pub deactivation_round: u64,
    /// In the pool.
    pub registered: bool,
}

/// An account in its own right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Transactions it signed.
    pub nonce: u64,
    /// Paid to it for winning tickets.
    pub earned: Wei,
    /// Taken home.
    pub withdrawn: Wei,
}

/// Money over the border of the contract, since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flows {
    /// In. At most 2^256 − 1, so no other sum can overflow.
    pub funded: Wei,
    /// Out to recipients.
    pub paid: Wei,
    /// Out to senders.
    pub withdrawn: Wei,
}

/// Everything. Changed only by [`apply`](Self::apply). Grows with what happened (some 300 bytes for
/// each redeemed ticket and less for each account and round), as a chain does; a development
/// chain that grew too large is begun anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Fixed.
    pub genesis: Genesis,
    /// Moving.
    pub head: Head,
    /// Block hashes of initialised rounds; a skipped round never gets one.
    pub round_hashes: BTreeMap<u64, B256>,
    /// By sender.
    pub senders: BTreeMap<Address, Sender>,
    /// What a claimant took from a holder's reserve, by (holder, claimant).
    pub claims: BTreeMap<(Address, Address), Claim>,
    /// By orchestrator.
    pub orchestrators: BTreeMap<Address, Orchestrator>,
    /// By account.
    pub accounts: BTreeMap<Address, Account>,
    /// By ticket hash: the used tickets.
    pub redemptions: BTreeMap<B256, Redemption>,
    /// Sums.
    pub flows: Flows,
}

impl State {
    /// A new chain, in the first block of round 1, which is initialised.
    pub fn new(genesis: Genesis) -> Self {
        let genesis = Genesis { round_length: genesis.round_length.max(1), ..genesis };
        let l1_block = genesis.round_length;
        let hash = super::block_hash(&genesis, l1_block.saturating_sub(1));
        Self {
            genesis,
            head: Head { l1_block, last_initialized_round: 1, transactions: 0 },
            round_hashes: BTreeMap::from([(1, hash)]),
            senders: BTreeMap::new(),
            claims: BTreeMap::new(),
            orchestrators: BTreeMap::new(),
            accounts: BTreeMap::new(),
            redemptions: BTreeMap::new(),
            flows: Flows::default(),
        }
    }

    /// The round that the newest block is in, initialised or not.
    pub fn current_round(&self) -> u64 {
        self.round_of(self.head.l1_block)
    }

    /// The round that a block is in.
    pub fn round_of(&self, l1_block: u64) -> u64 {
        l1_block.checked_div(self.genesis.round_length).unwrap_or_default()
    }

    /// Whether somebody initialised the current round.
    pub fn is_round_initialized(&self) -> bool {
        self.head.last_initialized_round == self.current_round()
    }

    /// Entries of the pool, those that are active from the next round included.
    pub fn pool_size(&self) -> u64 {
        self.orchestrators.values().map(|o| u64::from(o.registered)).sum()
    }

    /// A sender, all zero if unknown.
    pub fn sender(&self, address: Address) -> Sender {
        self.senders.get(&address).copied().unwrap_or_default()
    }

    /// An account, all zero if unknown.
    pub fn account(&self, address: Address) -> Account {
        self.accounts.get(&address).copied().unwrap_or_default()
    }

    /// What `claimant` took from `holder`'s reserve in the current round.
    pub fn claimed_reserve(&self, holder: Address, claimant: Address) -> Wei {
        let claim = self.claims.get(&(holder, claimant)).copied().unwrap_or_default();
        claim.in_round(self.current_round())
    }

    /// Whether an orchestrator is active in the current round.
    pub fn is_active(&self, orchestrator: Address) -> bool {
        let round = self.current_round();
        self.orchestrators
            .get(&orchestrator)
            .is_some_and(|o| o.activation_round <= round && round < o.deactivation_round)
    }

    /// The hash of the next transaction, and the head after it.
    pub fn next_transaction(&self) -> (B256, Head) {
        let mut preimage = b"penstock devnet transaction".to_vec();
        preimage.extend_from_slice(self.genesis.chain_id.as_slice());
        preimage.extend_from_slice(&self.head.transactions.to_be_bytes());
        let head = Head { transactions: self.head.transactions.saturating_add(1), ..self.head };
        (keccak256(preimage), head)
    }
}
