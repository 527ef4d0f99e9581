//! Flags that several commands have.

use std::path::PathBuf;

use clap::Args;

/// Where a network keeps its things.
#[derive(Debug, Clone, Args)]
pub struct DataDir {
    /// Folder of a running `penstock dev`, where the roles' addresses are found.
    #[arg(long, env = "PENSTOCK_DATA_DIR", default_value = ".penstock-dev", value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// The signer's operator endpoint.
#[derive(Debug, Clone, Args)]
pub struct SignerAdmin {
    /// The signer's operator endpoint (its --admin-addr), for example http://127.0.0.1:7937.
    /// Default: as announced in --data-dir.
    #[arg(long, env = "PENSTOCK_SIGNER_ADMIN_URL", value_name = "URL")]
    pub signer_admin_url: Option<String>,

    /// File with the operator token that the signer asks for (its --admin-token-file).
    #[arg(long, env = "PENSTOCK_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
}

/// The orchestrator's operator endpoint.
#[derive(Debug, Clone, Args)]
pub struct OrchestratorAdmin {
    /// The orchestrator's operator endpoint (its --admin-addr), for example
    /// http://127.0.0.1:8936. Default: as announced in --data-dir.
    #[arg(long, env = "PENSTOCK_ORCHESTRATOR_ADMIN_URL", value_name = "URL")]
    pub orchestrator_admin_url: Option<String>,

    /// File with the operator token that the orchestrator asks for (its --admin-token-file).
    #[arg(long, env = "PENSTOCK_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
}

/// The chain.
#[derive(Debug, Clone, Args)]
pub struct ChainArgs {
    /// The chain, as the roles have it; here it must be devnet:http://HOST:PORT. Default: the
    /// devnet announced in --data-dir.
    #[arg(long, env = "PENSTOCK_CHAIN", value_name = "devnet:URL")]
    pub chain: Option<String>,
}

/// How to print.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print JSON, as the role answered it, instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// How much to show.
#[derive(Debug, Clone, Copy, Args)]
pub struct Limit {
    /// How many lines to show, newest first. The totals below count all there are.
    #[arg(
        long,
        default_value_t = 20,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub limit: u32,
}
