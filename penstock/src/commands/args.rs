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

/// What names a wish that costs something.
#[derive(Debug, Clone, Args)]
pub struct IdempotencyKey {
    /// Names this wish, so that it is done once: after an answer that was lost, say the key that was printed, and what
    /// became of it is answered. Without it, a new one is made and printed. 1 to 128 printable characters without spaces.
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    pub idempotency_key: Option<String>,
}

impl IdempotencyKey {
    /// Whether the wish was named.
    pub fn is_given(&self) -> bool {
        self.idempotency_key.is_some()
    }

    /// The key, which whoever asked has seen before anything is done.
    #[allow(clippy::print_stderr, reason = "an answer that is lost takes the report with it")]
    pub fn announced(&self) -> String {
        self.idempotency_key.clone().unwrap_or_else(|| {
            let key = uuid::Uuid::new_v4().to_string();
            eprintln!(
                "idempotency key: {key} (--idempotency-key {key} asks for the same once more)"
            );
            key
        })
    }
}

fn idempotency_key(text: &str) -> Result<String, &'static str> {
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or("1 to 128 printable ASCII characters without spaces")
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
