//! `cargo xtask`: the one door for developers and CI. It needs nothing but cargo, installs what is
//! missing, and never depends on the code that it builds.

mod check;
mod command;
mod deploy;
mod dev;
mod failure;
mod figures;
mod fuzz;
mod instructions;
mod load;
mod openapi;
mod origin;
mod places;
mod report;
mod services;
mod setup;
mod tables;
mod term;
mod test;
mod watched;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{places::Places, setup::Purpose};

/// Sets up, runs and tests Penstock. Everything it makes lies in `.dev/` and `target/`.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing: for running the network (default), or for its tests too.
    Setup {
        /// Only what `cargo xtask dev` needs (the default).
        #[arg(long, conflicts_with = "test")]
        dev: bool,
        /// Also what `cargo xtask test` needs: Redis, PostgreSQL, HAProxy, nginx, Chromium,
        /// the Python SDK, a chain.
        #[arg(long)]
        test: bool,
    },
    /// Set up, build, and run the whole network on this machine (`penstock dev`).
    Dev {
        /// Passed to `penstock dev`, for example `-- --http-addr 127.0.0.1:9000`.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Set up, start private servers, run every test, stop the servers.
    Test {
        /// Only the Rust tests whose names contain one of these.
        filters: Vec<String>,
        /// Only this package's Rust tests.
        #[arg(long, short)]
        package: Option<String>,
        /// Show what passing tests print.
        #[arg(long)]
        nocapture: bool,
        /// Kill a test that takes longer than so many seconds, and fail with its name. Counted from
        /// when it is heard of, which is a minute after its start.
        #[arg(long, default_value_t = 1_800)]
        hang_after_s: u64,
    },
    /// Write the API documents of the services to `openapi/`.
    Openapi {
        /// Write nothing; fail when a committed document differs from the code.
        #[arg(long)]
        check: bool,
    },
    /// Format, lint, licences, API documents, house rules on the text of files.
    Check,
    /// Measure a role's release build and write the figures into the documents.
    Bench {
        /// Nothing: all of them in a short form, three times, with how far the three lie apart, and one
        /// report (bench/report.html). What takes long by its nature is only in a role's own form: idle streams, thousands of
        /// channels, readers and orchestrators.
        #[command(subcommand)]
        what: Option<BenchTask>,
        /// How often, when all are measured.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
        rounds: u8,
        /// Decides what the drivers draw: keys of accounts and of jobs.
        #[arg(long, default_value_t = 1, global = true)]
        seed: u64,
    },
    /// Count the instructions of the money core's hot functions (callgrind), and fail when they grow.
    Instructions {
        /// Write them into docs/data instead of comparing.
        #[arg(long)]
        record: bool,
    },
    /// Break a role under load, judge its books, write the figures into the documents.
    Chaos {
        #[command(subcommand)]
        what: ChaosTask,
    },
    /// Keep everything at work at 70 % of its capacity, with bad wires now and then, watch memory and books, and write
    /// the figures into the documents.
    Soak {
        /// How long, after a minute in which the capacity is measured. Less than a hundred seldom tells a leak of 1 MiB an
        /// hour from what an allocator swings by.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        minutes: u64,
        /// Decides what is broken.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where the figures go instead of the documents.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Load a network of its own, or a target, as a scenario says; report as JSON and as a page.
    Load {
        /// One of loadtest/scenarios by its name, or a file.
        scenario: String,
        /// Passed to `penstock-loadtest run`, for example `-- --replicas 1,2,3`, or `-- --target http://127.0.0.1:9935`.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Search for bytes that break a decoder, with libFuzzer, beginning with the corpora of fuzz/.
    Fuzz {
        /// How long, all targets together.
        #[arg(default_value_t = 10)]
        minutes: u64,
        /// Only this target: a folder of fuzz/corpus.
        #[arg(long)]
        target: Option<String>,
        /// Put inputs that reach more into fuzz/corpus.
        #[arg(long)]
        grow: bool,
    },
    /// Render the Helm chart into deploy/kubernetes.
    Deploy,
    /// Write the documents' tables and the trace's picture from what is in docs/data.
    Tables,
    /// Run one paid job through all processes, record its trace, and draw it.
    Trace,
}

#[derive(Subcommand)]
enum BenchTask {
    /// Payments of one ticket per CPU-second, latency at half load, memory, key operations.
    Signer {
        /// Payments at full load, on each ledger.
        #[arg(long, default_value_t = 40_000)]
        payments: u64,
        /// Requests at once.
        #[arg(long, default_value_t = 64)]
        clients: u64,
        /// Measure each kind of key store, on SQLite, instead of the ledgers.
        #[arg(long)]
        key_stores: bool,
        /// Further flags for the signer.
        #[arg(long = "signer-flag", allow_hyphen_values = true)]
        signer_flags: Vec<String>,
    },
    /// What a gateway adds to a job beside other proxies, choices among many orchestrators, idle
    /// streams.
    Gateway {
        /// Jobs at full load, on each way.
        #[arg(long, default_value_t = 10_000)]
        jobs: u64,
        /// Requests at once.
        #[arg(long, default_value_t = 32)]
        clients: u64,
        /// Idle streams.
        #[arg(long, default_value_t = 10_000)]
        streams: u64,
    },
    /// Tickets validated per CPU-second, a segment's time, trickle's fan-out, each beside what is bare.
    Orchestrator {
        /// Tickets of each load.
        #[arg(long, default_value_t = 48_000)]
        tickets: u64,
        /// Payments at once.
        #[arg(long, default_value_t = 16)]
        clients: u64,
        /// Segments to transcode, each way.
        #[arg(long, default_value_t = 20)]
        segments: u64,
        /// Live channels at once.
        #[arg(long, default_value_t = 2_000)]
        channels: u64,
        /// Further flags for the orchestrator.
        #[arg(long = "orchestrator-flag", allow_hyphen_values = true)]
        orchestrator_flags: Vec<String>,
    },
}

#[derive(Subcommand)]
enum ChaosTask {
    /// Signer replicas on one PostgreSQL.
    Signer {
        /// Tickets to buy before the run ends.
        #[arg(long, default_value_t = 1_000_000)]
        tickets: u64,
        /// Clients at once.
        #[arg(long, default_value_t = 64)]
        clients: u64,
        /// Signers that share the ledger.
        #[arg(long, default_value_t = 2)]
        replicas: u64,
        /// Decides what is broken in which order.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Further flags for the signers.
        #[arg(long = "signer-flag", allow_hyphen_values = true)]
        signer_flags: Vec<String>,
    },
    /// Three gateways behind HAProxy, with everything that they lean on.
    Gateway {
        /// Segments to push, at least.
        #[arg(long, default_value_t = 300)]
        segments: u64,
        /// Deaths of gateways, signers, orchestrators and Redis primaries; silences and pauses come besides.
        #[arg(long, default_value_t = 200)]
        kills: u64,
        /// AI clients at once.
        #[arg(long, default_value_t = 16)]
        clients: u64,
        /// Decides what is broken in which order.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// A redeemer with winners on their way to a chain that misbehaves.
    Chain {
        /// Deaths of the redeemer, at least; what the chain does comes besides.
        #[arg(long, default_value_t = 200)]
        kills: u64,
        /// Winners that wait together at the beginning, until their offers end.
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=500_000))]
        many: u32,
        /// Decides what is broken in which order.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Every wire between two roles, and before Redis, PostgreSQL and the chain, made bad in every way.
    Faults {
        /// Decides the order of the cells.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only cells whose names contain this, as `gateway → signer, silent`; nothing is written then.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Random histories of all roles in one thread, under a simulated clock: is money conserved?
    Money {
        /// How many.
        #[arg(long, default_value_t = 1_000_000)]
        histories: u64,
        /// The first one's seed.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Three orchestrators on one PostgreSQL, which is stopped and killed too.
    Orchestrator {
        /// Tickets to pay; more are paid until everything that is planned was broken.
        #[arg(long, default_value_t = 200_000)]
        tickets: u64,
        /// Deaths of orchestrators, at least; pauses, restarts and PostgreSQL's ends come besides.
        #[arg(long, default_value_t = 100)]
        kills: u64,
        /// Clients at once.
        #[arg(long, default_value_t = 32)]
        clients: u64,
        /// Decides what is broken in which order.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = Places::find().and_then(|places| match cli.task {
        Task::Setup { test, dev: _ } => {
            setup::run(&places, if test { Purpose::Test } else { Purpose::Dev })
        }
        Task::Dev { args } => dev::run(&places, &args),
        Task::Test { filters, package, nocapture, hang_after_s } => {
            let trace_file = None;
            let selection =
                test::Selection { filters, package, nocapture, hang_after_s, trace_file };
            test::run(&places, &selection)
        }
        Task::Openapi { check } => openapi::run(&places, check),
        Task::Check => check::run(&places),
        Task::Bench { what: None, rounds, seed } => load::all::bench(&places, rounds.into(), seed),
        Task::Bench { what: Some(what), seed, .. } => bench(&places, what, seed),
        Task::Chaos {
            what: ChaosTask::Signer { tickets, clients, replicas, seed, signer_flags },
        } => {
            let chaos = load::Chaos { tickets, clients, replicas, seed, signer_flags };
            load::chaos_signer(&places, &chaos)
        }
        Task::Chaos { what: ChaosTask::Gateway { segments, kills, clients, seed } } => {
            load::chaos_gateway(&places, &load::GatewayChaos { segments, kills, clients, seed })
        }
        Task::Chaos { what: ChaosTask::Orchestrator { tickets, kills, clients, seed } } => {
            let chaos = load::OrchestratorChaos { tickets, kills, clients, seed };
            load::chaos_orchestrator(&places, &chaos)
        }
        Task::Chaos { what: ChaosTask::Chain { kills, many, seed } } => {
            load::chaos_chain(&places, &load::ChainChaos { kills, many, seed })
        }
        Task::Chaos { what: ChaosTask::Faults { seed, only } } => {
            load::chaos_faults(&places, seed, &only)
        }
        Task::Chaos { what: ChaosTask::Money { histories, seed } } => {
            load::chaos_money(&places, histories, seed)
        }
        Task::Soak { minutes, seed, out } => load::soak(&places, minutes, seed, out),
        Task::Load { scenario, args } => load::scenario(&places, &scenario, &args),
        Task::Fuzz { minutes, target, grow } => {
            fuzz::run(&places, &fuzz::Fuzz { minutes, target, grow })
        }
        Task::Instructions { record } => instructions::run(&places, record),
        Task::Deploy => deploy::write(&places),
        Task::Tables => tables::write(&places),
        Task::Trace => test::record_trace(&places),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            term::failed(&failure);
            ExitCode::FAILURE
        }
    }
}

/// One benchmark.
fn bench(places: &Places, what: BenchTask, seed: u64) -> failure::Result<()> {
    match what {
        BenchTask::Signer { payments, clients, key_stores, signer_flags } => {
            let key_stores = if key_stores { load::KEY_STORES.to_vec() } else { Vec::new() };
            let bench = load::Bench { payments, clients, key_stores, signer_flags, seed };
            load::bench_signer(places, &bench)
        }
        BenchTask::Gateway { jobs, clients, streams } => {
            load::bench_gateway(places, &load::GatewayBench { jobs, clients, streams, seed })
        }
        BenchTask::Orchestrator { tickets, clients, segments, channels, orchestrator_flags } => {
            let flags = orchestrator_flags;
            let bench =
                load::OrchestratorBench { tickets, clients, segments, channels, flags, seed };
            load::bench_orchestrator(places, &bench)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
