//! Operator commands: what the roles of a network say, for people, and a few things to do.
//!
//! Each command asks over HTTP, turns the answer into text by a pure function, and prints it once.
//! `--json` prints the answers themselves.

mod accounts;
mod amount;
mod api;
mod args;
mod deposit;
mod error;
mod funds;
mod mine;
mod orchestrator;
mod payments;
mod places;
mod senders;
mod status;
mod table;
mod voting;
mod winners;

use std::process::ExitCode;

use clap::Subcommand;

pub use amount::{BadAmount, amount, parse_amount};
pub use error::CommandError;

/// The operator commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what the signer paid: newest payments first, and totals.
    Payments(payments::PaymentsArgs),
    /// Show or change who may call the signer, what they may spend, and what they spent.
    #[command(subcommand)]
    Accounts(Box<accounts::AccountsCommand>),
    /// Show what senders credited at the orchestrator and what their jobs cost.
    Senders(senders::SendersArgs),
    /// Show the orchestrator's winning tickets and whether they were redeemed.
    Winners(winners::WinnersArgs),
    /// Show or fund a sender's deposit and reserve on a development chain.
    #[command(subcommand)]
    Deposit(deposit::DepositCommand),
    /// Show, fund, unlock or withdraw the signer's own deposit and reserve, on whatever chain it has.
    #[command(subcommand)]
    Funds(funds::FundsCommand),
    /// Show or change the orchestrator's own stake, terms and address on the chain.
    #[command(subcommand)]
    Orchestrator(Box<orchestrator::OrchestratorCommand>),
    /// Mine blocks or begin rounds on a development chain.
    Mine(mine::MineArgs),
    /// Show whether each role of the network is ready. Exit status 1 when one is not.
    Status(status::StatusArgs),
}

/// What a command has to say, and whether all is well.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// For standard output.
    pub text: String,
    /// Exit status 0.
    pub well: bool,
}

impl Report {
    fn well(text: String) -> Self {
        Self { text, well: true }
    }
}

/// Runs a command and gives its output.
pub async fn run(command: Command) -> Result<Report, CommandError> {
    match command {
        Command::Payments(args) => payments::run(&args).await.map(Report::well),
        Command::Accounts(command) => accounts::run(&command).await.map(Report::well),
        Command::Senders(args) => senders::run(&args).await.map(Report::well),
        Command::Winners(args) => winners::run(&args).await.map(Report::well),
        Command::Deposit(command) => deposit::run(&command).await.map(Report::well),
        Command::Funds(command) => funds::run(&command).await,
        Command::Orchestrator(command) => orchestrator::run(&command).await,
        Command::Mine(args) => mine::run(&args).await.map(Report::well),
        Command::Status(args) => status::run(&args).await,
    }
}

/// The whole life of the process: run, print, exit status. 64 = a setting has to change.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the command's output")]
pub fn main(command: Command) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(command)) {
        Ok(report) => {
            print!("{}", report.text);
            if report.well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
