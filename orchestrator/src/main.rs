//! `penstock-orchestrator`: parse, build, announce, run, drain.

use penstock_chain::Chain;
use penstock_chain_devnet::DevnetChain;
use penstock_chain_ethereum::{self as ethereum, EthereumChain};
use penstock_config::exit_bad_config;
use penstock_http_kit::{files, serve::shutdown_signal, tls::install_crypto_provider};
use penstock_keys::TypedSigner;
use penstock_orchestrator::{App, AppError, Args, RedeemerApp};
use penstock_telemetry::MetricsHandle;
use std::{process::ExitCode, sync::Arc};

/// `penstock_config::EXIT_BAD_CONFIG` in the type of exit codes.
const EXIT_BAD_CONFIG: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    install_crypto_provider();
    let args: Args = penstock_config::parse();
    let service = if args.is_redeemer() { "penstock-redeemer" } else { "penstock-orchestrator" };
    let telemetry = penstock_telemetry::init(service, &args.common, &args.otlp)
        .unwrap_or_else(|error| exit_bad_config(&error));
    let open_files = files::allow_most();
    if let Err(error) = penstock_keys::forbid_core_dumps() {
        tracing::error!(%error, "core dumps cannot be forbidden");
        return ExitCode::FAILURE;
    }
    files::warn_unless_fits("--max-connections", args.peers.max_connections, open_files);
    let node_type = if args.is_redeemer() { "rdmr" } else { "orch" };
    penstock_telemetry::heap_is_counted(penstock_heap::ALLOCATED_BYTES);
    let metrics = penstock_telemetry::init_metrics(node_type).ok();
    let ended =
        if args.is_redeemer() { redeem(&args, metrics).await } else { work(&args, metrics).await };
    let code = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::AtStart(error)) => {
            tracing::error!(%error, "cannot start");
            ExitCode::from(if error.is_config() { EXIT_BAD_CONFIG } else { 1 })
        }
        Err(Ended::Later(error)) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    };
    telemetry.end().await;
    code
}

/// How it ended, if not in order.
enum Ended {
    AtStart(AppError),
    Later(AppError),
}

async fn work(args: &Args, metrics: Option<MetricsHandle>) -> Result<(), Ended> {
    let app = App::build(args, open_chain).await.map_err(Ended::AtStart)?;
    tracing::info!(uri = app.service_uri(), addresses = ?app.addresses(), "orchestrator is up");
    app.run(shutdown_signal(), metrics).await.map_err(Ended::Later)
}

async fn redeem(args: &Args, metrics: Option<MetricsHandle>) -> Result<(), Ended> {
    let app = RedeemerApp::build(args, open_chain).await.map_err(Ended::AtStart)?;
    tracing::info!(uri = app.service_uri(), recipient = %app.recipient(),
        addresses = ?app.addresses(), "redeemer is up");
    app.run(shutdown_signal(), metrics).await.map_err(Ended::Later)
}

/// The chains there are.
fn open_chain(text: &str, args: &Args, account: TypedSigner) -> Result<Arc<dyn Chain>, String> {
    if text.starts_with(ethereum::PREFIX) {
        let endpoints = ethereum::Endpoints::parse(text).map_err(|error| error.to_string())?;
        let chain = EthereumChain::open(&endpoints, (&args.ethereum).into());
        let chain = chain.map_err(|error| error.to_string())?;
        return Ok(Arc::new(chain.with_account(account)));
    }
    let chain = DevnetChain::connect(text).map_err(|error| error.to_string())?;
    Ok(Arc::new(chain.with_account(account)))
}
