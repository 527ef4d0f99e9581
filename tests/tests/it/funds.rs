//! What an operator does with the signer's deposit and reserve by command, on Ethereum.

use clap::Parser;
use penstock::{
    commands::{self, Command, Report},
    dev::Role,
};
use penstock_chain::{Chain as _, SenderInfo};
use penstock_domain::{Address, U256};
use penstock_testkit::{anvil::Anvil, until};
use serde_json::{Value, json};

use crate::{
    ethereum::FUNDS,
    failpoints::{arm, assert_hit, disarm},
    network::{Needs, Network, SignerOn},
    payer::{Payer, Restart},
};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// `penstock funds …`
fn command(network: &Network, words: &[&str]) -> Command {
    let admin = format!("--signer-admin-url={}", network.admin(Role::Signer));
    let words = ["penstock", "funds"].into_iter().chain(words.iter().copied());
    Cli::try_parse_from(words.chain([admin.as_str()])).unwrap().command
}

async fn funds(network: &Network, words: &[&str]) -> Report {
    commands::run(command(network, words)).await.unwrap()
}

/// The same with `--yes` and `--json`: what its transaction cost.
async fn done(network: &Network, words: &[&str]) -> U256 {
    let report = funds(network, &[words, &["--yes", "--json"]].concat()).await;
    assert!(report.well, "{}", report.text);
    let said: Value = serde_json::from_str(&report.text).unwrap();
    let hash = said["transaction"]["tx_hash"].as_str().unwrap().parse().unwrap();
    network.anvil().gas_paid(hash)
}

async fn standing(network: &Network, account: Address) -> SenderInfo {
    network.ethereum_as(Role::Signer).sender_info(account).await.unwrap()
}

#[tokio::test]
async fn an_operator_funds_unlocks_and_withdraws_by_command() {
    let flags = vec!["--deposit-transactions".to_owned()];
    let on = SignerOn { ethereum: true, flags, ..SignerOn::default() };
    let network = Network::start_on(Needs::PAYMENTS, on).await;
    let account: Address = network.sender.parse().unwrap();
    let before = standing(&network, account).await;
    assert_eq!(before.deposit.0, U256::from(FUNDS));
    let had = network.anvil().balance(account);

    // Shown, and not done.
    let add = ["add", "--deposit", "0.1eth", "--reserve", "7wei"];
    let shown = funds(&network, &add).await;
    assert!(shown.well && shown.text.contains("would be done with --yes: 0.1 ETH go from"));
    assert_eq!(standing(&network, account).await, before);
    assert_eq!(network.anvil().balance(account), had);

    let added = U256::from(FUNDS / 100);
    let mut cost = done(&network, &add).await;
    let after = standing(&network, account).await;
    assert_eq!(after.deposit.0, before.deposit.0 + added);
    assert_eq!(after.reserve.funds_remaining.0, before.reserve.funds_remaining.0 + U256::from(7));
    assert_eq!(network.anvil().balance(account), had - added - U256::from(7) - cost);

    // What the contract would refuse is not sent.
    for words in [&["withdraw", "--yes"], &["cancel-unlock", "--yes"]] {
        let refused = funds(&network, words).await;
        assert!(!refused.well && refused.text.contains("cannot be done"), "{}", refused.text);
    }
    cost += done(&network, &["unlock"]).await;
    assert!(funds(&network, &["show"]).await.text.contains("unlocking"));
    assert!(!funds(&network, &["unlock", "--yes"]).await.well, "it is in progress");
    cost += done(&network, &["cancel-unlock"]).await;
    assert_eq!(standing(&network, account).await.withdraw_round, 0);

    cost += done(&network, &["unlock"]).await;
    network.anvil().next_round(true);
    network.anvil().next_round(true);
    assert!(funds(&network, &["show"]).await.text.contains("unlocked since"));
    cost += done(&network, &["withdraw"]).await;
    let all = before.deposit.0 + before.reserve.funds_remaining.0;
    assert_eq!(network.anvil().balance(account), had + all - cost, "to the wei");
    let left = standing(&network, account).await;
    assert!(left.deposit.is_zero() && left.reserve.funds_remaining.is_zero(), "{left:?}");
}

#[tokio::test]
async fn one_that_is_on_its_way_is_not_begun_again_and_outlives_its_signer() {
    let flags = vec!["--deposit-transactions".to_owned()];
    let on = SignerOn { ethereum: true, flags, ..SignerOn::default() };
    let mut network = Network::start_on(Needs::PAYMENTS, on).await;
    let account: Address = network.sender.parse().unwrap();
    let before = standing(&network, account).await;
    let count = |anvil: &Anvil, at: &str| {
        anvil.rpc("eth_getTransactionCount", &json!([account.to_string(), at]))
    };
    network.anvil().rpc("evm_setAutomine", &json!([false]));
    let words = ["add", "--deposit", "7wei", "--yes"];
    let asked = tokio::spawn(commands::run(command(&network, &words)));
    until("it is on its way", || async { count(network.anvil(), "pending") == "0x1" }).await;
    let refused = commands::run(command(&network, &words)).await.unwrap_err().to_string();
    assert!(refused.contains("409") && refused.contains("on its way"), "{refused}");
    network.crash(Role::Signer).await;
    asked.await.unwrap().unwrap_err();
    network.anvil().rpc("evm_setAutomine", &json!([true]));
    network.anvil().rpc("evm_mine", &json!([]));
    network.ready(Role::Signer).await;
    // Whatever is asked for next, what was on its way comes to its end first, and is not taken for it.
    done(&network, &words[..3]).await;
    assert_eq!(count(network.anvil(), "latest"), "0x2");
    let after = standing(&network, account).await;
    assert_eq!(after.deposit.0, before.deposit.0 + U256::from(14), "each once");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again_and_nothing_is_added_once_more() {
    let flags = vec!["--deposit-transactions".to_owned()];
    let on = SignerOn { ethereum: true, flags, ..SignerOn::default() };
    let mut network = Network::start_on(Needs::PAYMENTS, on).await;
    let account: Address = network.sender.parse().unwrap();
    let before = standing(&network, account).await;
    let log = arm(&mut network, Role::Signer, "operations.before_end", 1);
    network.crash(Role::Signer).await;
    network.ready(Role::Signer).await;
    let words = ["add", "--deposit", "7wei", "--idempotency-key", "april"];
    let yes = [&words[..], &["--yes", "--json"]].concat();
    commands::run(command(&network, &yes)).await.unwrap_err();
    assert_hit(&log, "operations.before_end");
    let sent = network.anvil().rpc("eth_getBlockByNumber", &json!(["latest", false]));
    let sent = sent["transactions"][0].clone();
    disarm(&mut network, Role::Signer);
    network.process(Role::Signer).ended().await;
    network.process(Role::Signer).restart().await;
    network.ready(Role::Signer).await;
    // As often as one likes, the same transaction.
    for _ in 0..2 {
        let report = funds(&network, &yes).await;
        let said: Value = serde_json::from_str(&report.text).unwrap();
        assert_eq!(said["transaction"]["tx_hash"], sent);
        assert_eq!(said["idempotency_key"], "april");
        let after = standing(&network, account).await;
        assert_eq!(after.deposit.0, before.deposit.0 + U256::from(7), "once");
    }
    let other = ["add", "--deposit", "8wei", "--idempotency-key", "april", "--yes"];
    let refused = commands::run(command(&network, &other)).await.unwrap_err().to_string();
    assert!(refused.contains("409") && refused.contains("used for something else"), "{refused}");
}

#[tokio::test]
async fn a_deposit_that_runs_low_is_told_in_time() {
    const MOST_DAYS: u64 = 1_000_000_000;
    // However long it lasts, it is said.
    let flags = vec![format!("--deposit-warn-days={MOST_DAYS}")];
    let mut network =
        Network::start_on(Needs::PAYMENTS, SignerOn { flags, ..SignerOn::default() }).await;
    let shown = async |network: &Network| -> Value {
        let report = funds(network, &["show", "--json"]).await;
        assert!(report.well, "{}", report.text);
        serde_json::from_str(&report.text).unwrap()
    };
    let deposit_of =
        |shown: &Value| shown["deposit_wei"].as_str().unwrap().parse::<u128>().unwrap();
    let before = shown(&network).await;
    assert_eq!((&before["runway_days"], &before["spent_wei_per_day"]), (&Value::Null, &json!("0")));
    assert!(funds(&network, &["show"]).await.text.contains("nothing was spent"));

    let mut payer = Payer::new("runway");
    for _ in 0..2 {
        payer.pay(&mut network, 100_000_000, Restart::Dead(&[])).await;
    }
    let after = shown(&network).await;
    let per_day: u128 = after["spent_wei_per_day"].as_str().unwrap().parse().unwrap();
    let days = u128::from(after["runway_days"].as_u64().unwrap());
    assert!(per_day > 0 && days > 0 && days < u128::from(MOST_DAYS), "{after}");
    // Of the exact rate, which is told rounded.
    let deposit = deposit_of(&after);
    assert!(days >= deposit / (per_day + 1) && days <= deposit / (per_day - 1).max(1), "{after}");
    // A moment later it is a little more.
    assert!(funds(&network, &["show"]).await.text.contains(" a day, as in the last seven"));
    let ready = format!("{}/readyz", network.url(Role::Signer));
    let ready = network.http.get(&ready).send().await.unwrap();
    assert_eq!(ready.status(), 200, "it pays all the same");
    let said = ready.text().await.unwrap();
    assert!(said.contains("--deposit-warn-days"), "{said}");
}
