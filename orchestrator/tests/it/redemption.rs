//! Winners on their way to the chain: after expiry, once, and over crashes.

use crate::{
    between::Between,
    payer::{Payer, answer, empty, post, token},
    world::{TICKET_EV, World},
};
use penstock_chain::{Chain, OnChainTicket, WinningTicket};
use penstock_domain::U256;
use penstock_ledger::orchestrator::{LeaseTime, StoredWinner, open};
use penstock_testkit::{until, until_some};
use serde_json::Value;

/// Every ticket wins: the face value is the EV.
async fn world() -> World {
    World::paid(TICKET_EV).await
}

/// A payment of so many winners; its sender.
async fn win(world: &World, tickets: u32) -> Payer {
    let payer = Payer::funded(world).await;
    let info = payer.info(world, None).await.unwrap();
    let payment = payer.payment(&info, &(1..=tickets).collect::<Vec<_>>()).await;
    let headers = payer.headers(&payment, &empty(&info, &token(&info).session_id)).await;
    assert_eq!(answer(post(world, "/payment", &headers)).await.0, 200);
    payer
}

async fn statuses(world: &World) -> Vec<String> {
    let winners = world.operator("/v1/winners").await;
    let text = |w: &Value| w["status"].as_str().unwrap().to_owned();
    winners.as_array().unwrap().iter().map(text).collect()
}

async fn redeemed(world: &World, count: usize) {
    until("all winners are redeemed", || async {
        statuses(world).await == vec!["redeemed".to_owned(); count]
    })
    .await;
}

#[tokio::test]
async fn winners_are_redeemed_when_their_offer_is_over() {
    let world = world().await;
    win(&world, 3).await;
    assert_eq!(statuses(&world).await, ["queued"; 3]);
    world.mine(Some(30), None).await;
    world.see_the_chain().await;
    assert_eq!(statuses(&world).await, ["queued"; 3], "the offer still lives");
    assert!(world.chain().redemptions(10).await.unwrap().is_empty());
    world.mine(Some(11), None).await;
    redeemed(&world, 3).await;
    let paid = world.chain().redemptions(10).await.unwrap();
    assert_eq!(paid.len(), 3);
    assert!(paid.iter().all(|p| p.recipient == world.recipient && p.paid() == p.face_value));
    let summary = world.operator("/v1/summary").await;
    assert_eq!((&summary["winners"], &summary["redeemed"]), (&3.into(), &3.into()));
    assert_eq!(summary["redeemed_face_value_wei"], (3 * TICKET_EV).to_string());
    let winners = world.operator("/v1/winners").await;
    assert!(winners[0]["tx_hash"].as_str().unwrap().starts_with("0x"));
}

#[tokio::test]
async fn winners_wait_through_a_restart() {
    let mut world = world().await;
    win(&world, 2).await;
    world.restart().await;
    assert_eq!(statuses(&world).await, ["queued"; 2]);
    world.mine(Some(41), None).await;
    redeemed(&world, 2).await;
    assert_eq!(world.chain().redemptions(10).await.unwrap().len(), 2);
}

/// Puts the process's ledger into the state of a crash while a winner was being sent.
async fn crash_while_sending(world: &mut World) -> StoredWinner {
    let stopped = world.stop();
    stopped.await.unwrap();
    let url = format!("sqlite://{}", world.data("ledger.db").display());
    let ledger = open(&url, LeaseTime::default()).await.unwrap();
    let winner = ledger.winners(1).await.unwrap().remove(0);
    let fence = ledger.redeemer().await.unwrap().unwrap();
    assert!(ledger.begin_redemption(winner.winner.ticket_hash, fence, 1).await.unwrap());
    ledger.close().await;
    winner
}

fn on_chain(stored: &StoredWinner) -> WinningTicket {
    let ticket = &stored.winner.ticket;
    WinningTicket {
        ticket: OnChainTicket {
            recipient: ticket.recipient,
            sender: ticket.sender,
            face_value: ticket.face_value,
            win_prob: ticket.win_prob,
            sender_nonce: U256::from(ticket.sender_nonce),
            recipient_rand_hash: ticket.recipient_rand_hash,
            aux_data: ticket.expiration_params.aux_data(),
        },
        sig: stored.winner.signature.as_bytes().to_vec(),
        recipient_rand: stored.winner.recipient_rand.to_u256(),
    }
}

#[tokio::test]
async fn a_crash_before_sending_forgets_nothing() {
    let mut world = world().await;
    win(&world, 1).await;
    crash_while_sending(&mut world).await;
    world.mine(Some(41), None).await;
    world.start_again().await;
    redeemed(&world, 1).await;
    assert_eq!(world.chain().redemptions(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_crash_after_sending_redeems_nothing_twice() {
    let mut world = world().await;
    win(&world, 1).await;
    let winner = crash_while_sending(&mut world).await;
    world.mine(Some(41), None).await;
    let paid = world.chain().redeem(&on_chain(&winner)).await.unwrap();
    world.start_again().await;
    redeemed(&world, 1).await;
    let redemptions = world.chain().redemptions(10).await.unwrap();
    assert_eq!(redemptions.len(), 1);
    let shown = world.operator("/v1/winners").await;
    assert_eq!(shown[0]["tx_hash"], format!("{:#x}", paid.tx_hash));
}

/// Two winners, the first of them in the state of a crash while it was sent; a chain that does not answer everything.
async fn one_open_of_two(world: &mut World) -> (StoredWinner, Between) {
    win(world, 2).await;
    let open = crash_while_sending(world).await;
    world.mine(Some(41), None).await;
    let between = Between::before(world.chain_flag()).await;
    world.set(&between.flag());
    (open, between)
}

fn of_ticket(winner: &StoredWinner) -> String {
    format!("/v1/tickets/{}", winner.winner.ticket_hash)
}

#[tokio::test]
async fn a_winner_of_which_the_chain_says_nothing_holds_up_none_behind_it() {
    let mut world = world().await;
    let (open, between) = one_open_of_two(&mut world).await;
    between.fail(&of_ticket(&open));
    world.start_again().await;
    until("the other one is redeemed", || async {
        let mut statuses = statuses(&world).await;
        statuses.sort();
        statuses == ["redeemed", "redeeming"]
    })
    .await;
    assert_eq!(world.chain().redemptions(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn whether_a_ticket_is_used_is_enough_where_it_is_not_said_by_whom() {
    let mut world = world().await;
    let (open, between) = one_open_of_two(&mut world).await;
    world.chain().redeem(&on_chain(&open)).await.unwrap();
    // How it was redeemed is asked first, and whether it was, second.
    between.fail_every_other(&of_ticket(&open));
    world.start_again().await;
    redeemed(&world, 2).await;
    assert_eq!(world.chain().redemptions(10).await.unwrap().len(), 2);
    let shown = world.operator("/v1/winners").await;
    let shown = shown.as_array().unwrap();
    let hashes = shown.iter().filter(|winner| winner["tx_hash"].is_string()).count();
    assert_eq!(hashes, 1, "{shown:?}");
}

#[tokio::test]
async fn what_somebody_else_redeemed_is_redeemed() {
    let mut world = world().await;
    win(&world, 1).await;
    let stopped = world.stop();
    stopped.await.unwrap();
    let url = format!("sqlite://{}", world.data("ledger.db").display());
    let ledger = open(&url, LeaseTime::default()).await.unwrap();
    let winner = ledger.winners(1).await.unwrap().remove(0);
    ledger.close().await;
    world.start_again().await;
    world.chain().redeem(&on_chain(&winner)).await.unwrap();
    world.mine(Some(41), None).await;
    redeemed(&world, 1).await;
    assert_eq!(world.chain().redemptions(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_winner_that_is_too_old_is_given_up_with_a_reason() {
    let world = world().await;
    win(&world, 1).await;
    // All at once: the orchestrator sees no block at which the ticket could have been redeemed.
    world.mine(None, Some(4)).await;
    let failed = until_some("the winner is given up", || async {
        let winners = world.operator("/v1/winners").await;
        (winners[0]["status"] == "failed").then(|| winners[0].clone())
    })
    .await;
    let reason = failed["reason"].as_str().unwrap();
    assert_eq!(reason, "the ticket is older than the chain takes");
    assert!(world.chain().redemptions(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_winner_of_one_who_is_not_bonded_waits_and_says_so() {
    let world = world().await;
    win(&world, 1).await;
    let shown = world.operator("/v1/winners").await[0].clone();
    assert_eq!(shown["waits_for"], "offer_lives", "{shown}");
    world.leave_the_pool().await;
    let held = until_some("it is held", || async {
        let winner = world.operator("/v1/winners").await[0].clone();
        winner["reason"].is_string().then_some(winner)
    })
    .await;
    assert_eq!((&held["status"], &held["waits_for"]), (&"queued".into(), &"unbonded".into()));
    assert!(held["reason"].as_str().unwrap().contains("is not active in round"), "{held}");
    assert_eq!(held["attempts"], 0, "nothing was sent");
    assert!(world.chain().redemptions(10).await.unwrap().is_empty());
    world.mine(None, Some(4)).await;
    let lost = until_some("it is given up", || async {
        let winner = world.operator("/v1/winners").await[0].clone();
        (winner["status"] == "failed").then_some(winner)
    })
    .await;
    assert!(lost["reason"].as_str().unwrap().contains("until then: "), "{lost}");
    assert_eq!(lost["waits_for"], Value::Null, "{lost}");
}

#[tokio::test]
async fn winners_wait_while_the_chain_is_away() {
    let mut world = world().await;
    win(&world, 1).await;
    world.mine(Some(41), None).await;
    redeemed(&world, 1).await;
    world.stop_the_chain().await;
    let ready = format!("{}/readyz", world.service);
    // What is known stays known: an offer is still made, payments are still taken.
    assert_eq!(world.http.get(&ready).send().await.unwrap().status(), 200);
    let stopped = world.stop();
    stopped.await.unwrap();
    world.start_again().await;
    let unready = world.http.get(format!("{}/readyz", world.service)).send().await.unwrap();
    assert_eq!(unready.status(), 503);
    let missing: Value = unready.json().await.unwrap();
    assert_eq!(missing["missing"][0]["dependency"], "chain");
}

#[tokio::test]
async fn what_is_known_of_the_chain_counts_for_as_long_as_is_set() {
    let world = World::paid_with(TICKET_EV, &["--chain-max-age-ms=10000"]).await;
    let payer = Payer::funded(&world).await;
    payer.info(&world, None).await.unwrap();
    world.stop_the_chain().await;
    let ready = format!("{}/readyz", world.service);
    let unready = until_some("what is known is too old", || async {
        let answer = world.http.get(&ready).send().await.unwrap();
        (answer.status() == 503).then_some(answer)
    })
    .await;
    let missing: Value = unready.json().await.unwrap();
    assert_eq!(missing["missing"][0]["dependency"], "chain");
    assert!(missing["missing"][0]["reason"].as_str().unwrap().contains("--chain-max-age-ms"));
    assert!(payer.info(&world, None).await.is_err(), "no offer on it");
}

#[tokio::test]
async fn a_registration_that_takes_its_time_keeps_nobody_waiting() {
    let mut world = world().await;
    let stopped = world.stop();
    stopped.await.unwrap();
    let between = Between::before(world.chain_flag()).await;
    // Where transactions go.
    between.hold("/v1/transactions");
    world.set(&between.flag());
    world.start_again().await;
    let ready = format!("{}/readyz", world.service);
    until("it registers", || async { between.waiting() == 1 }).await;
    until("it is ready", || async { world.http.get(&ready).send().await.unwrap().status() == 200 })
        .await;
    // What comes to the chain now is seen, and paid for.
    world.mine(Some(1), None).await;
    world.see_the_chain().await;
    win(&world, 1).await;
    assert_eq!(between.waiting(), 1, "it still registers");
    between.let_go();
    world.mine(Some(41), None).await;
    redeemed(&world, 1).await;
}
