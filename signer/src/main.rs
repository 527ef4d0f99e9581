//! `penstock-signer`: parse, choose the back ends, build, announce, run, drain.

use penstock_chain::Chain;
use penstock_chain_devnet::{ChainLocation, DevnetChain, parse_chain};
use penstock_chain_ethereum::{self as ethereum, Endpoints, EthereumChain};
use penstock_config::{ConfigError, EXIT_BAD_CONFIG, exit_bad_config};
use penstock_http_kit::{serve::shutdown_signal, tls::install_crypto_provider};
use penstock_keys::TypedSigner;
use penstock_ledger::{operations, signer};
use penstock_signer::{
    App, Args, Backends,
    args::{AuditCommand, Command},
    audit_command,
    auth::operator_audit,
    key_source::{self, Homes, KeySource, state_keys::StateKeysSource},
    keys_command::{self, KeysCommand, KeysError},
    routes::{admin_openapi_json, openapi_json},
    service::system_clock,
};
use std::{error::Error, path::Path, process::ExitCode, sync::Arc};

#[tokio::main]
async fn main() -> ExitCode {
    install_crypto_provider();
    let args = parse();
    let telemetry = penstock_telemetry::init("penstock-signer", &args.common, &args.otlp)
        .unwrap_or_else(|error| exit_bad_config(&error));
    penstock_http_kit::files::allow_most();
    if let Err(error) = penstock_keys::forbid_core_dumps() {
        tracing::error!(%error, "core dumps cannot be forbidden");
        return ExitCode::FAILURE;
    }
    let done = match args.command.clone() {
        None | Some(Command::Serve) => serve(args).await,
        Some(Command::Migrate) => migrate(&args).await,
        Some(Command::Fence { force }) => fence(&args, force).await,
        Some(Command::Audit { command: AuditCommand::Verify { heads } }) => {
            verify_audit(&args, heads.as_deref()).await
        }
        Some(Command::Keys { command }) => keys(&args, command).await,
        Some(Command::Openapi { admin }) => {
            let document = if admin { admin_openapi_json() } else { openapi_json() };
            print(document.trim_end());
            Ok(())
        }
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %chain_of(error.as_ref()), "stopped");
            let config = error.is::<ConfigError>()
                || matches!(error.downcast_ref(), Some(KeysError::Config(_)));
            let code = if config { u8::try_from(EXIT_BAD_CONFIG).unwrap_or(1) } else { 1 };
            ExitCode::from(code)
        }
    };
    telemetry.end().await;
    code
}

/// `penstock_config::parse`, after taking away the word for what happens anyway: every flag may then
/// follow it.
fn parse() -> Args {
    let words = std::env::args_os().enumerate();
    let words = words.filter(|(place, word)| *place != 1 || word != "serve");
    match penstock_config::try_parse_from(words.map(|(_, word)| word)) {
        Ok(args) => args,
        Err(ConfigError::Flags(error)) => {
            // clap writes help to standard output and mistakes to standard error by itself.
            let _ = error.print();
            std::process::exit(if error.use_stderr() { EXIT_BAD_CONFIG } else { 0 });
        }
        Err(error) => exit_bad_config(&error),
    }
}

type Failure = Box<dyn Error + Send + Sync>;

async fn serve(args: Args) -> Result<(), Failure> {
    let mut settings = args.settings()?;
    check_chain(&args)?;
    let around = args.surroundings();
    let source = KeySource::of(&args.keys, &around)?;
    penstock_telemetry::heap_is_counted(penstock_heap::ALLOCATED_BYTES);
    let metrics = penstock_telemetry::init_metrics("dflt").ok();
    let homes = Homes::connect(&args.keys, Some(&source), Some(&settings.state_keys)).await?;
    let key = key_source::open(&source, &homes).await?;
    settings.state_keys =
        StateKeysSource::Loaded(settings.state_keys.load_or_create(&homes).await?);
    let shutdown = shutdown_signal();
    if let Some(vault) = homes.vault_if_any() {
        let stop = shutdown.clone();
        tokio::spawn(async move { vault.keep_alive(stop).await });
    }
    let key = TypedSigner::new(key);
    let (chain, chain_name) = open_chain(&args, &key)?;
    let backends = Backends {
        chain,
        ledger: signer::open(&args.ledger_url(), &args.replica).await?,
        accounts: signer::accounts::open(&args.ledger_url()).await?,
        operations: operations::open_signer(&args.ledger_url()).await?,
        key,
        clock: system_clock(),
        metrics,
    };
    let account = backends.key.address();
    let app = App::build(settings, backends).await?;
    tracing::info!(%account, chain = chain_name, key = source.place(), addresses = ?app.addresses(), "signer is up");
    app.run(shutdown).await?;
    Ok(())
}

/// Which chain `--chain` names.
enum Place {
    Ethereum(Endpoints),
    Devnet(ChainLocation),
}

/// A mistake in `--chain` is told before any key is asked for.
fn check_chain(args: &Args) -> Result<Place, ConfigError> {
    let bad = |reason: String| ConfigError::value("--chain", reason);
    let text = args.chain.as_deref().unwrap_or_default();
    if text.starts_with(ethereum::PREFIX) {
        return Endpoints::parse(text).map(Place::Ethereum).map_err(|e| bad(e.to_string()));
    }
    parse_chain(text).map(Place::Devnet).map_err(|e| bad(e.to_string()))
}

/// The chains there are, and how this one is called. As the key's account where that sends transactions.
fn open_chain(args: &Args, key: &TypedSigner) -> Result<(Arc<dyn Chain>, String), Failure> {
    let acts = args.deposit.deposit_transactions.then(|| key.clone());
    match check_chain(args)? {
        Place::Ethereum(endpoints) => {
            let chain = EthereumChain::open(&endpoints, (&args.ethereum).into())?;
            let chain = match acts {
                Some(key) => chain.with_account(key),
                None => chain,
            };
            Ok((Arc::new(chain), endpoints.to_string()))
        }
        Place::Devnet(location) => {
            let chain = DevnetChain::open(&location)?;
            let chain = match acts {
                Some(key) => chain.with_account(key),
                None => chain,
            };
            Ok((Arc::new(chain), location.to_string()))
        }
    }
}

async fn migrate(args: &Args) -> Result<(), Failure> {
    let ledger = signer::open(&args.ledger_url(), &args.replica).await?;
    ledger.close().await;
    tracing::info!(ledger = args.ledger_url(), "the ledger is up to date");
    Ok(())
}

async fn fence(args: &Args, force: bool) -> Result<(), Failure> {
    let ledger = signer::open_existing(&args.ledger_url(), &args.replica).await?;
    let what = operator_audit::entry(operator_audit::COMMAND_LINE, "", None, "fence");
    let now_ms = system_clock()().div_euclid(1_000_000);
    ledger.record_signatures(vec![what], now_ms).await?;
    let hashes = ledger.fence().await?;
    ledger.close().await;
    if hashes == 0 && !force {
        return Err(
            "the ledger knows no recipientRandHash, so that nothing was fenced: is it the \
             right one? (--force if so)"
                .into(),
        );
    }
    tracing::info!(ledger = args.ledger_url(), hashes, "fenced");
    Ok(())
}

async fn verify_audit(args: &Args, heads: Option<&Path>) -> Result<(), Failure> {
    let bad = |reason: String| ConfigError::value("--heads", reason);
    let heads = match heads {
        None => Vec::new(),
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|e| bad(e.to_string()))?;
            audit_command::parse_heads(&text).map_err(|e| bad(e.to_string()))?
        }
    };
    let ledger = signer::open_existing(&args.ledger_url(), &args.replica).await?;
    let now_ms = system_clock()().div_euclid(1_000_000);
    let findings = audit_command::verify(ledger.as_ref(), &heads, now_ms).await;
    ledger.close().await;
    let findings = findings?;
    for fault in &findings.faults {
        print(&format!("FAULT {fault}"));
    }
    let audit = &findings.audit;
    print(&format!(
        "{} chains, {} records, {} signatures, {} tickets handed out, {} withheld, {} kept heads, {} faults",
        audit.chains,
        audit.records,
        audit.signatures,
        findings.handed_out,
        findings.withheld,
        heads.len(),
        findings.faults.len()
    ));
    print(&format!(
        "{} counters of charges compared, {} moved meanwhile",
        findings.counters, findings.counters_in_use
    ));
    if findings.pruned > 0 {
        print(&format!(
            "{} tickets are of payments that were pruned: only their number was compared",
            findings.pruned
        ));
    }
    if findings.waiting > 0 {
        print(&format!(
            "{} tickets are in open reservations whose time is over: the next signer that starts ends them",
            findings.waiting
        ));
    }
    if findings.faults.is_empty() { Ok(()) } else { Err("the audit has faults".into()) }
}

async fn keys(args: &Args, command: KeysCommand) -> Result<(), Failure> {
    print(&keys_command::run(&command, &args.keys, &args.surroundings()).await?);
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the result of a subcommand")]
fn print(text: &str) {
    println!("{text}");
}

/// The error with its causes.
fn chain_of(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
