//! Installs what is missing, in an order in which each step has what it needs. Every step recognises
//! its own finished work, so that a second run costs next to nothing.

mod contracts;
mod media;
mod sdk;
mod stamp;
mod system;
mod venv;

pub use system::{install as install_programs, is_root};

use std::{fs, process::Command};

use crate::{
    command,
    failure::{Doing as _, Result},
    places::Places,
    term,
};

/// What the installed things are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Running the network.
    Dev,
    /// Testing it: everything of `Dev`, and the servers, the browser, the SDKs, schemathesis, moto
    /// and the chain that tests use.
    Test,
}

pub fn run(places: &Places, purpose: Purpose) -> Result<()> {
    term::step("setting up");
    fs::create_dir_all(&places.dev).doing(format!("make {}", places.dev.display()))?;
    system::install(purpose)?;
    runner(places)?;
    media::install(places)?;
    if purpose == Purpose::Test {
        sdk::install(places)?;
        venv::ai_sdks(places).install(places)?;
        venv::schemathesis(places).install(places)?;
        install_deploy(places)?;
        venv::moto(places).install(places)?;
        contracts::install(places)?;
    }
    Ok(())
}

/// The chain of `penstock dev --chain anvil`, and of tests.
pub fn install_chain(places: &Places) -> Result<()> {
    system::install_for_chain()?;
    contracts::install(places)
}

/// What reads `deploy/`.
pub fn install_deploy(places: &Places) -> Result<()> {
    fs::create_dir_all(&places.dev).doing(format!("make {}", places.dev.display()))?;
    venv::deploy(places).install(places)
}

/// The Python that makes virtual environments.
fn python() -> Command {
    Command::new("python3")
}

/// The runner's packages and models, by the runner's own installer (it knows its hashes).
fn runner(places: &Places) -> Result<()> {
    let mut installer = python();
    installer
        .current_dir(&places.root)
        .arg("runner/install.py")
        .arg("--venv")
        .arg(places.dev.join("runner-venv"))
        .arg("--models")
        .arg(places.models());
    command::run(
        &mut installer,
        "the lines above name the package; check that pip reaches its index, then run again",
    )
}
