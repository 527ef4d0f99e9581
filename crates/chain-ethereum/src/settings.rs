//! Settings of the chain, the same for every role that asks it or pays on it.

use crate::transactions::Patience;
use clap::Args;
use penstock_domain::{Address, Wei, parse_address};
use std::time::Duration;

/// Arbitrum One.
pub const ARBITRUM_ONE: u64 = 42_161;
/// The largest number of a chain (EIP-2294): signatures have twice as much in one word.
const MOST_CHAIN_ID: u64 = 9_223_372_036_854_775_771;
/// The network's Controller there (on-chain.md section 1.1).
pub const ARBITRUM_ONE_CONTROLLER: &str = "0xD8E8328501E9645d16Cf49539efC04f734606ee4";

/// The network on Ethereum. Used when --chain is ethereum:URL.
#[derive(Debug, Clone, Args)]
pub struct EthereumArgs {
    /// The network's Controller, which knows its other contracts. The default is the network on Arbitrum One.
    #[arg(long, env = "PENSTOCK_ETH_CONTROLLER", value_name = "ADDRESS",
          default_value = ARBITRUM_ONE_CONTROLLER, value_parser = address)]
    pub eth_controller: Address,

    /// The chain's number. An endpoint of another chain is not used, and no transaction is good for another.
    #[arg(long, env = "PENSTOCK_ETH_CHAIN_ID", value_name = "NUMBER", default_value_t = ARBITRUM_ONE,
          value_parser = clap::value_parser!(u64).range(1..=MOST_CHAIN_ID))]
    pub eth_chain_id: u64,

    /// Service registry to write the own service URI to, instead of the Controller's: the AI registry on Arbitrum One is
    /// 0x04C0b249740175999E5BF5c9ac1dA92431EF34C5. Others are read all the same.
    #[arg(long, env = "PENSTOCK_ETH_SERVICE_REGISTRY", value_name = "ADDRESS", value_parser = address)]
    pub eth_service_registry: Option<Address>,

    /// The network's service registry for AI, which is read beside the Controller's. Default: that of Arbitrum One on
    /// 42161; elsewhere there is none.
    #[arg(long, env = "PENSTOCK_ETH_AI_SERVICE_REGISTRY", value_name = "ADDRESS", value_parser = address)]
    pub eth_ai_service_registry: Option<Address>,

    /// What makes polls and tells of them. Default: that of Arbitrum One on 42161; elsewhere polls are not looked for.
    #[arg(long, env = "PENSTOCK_ETH_POLL_CREATOR", value_name = "ADDRESS", value_parser = address)]
    pub eth_poll_creator: Option<Address>,

    /// How many of the chain's newest blocks are searched for proposals and polls that are voted on. On Arbitrum the
    /// default is some eleven days, which is as long as votes are taken.
    #[arg(long, env = "PENSTOCK_ETH_BALLOT_SEARCH_BLOCKS", value_name = "BLOCKS", default_value_t = 4_000_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub eth_ballot_search_blocks: u64,

    /// Milliseconds in which an endpoint has to answer a question, before the next one is asked.
    #[arg(long, env = "PENSTOCK_ETH_RPC_TIMEOUT_MS", value_name = "MS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(10..=120_000))]
    pub eth_rpc_timeout_ms: u64,

    /// How far an endpoint's newest block may be behind this machine's clock, or ahead of it, in milliseconds, before
    /// the endpoint counts as one that stands still and another one is asked. 0 = not looked at, for chains that make
    /// blocks only when there is something in them.
    #[arg(long, env = "PENSTOCK_ETH_MAX_HEAD_AGE_MS", value_name = "MS", default_value_t = 60_000,
          value_parser = clap::value_parser!(u64).range(0..=86_400_000))]
    pub eth_max_head_age_ms: u64,

    /// L1 blocks by which an endpoint's answer may be ahead of the last one, beside one for each second between them.
    /// What is further ahead is not believed, and another endpoint is asked. More for chains whose blocks come faster.
    #[arg(long, env = "PENSTOCK_ETH_MAX_L1_JUMP_BLOCKS", value_name = "BLOCKS", default_value_t = 100,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub eth_max_l1_jump_blocks: u64,

    /// Wei for a unit of gas above which nothing is sent: a transaction waits until it is cheaper. The default is
    /// 10000000000 (10 gwei) on Arbitrum (42161, 421611), a hundred times what is usual there, and 300000000000
    /// (300 gwei) elsewhere: an endpoint that says more is wrong, or a redemption is not worth it.
    #[arg(long, env = "PENSTOCK_ETH_MAX_GAS_PRICE_WEI", value_name = "WEI",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub eth_max_gas_price_wei: Option<u64>,

    /// Gas that one transaction may use: one for which an endpoint says that it takes more is not sent. The default is
    /// 5000000 on Arbitrum (42161, 421611), where gas pays for L1 too, and 2000000 elsewhere.
    #[arg(long, env = "PENSTOCK_ETH_MAX_GAS", value_name = "GAS",
          value_parser = clap::value_parser!(u64).range(21_000..=1_000_000_000))]
    pub eth_max_gas: Option<u64>,

    /// Milliseconds without a receipt after which a transaction is sent once more with a higher fee.
    #[arg(long, env = "PENSTOCK_ETH_TX_TIMEOUT_MS", value_name = "MS", default_value_t = 300_000,
          value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub eth_tx_timeout_ms: u64,

    /// How often a transaction is sent once more before it is given up for now.
    #[arg(long, env = "PENSTOCK_ETH_TX_REPLACEMENTS", value_name = "NUMBER", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(0..=20))]
    pub eth_tx_replacements: u32,

    /// Milliseconds between two looks for a receipt.
    #[arg(long, env = "PENSTOCK_ETH_TX_POLL_MS", value_name = "MS", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub eth_tx_poll_ms: u64,

    /// Number of a transaction of this account that is another one than this process noted under it, as its operator has
    /// found out (Stuck transaction in docs/ethereum.md): what was noted ends undone instead of being looked for.
    #[arg(long, env = "PENSTOCK_ETH_LOST_NONCE", value_name = "NUMBER",
          value_parser = clap::value_parser!(u64).range(0..=4_294_967_295))]
    pub eth_lost_nonce: Option<u64>,

    /// Blocks that have to be there, the transaction's own included, before it counts. More than 1 where blocks may be
    /// taken back.
    #[arg(long, env = "PENSTOCK_ETH_CONFIRMATIONS", value_name = "BLOCKS", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub eth_confirmations: u64,

    /// Blocks on top of a redemption's own that make it final. When they are there the redemption is looked for once
    /// more, and made again where its block was taken back. The default is what the chain itself calls final.
    #[arg(long, env = "PENSTOCK_ETH_FINAL_BLOCKS", value_name = "BLOCKS",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub eth_final_blocks: Option<u64>,

    /// Gas that the redemption of a ticket is reckoned with: prices and the size of tickets follow from it. The
    /// default is 1200000 on Arbitrum (42161, 421611) and 350000 elsewhere.
    #[arg(long, env = "PENSTOCK_ETH_REDEEM_GAS", value_name = "GAS",
          value_parser = clap::value_parser!(u64).range(21_000..=30_000_000))]
    pub eth_redeem_gas: Option<u64>,

    /// Winners that are redeemed in one transaction at most, as far as --eth-max-gas allows. 1 = each in its own.
    #[arg(long, env = "PENSTOCK_ETH_REDEEM_BATCH", value_name = "NUMBER", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub eth_redeem_batch: u16,

    /// LPTU (10^18 are one LPT) that an orchestrator bonds to itself when it registers and has nothing bonded.
    /// Without it, it has to be bonded before.
    #[arg(long, env = "PENSTOCK_ETH_STAKE_LPTU", value_name = "LPTU")]
    pub eth_stake_lptu: Option<Wei>,
}

fn address(text: &str) -> Result<Address, &'static str> {
    parse_address(text).ok_or("an address is 40 hexadecimal digits after 0x")
}

/// The same, as the chain takes them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Finds the other contracts.
    pub controller: Address,
    /// EIP-155.
    pub chain_id: u64,
    /// Written instead of the Controller's.
    pub service_registry: Option<Address>,
    /// Read beside it.
    pub ai_service_registry: Option<Address>,
    /// So often the active set is read anew, whatever events say.
    pub pool_reread: Duration,
    /// What makes polls, if that is known.
    pub poll_creator: Option<Address>,
    /// The chain's newest blocks, in which proposals and polls are looked for.
    pub ballot_search_blocks: u64,
    /// For one question to one endpoint.
    pub rpc_timeout: Duration,
    /// How far an endpoint's newest block may be from this machine's clock; `None` = it is not looked at.
    pub max_head_age: Option<Duration>,
    /// L1 blocks by which an answer may be ahead of the last one.
    pub max_l1_jump_blocks: u64,
    /// How long and how often, and for how much, transactions are tried.
    pub patience: Patience,
    /// Blocks on top of one that make it final; `None` = the chain says which are.
    pub final_blocks: Option<u64>,
    /// For one redemption.
    pub redeem_gas: u64,
    /// Winners in one transaction at most, > 0.
    pub redeem_batch: usize,
    /// What [`register`](penstock_chain::Chain::register) bonds, in units of 10^-18 LPT.
    pub stake_lptu: Option<Wei>,
}

/// What of the settings follows from the chain.
struct Usual {
    redeem_gas: u64,
    max_gas: u64,
    max_gas_price_wei: u64,
}

const GWEI: u64 = 1_000_000_000;

/// 0x8bb50806D60c492c0004DAD5D9627DAA2d9732E6
const ARBITRUM_ONE_POLL_CREATOR: Address = Address::new([
    0x8b, 0xb5, 0x08, 0x06, 0xd6, 0x0c, 0x49, 0x2c, 0x00, 0x04, 0xda, 0xd5, 0xd9, 0x62, 0x7d, 0xaa,
    0x2d, 0x97, 0x32, 0xe6,
]);

/// 0x04C0b249740175999E5BF5c9ac1dA92431EF34C5
const ARBITRUM_ONE_AI_REGISTRY: Address = Address::new([
    0x04, 0xc0, 0xb2, 0x49, 0x74, 0x01, 0x75, 0x99, 0x9e, 0x5b, 0xf5, 0xc9, 0xac, 0x1d, 0xa9, 0x24,
    0x31, 0xef, 0x34, 0xc5,
]);

/// An endpoint may not tell of an event, ever. What that costs at most is so much time.
const POOL_REREAD: Duration = Duration::from_secs(900);

impl From<&EthereumArgs> for Settings {
    fn from(args: &EthereumArgs) -> Self {
        // on-chain.md section 10.1: Arbitrum's gas pays for L1 too.
        let usual = if matches!(args.eth_chain_id, ARBITRUM_ONE | 421_611) {
            Usual { redeem_gas: 1_200_000, max_gas: 5_000_000, max_gas_price_wei: 10 * GWEI }
        } else {
            Usual { redeem_gas: 350_000, max_gas: 2_000_000, max_gas_price_wei: 300 * GWEI }
        };
        let max_head_age = Duration::from_millis(args.eth_max_head_age_ms);
        let max_gas_price_wei = args.eth_max_gas_price_wei.unwrap_or(usual.max_gas_price_wei);
        Self {
            controller: args.eth_controller,
            chain_id: args.eth_chain_id,
            service_registry: args.eth_service_registry,
            ai_service_registry: args
                .eth_ai_service_registry
                .or((args.eth_chain_id == ARBITRUM_ONE).then_some(ARBITRUM_ONE_AI_REGISTRY)),
            pool_reread: POOL_REREAD,
            poll_creator: args
                .eth_poll_creator
                .or((args.eth_chain_id == ARBITRUM_ONE).then_some(ARBITRUM_ONE_POLL_CREATOR)),
            ballot_search_blocks: args.eth_ballot_search_blocks,
            rpc_timeout: Duration::from_millis(args.eth_rpc_timeout_ms),
            patience: Patience {
                before_replacement: Duration::from_millis(args.eth_tx_timeout_ms),
                replacements: args.eth_tx_replacements,
                poll: Duration::from_millis(args.eth_tx_poll_ms),
                confirmations: args.eth_confirmations,
                lost_nonce: args.eth_lost_nonce,
                max_gas_price_wei: u128::from(max_gas_price_wei),
                max_gas: args.eth_max_gas.unwrap_or(usual.max_gas),
            },
            max_head_age: (!max_head_age.is_zero()).then_some(max_head_age),
            max_l1_jump_blocks: args.eth_max_l1_jump_blocks,
            final_blocks: args.eth_final_blocks,
            redeem_gas: args.eth_redeem_gas.unwrap_or(usual.redeem_gas),
            redeem_batch: usize::from(args.eth_redeem_batch).max(1),
            stake_lptu: args.eth_stake_lptu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        ethereum: EthereumArgs,
    }

    fn settings(flags: &[&str]) -> Settings {
        let flags = std::iter::once("test").chain(flags.iter().copied());
        Settings::from(&Flags::try_parse_from(flags).unwrap().ethereum)
    }

    #[test]
    fn gas_has_limits_that_follow_from_the_chain() {
        let limits = |settings: &Settings| {
            let patience = settings.patience;
            (patience.max_gas_price_wei, patience.max_gas, settings.redeem_gas)
        };
        let arbitrum = (10_000_000_000, 5_000_000, 1_200_000);
        assert_eq!(limits(&settings(&[])), arbitrum);
        assert_eq!(limits(&settings(&["--eth-chain-id=421611"])), arbitrum);
        let elsewhere = settings(&["--eth-chain-id=1"]);
        assert_eq!(limits(&elsewhere), (300_000_000_000, 2_000_000, 350_000));
        let said = settings(&["--eth-max-gas-price-wei=7", "--eth-max-gas=21000"]);
        assert_eq!(limits(&said), (7, 21_000, 1_200_000));
    }

    #[test]
    fn both_registries_are_read_where_the_network_has_two() {
        let ai = |flags: &[&str]| settings(flags).ai_service_registry.map(|at| at.to_string());
        let arbitrum = "0x04C0b249740175999E5BF5c9ac1dA92431EF34C5";
        assert_eq!(ai(&[]).as_deref(), Some(arbitrum));
        assert_eq!(ai(&["--eth-chain-id=7"]), None);
        let other = format!("--eth-ai-service-registry={arbitrum}");
        assert_eq!(ai(&["--eth-chain-id=7", &other]).as_deref(), Some(arbitrum));
        assert_eq!(settings(&[]).service_registry, None, "the Controller's is written");
    }

    #[test]
    fn the_age_of_heads_is_looked_at_unless_it_is_set_to_nothing() {
        assert_eq!(settings(&[]).max_head_age, Some(Duration::from_secs(60)));
        assert_eq!(settings(&["--eth-max-head-age-ms=0"]).max_head_age, None);
    }
}
