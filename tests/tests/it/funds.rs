//! What an operator does with the signer's deposit and reserve by command, on Ethereum.

use penstock::dev::Role;
use penstock_chain::{Chain as _, SenderInfo};
use penstock_domain::{Address, U256};
use penstock_testkit::{anvil::Anvil, places, until};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::process::Command;

use crate::{
    ethereum::FUNDS,
    failpoints::{arm, assert_hit, disarm},
    network::{Needs, Network, SignerOn},
    payer::{Payer, Restart},
};

/// What a command said, and its exit status.
#[derive(Debug)]
struct Said {
    status: i32,
    text: String,
    errors: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// `penstock …` as an operator's script runs it.
async fn penstock(network: &Network, words: &[&str]) -> Said {
    run(network.admin(Role::Signer), words).await
}

async fn run(admin: String, words: &[&str]) -> Said {
    let mut command = Command::new(places::binary("penstock"));
    command.args(words).arg(format!("--signer-admin-url={admin}"));
    let output = command.env_clear().stdin(Stdio::null()).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let status = output.status.code().unwrap();
    Said { status, text: text(output.stdout), errors: text(output.stderr) }
}

/// The same with `--yes` and `--json`: what its transaction cost.
pub async fn done(network: &Network, words: &[&str]) -> U256 {
    let said = penstock(network, &[words, &["--yes", "--json"]].concat()).await;
    assert_eq!(said.status, 0, "{said:?}");
    let hash = said.json()["transaction"]["tx_hash"].as_str().unwrap().parse().unwrap();
    network.anvil().gas_paid(hash)
}

/// What `penstock funds` says.
async fn funds(network: &Network) -> String {
    let said = penstock(network, &["funds"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    said.text
}

/// How many transactions the account has made.
fn sent(network: &Network, account: Address) -> Value {
    network.anvil().rpc("eth_getTransactionCount", &json!([account.to_string(), "latest"]))
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

    // Shown, and not done: there is nobody to ask.
    let both = ["deposit", "0.1eth", "--reserve", "7wei"];
    let shown = penstock(&network, &both).await;
    assert!(shown.status == 0 && shown.text.contains("would be done with --yes: 0.1 ETH go from"));
    let shown = penstock(&network, &[&both[..], &["--json"]].concat()).await.json();
    assert_eq!((&shown["obstacle"], shown.get("transaction")), (&Value::Null, None), "{shown}");
    assert_eq!(standing(&network, account).await, before);
    assert_eq!(network.anvil().balance(account), had);

    let added = U256::from(FUNDS / 100);
    let mut cost = done(&network, &both).await;
    cost += done(&network, &["reserve", "5wei"]).await;
    let after = standing(&network, account).await;
    assert_eq!(after.deposit.0, before.deposit.0 + added);
    assert_eq!(after.reserve.funds_remaining.0, before.reserve.funds_remaining.0 + U256::from(12));
    assert_eq!(network.anvil().balance(account), had - added - U256::from(12) - cost);

    // What the contract would refuse is not sent.
    for command in ["withdraw", "cancel-unlock"] {
        let refused = penstock(&network, &[command, "--yes", "--json"]).await;
        let why = refused.json()["obstacle"].as_str().unwrap().to_owned();
        assert!(refused.status == 1 && why.contains("unlock"), "{refused:?}");
    }
    cost += done(&network, &["unlock"]).await;
    let shown = funds(&network).await;
    assert!(shown.contains("unlocking") && shown.contains("penstock cancel-unlock"), "{shown}");
    assert_eq!(penstock(&network, &["unlock", "--yes"]).await.status, 1, "it is in progress");
    cost += done(&network, &["cancel-unlock"]).await;
    assert_eq!(standing(&network, account).await.withdraw_round, 0);

    cost += done(&network, &["unlock"]).await;
    network.anvil().next_round(true);
    network.anvil().next_round(true);
    assert!(funds(&network).await.contains("unlocked since"));
    cost += done(&network, &["withdraw"]).await;
    let all = before.deposit.0 + before.reserve.funds_remaining.0;
    assert_eq!(network.anvil().balance(account), had + all - cost, "to the wei");
    let left = standing(&network, account).await;
    assert!(left.deposit.is_zero() && left.reserve.funds_remaining.is_zero(), "{left:?}");
}

#[tokio::test]
async fn a_transaction_above_the_signers_limits_is_not_sent() {
    const LIMIT: u128 = FUNDS / 100;
    let flags = vec![
        "--deposit-transactions".to_owned(),
        format!("--max-chain-spend-per-transaction={LIMIT}"),
        format!("--max-chain-spend-per-day={}", LIMIT * 3 / 2),
    ];
    let on = SignerOn { ethereum: true, flags, ..SignerOn::default() };
    let mut network = Network::start_on(Needs::PAYMENTS, on).await;
    let account: Address = network.sender.parse().unwrap();
    let before = standing(&network, account).await;
    let counted = async |network: &Network| -> u128 {
        let shown = penstock(network, &["funds", "--json"]).await.json();
        shown["chain_spend_today_wei"].as_str().unwrap().parse().unwrap()
    };
    let refused = async |network: &Network, wei: u128, key: &str, setting: &str| {
        let (before, amount) = (sent(network, account), format!("{wei}wei"));
        // With a key of its own the signer is asked whatever the command foresees.
        let words = ["deposit", &amount, "--yes", "--idempotency-key", key];
        let said = penstock(network, &words).await;
        assert_eq!(said.status, 1, "{said:?}");
        assert!(said.errors.contains("403") && said.errors.contains(setting), "{said:?}");
        assert_eq!(sent(network, account), before, "nothing is sent");
    };
    let preview = penstock(&network, &["deposit", "1eth", "--json"]).await;
    let why = preview.json()["obstacle"].as_str().unwrap().to_owned();
    assert!(preview.status == 1 && why.contains("--max-chain-spend-per-transaction"), "{why}");
    // The limit itself leaves nothing for gas.
    refused(&network, LIMIT, "a", "--max-chain-spend-per-transaction").await;
    assert_eq!(counted(&network).await, 0, "what was not sent is not counted");

    let half = format!("{}wei", LIMIT * 3 / 4);
    done(&network, &["deposit", &half]).await;
    let spent = counted(&network).await;
    assert!(spent > LIMIT * 3 / 4 && spent < LIMIT, "with its gas: {spent}");
    refused(&network, LIMIT * 3 / 4, "b", "--max-chain-spend-per-day").await;
    // A restart forgets nothing.
    network.crash(Role::Signer).await;
    network.ready(Role::Signer).await;
    assert_eq!(counted(&network).await, spent);
    refused(&network, LIMIT * 3 / 4, "c", "--max-chain-spend-per-day").await;
    // What it is below is done, and the key of what was refused is free.
    let small = ["deposit", "7wei", "--idempotency-key", "c"];
    done(&network, &small).await;
    assert!(counted(&network).await > spent);
    let after = standing(&network, account).await;
    assert_eq!(after.deposit.0, before.deposit.0 + U256::from(LIMIT * 3 / 4 + 7));
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
    let words = ["deposit", "7wei", "--yes"];
    let admin = network.admin(Role::Signer);
    let asked = tokio::spawn(async move { run(admin, &words).await });
    until("it is on its way", || async { count(network.anvil(), "pending") == "0x1" }).await;
    let refused = penstock(&network, &words).await;
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.errors.contains("409") && refused.errors.contains("on its way"), "{refused:?}");
    network.crash(Role::Signer).await;
    assert_eq!(asked.await.unwrap().status, 1);
    network.anvil().rpc("evm_setAutomine", &json!([true]));
    network.anvil().rpc("evm_mine", &json!([]));
    network.ready(Role::Signer).await;
    // Whatever is asked for next, what was on its way comes to its end first, and is not taken for it.
    done(&network, &words[..2]).await;
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
    let yes = ["deposit", "7wei", "--idempotency-key", "april", "--yes", "--json"];
    assert_eq!(penstock(&network, &yes).await.status, 1);
    assert_hit(&log, "operations.before_end");
    let sent = network.anvil().rpc("eth_getBlockByNumber", &json!(["latest", false]));
    let sent = sent["transactions"][0].clone();
    disarm(&mut network, Role::Signer);
    network.process(Role::Signer).ended().await;
    network.process(Role::Signer).restart().await;
    network.ready(Role::Signer).await;
    // As often as one likes, the same transaction.
    for _ in 0..2 {
        let said = penstock(&network, &yes).await.json();
        assert_eq!(said["transaction"]["tx_hash"], sent);
        assert_eq!(said["idempotency_key"], "april");
        let after = standing(&network, account).await;
        assert_eq!(after.deposit.0, before.deposit.0 + U256::from(7), "once");
    }
    let other = ["deposit", "8wei", "--idempotency-key", "april", "--yes"];
    let refused = penstock(&network, &other).await.errors;
    assert!(refused.contains("409") && refused.contains("used for something else"), "{refused}");
}

#[tokio::test]
async fn a_deposit_that_runs_low_is_told_in_time() {
    const MOST_DAYS: u64 = 1_000_000_000;
    // However long it lasts, it is said.
    let flags = vec![
        format!("--deposit-warn-days={MOST_DAYS}"),
        format!("--reserve-warn-float-wei={}", u128::MAX),
    ];
    let mut network =
        Network::start_on(Needs::PAYMENTS, SignerOn { flags, ..SignerOn::default() }).await;
    let shown = async |network: &Network| penstock(network, &["funds", "--json"]).await.json();
    let deposit_of =
        |shown: &Value| shown["deposit_wei"].as_str().unwrap().parse::<u128>().unwrap();
    let before = shown(&network).await;
    assert_eq!((&before["runway_days"], &before["spent_wei_per_day"]), (&Value::Null, &json!("0")));
    assert!(funds(&network).await.contains("nothing was spent"));

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
    assert!(funds(&network).await.contains(" a day, as in the last seven"));
    let ready = format!("{}/readyz", network.url(Role::Signer));
    let ready = network.http.get(&ready).send().await.unwrap();
    assert_eq!(ready.status(), 200, "it pays all the same");
    let said = ready.text().await.unwrap();
    for setting in ["--deposit-warn-days", "--reserve-warn-float-wei"] {
        assert!(said.contains(setting), "{said}");
        let troubles = after["troubles"].as_array().unwrap();
        assert!(troubles.iter().any(|said| said.as_str().unwrap().contains(setting)), "{after}");
    }
    // One orchestrator is there, and all of the reserve is for it.
    assert_eq!(
        (&after["orchestrators"], &after["reserve_float_wei"]),
        (&json!(1), &after["reserve_wei"])
    );
    let metrics = format!("{}/metrics", network.metrics(Role::Signer));
    let metrics = network.http.get(&metrics).send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("signer_reserve_float_wei") && metrics.contains("signer_withdraw_round 0")
    );
}
