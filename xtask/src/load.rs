//! `cargo xtask bench …` and `cargo xtask chaos …`: release builds, private servers, the
//! driver (`penstock-loadtest`), its figures into `docs/data`, the tables of the documents from them.
//! `cargo xtask load …`: the same driver with a scenario, whose reports stay with whoever ran it.

pub mod all;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::available_parallelism,
};

use crate::{
    command,
    failure::{Doing as _, Failure, Result},
    origin::{self, commit},
    places::Places,
    services::{
        Service,
        postgres::{Durability, server_programs, start_postgres},
    },
    setup::{self, Purpose},
    tables, term,
};

const BUILD_FIX: &str = "mend the compiler errors above, then run the same command again";
const RUN_FIX: &str = "read the last lines above; the role's own log is shown there too";

/// Where reports of scenarios go.
const REPORTS: &str = ".dev/load";

/// A scenario, by its name in `loadtest/scenarios` or as a file.
pub fn scenario(places: &Places, scenario: &str, args: &[String]) -> Result<()> {
    let named = places.root.join(format!("loadtest/scenarios/{scenario}.toml"));
    let file = if named.is_file() { named } else { scenario.into() };
    let has_target = args.iter().any(|arg| arg.starts_with("--target"));
    if has_target {
        build(places, &[])?;
    } else {
        setup::run(places, Purpose::Test)?;
        build(places, &["gateway", "signer", "orchestrator", "worker"])?;
    }
    let folder = places.root.join(REPORTS);
    fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let report = |kind: &str| folder.join(format!("{name}.{kind}"));
    let mut driver = Command::new(places.release().join("penstock-loadtest"));
    driver.arg("run").arg(&file).args(["--commit", &commit(places)?]);
    driver.arg("--json").arg(report("json")).arg("--html").arg(report("html")).args(args);
    command::run(&mut driver, RUN_FIX)?;
    term::step(format!("the report is at {}", report("html").display()));
    Ok(())
}

/// What a benchmark may be told.
pub struct Bench {
    pub payments: u64,
    pub clients: u64,
    /// These key stores beside the keystore, on SQLite, instead of each ledger.
    pub key_stores: Vec<&'static str>,
    pub signer_flags: Vec<String>,
    pub seed: u64,
}

/// What is measured beside the keystore: the real SoftHSM, and stand-ins with the round trips that
/// key services have.
pub const KEY_STORES: [&str; 6] =
    ["softhsm", "vault", "awskms:10", "awskms:20", "gcpkms:10", "gcpkms:20"];

/// What a chaos run may be told.
pub struct Chaos {
    pub tickets: u64,
    pub clients: u64,
    pub replicas: u64,
    pub seed: u64,
    pub signer_flags: Vec<String>,
}

/// Payments per second of the signer's processor time, on each ledger or with each key store.
pub fn bench_signer(places: &Places, bench: &Bench) -> Result<()> {
    setup::install_programs(Purpose::Test)?;
    build(places, &["signer"])?;
    term::step("starting PostgreSQL");
    let postgres = start_postgres(Durability::Full)?;
    let data = if bench.key_stores.is_empty() { tables::BENCH } else { tables::KEYS_BENCH };
    let json = data_file(places, data)?;
    term::step("measuring (keep the machine quiet)");
    let mut driver = signer_driver(places, bench, &postgres, &json)?;
    command::run(&mut driver, RUN_FIX)?;
    tables::write(places)
}

/// What measures the signer. It has the first core for itself; driver, orchestrators, chain and database
/// share the second.
fn signer_driver(
    places: &Places,
    bench: &Bench,
    postgres: &Service,
    json: &Path,
) -> Result<Command> {
    let two = gives_core_away(postgres);
    let mut driver = Command::new(places.release().join("penstock-loadtest"));
    if two {
        driver = Command::new("taskset");
        driver.args(["--cpu-list", "1"]).arg(places.release().join("penstock-loadtest"));
    }
    driver.arg("bench-signer").arg("--signer").arg(places.release().join("penstock-signer"));
    driver.arg("--json").arg(json).args(["--commit", &commit(places)?]);
    driver.args(["--seed", &bench.seed.to_string()]);
    driver.args(["--ledger", "sqlite"]);
    if bench.key_stores.is_empty() {
        driver.args(["--ledger", &postgres.url]);
    }
    driver.args(bench.key_stores.iter().flat_map(|kind| ["--key-store", *kind]));
    driver.args(["--payments", &bench.payments.to_string()]);
    driver.args(["--clients", &bench.clients.to_string()]);
    if two {
        driver.args(["--core", "0"]);
    }
    for flag in &bench.signer_flags {
        driver.arg(format!("--signer-flag={flag}"));
    }
    Ok(driver)
}

/// Whether what is measured has the first core for itself; then the database keeps to the second.
fn gives_core_away(postgres: &Service) -> bool {
    let cores = available_parallelism().map_or(1, usize::from);
    if cores < 2 || command::find("taskset").is_none() {
        return false;
    }
    let pid = postgres.pid().to_string();
    let args = ["--all-tasks", "--pid", "--cpu-list", "1", &pid];
    command::succeeds(Command::new("taskset").args(args));
    true
}

/// Replicas and database connections killed under load.
pub fn chaos_signer(places: &Places, chaos: &Chaos) -> Result<()> {
    setup::install_programs(Purpose::Test)?;
    build(places, &["signer"])?;
    term::step("starting PostgreSQL");
    let postgres = start_postgres(Durability::Full)?;
    let json = data_file(places, tables::CHAOS)?;
    term::step("breaking things");
    let mut driver = Command::new(places.release().join("penstock-loadtest"));
    driver.arg("chaos-signer").arg("--signer").arg(places.release().join("penstock-signer"));
    driver.arg("--json").arg(&json).args(["--commit", &commit(places)?]);
    driver.args(["--postgres", &postgres.url]);
    driver.args(["--tickets", &chaos.tickets.to_string(), "--seed", &chaos.seed.to_string()]);
    driver.args(["--clients", &chaos.clients.to_string()]);
    driver.args(["--replicas", &chaos.replicas.to_string()]);
    let events = ["--events=webhook:{sink}", "--events-lease-ms=1000"].map(str::to_owned);
    for flag in events.iter().chain(&chaos.signer_flags) {
        driver.arg(format!("--signer-flag={flag}"));
    }
    driver.arg("--events");
    let outcome = command::run(&mut driver, "read the violations above; the seed repeats the run");
    tables::write(places)?;
    outcome
}

/// What a chaos run of gateways may be told.
pub struct GatewayChaos {
    pub segments: u64,
    pub kills: u64,
    pub clients: u64,
    pub seed: u64,
}

/// What a benchmark of the gateway may be told.
pub struct GatewayBench {
    pub jobs: u64,
    pub clients: u64,
    pub streams: u64,
    pub seed: u64,
}

/// What a gateway adds to a job, and how many it takes.
pub fn bench_gateway(places: &Places, bench: &GatewayBench) -> Result<()> {
    setup::run(places, Purpose::Test)?;
    build(places, &["gateway", "signer"])?;
    let json = data_file(places, tables::GATEWAY_BENCH)?;
    term::step("measuring (keep the machine quiet)");
    command::run(&mut gateway_driver(places, bench, &json)?, RUN_FIX)?;
    tables::write(places)
}

fn gateway_driver(places: &Places, bench: &GatewayBench, json: &Path) -> Result<Command> {
    let mut driver = Command::new(places.release().join("penstock-loadtest"));
    driver.arg("bench-gateway").arg("--programs").arg(places.release());
    driver.arg("--json").arg(json).args(["--commit", &commit(places)?]);
    driver.args(["--seed", &bench.seed.to_string()]);
    driver.args(["--jobs", &bench.jobs.to_string(), "--clients", &bench.clients.to_string()]);
    driver.args(["--streams", &bench.streams.to_string()]);
    driver.env("PENSTOCK_TEST_MEDIA_DIR", places.media());
    Ok(driver)
}

/// What a benchmark of the orchestrator may be told.
pub struct OrchestratorBench {
    pub tickets: u64,
    pub clients: u64,
    pub segments: u64,
    pub channels: u64,
    pub flags: Vec<String>,
    pub seed: u64,
}

/// What tickets, segments and live channels cost an orchestrator.
pub fn bench_orchestrator(places: &Places, bench: &OrchestratorBench) -> Result<()> {
    setup::run(places, Purpose::Test)?;
    build(places, &["orchestrator", "worker", "gateway", "signer"])?;
    term::step("starting PostgreSQL");
    let postgres = start_postgres(Durability::Full)?;
    let json = data_file(places, tables::ORCHESTRATOR_BENCH)?;
    term::step("measuring (keep the machine quiet)");
    let mut driver = orchestrator_driver(places, bench, &postgres, &json)?;
    let outcome = command::run(&mut driver, "read what is broken above");
    tables::write(places)?;
    outcome
}

/// What measures the orchestrator, which has the first core for itself, but for transcoding.
fn orchestrator_driver(
    places: &Places,
    bench: &OrchestratorBench,
    postgres: &Service,
    json: &Path,
) -> Result<Command> {
    let mut driver = Command::new(places.release().join("penstock-loadtest"));
    driver.arg("bench-orchestrator").arg("--programs").arg(places.release());
    driver.arg("--json").arg(json).args(["--commit", &commit(places)?]);
    driver.args(["--seed", &bench.seed.to_string()]);
    driver.args(["--ledger", "sqlite", "--ledger", &postgres.url]);
    driver.args(["--tickets", &bench.tickets.to_string()]);
    driver.args(["--clients", &bench.clients.to_string()]);
    driver.args(["--segments", &bench.segments.to_string()]);
    driver.args(["--channels", &bench.channels.to_string()]);
    if gives_core_away(postgres) {
        driver.args(["--core", "0"]);
    }
    for flag in &bench.flags {
        driver.arg(format!("--orchestrator-flag={flag}"));
    }
    driver.env("PENSTOCK_TEST_MEDIA_DIR", places.media());
    Ok(driver)
}

/// Gateways, and what they lean on, killed under load.
pub fn chaos_gateway(places: &Places, chaos: &GatewayChaos) -> Result<()> {
    setup::run(places, Purpose::Test)?;
    build(places, &["gateway", "signer", "orchestrator", "worker"])?;
    term::step("starting PostgreSQL");
    let postgres = start_postgres(Durability::Full)?;
    let json = data_file(places, tables::GATEWAY_CHAOS)?;
    term::step("breaking things");
    let mut driver = Command::new(places.release().join("penstock-loadtest"));
    driver.arg("chaos-gateway").arg("--programs").arg(places.release());
    driver.arg("--json").arg(&json).args(["--commit", &commit(places)?]);
    driver.args(["--postgres", &postgres.url, "--seed", &chaos.seed.to_string()]);
    driver.args(["--segments", &chaos.segments.to_string()]);
    driver.args(["--kills", &chaos.kills.to_string()]);
    driver.args(["--clients", &chaos.clients.to_string()]);
    driver.env("PENSTOCK_TEST_MEDIA_DIR", places.media());
    let outcome = command::run(&mut driver, "read the violations above; the seed repeats the run");
    tables::write(places)?;
    outcome
}

/// What a chaos run of orchestrators may be told.
pub struct OrchestratorChaos {
    pub tickets: u64,
    pub kills: u64,
    pub clients: u64,
    pub seed: u64,
}

/// Orchestrators on one ledger, and their PostgreSQL, killed under paid work.
pub fn chaos_orchestrator(places: &Places, chaos: &OrchestratorChaos) -> Result<()> {
    setup::install_programs(Purpose::Test)?;
    // The driver stops and kills its PostgreSQL, so that it starts it too.
    let postgres = server_programs().ok_or_else(|| {
        Failure::new("PostgreSQL's server programs are missing", "run `cargo xtask setup --test`")
    })?;
    build(places, &["orchestrator"])?;
    let json = data_file(places, tables::ORCHESTRATOR_CHAOS)?;
    term::step("breaking things");
    let mut driver = Command::new(places.release().join("penstock-loadtest"));
    driver.arg("chaos-orchestrator").arg("--programs").arg(places.release());
    driver.arg("--postgres-programs").arg(&postgres);
    driver.arg("--json").arg(&json).args(["--commit", &commit(places)?]);
    driver.args(["--tickets", &chaos.tickets.to_string(), "--seed", &chaos.seed.to_string()]);
    driver.args(["--kills", &chaos.kills.to_string()]);
    driver.args(["--clients", &chaos.clients.to_string()]);
    let outcome = command::run(&mut driver, "read the violations above; the seed repeats the plan");
    tables::write(places)?;
    outcome
}

/// What a chaos run of the chain may be told.
pub struct ChainChaos {
    pub kills: u64,
    pub many: u32,
    pub seed: u64,
}

/// A redeemer killed with winners on their way to a chain that misbehaves.
pub fn chaos_chain(places: &Places, chaos: &ChainChaos) -> Result<()> {
    // anvil and the contracts are among what tests need.
    setup::run(places, Purpose::Test)?;
    build(places, &["orchestrator"])?;
    let json = data_file(places, tables::CHAIN_CHAOS)?;
    term::step("breaking things");
    let mut driver = Command::new(places.release().join("penstock-loadtest"));
    driver.arg("chaos-chain").arg("--programs").arg(places.release());
    driver.arg("--json").arg(&json).args(["--commit", &commit(places)?]);
    driver.args(["--kills", &chaos.kills.to_string(), "--seed", &chaos.seed.to_string()]);
    driver.args(["--many", &chaos.many.to_string()]);
    let outcome = command::run(&mut driver, "read the violations above; the seed repeats the plan");
    tables::write(places)?;
    outcome
}

/// Every wire between two roles made bad in every way under paid work.
pub fn chaos_faults(places: &Places, seed: u64, only: &str) -> Result<()> {
    setup::run(places, Purpose::Test)?;
    build_with(places, ALL, COUNTED)?;
    term::step("starting PostgreSQL");
    let postgres = start_postgres(Durability::Full)?;
    let json = match only {
        "" => data_file(places, tables::FAULTS)?,
        _ => places.release().join(tables::FAULTS),
    };
    term::step("breaking wires");
    let mut driver = Command::new(places.release().join("penstock-loadtest"));
    driver.arg("chaos-faults").arg("--programs").arg(places.release());
    driver.arg("--json").arg(&json).args(["--commit", &commit(places)?]);
    driver.args(["--seed", &seed.to_string(), "--only", only]);
    // The driver makes databases of its own there.
    driver.env("PENSTOCK_TEST_POSTGRES_URL", &postgres.url);
    driver.env("PENSTOCK_TEST_MEDIA_DIR", places.media());
    let outcome = command::run(&mut driver, "read the violations above; --only repeats a cell");
    if only.is_empty() {
        tables::write(places)?;
    }
    outcome
}

/// Everything at work for a while, with bad wires now and then: memory and books.
pub fn soak(places: &Places, minutes: u64, seed: u64, out: Option<PathBuf>) -> Result<()> {
    setup::run(places, Purpose::Test)?;
    build_with(places, ALL, COUNTED)?;
    term::step("starting PostgreSQL");
    let postgres = start_postgres(Durability::Full)?;
    let is_documented = out.is_none();
    let json = out.map_or_else(|| data_file(places, tables::SOAK), Ok)?;
    term::step(format!("soaking for {minutes} minutes"));
    let mut driver = Command::new(places.release().join("penstock-loadtest"));
    driver.arg("soak").arg("--programs").arg(places.release());
    driver.arg("--json").arg(&json).args(["--commit", &commit(places)?]);
    driver.args(["--minutes", &minutes.to_string(), "--seed", &seed.to_string()]);
    // The driver makes databases of its own there.
    driver.env("PENSTOCK_TEST_POSTGRES_URL", &postgres.url);
    driver.env("PENSTOCK_TEST_MEDIA_DIR", places.media());
    let outcome = command::run(&mut driver, "read what is violated, or grows, above");
    if is_documented {
        tables::write(places)?;
    }
    outcome
}

/// Random histories of gateway, signer, orchestrators and chain, by the simulator.
pub fn chaos_money(places: &Places, histories: u64, seed: u64) -> Result<()> {
    term::step("building the simulator (release)");
    let mut cargo = command::cargo(places);
    cargo.args(["build", "--release", "--locked", "--package", "penstock-simulator"]);
    command::run(&mut cargo, BUILD_FIX)?;
    let json = data_file(places, tables::MONEY)?;
    term::step("running histories");
    let mut simulator = Command::new(places.release().join("penstock-simulator"));
    simulator.args(["--histories", &histories.to_string(), "--seed", &seed.to_string()]);
    let commit = commit(places)?;
    simulator.arg("--json").arg(&json).args(["--commit", &commit]);
    command::run(&mut simulator, "the line above says which seed breaks a law: run it alone")?;
    origin::note(&json, &commit, "release")?;
    tables::write(places)
}

/// The roles.
const ALL: &[&str] = &["gateway", "signer", "orchestrator", "worker"];
/// Soak and bad wires share programs that say what they have allocated.
const COUNTED: &[&str] = &["penstock-heap/counted"];

/// These roles and the driver, all at once, with the failpoints that chaos needs: benches measure the
/// programs that chaos breaks, and nothing is built twice.
fn build(places: &Places, roles: &[&str]) -> Result<()> {
    build_with(places, roles, &[])
}

/// The same with more features, which builds the roles once more.
fn build_with(places: &Places, roles: &[&str], features: &[&str]) -> Result<()> {
    let with_driver: Vec<&str> = roles.iter().copied().chain(["loadtest"]).collect();
    term::step(format!("building {} (release)", with_driver.join(", ")));
    let mut cargo = command::cargo(places);
    cargo.args(["build", "--release", "--locked"]);
    if !roles.is_empty() {
        cargo.args(["--features", "penstock-failpoint/failpoints"]);
    }
    for feature in features {
        cargo.args(["--features", feature]);
    }
    for role in with_driver {
        cargo.arg("--package").arg(format!("penstock-{role}"));
    }
    command::run(&mut cargo, BUILD_FIX)
}

fn data_file(places: &Places, name: &str) -> Result<PathBuf> {
    let folder = places.root.join(tables::FOLDER);
    fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
    Ok(folder.join(name))
}
