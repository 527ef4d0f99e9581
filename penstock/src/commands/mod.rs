//! Operator commands: what the roles of a network say, for people, and a few things to do.
//!
//! Each command asks over HTTP, turns the answer into text by a pure function, and prints it once.
//! `--json` prints the answers themselves.

mod accounts;
mod amount;
mod api;
mod args;
mod consent;
mod devnet;
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

/// What stands below a command's help: command lines that can be typed as they are.
macro_rules! examples {
    ($($line:literal),+ $(,)?) => { concat!("Examples:", $("\n  ", $line),+) };
}
pub(crate) use examples;

/// The operator commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the signer's deposit and reserve: how much, how long they last, and whether they are on their way out.
    #[command(after_help = examples![
        "penstock funds",
        "penstock funds --signer-admin-url http://127.0.0.1:7937 --json",
    ])]
    Funds(funds::ShowArgs),
    /// Add to the signer's deposit, which pays for winning tickets, out of the ether of its account.
    #[command(after_help = examples![
        "penstock deposit 0.5eth",
        "penstock deposit 0.5eth --yes",
        "penstock deposit 0.5eth --reserve 0.5eth --yes --json",
    ])]
    Deposit(funds::DepositArgs),
    /// Add to the signer's reserve, which stands in for an empty deposit, out of the ether of its account.
    #[command(after_help = examples!["penstock reserve 0.5eth", "penstock reserve 0.5eth --yes"])]
    Reserve(funds::ReserveArgs),
    /// Begin the way out: after the contract's rounds tickets are not paid any more, and deposit and reserve can be withdrawn.
    #[command(after_help = examples!["penstock unlock", "penstock unlock --yes"])]
    Unlock(funds::ChangeArgs),
    /// End an unlock in progress: tickets go on to be paid.
    #[command(after_help = examples!["penstock cancel-unlock", "penstock cancel-unlock --yes"])]
    CancelUnlock(funds::ChangeArgs),
    /// Take deposit and reserve back to the signer's account, all of it, once they are unlocked.
    #[command(after_help = examples!["penstock withdraw", "penstock withdraw --yes"])]
    Withdraw(funds::ChangeArgs),
    /// Show what the signer paid: newest payments first, and totals.
    #[command(after_help = examples!["penstock payments --limit 5", "penstock payments --json"])]
    Payments(payments::PaymentsArgs),
    /// Show or change who may call the signer, what they may spend, and what they spent.
    #[command(subcommand)]
    Accounts(Box<accounts::AccountsCommand>),
    /// Show what senders credited at the orchestrator and what their jobs cost.
    #[command(after_help = examples!["penstock senders --limit 5", "penstock senders --json"])]
    Senders(senders::SendersArgs),
    /// Show the orchestrator's winning tickets and whether they were redeemed.
    #[command(after_help = examples!["penstock winners --limit 5", "penstock winners --json"])]
    Winners(winners::WinnersArgs),
    /// Show or change the orchestrator's own stake, terms and address on the chain.
    #[command(subcommand)]
    Orchestrator(Box<orchestrator::OrchestratorCommand>),
    /// Show or fund any sender's deposit and reserve on a development chain, with money from nowhere.
    #[command(subcommand)]
    Devnet(devnet::DevnetCommand),
    /// Mine blocks or begin rounds on a development chain.
    #[command(after_help = examples!["penstock mine --blocks 40", "penstock mine --rounds 2"])]
    Mine(mine::MineArgs),
    /// Show whether each role of the network is ready. Exit status 1 when one is not.
    #[command(after_help = examples![
        "penstock status",
        "penstock status --role gateway=http://127.0.0.1:9935 --json",
    ])]
    Status(status::StatusArgs),
}

/// What a command has to say, and whether all is well.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// For standard output.
    pub text: String,
    /// Exit status 0.
    pub well: bool,
    /// The same command with `--yes` would do what the text says.
    pub offers: bool,
}

impl Report {
    fn well(text: String) -> Self {
        Self { text, well: true, offers: false }
    }

    /// What would be done, if it is possible.
    fn preview(text: String, is_possible: bool) -> Self {
        Self { text, well: is_possible, offers: is_possible }
    }
}

/// Runs a command and gives its output.
pub async fn run(command: Command) -> Result<Report, CommandError> {
    match command {
        Command::Payments(args) => payments::run(&args).await.map(Report::well),
        Command::Accounts(command) => accounts::run(&command).await.map(Report::well),
        Command::Senders(args) => senders::run(&args).await.map(Report::well),
        Command::Winners(args) => winners::run(&args).await.map(Report::well),
        Command::Devnet(command) => devnet::run(&command).await.map(Report::well),
        Command::Funds(args) => funds::show(&args).await,
        Command::Deposit(args) => funds::deposit(&args).await,
        Command::Reserve(args) => funds::reserve(&args).await,
        Command::Unlock(args) => funds::unlock(&args).await,
        Command::CancelUnlock(args) => funds::cancel_unlock(&args).await,
        Command::Withdraw(args) => funds::withdraw(&args).await,
        Command::Orchestrator(command) => orchestrator::run(&command).await,
        Command::Mine(args) => mine::run(&args).await.map(Report::well),
        Command::Status(args) => status::run(&args).await,
    }
}

/// The whole life of the process: run, print, exit status. 64 = a setting has to change. `agreed` is the same command
/// with `--yes`, for who says so at a terminal.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the command's output")]
pub fn main(command: Command, agreed: impl FnOnce() -> Option<Command>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut outcome = runtime.block_on(run(command));
    if let Ok(report) = &outcome
        && report.offers
        && let Some(agreed) = agreed()
    {
        print!("{}", report.text);
        match consent::asked_at_terminal() {
            // Shown, and nobody is there.
            None => return ExitCode::SUCCESS,
            Some(true) => outcome = runtime.block_on(run(agreed)),
            Some(false) => {
                eprintln!("nothing was done");
                return ExitCode::FAILURE;
            }
        }
    }
    match outcome {
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
