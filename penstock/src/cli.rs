//! The whole command line: a network on this machine, or one operator command.

use clap::{Parser, Subcommand};

use crate::{
    commands::{self, examples},
    dev::DevArgs,
};

/// Penstock's operator command line.
#[derive(Debug, Parser)]
#[command(name = "penstock", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole network on this machine: gateway, signer, orchestrator, worker and a devnet.
    #[command(after_help = examples![
        "penstock dev",
        "penstock dev --chain anvil --data-dir .penstock-anvil",
    ])]
    Dev(Box<DevArgs>),
    /// Asks a network, or changes something in it.
    #[command(flatten)]
    Operator(commands::Command),
}
