//! Each role dies at each of its failpoints, is started again on its data, and the client that was
//! interrupted carries on. A failpoint that was never reached fails its test.

use std::{fs, path::PathBuf};

use penstock::dev::Role;
use penstock_testkit::figure;

use crate::{
    books::Books,
    network::{Needs, Network},
    payer::{Payer, Restart},
};

/// Pixels that cost about three tickets.
const UNITS: u64 = 100_000_000;
const BOTH: Restart<'static> = Restart::Dead(&[Role::Signer, Role::Orchestrator]);

/// Arms `failpoint` for the role's next start. Later starts are unarmed.
pub fn arm(network: &mut Network, role: Role, failpoint: &str, pass: u32) -> PathBuf {
    let log = network.scratch().join(format!("{failpoint}.hits"));
    let env = network.process(role).env_mut();
    env.insert("PENSTOCK_FAILPOINTS".to_owned(), format!("{failpoint}=abort@{pass}"));
    env.insert("PENSTOCK_FAILPOINT_LOG".to_owned(), log.to_string_lossy().into_owned());
    log
}

pub fn disarm(network: &mut Network, role: Role) {
    network.process(role).env_mut().clear();
}

pub fn assert_hit(log: &PathBuf, failpoint: &str) {
    let hits = fs::read_to_string(log).unwrap_or_default();
    assert!(
        hits.lines().any(|line| line.starts_with(failpoint) && line.contains("abort")),
        "{failpoint} was never reached: {hits:?}"
    );
}

/// Pays while the role dies at the failpoint, for a first payment (no state yet) and for a later
/// one (with a state).
async fn dies_at(network: &mut Network, role: Role, failpoint: &str) {
    let mut payer = Payer::new(&failpoint.replace('.', "-"));
    for pass in 1..=2 {
        let before = Books::read(network).await;
        network.process(role).kill9();
        let log = arm(network, role, failpoint, 1);
        network.process(role).restart().await;
        disarm(network, role);
        network.ready(role).await;

        payer.pay(network, UNITS, BOTH).await;

        assert_hit(&log, failpoint);
        fs::remove_file(&log).unwrap();
        assert_eq!(payer.acknowledged, pass);
        let after = Books::read(network).await;
        assert!(after.credited_wei > before.credited_wei, "{failpoint}: nothing was credited");
        assert!(after.winners >= before.winners, "{failpoint}: a winner was lost");
        // The client heard of every payment in the end, and each was credited once.
        after.assert_settled();
    }
    figure(&format!("died at {failpoint}: payments settled"), payer.acknowledged);
}

#[tokio::test]
async fn the_signer_dies_at_every_failpoint() {
    let mut network = Network::start(Needs::PAYMENTS).await;
    for failpoint in
        ["signer.after_reserve", "signer.after_sign", "signer.after_commit", "signer.before_reply"]
    {
        dies_at(&mut network, Role::Signer, failpoint).await;
    }
}

#[tokio::test]
async fn the_orchestrator_dies_around_a_credit() {
    let mut network = Network::start(Needs::PAYMENTS).await;
    for failpoint in ["orchestrator.before_credit", "orchestrator.after_credit"] {
        dies_at(&mut network, Role::Orchestrator, failpoint).await;
    }
}

/// Winners are drawn by lot, so payments go on until the armed failpoint has killed the process.
#[tokio::test]
async fn the_orchestrator_dies_around_the_storage_of_a_winner() {
    let mut network = Network::start(Needs::PAYMENTS).await;
    for failpoint in ["orchestrator.before_winner_store", "orchestrator.after_winner_store"] {
        let mut payer = Payer::new(&failpoint.replace('.', "-"));
        network.process(Role::Orchestrator).kill9();
        let log = arm(&mut network, Role::Orchestrator, failpoint, 1);
        network.process(Role::Orchestrator).restart().await;
        disarm(&mut network, Role::Orchestrator);
        network.ready(Role::Orchestrator).await;
        let before = Books::read(&network).await;
        // One ticket in four wins: 400 tickets without a winner do not happen.
        for _ in 0..100 {
            payer.pay(&mut network, UNITS, BOTH).await;
            if log.exists() {
                break;
            }
        }
        assert_hit(&log, failpoint);
        let after = Books::read(&network).await;
        assert!(after.winners > before.winners, "{failpoint}: the winner was lost");
        after.assert_settled();
    }
}

#[tokio::test]
async fn the_orchestrator_dies_around_a_redemption() {
    let mut network = Network::start(Needs::PAYMENTS).await;
    let mut payer = Payer::new("redemption");
    let mut redeemed_before = 0;
    for failpoint in ["orchestrator.before_redeem", "orchestrator.after_redeem"] {
        // Winners wait until their offer has expired; only then is a redemption begun.
        let stored = Books::read(&network).await.winners;
        for _ in 0..100 {
            payer.pay(&mut network, UNITS, BOTH).await;
            if Books::read(&network).await.winners > stored {
                break;
            }
        }
        let winners = Books::read(&network).await.winners;
        assert!(winners > stored, "no ticket of some 400 won");

        network.process(Role::Orchestrator).kill9();
        let log = arm(&mut network, Role::Orchestrator, failpoint, 1);
        network.process(Role::Orchestrator).restart().await;
        disarm(&mut network, Role::Orchestrator);
        network.mine(60).await;
        let status = network.process(Role::Orchestrator).ended().await;
        assert!(!status.success());
        assert_hit(&log, failpoint);

        network.process(Role::Orchestrator).restart().await;
        network.ready(Role::Orchestrator).await;
        let settled = network.winners_settled().await;
        assert_eq!(settled.len() as u64, winners, "a winner was lost");
        let redeemed = settled.iter().filter(|w| w["status"] == "redeemed").count();
        assert_eq!(redeemed as u64, winners, "{failpoint}: {settled:?}");
        // The chain paid each of them, once.
        let status = network.get(&format!("{}/v1/status", network.url(Role::Devnet))).await;
        let on_chain = status["redemptions"].as_u64().unwrap();
        assert_eq!(on_chain, winners);
        assert!(on_chain > redeemed_before);
        redeemed_before = on_chain;
        // The next offers are of a later block.
        payer.refresh(&network).await;
    }
}
