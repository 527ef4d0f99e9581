//! `cargo xtask dev`: set up, build the roles, hand over to `penstock dev`.

use std::{os::unix::process::CommandExt as _, process::Command};

use crate::{
    command,
    failure::{Failure, Result},
    places::Places,
    setup::{self, Purpose},
    term,
};

/// The packages whose binaries a network consists of.
pub const ROLES: [&str; 7] = [
    "penstock-gateway",
    "penstock-signer",
    "penstock-orchestrator",
    "penstock-worker",
    "penstock-chain-devnet",
    "penstock-chain-anvil",
    "penstock",
];

/// Builds every role's binary (dev profile), with these features of crates of ours.
pub fn build_roles(places: &Places, features: &[&str]) -> Result<()> {
    term::step("building the roles");
    let mut cargo = command::cargo(places);
    cargo.args(["build", "--locked", "--bins"]);
    for role in ROLES {
        cargo.args(["--package", role]);
    }
    for feature in features {
        cargo.args(["--features", feature]);
    }
    command::run(&mut cargo, "mend the compiler errors above, then run the same command again")
}

/// Whether `penstock dev` is asked for that chain, which has to be installed then.
fn on_anvil(args: &[String]) -> bool {
    args.iter().any(|arg| arg == "--chain=anvil")
        || args.windows(2).any(|pair| pair == ["--chain", "anvil"])
        || std::env::var_os("PENSTOCK_DEV_CHAIN").is_some_and(|chain| chain == "anvil")
}

pub fn run(places: &Places, args: &[String]) -> Result<()> {
    setup::run(places, Purpose::Dev)?;
    if on_anvil(args) {
        setup::install_chain(places)?;
    }
    build_roles(places, &[])?;
    term::step("starting the network (ctrl-c stops it)");
    let mut penstock = Command::new(places.bin().join("penstock"));
    penstock
        .current_dir(&places.root)
        .arg("dev")
        .args(args)
        .env("PENSTOCK_RUNNER_PYTHON", places.runner_python())
        .env("PENSTOCK_MODELS_DIR", places.models())
        .env("PENSTOCK_ANVIL", places.anvil())
        .env("PENSTOCK_CONTRACTS", places.contracts());
    // In our place, not beside us: ctrl-c and SIGTERM then reach it and nobody else, and the shell
    // waits until the last role has stopped.
    let error = penstock.exec();
    Err(Failure::new(format!("could not start `penstock dev`: {error}"), "run `cargo xtask dev`"))
}
