//! `cargo xtask bench` without a role: several rounds of every benchmark in a short form, one report of all. A round
//! is kept short by fewer payments, jobs, channels and readers, never by leaving out what is compared with.

use std::{fs, path::Path, process::Command, time::Instant};

use serde_json::{Value, json};

use super::{
    Bench, GatewayBench, OrchestratorBench, RUN_FIX, build, gateway_driver, orchestrator_driver,
    signer_driver,
};
use crate::{
    command,
    failure::{Doing as _, Failure, Result},
    origin::commit,
    places::Places,
    report,
    services::postgres::{Durability, start_postgres},
    setup::{self, Purpose},
    tables, term,
};

/// Key stores beside the keystore: one of each kind.
const KEY_STORES: [&str; 4] = ["softhsm", "vault", "awskms:10", "gcpkms:10"];
/// The load test's scenario, which is a closed loop of as many clients as the gateway's ways have.
const SCENARIO: &str = "loadtest/scenarios/closed.toml";
const CLIENTS: u64 = 32;

/// All benchmarks, so many times over.
pub fn bench(places: &Places, rounds: usize, seed: u64) -> Result<()> {
    let began = Instant::now();
    setup::run(places, Purpose::Test)?;
    build(places, &["orchestrator", "worker", "gateway", "signer"])?;
    let mut all = Vec::new();
    for number in 1..=rounds {
        term::step(format!("round {number} of {rounds} (keep the machine quiet)"));
        all.push(round(places, seed)?);
    }
    report::write(places, &all, began.elapsed())?;
    tables::write(places)
}

/// What each driver measured.
fn round(places: &Places, seed: u64) -> Result<Value> {
    let folder = places.target.join("bench");
    fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
    let json = folder.join("round.json");
    // Its own for each round, as if that were the only one.
    let postgres = start_postgres(Durability::Full)?;

    let of = |payments: u64, key_stores: &[&'static str]| {
        let (key_stores, signer_flags) = (key_stores.to_vec(), Vec::new());
        let bench = Bench { payments, clients: 64, key_stores, signer_flags, seed };
        measured(signer_driver(places, &bench, &postgres, &json)?, &json)
    };
    let (signer, keys) = (of(12_000, &[])?, of(4_000, &KEY_STORES)?);

    let gateway = GatewayBench { jobs: 5_000, clients: CLIENTS, streams: 0, seed };
    let mut driver = gateway_driver(places, &gateway, &json)?;
    driver.args(["--crowds=300", "--flood-segments=20"]);
    let gateway = measured(driver, &json)?;

    let orchestrator = OrchestratorBench {
        tickets: 12_000,
        clients: 16,
        segments: 8,
        channels: 200,
        flags: Vec::new(),
        seed,
    };
    let mut driver = orchestrator_driver(places, &orchestrator, &postgres, &json)?;
    driver.args(["--tickets-per-payment=1,100", "--fan-outs=10,100", "--crowd=500"]);
    driver.args(["--channel-segments=2", "--channel-rounds=2"]);
    let orchestrator = measured(driver, &json)?;

    let load = measured(scenario(places, &json, seed)?, &json)?;
    Ok(json!({
        "signer": signer, "keys": keys, "gateway": gateway, "orchestrator": orchestrator, "load": load,
    }))
}

/// A few seconds of a scenario of the load test, on a network of its own.
fn scenario(places: &Places, json: &Path, seed: u64) -> Result<Command> {
    let mut driver = Command::new(places.release().join("penstock-loadtest"));
    driver.arg("run").arg(places.root.join(SCENARIO)).args(["--commit", &commit(places)?]);
    driver.arg("--json").arg(json).args(["--duration-s=6", &format!("--seed={seed}")]);
    Ok(driver)
}

/// What a driver writes.
fn measured(mut driver: Command, json: &Path) -> Result<Value> {
    command::run(&mut driver, RUN_FIX)?;
    let text = fs::read_to_string(json).doing(format!("read {}", json.display()))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("figures that cannot be read: {error}"), RUN_FIX))
}
