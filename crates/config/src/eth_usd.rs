//! Settings of what an ether costs, the same for every role that reckons in dollars.

use clap::Args;
use std::path::PathBuf;

/// What an ether costs, in dollars.
#[derive(Debug, Clone, Args)]
pub struct EthUsdArgs {
    /// Dollars for one ether, for whatever is priced or limited in dollars.
    #[arg(long, env = "PENSTOCK_ETH_USD", value_name = "USD")]
    pub eth_usd: Option<String>,

    /// File with that price, a number or JSON, instead of --eth-usd. Its age counts.
    #[arg(long, env = "PENSTOCK_ETH_USD_FILE", value_name = "FILE")]
    pub eth_usd_file: Option<PathBuf>,

    /// URL with that price, a number or JSON, instead of --eth-usd.
    #[arg(long, env = "PENSTOCK_ETH_USD_URL", value_name = "URL")]
    pub eth_usd_url: Option<String>,

    /// Where the price is in the JSON, for example /ethereum/usd; empty: the text is the price.
    #[arg(long, env = "PENSTOCK_ETH_USD_POINTER", value_name = "POINTER", default_value = "")]
    pub eth_usd_pointer: String,

    /// JSON-RPC endpoint of the chain whose price feed says it, instead of --eth-usd; several with commas in between, 8 at
    /// most: the next is asked when one does not tell, or tells of an old round.
    #[arg(long, env = "PENSTOCK_ETH_USD_FEED_URL", value_name = "URL,URL")]
    pub eth_usd_feed_url: Option<String>,

    /// The feed's contract, a Chainlink aggregator of ETH / USD. The default is that of Arbitrum One.
    #[arg(
        long,
        env = "PENSTOCK_ETH_USD_FEED_ADDRESS",
        value_name = "ADDRESS",
        default_value = "0x639Fe6ab55C921f74e7fac1ee960C0B6293ba612"
    )]
    pub eth_usd_feed_address: String,

    /// Milliseconds between two readings of the price.
    #[arg(long, env = "PENSTOCK_ETH_USD_POLL_MS", default_value_t = 60_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    pub eth_usd_poll_ms: u64,

    /// How old the price may be, in milliseconds. An older one is none: what needs it is refused.
    #[arg(long, env = "PENSTOCK_ETH_USD_MAX_AGE_MS", default_value_t = 900_000, value_name = "MS",
          value_parser = crate::within::<u64>(1, 2_592_000_000))]
    pub eth_usd_max_age_ms: u64,
}
