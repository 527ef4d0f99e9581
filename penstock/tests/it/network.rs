//! A data folder with announced roles, and commands as typed.

use axum::Router;
use clap::Parser;
use penstock::commands::{self, Command, CommandError, Report};
use penstock_http_kit::{CancellationToken, serve};
use std::{path::Path, time::Duration};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Runs what would stand after `penstock`.
pub async fn penstock(words: &[&str]) -> Result<Report, CommandError> {
    penstock_http_kit::tls::install_crypto_provider();
    let argv = std::iter::once("penstock").chain(words.iter().copied());
    commands::run(Cli::try_parse_from(argv).unwrap().command).await
}

/// Its text; panics when it failed.
pub async fn text(words: &[&str]) -> String {
    penstock(words).await.unwrap().text
}

/// Serves these routes on a port of their own.
pub async fn server(routes: Router) -> String {
    let listener = serve::bind("127.0.0.1:0".parse().unwrap(), "test").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let never = CancellationToken::new();
    tokio::spawn(serve::serve(listener, routes, never, Duration::ZERO));
    address
}

/// Writes what a role announces to `penstock dev`.
pub fn announce(data_dir: &Path, role: &str, key: &str, address: &str) {
    std::fs::create_dir_all(data_dir.join("addrs")).unwrap();
    let text = serde_json::json!({ key: address }).to_string();
    std::fs::write(data_dir.join("addrs").join(format!("{role}.json")), text).unwrap();
}
