//! What the redeemer, and whoever looks at the chain beside it, is told on the command line.

use super::plan::DEEPEST;
use crate::fleet::own_host;
use clap::Parser as _;
use penstock_chain_ethereum::{Endpoints, EthereumArgs, EthereumChain, Settings};
use penstock_domain::Address;
use penstock_testkit::anvil::{Anvil, CHAIN_ID};
use std::{path::Path, time::Duration};

/// What is paid for a unit of gas at most.
pub const MOST_WEI: u64 = 4_000_000_000;
const ONE: u64 = 1_000_000_000_000_000_000;
/// How long the run waits for the chain itself. That a machine is busy is no finding.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    ethereum: EthereumArgs,
}

/// Of the chain.
fn flags(anvil: &Anvil) -> Vec<String> {
    vec![
        format!("--eth-controller={}", anvil.controller()),
        format!("--eth-chain-id={CHAIN_ID}"),
        format!("--eth-stake-lptu={ONE}"),
        format!("--eth-max-gas-price-wei={MOST_WEI}"),
        format!("--eth-final-blocks={}", DEEPEST + 5),
        "--eth-rpc-timeout-ms=2000".to_owned(),
        "--eth-tx-poll-ms=20".to_owned(),
        "--eth-tx-timeout-ms=500".to_owned(),
        "--eth-tx-replacements=6".to_owned(),
        // Blocks come when the run makes them, and as many as it likes.
        "--eth-max-head-age-ms=0".to_owned(),
        "--eth-max-l1-jump-blocks=1000000".to_owned(),
    ]
}

/// The chain at `url`, for the run's own look at it.
pub fn open(anvil: &Anvil, url: &str) -> EthereumChain {
    let flags = std::iter::once("run".to_owned()).chain(flags(anvil));
    let args = Flags::try_parse_from(flags).expect("settings of the chain").ethereum;
    let settings = Settings { rpc_timeout: PATIENCE, ..Settings::from(&args) };
    let endpoints = Endpoints::parse(&format!("ethereum:{url}")).expect("an endpoint");
    EthereumChain::open(&endpoints, settings).expect("a chain")
}

/// Of the redeemer.
pub fn args(folder: &Path, anvil: &Anvil, urls: &str, recipient: Address) -> Vec<String> {
    let host = own_host();
    let file = |name: &str| folder.join(name).display().to_string();
    let mut args = vec![
        "--redeemer".to_owned(),
        format!("--redeemer-recipient={recipient}"),
        "--redeemer-max-tickets=1000000".to_owned(),
        "--redeemer-max-sender-tickets=1000000".to_owned(),
        format!("--service-addr=https://{host}:0"),
        format!("--http-addr={host}:0"),
        format!("--admin-addr={host}:0"),
        format!("--metrics-addr={host}:0"),
        "--addr-file={addr_file}".to_owned(),
        "--log-level=info".to_owned(),
        format!("--data-dir={}", file("data")),
        format!("--ledger=sqlite://{}", file("ledger.sqlite")),
        format!("--key=keystore:{}", file("keystore.json")),
        format!("--key-password-file={}", file("keystore-password")),
        format!("--chain=ethereum:{urls}"),
        "--chain-poll-ms=100".to_owned(),
    ];
    args.extend(flags(anvil));
    args
}
