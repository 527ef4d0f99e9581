//! The command line. [`crate::Settings`] is what it becomes once everything was looked at.

use crate::{
    auth::args::AuthArgs, deposit_args::DepositArgs, discovery::args::DiscoveryArgs,
    events::args::EventsArgs, key_source::KeyArgs, keys_command::KeysCommand,
    retention_args::RetentionArgs, tls_args::TlsArgs,
};
use clap::{Parser, Subcommand};
use penstock_chain_ethereum::EthereumArgs;
use penstock_config::CommonArgs;
use penstock_domain::{Rational, U256, Wei};
use penstock_payments::MAX_TICKETS_PER_REQUEST;
use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf};

/// The remote signer: holds the key of a deposit, signs tickets within limits, keeps the books.
#[derive(Debug, Clone, Parser)]
#[command(name = "penstock-signer", version)]
pub struct Args {
    /// Where the API is served. Anything but loopback needs --accounts, --auth-token-file,
    /// --oidc-issuer or --auth-webhook-url, or --i-accept-that-anyone-can-spend-the-deposit. Port 0
    /// chooses one.
    #[arg(
        long,
        env = "PENSTOCK_HTTP_ADDR",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:7936"
    )]
    pub http_addr: SocketAddr,

    /// Folder for what the other settings do not place elsewhere.
    #[arg(
        long,
        env = "PENSTOCK_DATA_DIR",
        value_name = "DIR",
        default_value = "penstock-signer",
        global = true
    )]
    pub data_dir: PathBuf,

    /// The books: sqlite://PATH, or postgres://USER@HOST/DATABASE for replicas that share them (with its
    /// password in the environment's copy of this setting, PGPASSWORD or a .pgpass file). Default:
    /// signer.db in the data folder.
    #[arg(long, env = "PENSTOCK_LEDGER", value_name = "URL", global = true)]
    pub ledger: Option<String>,

    /// This process's name in the audit and in events, different for each replica on one ledger: 1 to
    /// 32 letters, digits, `-`, `_` or `.`. Default: the host's name.
    #[arg(
        long,
        env = "PENSTOCK_REPLICA",
        value_name = "NAME",
        default_value_t = host_name(),
        hide_default_value = true,
        value_parser = replica,
        global = true
    )]
    pub replica: String,

    /// Where keys are.
    #[command(flatten)]
    pub keys: KeyArgs,

    /// The chain: devnet:http://HOST:PORT, or ethereum:URL[,URL] with the endpoints to ask, the first
    /// one first. Needed to serve.
    #[arg(long, env = "PENSTOCK_CHAIN", value_name = "CHAIN")]
    pub chain: Option<String>,

    /// The network's contracts.
    #[command(flatten)]
    pub ethereum: EthereumArgs,

    /// Deposit and reserve.
    #[command(flatten)]
    pub deposit: DepositArgs,

    /// Milliseconds between two readings of the chain.
    #[arg(
        long,
        env = "PENSTOCK_CHAIN_POLL_MS",
        value_name = "MS",
        default_value_t = 1_000,
        value_parser = clap::value_parser!(u64).range(10..=600_000)
    )]
    pub chain_poll_ms: u64,

    /// How old what is known of the chain may be, in milliseconds, before payments are refused
    /// (503) and /readyz is red.
    #[arg(long, env = "PENSTOCK_CHAIN_MAX_AGE_MS", value_name = "MS", default_value_t = 30_000,
          value_parser = penstock_config::within::<u64>(100, 86_400_000))]
    pub chain_max_age_ms: u64,

    /// Most expected value of one ticket, in wei.
    #[arg(
        long,
        env = "PENSTOCK_MAX_TICKET_EV",
        value_name = "WEI",
        default_value = "3000000000000",
        value_parser = wei
    )]
    pub max_ticket_ev: Rational,

    /// Most expected value of all tickets of one payment, in wei.
    #[arg(
        long,
        env = "PENSTOCK_MAX_TOTAL_EV",
        value_name = "WEI",
        default_value = "20000000000000",
        value_parser = wei
    )]
    pub max_total_ev: Rational,

    /// A ticket's face value may be at most the deposit divided by this.
    #[arg(
        long,
        env = "PENSTOCK_DEPOSIT_MULTIPLIER",
        value_name = "N",
        default_value_t = NonZeroU64::MIN
    )]
    pub deposit_multiplier: NonZeroU64,

    /// Most tickets in one answer.
    #[arg(
        long,
        env = "PENSTOCK_MAX_TICKETS",
        value_name = "N",
        default_value_t = MAX_TICKETS_PER_REQUEST,
        value_parser = clap::value_parser!(u64).range(1..=MAX_TICKETS_PER_REQUEST)
    )]
    pub max_tickets: u64,

    /// Refresh (480) when this many L1 blocks, or fewer, are left of an offer: time for its tickets
    /// to arrive, and for what is known of the chain to be old.
    #[arg(
        long,
        env = "PENSTOCK_TICKET_EXPIRY_MARGIN_BLOCKS",
        value_name = "BLOCKS",
        default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..=30)
    )]
    pub ticket_expiry_margin_blocks: u64,

    /// Most expected value signed for one recipient in an hour of the clock, in whole wei. Default:
    /// no limit.
    #[arg(
        long,
        env = "PENSTOCK_MAX_SPEND_PER_ORCHESTRATOR_HOUR",
        value_name = "WEI",
        value_parser = whole_wei
    )]
    pub max_spend_per_orchestrator_hour: Option<Wei>,

    /// Most expected value signed for all recipients in an hour of the clock, in whole wei. Default:
    /// no limit.
    #[arg(long, env = "PENSTOCK_MAX_SPEND_PER_HOUR", value_name = "WEI", value_parser = whole_wei)]
    pub max_spend_per_hour: Option<Wei>,

    /// Most wei for --pixels-per-unit units of work; 0 is no limit.
    #[arg(
        long,
        env = "PENSTOCK_MAX_PRICE_PER_UNIT",
        value_name = "WEI",
        default_value = "0",
        value_parser = wei
    )]
    pub max_price_per_unit: Rational,

    /// Units (pixels, seconds, …) that --max-price-per-unit is for.
    #[arg(long, env = "PENSTOCK_PIXELS_PER_UNIT", value_name = "N", default_value_t = NonZeroU64::MIN)]
    pub pixels_per_unit: NonZeroU64,

    /// JSON file with price limits by pipeline and model (the Go node's format).
    #[arg(long, env = "PENSTOCK_MAX_PRICE_PER_CAPABILITY", value_name = "FILE")]
    pub max_price_per_capability: Option<PathBuf>,

    /// Who is listed.
    #[command(flatten)]
    pub discovery: DiscoveryArgs,

    /// How long the books keep what.
    #[command(flatten)]
    pub retention: RetentionArgs,

    /// Where events of payments go.
    #[command(flatten)]
    pub events: EventsArgs,

    /// TLS of the API.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// Who may call.
    #[command(flatten)]
    pub auth: AuthArgs,

    /// Requests worked on at once; more are answered 503.
    #[arg(
        long,
        env = "PENSTOCK_MAX_IN_FLIGHT",
        value_name = "N",
        default_value_t = 1_024,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_in_flight: u32,

    /// Milliseconds that a request may take, its body's arrival included.
    #[arg(
        long,
        env = "PENSTOCK_REQUEST_TIMEOUT_MS",
        value_name = "MS",
        default_value_t = 20_000,
        value_parser = clap::value_parser!(u64).range(1..=3_600_000)
    )]
    pub request_timeout_ms: u64,

    /// What every role has.
    #[command(flatten)]
    pub common: CommonArgs,

    /// How slow readers of answers may be.
    #[command(flatten)]
    pub readers: penstock_config::ReaderArgs,

    /// Where traces go, and how many.
    #[command(flatten)]
    pub otlp: penstock_config::OtlpArgs,

    /// What to do; serve if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve the API (the default).
    Serve,
    /// Bring the ledger's schema up to date and end.
    Migrate,
    /// After the ledger was restored from a backup, before serving again: every recipientRandHash in
    /// it answers 480, because its nonces since the backup are not known.
    Fence {
        /// Succeed also where no recipientRandHash is known, which otherwise is taken for the wrong
        /// ledger.
        #[arg(long)]
        force: bool,
    },
    /// Read the audit of every signature back.
    Audit {
        /// What to do with it.
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Make, bring, show and rotate keys.
    Keys {
        /// Which of them.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Print the OpenAPI document.
    Openapi {
        /// That of the operator's side.
        #[arg(long)]
        admin: bool,
    },
}

/// `audit …`
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// Find gaps, edits, cut tails, missing chains, and disagreements with the payments. Changes
    /// nothing; the ledger may be in use. Exit status 1 if there is a fault.
    Verify {
        /// File with heads kept outside of the ledger: `CHAIN SEQ HASH` lines, or the signer's logs.
        #[arg(long, value_name = "FILE")]
        heads: Option<PathBuf>,
    },
}

/// This host's name as a replica's, or `signer` if it has none.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    replica_of_host(&name)
}

/// Of long names the end counts: that is where an orchestrator of containers tells them apart.
fn replica_of_host(name: &str) -> String {
    let is_word = |b: &char| b.is_ascii_alphanumeric() || matches!(b, '-' | '_' | '.');
    let name: String = name.chars().filter(is_word).collect();
    let name = name.get(name.len().saturating_sub(32)..).unwrap_or_default();
    if name.is_empty() { "signer".to_owned() } else { name.to_owned() }
}

fn replica(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ok = (1..=32).contains(&text.len()) && text.bytes().all(fits);
    if ok { Ok(text.to_owned()) } else { Err("expected 1 to 32 letters, digits, -, _ or .".into()) }
}

/// Of one database cell: counters must be able to hold a limit and the charge that meets it.
pub(crate) fn whole_wei(text: &str) -> Result<Wei, String> {
    let n = U256::from_str_radix(text, 10).ok().filter(|n| !n.is_zero() && n.bit_len() <= 128);
    n.map(Wei).ok_or_else(|| "expected a whole number of wei, from 1 to 2^128 − 1".to_owned())
}

fn wei(text: &str) -> Result<Rational, String> {
    Rational::from_decimal(text)
        .ok()
        .filter(|n| !n.is_negative())
        .ok_or_else(|| "expected a decimal number of wei, 0 or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_named_after_its_host() {
        for (host, name) in [
            ("node-7\n", "node-7"),
            ("", "signer"),
            ("é\n", "signer"),
            ("penstock-signer-production-6d4cf56db6-x7k2p", "gner-production-6d4cf56db6-x7k2p"),
        ] {
            let found = replica_of_host(host);
            assert_eq!(found, name);
            assert_eq!(replica(&found), Ok(found.clone()));
        }
        let args: Args = penstock_config::try_parse_from(["penstock-signer"]).unwrap();
        assert_eq!(args.replica, host_name());
    }
}
