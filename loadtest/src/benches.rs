//! The commands that measure a role: what they are told, and what they write.

use clap::Args;
use penstock_loadtest::{bench, draw, gateway_bench, machine::Origin, orchestrator_bench, samples};
use serde::Serialize;
use std::{path::PathBuf, process::ExitCode};

/// What every report needs.
#[derive(Debug, Args)]
struct Common {
    /// Where the figures go, as JSON.
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// The commit that was built.
    #[arg(long, value_name = "HASH")]
    commit: String,
    /// Decides what is drawn: keys of accounts and of jobs.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

impl Common {
    /// From now on what is drawn hangs on the seed, as the report is going to say.
    fn begin(&self) -> Origin {
        draw::begin(self.seed);
        Origin::here(&self.commit, crate::profile()).seeded(self.seed)
    }

    fn write(&self, report: &impl Serialize) {
        std::fs::write(&self.json, samples::json(report)).expect("the report's file");
    }
}

#[derive(Debug, Args)]
pub struct Signer {
    #[command(flatten)]
    common: Common,
    /// The signer's program.
    #[arg(long, value_name = "FILE")]
    signer: PathBuf,
    /// Further flags for the signer.
    #[arg(long = "signer-flag", value_name = "FLAG", allow_hyphen_values = true)]
    flags: Vec<String>,
    /// `sqlite`, or a PostgreSQL URL; may be given more than once.
    #[arg(long = "ledger", value_name = "URL", default_value = "sqlite")]
    ledgers: Vec<String>,
    /// A key store to measure besides, on the first ledger: softhsm, vault, awskms:MS or gcpkms:MS
    /// (stand-ins; MS: the round trip). May be given more than once.
    #[arg(long = "key-store", value_name = "KIND")]
    key_stores: Vec<bench::keys::Kind>,
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

#[tokio::main]
pub async fn signer(args: Signer) {
    let origin = args.common.begin();
    let mut homes = Vec::new();
    for kind in args.key_stores {
        homes.push(bench::keys::Home::start(kind, &args.signer).await);
    }
    let settings = bench::Settings {
        signer: args.signer,
        ledgers: args.ledgers,
        keys: homes.iter().map(|home| (home.name.clone(), home.key.clone())).collect(),
        clients: args.clients,
        payments: args.payments,
        core: args.core,
        flags: args.flags,
    };
    let report = bench::run(&settings, origin, |line| println!("    {line}")).await;
    args.common.write(&report);
}

#[derive(Debug, Args)]
pub struct Gateway {
    #[command(flatten)]
    common: Common,
    /// The folder of the roles' programs.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// Jobs at full load, on each way.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    jobs: u64,
    /// Jobs at once at full load.
    #[arg(long, default_value_t = 32, value_name = "N")]
    clients: usize,
    /// Crowds of orchestrators to choose from.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000], value_name = "N,…")]
    crowds: Vec<usize>,
    /// Idle streams; 0: they are not measured.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    streams: u64,
    /// Segments that each of eight encoders pushes before, during and after a flood of AI jobs; 0: no flood.
    #[arg(long, default_value_t = 50, value_name = "N")]
    flood_segments: u64,
    /// Only the ways to an orchestrator: no choices, no flood, no idle streams.
    #[arg(long)]
    only_ways: bool,
    /// Only the ways with one of these words in their names, and the first: `gateway`, `bare`, `HAProxy`, `nginx`.
    #[arg(long = "way", value_name = "WORD")]
    ways: Vec<String>,
    /// Further flags for the gateways.
    #[arg(long = "gateway-flag", value_name = "FLAG", allow_hyphen_values = true)]
    flags: Vec<String>,
}

#[tokio::main]
pub async fn gateway(args: Gateway) {
    let origin = args.common.begin();
    let settings = gateway_bench::Settings {
        programs: args.programs,
        own: std::env::current_exe().expect("our own path"),
        jobs: args.jobs,
        clients: args.clients,
        crowds: if args.only_ways { Vec::new() } else { args.crowds },
        streams: if args.only_ways { 0 } else { args.streams },
        flood_segments: if args.only_ways { 0 } else { args.flood_segments },
        ways: args.ways,
        gateway_flags: args.flags,
    };
    let report = gateway_bench::run(&settings, origin, |line| println!("    {line}")).await;
    args.common.write(&report);
}

#[derive(Debug, Args)]
pub struct Orchestrator {
    #[command(flatten)]
    common: Common,
    /// The folder of the roles' programs.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// `sqlite`, or a PostgreSQL URL; may be given more than once.
    #[arg(long = "ledger", value_name = "URL", default_value = "sqlite")]
    ledgers: Vec<String>,
    /// Tickets of each load.
    #[arg(long, default_value_t = 48_000, value_name = "N")]
    tickets: u64,
    /// Tickets of a payment; each is a load of its own.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 50, 100], value_name = "N,…")]
    tickets_per_payment: Vec<u32>,
    /// Payments at once.
    #[arg(long, default_value_t = 16, value_name = "N")]
    clients: usize,
    /// Segments to transcode, each way.
    #[arg(long, default_value_t = 20, value_name = "N")]
    segments: usize,
    /// Readers of one channel that a load of media goes to; each is a load of its own.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100], value_name = "N,…")]
    fan_outs: Vec<usize>,
    /// Readers of one channel that wait at once; 0: they are not measured.
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    crowd: usize,
    /// Live channels at once; 0: they are not measured.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    channels: usize,
    /// Readers of each.
    #[arg(long, default_value_t = 3, value_name = "N")]
    readers: usize,
    /// Segments of two seconds of each channel, in each round.
    #[arg(long, default_value_t = 5, value_name = "N")]
    channel_segments: u32,
    /// How often channels are made, used and deleted.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=100))]
    channel_rounds: u8,
    /// The core that what is measured stays on.
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Further flags for the orchestrator.
    #[arg(long = "orchestrator-flag", value_name = "FLAG", allow_hyphen_values = true)]
    flags: Vec<String>,
}

#[tokio::main]
pub async fn orchestrator(args: Orchestrator) -> ExitCode {
    let origin = args.common.begin();
    let settings = orchestrator_bench::Settings {
        programs: args.programs,
        own: Some(std::env::current_exe().expect("our own path")),
        ledgers: args.ledgers,
        tickets: args.tickets,
        tickets_per_payment: args.tickets_per_payment,
        clients: args.clients,
        segments: args.segments,
        fan_outs: args.fan_outs,
        fan_out_segments: 40,
        paced_segments: 500,
        crowd: args.crowd,
        live: orchestrator_bench::LivePlan {
            channels: args.channels,
            readers: args.readers,
            segments: args.channel_segments,
            rounds: args.channel_rounds.into(),
        },
        core: args.core,
        flags: args.flags,
    };
    let report = orchestrator_bench::run(&settings, origin, |line| println!("    {line}")).await;
    args.common.write(&report);
    for broken in &report.broken {
        println!("    broken: {broken}");
    }
    if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
