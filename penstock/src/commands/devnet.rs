//! `penstock devnet show|fund`: a sender's deposit and reserve on a development chain, whose money comes from nowhere.

use clap::{Args, Subcommand};
use penstock_domain::{Address, Rational, Wei, address_lower, parse_address};
use serde::Deserialize;

use super::{
    CommandError,
    amount::{amount, parse_amount},
    api::Api,
    args::{ChainArgs, DataDir, Output},
    examples, places,
    table::facts,
};

/// `penstock devnet …`
#[derive(Debug, Subcommand)]
pub enum DevnetCommand {
    /// Show a sender's deposit, reserve, and whether it is on its way out.
    #[command(after_help = examples![
        "penstock devnet show",
        "penstock devnet show --account 0x70997970c51812dc3a010c7d01b50e0d17dc79c8 --json",
    ])]
    Show(ShowArgs),
    /// Add to a sender's deposit and reserve, from the development chain's faucet.
    #[command(after_help = examples!["penstock devnet fund --deposit 1eth --reserve 0.5eth"])]
    Fund(FundArgs),
}

/// Whose deposit.
#[derive(Debug, Args)]
struct Account {
    /// The sender's address. Default: the signer's, from its keystore file in --data-dir.
    #[arg(long, env = "PENSTOCK_ACCOUNT", value_name = "ADDRESS")]
    account: Option<String>,
}

/// Settings of `penstock devnet show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    account: Account,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    output: Output,
}

/// Settings of `penstock devnet fund`.
#[derive(Debug, Args)]
pub struct FundArgs {
    /// Added to the deposit, with its unit: 0.5eth, 20gwei, 1000wei.
    #[arg(long, value_name = "AMOUNT", value_parser = parse_amount, default_value = "0wei")]
    deposit: Wei,

    /// Added to the reserve, with its unit.
    #[arg(long, value_name = "AMOUNT", value_parser = parse_amount, default_value = "0wei")]
    reserve: Wei,

    #[command(flatten)]
    account: Account,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    output: Output,
}

/// What the chain says of a sender.
#[derive(Debug, Deserialize)]
struct Sender {
    address: String,
    deposit_wei: Rational,
    reserve_wei: Rational,
    claimed_in_current_round_wei: Rational,
    withdraw_round: u64,
}

/// As much of the chain's status as is shown.
#[derive(Debug, Deserialize)]
struct Status {
    current_round: u64,
}

pub(super) async fn run(command: &DevnetCommand) -> Result<String, CommandError> {
    match command {
        DevnetCommand::Show(args) => {
            let chain = places::devnet(&args.chain, &args.data)?;
            let account = account(&args.account, &args.data)?;
            show(&chain, account, args.output.json).await
        }
        DevnetCommand::Fund(args) => {
            let chain = places::devnet(&args.chain, &args.data)?;
            let account = account(&args.account, &args.data)?;
            if args.deposit.is_zero() && args.reserve.is_zero() {
                let reason = "say how much: --deposit 1eth, --reserve 1eth, or both".to_owned();
                return Err(CommandError::Setting { setting: "--deposit", reason });
            }
            let body = serde_json::json!({
                "account": address_lower(&account),
                "deposit_wei": args.deposit, "reserve_wei": args.reserve,
            });
            chain.post("/v1/fund", &body).await?;
            show(&chain, account, args.output.json).await
        }
    }
}

async fn show(chain: &Api, account: Address, json: bool) -> Result<String, CommandError> {
    let path = format!("/v1/senders/{}", address_lower(&account));
    let sender = chain.get(&path).await?;
    if json {
        return Ok(format!("{sender:#}\n"));
    }
    let status: Status = chain.read("/v1/status", &chain.get("/v1/status").await?)?;
    Ok(render(&chain.read(&path, &sender)?, status.current_round))
}

fn render(sender: &Sender, round: u64) -> String {
    let state = match sender.withdraw_round {
        0 => "locked: tickets are paid".to_owned(),
        until if round < until => {
            format!("unlocking: tickets are paid until round {until} begins, now is {round}")
        }
        since => format!("unlocked since round {since}: tickets are not paid, now is {round}"),
    };
    facts(&[
        ("account", sender.address.clone()),
        ("deposit", amount(&sender.deposit_wei)),
        ("reserve", amount(&sender.reserve_wei)),
        ("claimed this round", amount(&sender.claimed_in_current_round_wei)),
        ("state", state),
    ])
}

/// The account's address stands in the clear in a keystore file.
#[derive(Deserialize)]
struct Keystore {
    address: String,
}

fn account(args: &Account, data: &DataDir) -> Result<Address, CommandError> {
    const SETTING: &str = "--account";
    let bad = |reason: String| CommandError::Setting { setting: SETTING, reason };
    if let Some(text) = &args.account {
        return parse_address(text)
            .ok_or_else(|| bad("expected an address: 0x and 40 hex digits".to_owned()));
    }
    let path = data.data_dir.join("keys").join("signer.json");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        bad(format!(
            "say whose deposit, or point --data-dir at a network: {}: {error}",
            path.display()
        ))
    })?;
    serde_json::from_str::<Keystore>(&text)
        .ok()
        .and_then(|keystore| parse_address(&keystore.address))
        .ok_or_else(|| bad(format!("{} is no keystore file", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(withdraw_round: u64) -> Sender {
        serde_json::from_value(serde_json::json!({
            "address": "0xaa", "deposit_wei": "10000000000000000000", "reserve_wei": "7",
            "claimed_in_current_round_wei": "0", "withdraw_round": withdraw_round
        }))
        .unwrap()
    }

    #[test]
    fn a_sender_in_words() {
        let want = "\
account             0xaa
deposit             10 ETH
reserve             7 wei
claimed this round  0 wei
state               locked: tickets are paid
";
        assert_eq!(render(&sender(0), 5), want);
        assert!(render(&sender(6), 5).contains("until round 6 begins, now is 5"));
        assert!(render(&sender(6), 6).contains("unlocked since round 6"));
    }

    #[test]
    fn the_account_is_the_signers_unless_said() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir { data_dir: folder.path().to_owned() };
        let none = Account { account: None };
        let error = account(&none, &data).unwrap_err();
        assert!(error.to_string().starts_with("--account: "), "{error}");
        assert_eq!(error.exit_status(), 64);
        std::fs::create_dir(folder.path().join("keys")).unwrap();
        let address = "70997970c51812dc3a010c7d01b50e0d17dc79c8";
        let file = folder.path().join("keys/signer.json");
        std::fs::write(&file, format!(r#"{{"address":"{address}","version":3}}"#)).unwrap();
        assert_eq!(account(&none, &data).unwrap(), parse_address(address).unwrap());
        std::fs::write(&file, "{}").unwrap();
        assert!(account(&none, &data).is_err());
        let given = Account { account: Some("0x12".to_owned()) };
        assert!(account(&given, &data).unwrap_err().to_string().starts_with("--account: "));
    }
}
