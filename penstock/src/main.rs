//! `penstock`: runs a local network (`dev`), or one operator command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use penstock::{
    commands,
    dev::{self, DevArgs},
};

/// `EX_USAGE`: the command line has to change, as with every role.
const EXIT_BAD_CONFIG: u8 = 64;

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
    #[command(flatten)]
    Operator(commands::Command),
}

fn main() -> ExitCode {
    penstock_http_kit::tls::install_crypto_provider();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap writes help to standard output and mistakes to standard error by itself.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_BAD_CONFIG } else { 0 });
        }
    };
    match cli.command {
        Command::Dev(args) => dev::main(args),
        Command::Operator(command) => commands::main(command),
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
