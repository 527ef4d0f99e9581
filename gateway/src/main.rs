//! `penstock-gateway`: parse, build, announce, run, drain.

use penstock_config::exit_bad_config;
use penstock_gateway::{
    app::{App, AppError},
    config::{Args, Command, Settings},
    front::catalogue,
    openapi,
    routes::operator,
    service::measure,
};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Args = penstock_config::parse();
    match args.command {
        Some(Command::Openapi { admin }) => {
            print(&if admin { operator::json() } else { openapi::json() });
            return ExitCode::SUCCESS;
        }
        Some(Command::Errors) => {
            print(&catalogue::markdown());
            return ExitCode::SUCCESS;
        }
        Some(Command::MeasureSelection { .. }) | None => {}
    }
    penstock_http_kit::tls::install_crypto_provider();
    if let Some(Command::MeasureSelection { orchestrators, choices }) = args.command {
        return match measure::selection(orchestrators, choices).await {
            Ok(measured) => {
                print(&format!("{}\n", serde_json::json!(measured)));
                ExitCode::SUCCESS
            }
            Err(error) => {
                print(&format!("{}\n", serde_json::json!({ "error": error.to_string() })));
                ExitCode::FAILURE
            }
        };
    }
    let settings = Settings::from_args(args).unwrap_or_else(|error| exit_bad_config(&error));
    let args = &settings.args;
    let telemetry = penstock_telemetry::init("penstock-gateway", &args.common, &args.otlp)
        .unwrap_or_else(|error| exit_bad_config(&error));
    penstock_http_kit::files::allow_most();
    let code = match run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the gateway cannot run");
            ExitCode::FAILURE
        }
    };
    telemetry.end().await;
    code
}

async fn run(settings: Settings) -> Result<(), AppError> {
    penstock_telemetry::heap_is_counted(penstock_heap::ALLOCATED_BYTES);
    // Without a recorder counting costs nothing, so a failure here (a second one in the process)
    // is no reason not to serve.
    let metrics = penstock_telemetry::init_metrics("bctr").ok();
    let app = App::build(settings, metrics).await?;
    app.announce()?;
    app.run(penstock_http_kit::serve::shutdown_signal()).await
}

#[allow(clippy::print_stdout, reason = "printing the document is what the subcommand is for")]
fn print(text: &str) {
    print!("{text}");
}
