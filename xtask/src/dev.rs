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
pub const ROLES: [&str; 6] = [
    "penstock-gateway",
    "penstock-signer",
    "penstock-orchestrator",
    "penstock-worker",
    "penstock-chain-devnet",
    "penstock",
];

/// Builds every role's binary (dev profile).
pub fn build_roles(places: &Places) -> Result<()> {
    term::step("building the roles");
    let mut cargo = command::cargo(places);
    cargo.args(["build", "--locked", "--bins"]);
    for role in ROLES {
        cargo.args(["--package", role]);
    }
    command::run(&mut cargo, "mend the compiler errors above, then run the same command again")
}

pub fn run(places: &Places, args: &[String]) -> Result<()> {
    setup::run(places, Purpose::Dev)?;
    build_roles(places)?;
    term::step("starting the network (ctrl-c stops it)");
    let mut penstock = Command::new(places.bin().join("penstock"));
    penstock
        .current_dir(&places.root)
        .arg("dev")
        .args(args)
        .env("PENSTOCK_RUNNER_PYTHON", places.runner_python())
        .env("PENSTOCK_MODELS_DIR", places.models());
    // In our place, not beside us: ctrl-c and SIGTERM then reach it and nobody else, and the shell
    // waits until the last role has stopped.
    let error = penstock.exec();
    Err(Failure::new(format!("could not start `penstock dev`: {error}"), "run `cargo xtask dev`"))
}
