//! Each route's answers, and the settings.

use crate::devnet::{Devnet, args, signer};
use penstock_chain::{Chain, ChainError, OnChainTicket, WinningTicket};
use penstock_chain_devnet::{App, DevnetChain, wire::MineRequest};
use penstock_domain::{Address, U256, Wei, keccak256};
use serde_json::{Value, json};

async fn get(devnet: &Devnet, path: &str) -> Value {
    let response = reqwest::get(format!("{}{path}", devnet.http())).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

/// A ticket of account 0 to account 1 that wins.
pub async fn winner(chain: &DevnetChain, face_value: u64, nonce: u32) -> WinningTicket {
    let rounds = chain.rounds().await.unwrap();
    let rand = U256::from(nonce);
    let ticket = penstock_payments::Ticket {
        recipient: signer(1).address(),
        sender: signer(0).address(),
        face_value: Wei::from_u64(face_value),
        win_prob: U256::MAX,
        sender_nonce: nonce,
        recipient_rand_hash: keccak256(rand.to_be_bytes::<32>()),
        expiration_params: penstock_payments::ExpirationParams {
            creation_round: rounds.last_initialized_round,
            creation_round_block_hash: rounds.l1_block_hash,
        },
    };
    let sig = signer(0).sign_ticket(&ticket).await.unwrap().as_bytes().to_vec();
    WinningTicket { ticket: OnChainTicket::from(&ticket), sig, recipient_rand: rand }
}

#[tokio::test]
async fn a_round_of_all_routes() {
    let devnet = Devnet::start().await;
    let chain = devnet.client();
    let (sender, recipient) = (signer(0).address(), signer(1).address());
    let orchestrator = devnet.client().with_account(signer(1));
    orchestrator.register("https://127.0.0.1:8935").await.unwrap();
    devnet.mine(None, Some(1), true).await;
    let own = devnet.client().with_account(signer(0));
    own.fund_own(Wei::from_u64(40), Wei::from_u64(60)).await.unwrap();
    let redemption = chain.redeem(&winner(&chain, 50, 1).await).await.unwrap();

    let status = get(&devnet, "/v1/status").await;
    let totals = json!({
        "funded_wei": "100", "deposits_wei": "0", "reserves_wei": "50",
        "paid_wei": "50", "withdrawn_wei": "0"
    });
    assert_eq!(status["totals"], totals);
    assert_eq!((&status["redemptions"], &status["pool_size"]), (&json!(1), &json!(1)));
    let view = get(&devnet, &format!("/v1/senders/{sender}")).await;
    assert_eq!(view["reserve_wei"], "50");
    assert_eq!(view["claimed_in_current_round_wei"], "10");
    let claim = get(&devnet, &format!("/v1/senders/{sender}/claims/{recipient}")).await;
    assert_eq!(claim, json!({ "claimed_wei": "10" }));
    let active = get(&devnet, "/v1/orchestrators").await;
    assert_eq!(active.as_array().unwrap().len(), 1);
    assert_eq!(get(&devnet, &format!("/v1/orchestrators/{recipient}")).await, active[0]);
    let account = get(&devnet, &format!("/v1/accounts/{recipient}")).await;
    assert_eq!((&account["nonce"], &account["earned_wei"]), (&json!(1), &json!("50")));
    let ticket = get(&devnet, &format!("/v1/tickets/{}", redemption.ticket_hash)).await;
    assert_eq!(ticket["used"], true);
    assert_eq!(get(&devnet, "/v1/redemptions?limit=5").await, json!([ticket["redemption"]]));
    assert_eq!(chain.redemptions(5).await.unwrap(), [redemption]);
    assert_eq!(get(&devnet, "/healthz").await, json!({ "alive": true }));
    assert_eq!(get(&devnet, "/readyz").await, json!({ "ready": true }));
}

#[tokio::test]
async fn newest_redemptions_come_first() {
    let devnet = Devnet::start().await;
    let chain = devnet.client();
    devnet.client().with_account(signer(1)).register("").await.unwrap();
    devnet.mine(None, Some(1), true).await;
    let sender = signer(0).address();
    chain.fund_deposit_and_reserve_for(sender, Wei::from_u64(9), Wei::ZERO).await.unwrap();
    let mut redeemed = Vec::new();
    for nonce in 1..=3 {
        redeemed.push(chain.redeem(&winner(&chain, 1, nonce).await).await.unwrap());
    }
    redeemed.reverse();
    assert_eq!(chain.redemptions(2).await.unwrap(), redeemed[..2]);
}

#[tokio::test]
async fn leaving_the_pool_takes_effect_with_the_round() {
    let devnet = Devnet::start().await;
    let me = devnet.client().with_account(signer(1));
    me.register("").await.unwrap();
    devnet.mine(None, Some(1), true).await;
    me.resign().await.unwrap();
    assert!(me.is_active(signer(1).address()).await.unwrap());
    assert_eq!(me.pool_size().await.unwrap(), 0);
    devnet.mine(None, Some(1), true).await;
    assert!(!me.is_active(signer(1).address()).await.unwrap());
}

#[tokio::test]
async fn concurrent_transactions_of_one_account_all_land() {
    let devnet = Devnet::start().await;
    let me = devnet.client().with_account(signer(0));
    let one = Wei::from_u64(1);
    let (a, b, c) =
        tokio::join!(me.fund_own(one, one), me.fund_own(one, one), me.fund_own(one, one));
    let hashes = [a.unwrap().tx_hash, b.unwrap().tx_hash, c.unwrap().tx_hash];
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
    assert_eq!(me.account(signer(0).address()).await.unwrap().nonce, 3);
    assert_eq!(me.status().await.unwrap().totals.funded_wei, Wei::from_u64(6));
}

#[tokio::test]
async fn blocks_come_by_themselves_when_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let devnet = Devnet::start_in(folder, &["--block-interval-ms", "1"]).await;
    let first = devnet.client().rounds().await.unwrap().last_seen_l1_block;
    // Waits for the condition itself: the chain moves on without a request to mine.
    while devnet.client().rounds().await.unwrap().last_seen_l1_block < first + 3 {}
}

#[tokio::test]
async fn the_gas_price_is_a_setting() {
    let folder = tempfile::tempdir().unwrap();
    let devnet = Devnet::start_in(folder, &["--gas-price-wei", "1000000007"]).await;
    assert_eq!(devnet.client().gas_price().await.unwrap(), Wei::from_u64(1_000_000_007));
}

#[tokio::test]
async fn metrics_have_their_own_address() {
    let folder = tempfile::tempdir().unwrap();
    let args = args(folder.path(), &["--metrics-addr", "127.0.0.1:0"]);
    let app = App::build(&args).await.unwrap();
    let metrics = app.addresses()["metrics"].clone();
    tokio::spawn(app.run(penstock_http_kit::CancellationToken::new(), None));
    for path in ["metrics", "healthz", "readyz"] {
        assert_eq!(reqwest::get(format!("http://{metrics}/{path}")).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_devnet_that_is_not_there_is_unreachable() {
    let devnet = Devnet::start().await;
    let client = devnet.client();
    drop(devnet.stop().await);
    let error = client.sender_info(Address::ZERO).await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn settings_that_cannot_work_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = App::build(&args(folder.path(), &["--http-addr", "0.0.0.0:0"])).await.unwrap_err();
    assert!(error.is_config() && error.to_string().starts_with("--http-addr"), "{error}");
    let folder = Devnet::start().await.stop().await;
    let error = App::build(&args(folder.path(), &["--round-length", "11"])).await.unwrap_err();
    assert!(error.is_config() && error.to_string().starts_with("--round-length"), "{error}");
    let file = folder.path().join("devnet.sqlite/x");
    let error = App::build(&args(&file, &[])).await.unwrap_err();
    assert!(error.is_config() && error.to_string().starts_with("--data-dir"), "{error}");
}

#[tokio::test]
async fn mining_answers_with_the_state_after_it() {
    let devnet = Devnet::start().await;
    let request = MineRequest { blocks: Some(25), rounds: None, initialize_rounds: true };
    let status = devnet.client().mine(&request).await.unwrap();
    assert_eq!((status.l1_block, status.last_initialized_round), (35, 3));
}
