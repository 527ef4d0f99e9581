//! A chain whose rounds the test turns.

use penstock_chain::Chain;
use penstock_testkit::sim::{SimChain, SimOrchestrator, account};

#[tokio::test]
async fn orchestrators_become_active_and_see_the_round() {
    let chain = SimChain::start().await;
    let key = account();
    chain.fund(key.address(), 1_000).await;
    let funds = chain.client.sender_info(key.address()).await.unwrap();
    assert_eq!(funds.deposit, penstock_domain::Wei::from_u64(1_000));
    let before = chain.client.rounds().await.unwrap();
    let orchestrators = [SimOrchestrator::start().await, SimOrchestrator::start().await];
    chain.activate(&orchestrators).await;
    let active = chain.client.active_orchestrators().await.unwrap();
    assert_eq!(active.len(), 2);
    for orchestrator in &orchestrators {
        assert!(active.iter().any(|a| a.address == orchestrator.key.address()));
        let seen = *orchestrator.rounds.lock().unwrap();
        assert_eq!(seen.last_initialized_round, before.last_initialized_round + 1);
    }
    chain.mine_blocks(3).await;
    let after = chain.client.rounds().await.unwrap().last_seen_l1_block;
    assert_eq!(after, orchestrators[0].rounds.lock().unwrap().last_seen_l1_block + 3);
}

#[tokio::test]
async fn a_failing_chain_is_unreachable_and_comes_back() {
    let chain = SimChain::start().await;
    chain.faults.fail_one_in(1);
    assert!(chain.client.rounds().await.is_err());
    chain.faults.fail_one_in(0);
    assert!(chain.client.rounds().await.is_ok());
    assert!(chain.chain_url().starts_with("devnet:http://127.0.0.1:"));
}
