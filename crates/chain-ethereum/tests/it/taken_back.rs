//! Redemptions whose blocks are taken back.

use crate::world::{World, signer, winner};
use penstock_chain::{Chain, Revert, Standing, conformance::Network};
use penstock_domain::Wei;
use serde_json::{Value, json};

/// Account 1 earns, account 0 has paid in.
async fn world() -> World {
    let world = World::start().await;
    world.ethereum(1).register("https://orchestrator.example").await.unwrap();
    world.ethereum(0).fund_own(Wei::from_u64(100), Wei::ZERO).await.unwrap();
    world.next_round().await;
    world
}

/// The newest blocks make way for others, in which nothing happens.
fn take_back(world: &World, blocks: u64) {
    world.anvil.rpc("anvil_reorg", &json!([blocks, []]));
}

fn mine(world: &World, blocks: u64) {
    world.anvil.rpc("anvil_mine", &json!([format!("{blocks:#x}")]));
}

fn height(world: &World) -> u64 {
    let said: Value = world.anvil.rpc("eth_blockNumber", &json!([]));
    u64::from_str_radix(said.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

#[tokio::test]
async fn what_was_taken_back_is_gone_at_any_depth_and_is_redeemed_again() {
    let world = world().await;
    let chain =
        world.with_settings(|settings| settings.final_blocks = Some(20)).with_account(signer(1));
    for depth in 1..=20_u64 {
        let ticket = winner(&world, 0, 1, 3, u32::try_from(depth).unwrap()).await;
        let before = world.chain().sender_info(signer(0).address()).await.unwrap().deposit;
        let paid = chain.redeem(&ticket).await.unwrap();
        assert_eq!(paid.block, Some(height(&world)));
        mine(&world, depth - 1);
        let last = chain.final_block().await.unwrap().unwrap();
        assert_eq!(last, height(&world).saturating_sub(20));
        let block = paid.block.unwrap();
        let stands =
            chain.redemption_standing(&ticket.ticket, Some(paid.tx_hash), last).await.unwrap();
        assert_eq!(stands, Standing::InBlock { tx_hash: Some(paid.tx_hash), block }, "{depth}");

        take_back(&world, depth);
        let stands =
            chain.redemption_standing(&ticket.ticket, Some(paid.tx_hash), last).await.unwrap();
        assert_eq!(stands, Standing::Gone, "{depth}");
        let again = chain.redeem(&ticket).await.unwrap();
        assert_eq!(again.paid(), Wei::from_u64(3), "{depth}");
        // Whatever transaction was known before, the one that it is in is found.
        mine(&world, 20);
        let last = chain.final_block().await.unwrap().unwrap();
        for known in [Some(again.tx_hash), None] {
            let stands = chain.redemption_standing(&ticket.ticket, known, last).await.unwrap();
            assert_eq!(stands, Standing::Final { tx_hash: Some(again.tx_hash) }, "{depth}");
        }
        assert_eq!(chain.redeem(&ticket).await.unwrap_err().revert(), Some(&Revert::Used));
        let after = world.chain().sender_info(signer(0).address()).await.unwrap().deposit;
        assert_eq!(before.0 - after.0, Wei::from_u64(3).0, "paid once: {depth}");
    }
}

#[tokio::test]
async fn the_chain_says_itself_what_is_final() {
    let world = world().await;
    let chain = world.with_settings(|_| {}).with_account(signer(1));
    let ticket = winner(&world, 0, 1, 3, 1).await;
    let paid = chain.redeem(&ticket).await.unwrap();
    let block = paid.block.unwrap();
    assert!(chain.final_block().await.unwrap().unwrap() < block);
    mine(&world, 200);
    let last = chain.final_block().await.unwrap().unwrap();
    assert!(last >= block && last < height(&world), "{last} of {}", height(&world));
    let stands = chain.redemption_standing(&ticket.ticket, Some(paid.tx_hash), last).await.unwrap();
    assert_eq!(stands, Standing::Final { tx_hash: Some(paid.tx_hash) });
}
