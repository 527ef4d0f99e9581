//! `penstock`: runs a local network (`dev`), or one operator command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use penstock::dev::{self, DevArgs};

/// Penstock's operator command line.
#[derive(Parser)]
#[command(name = "penstock", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole network on this machine: gateway, signer, orchestrator, worker and a devnet.
    Dev(DevArgs),
}

fn main() -> ExitCode {
    penstock_http_kit::tls::install_crypto_provider();
    match Cli::parse().command {
        Command::Dev(args) => dev::main(args),
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
