//! `penstock-loadtest`: the drivers as a program. `cargo xtask bench` and `cargo xtask chaos` build it
//! and say what to start.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed run must say where, and its figures are the program's output"
)]

use clap::{Args, Parser, Subcommand};
use penstock_loadtest::{bench, machine::Origin};
use std::path::PathBuf;

/// Load and chaos against real role processes.
#[derive(Debug, Parser)]
#[command(name = "penstock-loadtest")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// What a payment costs the signer's process.
    BenchSigner(BenchSigner),
    /// Nanoseconds that a bare signature takes here.
    #[command(name = bench::raw::SUBCOMMAND)]
    RawSignatureNs,
}

/// What every report needs.
#[derive(Debug, Args)]
struct Common {
    /// The signer's program.
    #[arg(long, value_name = "FILE")]
    signer: PathBuf,
    /// Where the figures go, as JSON.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// The commit that was built.
    #[arg(long, value_name = "HASH")]
    commit: String,
    /// Further flags for the signer. {sink} is the event receiver's URL, {replica} a replica's name.
    #[arg(long = "signer-flag", value_name = "FLAG", allow_hyphen_values = true)]
    flags: Vec<String>,
}

#[derive(Debug, Args)]
struct BenchSigner {
    #[command(flatten)]
    common: Common,
    /// `sqlite`, or a PostgreSQL URL; may be given more than once.
    #[arg(long = "ledger", value_name = "URL", default_value = "sqlite")]
    ledgers: Vec<String>,
    /// Requests at once at full load.
    #[arg(long, default_value_t = 64, value_name = "N")]
    clients: usize,
    /// Payments at full load.
    #[arg(long, default_value_t = 40_000, value_name = "N")]
    payments: u64,
    /// The core that the signer stays on.
    #[arg(long, value_name = "N")]
    core: Option<usize>,
}

fn main() {
    match Cli::parse().task {
        Task::RawSignatureNs => println!("{}", bench::raw::signature_ns()),
        Task::BenchSigner(args) => bench_signer(args),
    }
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

#[tokio::main]
async fn bench_signer(args: BenchSigner) {
    let settings = bench::Settings {
        signer: args.common.signer,
        ledgers: args.ledgers,
        keys: Vec::new(),
        clients: args.clients,
        payments: args.payments,
        core: args.core,
        flags: args.common.flags,
    };
    let origin = Origin::here(&args.common.commit, profile());
    let report = bench::run(&settings, origin, |line| println!("    {line}")).await;
    let text = serde_json::to_string_pretty(&report).unwrap() + "\n";
    std::fs::write(&args.common.json, text).expect("the report's file");
}
