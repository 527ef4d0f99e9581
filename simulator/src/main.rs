//! `penstock-simulator`: many histories, or one again.

use clap::Parser;
use penstock_simulator::run_all;
use serde_json::json;
use std::{
    fs,
    io::{Write as _, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::Instant,
};

/// Random histories of gateway, signer, orchestrators and chain: is money conserved?
#[derive(Debug, Parser)]
#[command(name = "penstock-simulator", version)]
struct Args {
    /// Histories.
    #[arg(long, default_value_t = 10_000)]
    histories: u64,
    /// The first one's seed; the others follow.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; 0: one for each core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// The commit that was built, for the figures.
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// Where figures are written, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if args.threads == 0 { cores } else { args.threads };
    let seeds = args.seed..args.seed.saturating_add(args.histories);
    let began = Instant::now();
    let told = |through: u64| {
        if through.is_multiple_of(10_000) {
            // Nobody may be reading.
            let _ = writeln!(stderr(), "{through} histories");
        }
    };
    match run_all(seeds, threads, None, told) {
        Ok(report) => {
            let seconds = began.elapsed().as_secs();
            let figures = json!({
                "commit": args.commit,
                "histories": args.histories,
                "first_seed": args.seed,
                "seconds": seconds,
                "threads": threads,
                "broken_laws": 0,
                "happened": report,
            });
            let _ = writeln!(stdout(), "{figures:#}");
            match args.json.map(|path| fs::write(path, format!("{figures:#}\n"))) {
                Some(Err(error)) => failed(&error),
                _ => ExitCode::SUCCESS,
            }
        }
        Err(why) => failed(&why),
    }
}

fn failed(why: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(stderr(), "{why}");
    ExitCode::FAILURE
}
