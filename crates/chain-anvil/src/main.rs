//! `penstock-anvil`: parse, build, announce, run, stop.

use penstock_chain_anvil::{App, Args};
use penstock_config::{LogFormat, exit_bad_config};
use penstock_http_kit::{serve::shutdown_signal, tls::install_crypto_provider};
use std::process::ExitCode;

/// `penstock_config::EXIT_BAD_CONFIG` in the type of exit codes.
const EXIT_BAD_CONFIG: u8 = 64;

// One thread: the kernel ties anvil's life to the thread that started it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    install_crypto_provider();
    let args: Args = penstock_config::parse();
    let json = args.common.log_format == LogFormat::Json;
    if let Err(error) = penstock_telemetry::init_logs(json, &args.common.log_level) {
        exit_bad_config(&penstock_config::ConfigError::value("--log-level", error.to_string()));
    }
    let metrics = penstock_telemetry::init_metrics("dflt").ok();
    let app = match App::build(&args).await {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::from(if error.is_config() { EXIT_BAD_CONFIG } else { 1 });
        }
    };
    tracing::info!(addresses = ?app.addresses(), "the chain is up");
    match app.run(shutdown_signal(), metrics).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}
