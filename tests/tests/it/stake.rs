//! What an operator does with the orchestrator's stake by command, and what the orchestrator does by itself when a round
//! begins, on Ethereum.

use clap::Parser;
use penstock::{
    commands::{self, Command, Report},
    dev::Role,
};
use penstock_chain::{StakeStanding, Staking as _};
use penstock_domain::{B256, U256};
use penstock_testkit::{places, until};
use serde_json::Value;
use std::cell::Cell;

use crate::{
    failpoints::{arm, assert_hit, disarm},
    network::{Needs, Network, SignerOn},
};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// `penstock orchestrator …`
async fn run(network: &Network, words: &[&str]) -> Result<Report, commands::CommandError> {
    let admin = format!("--orchestrator-admin-url={}", network.admin(Role::Orchestrator));
    let words = ["penstock", "orchestrator"].into_iter().chain(words.iter().copied());
    commands::run(Cli::try_parse_from(words.chain([admin.as_str()])).unwrap().command).await
}

/// The same by the program itself, with `--json`: what it prints.
pub async fn by_program(network: &Network, words: &[&str]) -> Value {
    let admin = format!("--orchestrator-admin-url={}", network.admin(Role::Orchestrator));
    let ran = tokio::process::Command::new(places::binary("penstock"))
        .arg("orchestrator")
        .args(words)
        .args(["--json", &admin])
        .env_clear()
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let wrong = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{words:?}: {said} {wrong}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{words:?}: {error}: {said}"))
}

/// The transactions that it says it has made.
pub fn transactions(said: &Value) -> Vec<B256> {
    let made = said["transactions"].as_array().unwrap();
    made.iter().map(|one| one["tx_hash"].as_str().unwrap().parse().unwrap()).collect()
}

/// Done by the program: what it says.
async fn done(network: &Network, words: &[&str]) -> Value {
    by_program(network, &[words, &["--yes"]].concat()).await
}

/// Not sent, for a reason with these words.
async fn refused(network: &Network, words: &[&str], reason: &str) {
    let report = run(network, &[words, &["--yes"]].concat()).await.unwrap();
    assert!(!report.well && report.text.contains(reason), "{words:?}: {}", report.text);
}

async fn standing(network: &Network) -> StakeStanding {
    network.ethereum_as(Role::Orchestrator).standing().await.unwrap()
}

/// A network on Ethereum whose orchestrator has these settings in its environment.
async fn network(settings: &[(&str, &str)]) -> Network {
    let on = SignerOn { ethereum: true, ..SignerOn::default() };
    let mut network = Network::start_on(Needs::PAYMENTS, on).await;
    let env = network.process(Role::Orchestrator).env_mut();
    env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    network.crash(Role::Orchestrator).await;
    network.ready(Role::Orchestrator).await;
    network
}

#[tokio::test]
async fn an_operator_changes_stake_terms_and_address_by_command() {
    let mut network = network(&[]).await;
    // Nothing without the setting.
    refused(&network, &["reward"], "--stake-transactions").await;
    let env = network.process(Role::Orchestrator).env_mut();
    env.insert("PENSTOCK_STAKE_TRANSACTIONS".to_owned(), "true".to_owned());
    network.crash(Role::Orchestrator).await;
    network.ready(Role::Orchestrator).await;
    let network = network;

    let before = standing(&network).await;
    let shown = run(&network, &["show"]).await.unwrap().text;
    assert!(shown.contains("active") && shown.contains("1 LPT, own 1 LPT"), "{shown}");

    // Shown, and not done.
    let shown = run(&network, &["unbond", "0.25lpt"]).await.unwrap();
    assert!(shown.well && shown.text.contains("would be done with --yes: 0.25 LPT leave"));
    assert_eq!(standing(&network).await, before);

    // The contract's order: while active, terms after the reward, and the reward once.
    let rates = ["set-rates", "--reward-cut", "10%", "--fee-share", "50%"];
    refused(&network, &rates, "must have already called reward").await;
    done(&network, &["reward"]).await;
    refused(&network, &["reward"], "already called reward").await;
    done(&network, &rates).await;
    done(&network, &["set-service-uri", "https://orch.example:8935"]).await;
    refused(&network, &["set-service-uri", "https://0.0.0.0:8935"], "0.0.0.0").await;
    let now = standing(&network).await;
    assert_eq!((now.reward_cut_ppm, now.fee_share_ppm), (100_000, 500_000));
    assert_eq!(now.service_uri, "https://orch.example:8935");
    assert_eq!(now.last_reward_round, now.round.current_round);

    done(&network, &["unbond", "0.25lpt"]).await;
    done(&network, &["rebond", "0"]).await;
    done(&network, &["unbond", "0.25lpt"]).await;
    refused(&network, &["withdraw-stake", "1"], "withdraw round").await;
    for _ in 0..7 {
        network.anvil().next_round(true);
    }
    done(&network, &["withdraw-stake", "1"]).await;
    assert_eq!(standing(&network).await.balance_lptu.to_string(), "250000000000000000");
    done(&network, &["bond", "0.25lpt"]).await;
    assert!(standing(&network).await.balance_lptu.is_zero());
    refused(&network, &["bond", "1lpt"], "are to be bonded").await;
    refused(&network, &["withdraw-fees"], "no fees").await;
    done(&network, &["claim"]).await;

    // Votes: a proposal's once and in its time, a poll's until it is over.
    let anvil = network.anvil();
    anvil.command("propose(uint256,uint256)", &[U256::from(77), U256::from(2)]);
    let vote = ["proposal", "77", "--vote", "for", "--reason", "pays for itself"];
    refused(&network, &vote, "the proposal is pending").await;
    refused(&network, &["proposal", "78", "--vote", "for"], "unknown proposal id").await;
    anvil.next_round(true);
    let stake = standing(&network).await.total_stake_lptu.to_string();
    done(&network, &vote).await;
    refused(&network, &vote, "has voted on it already").await;
    let shown = run(&network, &["proposal", "77", "--json"]).await.unwrap().text;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["for_lptu"], stake.as_str(), "{shown}");
    assert_eq!((&shown["state"], &shown["has_voted"]), (&"active".into(), &true.into()));
    anvil.command("startPoll(uint256)", &[U256::from(5)]);
    let poll = anvil.poll().to_string();
    done(&network, &["vote", &poll, "yes"]).await;
    done(&network, &["vote", &poll, "no"]).await;
    anvil.mine_blocks(6);
    refused(&network, &["vote", &poll, "no"], "poll is over").await;
    let nobody = "0x00000000000000000000000000000000000000aa";
    refused(&network, &["vote", nobody, "no"], "no contract at").await;
    let controller = network.anvil().controller().to_string();
    refused(&network, &["vote", &controller, "no"], "is no poll").await;

    // No transaction: what the orchestrator asks for.
    let price = ["set-price", "--price", "777"];
    assert!(run(&network, &price).await.unwrap().text.contains("would be done"));
    let said = done(&network, &price).await;
    assert!(said["after"].to_string().contains("777"), "{said}");
}

#[tokio::test]
async fn an_orchestrator_that_dies_after_sending_answers_with_what_it_sent() {
    let mut network = network(&[("PENSTOCK_STAKE_TRANSACTIONS", "true")]).await;
    let log = arm(&mut network, Role::Orchestrator, "operations.before_end", 1);
    let env = network.process(Role::Orchestrator).env_mut();
    env.insert("PENSTOCK_STAKE_TRANSACTIONS".to_owned(), "true".to_owned());
    network.crash(Role::Orchestrator).await;
    network.ready(Role::Orchestrator).await;
    let words = ["unbond", "0.25lpt", "--idempotency-key", "may", "--yes"];
    run(&network, &words).await.unwrap_err();
    assert_hit(&log, "operations.before_end");
    network.process(Role::Orchestrator).ended().await;
    disarm(&mut network, Role::Orchestrator);
    let env = network.process(Role::Orchestrator).env_mut();
    env.insert("PENSTOCK_STAKE_TRANSACTIONS".to_owned(), "true".to_owned());
    network.process(Role::Orchestrator).restart().await;
    network.ready(Role::Orchestrator).await;
    let said = done(&network, &words[..4]).await;
    let again = done(&network, &words[..4]).await;
    assert_eq!(said["transactions"], again["transactions"]);
    let locks = standing(&network).await.unbonding_locks;
    assert_eq!(locks.len(), 1, "once: {locks:?}");
}

#[tokio::test]
async fn rounds_begin_and_rewards_are_called_without_anybody() {
    let network = network(&[
        ("PENSTOCK_CALL_REWARDS", "true"),
        ("PENSTOCK_INITIALIZE_ROUNDS", "true"),
        ("PENSTOCK_INITIALIZE_ROUNDS_MAX_DELAY_MS", "0"),
    ])
    .await;
    // The round of its start, and those that nobody else begins.
    let mut round = standing(&network).await.round.current_round;
    for _ in 0..3 {
        let looks = Cell::new(0_u32);
        until("the round has begun and its reward is called", || async {
            // What has failed is tried again with a later block, and here none comes by itself.
            looks.set(looks.get() + 1);
            if looks.get().is_multiple_of(200) {
                network.anvil().mine_blocks(1);
            }
            let now = standing(&network).await;
            now.round.is_initialized && now.last_reward_round == round
        })
        .await;
        network.anvil().next_round(false);
        round += 1;
    }
}

/// Out of the pool and back into it, by the program that operators use.
#[tokio::test]
async fn an_orchestrator_leaves_and_joins_by_the_program() {
    let network = network(&[("PENSTOCK_STAKE_TRANSACTIONS", "true")]).await;
    let anvil = network.anvil();
    let stake = "1000000000000000000";
    let shown = by_program(&network, &["show"]).await;
    assert_eq!((&shown["is_active"], &shown["total_stake_lptu"]), (&true.into(), &stake.into()));

    // Nothing is done without --yes.
    let would = by_program(&network, &["unbond", "1lpt"]).await;
    assert_eq!(would["before"]["total_stake_lptu"], stake, "{would}");
    assert_eq!(standing(&network).await.total_stake_lptu.to_string(), stake);

    let said = by_program(&network, &["unbond", "1lpt", "--yes"]).await;
    assert_eq!(transactions(&said).len(), 1, "{said}");
    for _ in 0..7 {
        anvil.next_round(true);
    }
    let now = standing(&network).await;
    assert!(!now.is_registered && !now.is_active && now.total_stake_lptu.is_zero());
    by_program(&network, &["withdraw-stake", "0", "--yes"]).await;
    assert_eq!(standing(&network).await.balance_lptu.to_string(), stake);

    // Tokens, rates and address in one command; what is skipped of them would be seen.
    let words = ["--stake", "1lpt", "--reward-cut", "7%", "--fee-share", "60%"];
    let uri = ["--service-uri", "https://joins.example:8935", "--yes"];
    let said = by_program(&network, &[&["register"], &words[..], &uri[..]].concat()).await;
    assert_eq!(transactions(&said).len(), 3, "{said}");
    let now = standing(&network).await;
    assert_eq!((now.reward_cut_ppm, now.fee_share_ppm), (70_000, 600_000));
    assert_eq!(now.service_uri, "https://joins.example:8935");
    assert!(now.is_registered && !now.is_active, "from the next round on");

    anvil.next_round(false);
    let round = standing(&network).await.round;
    assert!(!round.is_initialized);
    by_program(&network, &["initialize-round", "--yes"]).await;
    let now = standing(&network).await;
    assert!(now.round.is_initialized && now.is_active, "{now:?}");
    by_program(&network, &["reward", "--yes"]).await;
    let now = standing(&network).await;
    assert_eq!(now.last_reward_round, round.current_round);

    by_program(&network, &["set-service-uri", "https://moves.example:8935", "--yes"]).await;
    assert_eq!(standing(&network).await.service_uri, "https://moves.example:8935");
    by_program(&network, &["unbond", "0.5lpt", "--yes"]).await;
    by_program(&network, &["rebond", "1", "--yes"]).await;
    by_program(&network, &["claim", "--yes"]).await;
    assert_eq!(standing(&network).await.unbonding_locks.len(), 0);
    let said = by_program(&network, &["set-price", "--price", "777", "--yes"]).await;
    assert!(said["after"].to_string().contains("777"), "{said}");

    // What is voted on, as others than the command read it.
    anvil.command("startPoll(uint256)", &[U256::from(50)]);
    let poll = anvil.poll().to_string();
    by_program(&network, &["vote", &poll, "yes", "--yes"]).await;
    by_program(&network, &["vote", &poll, "no", "--yes"]).await;
    anvil.command("propose(uint256,uint256)", &[U256::from(77), U256::from(2)]);
    let read = by_program(&network, &["proposals"]).await;
    assert_eq!(read["is_whole"], true, "{read}");
    let [proposal] = read["proposals"].as_array().unwrap().as_slice() else { panic!("{read}") };
    assert_eq!(
        (&proposal["proposal_id"], &proposal["title"]),
        (&"77".into(), &"What it is".into())
    );
    assert_eq!(proposal["state"], "pending");
    let [asked] = read["polls"].as_array().unwrap().as_slice() else { panic!("{read}") };
    assert_eq!((&asked["poll"], &asked["voters"]), (&poll.as_str().into(), &1.into()), "{read}");
    let whole = standing(&network).await.total_stake_lptu.to_string();
    assert_eq!((&asked["yes_lptu"], &asked["no_lptu"]), (&"0".into(), &whole.as_str().into()));
    let url = format!("{}/v1/stake/polls/{poll}", network.admin(Role::Orchestrator));
    let read = network.get(&url).await;
    assert_eq!(read["poll"], poll.as_str());
    let [end, now] = ["end_block", "l1_block"].map(|of| read[of].as_u64().unwrap());
    assert!(end >= now && end <= now + 50, "{read}");
    let nobody = format!("{}/v1/stake/polls/{}", network.admin(Role::Orchestrator), B256::ZERO);
    assert_eq!(network.http.get(&nobody).send().await.unwrap().status(), 400);

    // What is over is voted on no more; what comes later is found from where the search stopped.
    anvil.mine_blocks(51);
    let read = by_program(&network, &["polls"]).await;
    assert_eq!(read["polls"].as_array().unwrap().len(), 0, "{read}");
    anvil.command("propose(uint256,uint256)", &[U256::from(78), U256::from(2)]);
    let read = by_program(&network, &["polls"]).await;
    let numbers: Vec<_> = read["proposals"].as_array().unwrap().iter().collect();
    assert!(numbers.iter().any(|proposal| proposal["proposal_id"] == "78"), "{read}");
}
