//! `penstock`: runs a local network (`dev`), or one operator command.

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;
use penstock::{
    cli::{Cli, Command},
    commands, dev,
};

/// `EX_USAGE`: the command line has to change, as with every role.
const EXIT_BAD_CONFIG: u8 = 64;

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
        Command::Dev(args) => dev::main(*args),
        Command::Operator(command) => commands::main(command, agreed),
    }
}

/// What was typed, with `--yes`.
fn agreed() -> Option<commands::Command> {
    let words = std::env::args_os().chain([OsString::from("--yes")]);
    match Cli::try_parse_from(words).ok()?.command {
        Command::Operator(command) => Some(command),
        Command::Dev(_) => None,
    }
}
