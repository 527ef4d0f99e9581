//! The chain of a local network: which one, what roles are told of it, what is given to whom there.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use penstock_chain_anvil as anvil;
use penstock_domain::{Address, Wei, parse_address};

use super::{DevError, bootstrap};

/// Which chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Penstock's own, with the contract's checks.
    Devnet,
    /// The contracts themselves.
    Anvil,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Devnet => "devnet",
            Self::Anvil => "anvil",
        })
    }
}

/// An orchestrator's stake, in LPT's smallest unit: one LPT.
const STAKE_LPTU: &str = "1000000000000000000";

/// A chain that runs.
pub(super) enum Chain {
    /// Asked by HTTP.
    Devnet {
        /// With what.
        http: reqwest::Client,
        /// Where it is.
        url: String,
    },
    /// Asked by JSON-RPC.
    Anvil {
        /// Where it is.
        url: String,
        /// Its contracts.
        network: anvil::Network,
    },
}

impl Chain {
    /// Anvil at `url`, with the contracts that one at the address `owner` has made.
    pub(super) async fn anvil(url: &str, owner: &str) -> Result<Self, DevError> {
        let rpc = anvil::Rpc::new(url).map_err(failed)?;
        let found = anvil::Network::find(rpc, address(owner)?).await.map_err(failed)?;
        let network = found.ok_or_else(|| failed("its contracts are not there"))?;
        Ok(Self::Anvil { url: url.to_owned(), network })
    }

    /// `--chain` of the roles.
    pub(super) fn location(&self) -> String {
        match self {
            Self::Devnet { url, .. } => format!("devnet:{url}"),
            Self::Anvil { url, .. } => format!("ethereum:{url}"),
        }
    }

    /// What they have to be told besides.
    pub(super) fn flags(&self) -> Vec<String> {
        let Self::Anvil { network, .. } = self else { return Vec::new() };
        vec![
            format!("--eth-controller={}", network.controller()),
            format!("--eth-chain-id={}", anvil::CHAIN_ID),
            format!("--eth-stake-lptu={STAKE_LPTU}"),
            "--eth-tx-poll-ms=200".to_owned(),
            // Blocks come at a pace of the network's own, and a round at once when it is hurried.
            "--eth-max-head-age-ms=0".to_owned(),
            "--eth-max-l1-jump-blocks=100000".to_owned(),
        ]
    }

    /// Gives the signer's account a deposit and a reserve, and both what transactions and a stake take, once.
    pub(super) async fn ensure_funds(&self, sender: &str, recipient: &str) -> Result<(), DevError> {
        match self {
            Self::Devnet { http, url } => bootstrap::ensure_funds(http, url, sender).await,
            Self::Anvil { network, .. } => {
                let (sender, recipient) = (address(sender)?, address(recipient)?);
                let given = async {
                    network.ensure_ether(sender).await?;
                    network.ensure_ether(recipient).await?;
                    network.ensure_stake(recipient).await?;
                    network.ensure_funds(sender, Wei::from_u64(bootstrap::FUNDS_WEI)).await
                };
                given.await.map_err(failed)
            }
        }
    }

    /// An orchestrator is active from the round after it joined, which is made to begin at once.
    pub(super) async fn ensure_active(&self, recipient: &str) -> Result<(), DevError> {
        match self {
            Self::Devnet { http, url } => bootstrap::ensure_active(http, url, recipient).await,
            Self::Anvil { network, .. } => {
                let recipient = address(recipient)?;
                // Its process is ready before its transaction is in a block.
                while !network.is_in_pool(recipient).await.map_err(failed)? {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                network.ensure_active(recipient).await.map_err(failed)
            }
        }
    }
}

fn address(text: &str) -> Result<Address, DevError> {
    parse_address(text).ok_or_else(|| failed(format!("{text} is no address")))
}

fn failed(reason: impl fmt::Display) -> DevError {
    DevError::Request { request: "asking the chain".to_owned(), reason: reason.to_string() }
}
