//! `penstock-loadtest`: the drivers as a program. `cargo xtask load`, `bench` and `chaos` build it and say
//! what to start; `run` and `compare` are for people.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed run must say where, and its figures are the program's output"
)]

mod benches;
mod commands;

use clap::{Args, Parser, Subcommand};
use penstock_loadtest::{
    bench, chain_chaos, chaos, faults, fleet::Stores, gateway_bench, gateway_chaos,
    machine::Origin, orchestrator_bench, orchestrator_chaos, soak,
};
use penstock_testkit::postgres;
use std::{path::PathBuf, process::ExitCode};

/// Load and chaos against real role processes.
#[derive(Debug, Parser)]
#[command(name = "penstock-loadtest")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Load a target, or a network of its own, as a scenario says.
    Run(commands::Run),
    /// Several reports of runs side by side.
    Compare(commands::Compare),
    /// What a payment costs the signer's process.
    BenchSigner(benches::Signer),
    /// Kill signers and their database connections under load, and judge the books.
    ChaosSigner(ChaosSigner),
    /// Kill gateways and what they lean on under load, and judge playlists, jobs and books.
    ChaosGateway(ChaosGateway),
    /// Kill orchestrators on one ledger, and the ledger, under paid work, and judge the books.
    ChaosOrchestrator(ChaosOrchestrator),
    /// Kill a redeemer with winners on their way to a chain that misbehaves, and judge ledger and contract.
    ChaosChain(ChaosChain),
    /// Make every wire between two roles bad in every way under paid work, and judge promises and books.
    ChaosFaults(ChaosFaults),
    /// Keep everything at work for a while, with bad wires now and then, and watch memory and books.
    Soak(Soak),
    /// Judge the samples of a soak anew, by today's rules.
    SoakAgain {
        /// Its figures, as JSON: read, and written again.
        #[arg(value_name = "FILE")]
        json: PathBuf,
    },
    /// What a gateway adds to a job, and how many jobs it takes.
    BenchGateway(benches::Gateway),
    /// The least that a proxy can be, to compare with.
    BareProxy {
        /// Where to listen.
        #[arg(long, value_name = "IP:PORT")]
        listen: std::net::SocketAddr,
        /// Where everything goes.
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// What tickets, segments and live channels cost an orchestrator.
    BenchOrchestrator(benches::Orchestrator),
    /// The least that a relay of media can be, to compare with.
    #[command(name = orchestrator_bench::bare_copy::SUBCOMMAND)]
    BareCopy {
        /// Where to say where it listens.
        #[arg(long, value_name = "FILE")]
        addr_file: PathBuf,
        /// How many channels there are.
        #[arg(long, value_name = "N")]
        channels: usize,
        /// How many read each.
        #[arg(long, value_name = "N")]
        readers: usize,
    },
    /// Nanoseconds that a bare signature takes here.
    #[command(name = bench::raw::SUBCOMMAND)]
    RawSignatureNs,
    /// Nanoseconds that a bare recovery and a bare verification take here.
    #[command(name = orchestrator_bench::curve::SUBCOMMAND)]
    RawRecoveryNs,
    /// Nanoseconds that validating a ticket takes here, in payments of so many.
    #[command(name = orchestrator_bench::validation::SUBCOMMAND)]
    ValidationNs {
        /// Tickets of a payment.
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=600))]
        tickets: u32,
    },
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
    /// Further flags for the signer. {sink} is the event receiver's URL.
    #[arg(long = "signer-flag", value_name = "FLAG", allow_hyphen_values = true)]
    flags: Vec<String>,
}

fn main() -> ExitCode {
    match Cli::parse().task {
        Task::Run(args) => return commands::run(args),
        Task::Compare(args) => return commands::compare(&args),
        Task::RawSignatureNs => println!("{}", bench::raw::signature_ns()),
        Task::RawRecoveryNs => {
            let (recovery, verification) = orchestrator_bench::curve::of_this_thread();
            println!("{recovery} {verification}");
        }
        Task::ValidationNs { tickets } => {
            println!("{}", orchestrator_bench::validation::of_this_thread(tickets));
        }
        Task::BenchSigner(args) => benches::signer(args),
        Task::ChaosSigner(args) => chaos_signer(args),
        Task::ChaosGateway(args) => chaos_gateway(args),
        Task::ChaosOrchestrator(args) => chaos_orchestrator(args),
        Task::ChaosChain(args) => chaos_chain(args),
        Task::ChaosFaults(args) => chaos_faults(args),
        Task::Soak(args) => return soak(args),
        Task::SoakAgain { json } => return soak_again(&json),
        Task::BenchGateway(args) => benches::gateway(args),
        Task::BareProxy { listen, to } => bare_proxy(listen, to),
        Task::BenchOrchestrator(args) => return benches::orchestrator(args),
        Task::BareCopy { addr_file, channels, readers } => bare_copy(&addr_file, channels, readers),
    }
    ExitCode::SUCCESS
}

#[derive(Debug, Args)]
struct ChaosSigner {
    #[command(flatten)]
    common: Common,
    /// A PostgreSQL database of the run's own. Without it: one signer on SQLite.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Signers on it.
    #[arg(long, default_value_t = 2, value_name = "N")]
    replicas: usize,
    /// Clients at once.
    #[arg(long, default_value_t = 64, value_name = "N")]
    clients: usize,
    /// Tickets to buy.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    tickets: u64,
    /// Most tickets of one payment.
    #[arg(long, default_value_t = 100, value_name = "N")]
    max_tickets: u64,
    /// Payments between two things that are broken, on average.
    #[arg(long, default_value_t = 60, value_name = "N")]
    payments_between: u64,
    /// Decides what happens.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// The signers were told by --signer-flag to send events to {sink}.
    #[arg(long)]
    events: bool,
}

#[derive(Debug, Args)]
struct ChaosGateway {
    /// The folder of the roles' programs.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// Where the figures go, as JSON.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// The commit that was built.
    #[arg(long, value_name = "HASH")]
    commit: String,
    /// A PostgreSQL database of the run's own. Without it: one signer on SQLite.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Gateways.
    #[arg(long, default_value_t = 3, value_name = "N")]
    gateways: usize,
    /// AI clients at once.
    #[arg(long, default_value_t = 16, value_name = "N")]
    clients: usize,
    /// Segments to push, at least.
    #[arg(long, default_value_t = 300, value_name = "N")]
    segments: u64,
    /// Deaths; what else is broken comes besides.
    #[arg(long, default_value_t = 200, value_name = "N")]
    kills: u64,
    /// Decides in which order.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Further flags for the gateways.
    #[arg(long = "gateway-flag", value_name = "FLAG", allow_hyphen_values = true)]
    flags: Vec<String>,
}

#[derive(Debug, Args)]
struct ChaosOrchestrator {
    /// The folder of the roles' programs.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// Where the figures go, as JSON.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// The commit that was built.
    #[arg(long, value_name = "HASH")]
    commit: String,
    /// The folder of PostgreSQL's server programs: one is started, stopped and killed.
    #[arg(long, value_name = "FOLDER")]
    postgres_programs: PathBuf,
    /// Orchestrators.
    #[arg(long, default_value_t = 3, value_name = "N",
          value_parser = clap::value_parser!(u8).range(2..=9))]
    processes: u8,
    /// Clients at once.
    #[arg(long, default_value_t = 32, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: u16,
    /// Tickets to pay; more are paid until everything that is planned was broken.
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    tickets: u64,
    /// Most tickets of one payment.
    #[arg(long, default_value_t = 20, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=500))]
    max_tickets: u32,
    /// Deaths of orchestrators, at least; what else is broken comes besides.
    #[arg(long, default_value_t = 100, value_name = "N")]
    kills: u64,
    /// Decides what is broken in which order.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "dev" } else { "release" }
}

#[tokio::main]
async fn chaos_signer(args: ChaosSigner) {
    let settings = chaos::Settings {
        signer: args.common.signer,
        replicas: if args.postgres.is_some() { args.replicas } else { 1 },
        postgres: args.postgres,
        clients: args.clients,
        tickets: args.tickets,
        max_tickets: args.max_tickets,
        payments_between: args.payments_between,
        seed: args.seed,
        flags: args.common.flags,
        events: args.events,
    };
    let origin = Origin::here(&args.common.commit, profile());
    let report = chaos::run(&settings, origin, |line| println!("    {line}")).await;
    let text = serde_json::to_string_pretty(&report).unwrap() + "\n";
    std::fs::write(&args.common.json, text).expect("the report's file");
    for violation in &report.violations {
        println!("    VIOLATION: {violation}");
    }
    if !report.violations.is_empty() {
        std::process::exit(1);
    }
}

#[tokio::main]
async fn chaos_gateway(args: ChaosGateway) {
    // One gateway has nobody to share a Redis with, and dies alone.
    let stores = if args.gateways == 1 { Stores::Memory } else { Stores::Redis };
    let acts = gateway_chaos::Act::all_long(stores, args.postgres.is_some());
    let settings = gateway_chaos::Settings {
        programs: args.programs,
        gateways: args.gateways,
        stores,
        postgres: args.postgres,
        clients: args.clients,
        segments: args.segments,
        kills: args.kills,
        acts,
        seed: args.seed,
        gateway_flags: args.flags,
        long: Some(gateway_chaos::Long {
            bounds: gateway_chaos::Bounds::default(),
            job: std::time::Duration::from_millis(3_500),
        }),
    };
    let origin = Origin::here(&args.commit, profile());
    let report = gateway_chaos::run(&settings, origin, |line| println!("    {line}")).await;
    let text = serde_json::to_string_pretty(&report).unwrap() + "\n";
    std::fs::write(&args.json, text).expect("the report's file");
    for violation in &report.violations {
        println!("    VIOLATION: {violation}");
    }
    if !report.violations.is_empty() {
        std::process::exit(1);
    }
}

#[tokio::main]
async fn chaos_orchestrator(args: ChaosOrchestrator) {
    let settings = orchestrator_chaos::Settings {
        programs: args.programs,
        postgres: orchestrator_chaos::Postgres::Programs(args.postgres_programs),
        processes: args.processes.into(),
        clients: args.clients.into(),
        tickets: args.tickets,
        max_tickets: args.max_tickets,
        kills: args.kills,
        seed: args.seed,
    };
    let origin = Origin::here(&args.commit, profile());
    let report = orchestrator_chaos::run(&settings, origin, |line| println!("    {line}")).await;
    let text = serde_json::to_string_pretty(&report).unwrap() + "\n";
    std::fs::write(&args.json, text).expect("the report's file");
    for violation in &report.violations {
        println!("    VIOLATION: {violation}");
    }
    if !report.violations.is_empty() {
        std::process::exit(1);
    }
}

#[derive(Debug, Args)]
struct ChaosChain {
    /// The folder of the roles' programs.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// Where the figures go, as JSON.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// The commit that was built.
    #[arg(long, value_name = "HASH")]
    commit: String,
    /// Winners that wait together at the beginning, until their offers end.
    #[arg(long, default_value_t = 10_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=500_000))]
    many: u32,
    /// Deaths of the redeemer, at least; what else is broken comes besides.
    #[arg(long, default_value_t = 200, value_name = "N")]
    kills: u64,
    /// Decides what is broken in which order.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

#[tokio::main]
async fn chaos_chain(args: ChaosChain) {
    let settings = chain_chaos::Settings {
        programs: args.programs,
        many: usize::try_from(args.many).unwrap_or(usize::MAX),
        kills: args.kills,
        seed: args.seed,
    };
    let origin = Origin::here(&args.commit, profile());
    let report = chain_chaos::run(&settings, origin, |line| println!("    {line}")).await;
    let text = serde_json::to_string_pretty(&report).unwrap() + "\n";
    std::fs::write(&args.json, text).expect("the report's file");
    for violation in &report.violations {
        println!("    VIOLATION: {violation}");
    }
    if !report.violations.is_empty() {
        std::process::exit(1);
    }
}

#[derive(Debug, Args)]
struct ChaosFaults {
    /// The folder of the roles' programs.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// Where the figures go, as JSON.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// The commit that was built.
    #[arg(long, value_name = "HASH")]
    commit: String,
    /// Decides the order of the cells.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Only cells whose names contain this, as `gateway → signer, silent`.
    #[arg(long, default_value = "", value_name = "WORDS")]
    only: String,
}

#[tokio::main]
async fn chaos_faults(args: ChaosFaults) {
    let cells = match faults::cell::named(&args.only) {
        Ok(cells) => cells,
        Err(why) => {
            eprintln!("--only: {why}");
            std::process::exit(2);
        }
    };
    let ledgers =
        [postgres::database().await, postgres::database().await, postgres::database().await];
    let settings = faults::Settings {
        programs: args.programs,
        ledgers: ledgers.each_ref().map(|ledger| ledger.url().to_owned()),
        cells,
        seed: args.seed,
    };
    let origin = Origin::here(&args.commit, profile());
    let report = faults::run(&settings, origin, |line| println!("    {line}")).await;
    let text = serde_json::to_string_pretty(&report).unwrap() + "\n";
    std::fs::write(&args.json, text).expect("the report's file");
    for violation in &report.violations {
        println!("    VIOLATION: {violation}");
    }
    if !report.violations.is_empty() {
        std::process::exit(1);
    }
}

#[derive(Debug, Args)]
struct Soak {
    /// The folder of the roles' programs.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// Where the figures go, as JSON.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// The commit that was built.
    #[arg(long, value_name = "HASH")]
    commit: String,
    /// How long, after a minute in which the capacity is measured. The run fails when this is too short to know whether
    /// memory grows.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// How long the capacity is measured, seconds.
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    measure_s: u64,
    /// Decides what is broken.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

#[tokio::main]
async fn soak(args: Soak) -> ExitCode {
    use std::time::Duration;
    let ledgers =
        [postgres::database().await, postgres::database().await, postgres::database().await];
    let settings = soak::Settings {
        programs: args.programs,
        ledgers: ledgers.each_ref().map(|ledger| ledger.url().to_owned()),
        seed: args.seed,
        measure: Duration::from_secs(args.measure_s),
        load: Duration::from_secs(args.minutes * 60),
        sample: Duration::from_secs(5),
        fault: [Duration::from_secs(2), Duration::from_secs(6)],
        calm: Duration::from_secs(8),
        channels: 10,
    };
    let origin = Origin::here(&args.commit, profile());
    let report = soak::run(&settings, origin, |line| println!("    {line}")).await;
    soak_ended(&report, &args.json, args.minutes)
}

fn soak_again(json: &std::path::Path) -> ExitCode {
    let text = std::fs::read_to_string(json).expect("the figures of a soak");
    let mut report: soak::Report = serde_json::from_str(&text).expect("the figures of a soak");
    report.judge();
    soak_ended(&report, json, (report.load_s / 60.0) as u64)
}

/// Writes the figures and says what is wrong.
fn soak_ended(report: &soak::Report, json: &std::path::Path, minutes: u64) -> ExitCode {
    let text = serde_json::to_string(report).unwrap() + "\n";
    std::fs::write(json, text).expect("the report's file");
    for violation in &report.violations {
        println!("    VIOLATION: {violation}");
    }
    let findings = report.findings(&format!("--minutes, now {minutes}"));
    for finding in &findings {
        println!("    FINDING: {finding}");
    }
    if report.violations.is_empty() && findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[tokio::main]
async fn bare_proxy(listen: std::net::SocketAddr, to: String) {
    gateway_bench::bare(listen, to).await;
}

#[tokio::main(flavor = "current_thread")]
async fn bare_copy(addr_file: &std::path::Path, channels: usize, readers: usize) {
    orchestrator_bench::bare_copy::program(addr_file, channels, readers).await;
}
