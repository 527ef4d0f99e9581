//! `kill -9` of the real process, with transactions in flight, again and again: what was answered
//! is there afterwards, what was not is either there whole or not at all.

use crate::{devnet::signer, routes::winner};
use penstock_chain::{Chain, ChainError, Redemption, Revert};
use penstock_chain_devnet::{DevnetChain, wire::MineRequest};
use penstock_domain::{U256, Wei};
use std::{path::Path, time::Duration};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

const KILLS: u32 = 6;
const IN_FLIGHT: u32 = 12;
/// For a hung process only.
const DEADLINE: Duration = Duration::from_secs(240);

/// Starts the binary and waits until it says where it listens.
async fn start(folder: &Path) -> (Child, DevnetChain) {
    let addr_file = folder.join("addr.json");
    let _ = std::fs::remove_file(&addr_file);
    let mut child = Command::new(env!("CARGO_BIN_EXE_penstock-devnet"))
        .args(["--http-addr", "127.0.0.1:0", "--block-interval-ms", "0"])
        .args(["--log-level", "error", "--round-length", "10", "--data-dir"])
        .arg(folder.join("data"))
        .arg("--addr-file")
        .arg(&addr_file)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let announced = async {
        loop {
            if let Ok(text) = std::fs::read_to_string(&addr_file) {
                let addresses: serde_json::Value = serde_json::from_str(&text).unwrap();
                break addresses["http"].as_str().unwrap().to_owned();
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was up");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let address = timeout(DEADLINE, announced).await.expect("it announces its address");
    (child, DevnetChain::connect(&format!("http://{address}")).unwrap())
}

#[tokio::test]
async fn nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, mut chain) = start(folder.path()).await;
    chain.clone().with_account(signer(1)).register("https://a").await.unwrap();
    let next = MineRequest { blocks: None, rounds: Some(1), initialize_rounds: true };
    chain.mine(&next).await.unwrap();
    let sender = signer(0).address();
    let million = Wei::from_u64(1_000_000);
    chain.fund_deposit_and_reserve_for(sender, million, Wei::ZERO).await.unwrap();
    let mut acknowledged: Vec<Redemption> = Vec::new();
    for round in 0..KILLS {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..IN_FLIGHT {
            let (chain, nonce) = (chain.clone(), round * IN_FLIGHT + n + 1);
            let ticket = winner(&chain, u64::from(nonce), nonce).await;
            tasks.spawn(async move { (chain.redeem(&ticket).await, ticket) });
        }
        // The first answer kills; how many of the others were in time differs each round.
        let mut unsure = Vec::new();
        while let Some(done) = tasks.join_next().await {
            match done.unwrap() {
                (Ok(redemption), _) => {
                    acknowledged.push(redemption);
                    let _ = child.start_kill();
                }
                (Err(ChainError::Unreachable { .. }), ticket) => unsure.push(ticket),
                (Err(error), _) => panic!("{error}"),
            }
        }
        timeout(DEADLINE, child.wait()).await.expect("it dies").unwrap();
        (child, chain) = start(folder.path()).await;
        for redemption in &acknowledged {
            let found = chain.redemption_of(redemption.ticket_hash).await.unwrap();
            assert_eq!(found.as_ref(), Some(redemption));
        }
        for ticket in unsure {
            let hash = ticket.ticket.hash();
            let known = chain.redemption_of(hash).await.unwrap();
            match (chain.redeem(&ticket).await, known) {
                (Ok(redemption), None) => acknowledged.push(redemption),
                (Err(error), Some(redemption)) => {
                    assert_eq!(error.revert(), Some(&Revert::Used), "{error}");
                    acknowledged.push(redemption);
                }
                (result, known) => panic!("{result:?}, but before {known:?}"),
            }
        }
    }
    let totals = chain.status().await.unwrap().totals;
    let nonces = u64::from(KILLS * IN_FLIGHT);
    assert_eq!(u64::try_from(acknowledged.len()).unwrap(), nonces);
    assert_eq!(totals.paid_wei, Wei::from_u64(nonces * (nonces + 1) / 2));
    let held = totals.deposits_wei.0 + totals.reserves_wei.0;
    assert_eq!(totals.funded_wei.0, held + totals.paid_wei.0 + totals.withdrawn_wei.0);
    assert_ne!(held, U256::ZERO);
    child.kill().await.unwrap();
}
