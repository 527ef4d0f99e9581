//! parse → build → announce → run → drain; or, as `check-gpu`, try the cards and say what they can do.

use penstock_config::{EXIT_BAD_CONFIG, exit_bad_config};
use penstock_http_kit::{files, serve, tls::install_crypto_provider};
use penstock_worker::{App, BuildError, check, settings::Args};
use std::{error::Error, process::ExitCode, sync::Arc};

#[tokio::main]
async fn main() -> ExitCode {
    install_crypto_provider();
    if let Some(args) = check::asked_for(std::env::args_os()) {
        return check::main(args).await;
    }
    let args: Args = penstock_config::parse();
    // The runners reach no collector: their spans are told here.
    let set_up = penstock_telemetry::init_for_two(
        "penstock-worker",
        "penstock-runner",
        &args.common,
        &args.otlp,
    );
    let telemetry = set_up.unwrap_or_else(|error| exit_bad_config(&error));
    let code = match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            match error.downcast_ref::<BuildError>() {
                Some(BuildError::Config(_)) => {
                    ExitCode::from(u8::try_from(EXIT_BAD_CONFIG).unwrap_or(1))
                }
                _ => ExitCode::FAILURE,
            }
        }
    };
    telemetry.end().await;
    code
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let common = args.common.clone();
    files::allow_most();
    penstock_telemetry::heap_is_counted(penstock_heap::ALLOCATED_BYTES);
    let metrics = penstock_telemetry::init_metrics("trcr")?;
    let orchestrator = args.orchestrator.clone();
    let app = App::build(args, Arc::new(move || metrics.render())).await?;
    let addresses = app.addresses();
    tracing::info!(%orchestrator, ?addresses, "worker started");
    if let Some(path) = &common.addr_file {
        serve::write_addr_file(path, &addresses)?;
    }
    app.run(serve::shutdown_signal()).await?;
    tracing::info!("worker stopped");
    Ok(())
}
