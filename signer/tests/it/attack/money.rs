//! Money: paying oneself, rising prices, too many tickets, and budgets that many spend at once.

use super::{on_both_books, pay_at, refused, spent};
use crate::world::{Books, World, request};
use futures::future::join_all;
use penstock_domain::{U256, be_bytes};
use serde_json::{Value, json};

on_both_books!(
    a_tenant_cannot_pay_itself,
    a_price_that_rises_in_a_session_is_refused,
    a_million_tickets_are_refused,
    a_budget_holds_against_everyone_at_once,
    a_clients_budget_holds_behind_a_gateway,
    the_spend_rate_holds_against_everyone_at_once,
    what_an_account_may_not_pay_for,
);

const WEI: u64 = 1_000;

async fn a_tenant_cannot_pay_itself(books: Books) {
    let world = World::on(books, &[]).await;
    // Everything about it is well-formed; only nobody knows the recipient as an orchestrator.
    for recipient in [[9; 20], [0; 20], *world.account.0] {
        let mut forged = world.offer(1, 1, 100);
        forged.ticket_params.as_mut().unwrap().recipient = recipient.to_vec();
        let ask = request(&forged, json!({"inPixels": 100}));
        let message = refused(&world, &ask, &[], 400).await;
        assert!(message.contains("is not an active orchestrator in round"), "{message}");
    }
    // The address in the info is no proof of anything: the tickets' recipient is who is paid.
    let mut forged = world.offer(1, 1, 100);
    forged.address = world.recipient.to_vec();
    forged.ticket_params.as_mut().unwrap().recipient = vec![9; 20];
    refused(&world, &request(&forged, json!({"inPixels": 100})), &[], 400).await;
    // A win that always comes is a transfer and not a lottery.
    let mut certain = world.offer(1, 1, 100);
    certain.ticket_params.as_mut().unwrap().win_prob = be_bytes(U256::MAX);
    refused(&world, &request(&certain, json!({"inPixels": 100})), &[], 400).await;
}

async fn a_price_that_rises_in_a_session_is_refused(books: Books) {
    let world = World::on(books, &[]).await;
    let start = json!({"inPixels": 10, "ManifestID": "m"});
    let first = world.pay(&request(&world.offer(100, 7, 500), start)).await;
    let next = json!({"inPixels": 100, "ManifestID": "m", "state": first.state()});
    for (price, per) in [(101, 7), (100, 6), (i64::MAX, 1)] {
        let dearer = world.offer(price, per, 500);
        let message = refused(&world, &request(&dearer, next.clone()), &[], 481).await;
        assert!(message.contains("exceeds initial session price ceiling 14.286"), "{message}");
    }
    assert_eq!(world.pay(&request(&world.offer(200, 14, 500), next)).await.status, 200);
}

async fn a_million_tickets_are_refused(books: Books) {
    let world = World::on(books, &[]).await;
    for units in [101, 1_000_000, i64::MAX] {
        let ask = request(&world.offer(1, 1, 1), json!({"inPixels": units}));
        let message = refused(&world, &ask, &[], 400).await;
        assert!(message.starts_with(&format!("numTickets {units} exceeds maximum of 100")));
    }
    let endless = request(&world.offer(i64::MAX, 1, 1), json!({"inPixels": i64::MAX}));
    refused(&world, &endless, &[], 400).await;
}

/// 64 requests, 32 at a time and over two replicas, each for 10 tickets of 100 wei.
async fn storm(world: &World, headers: &[(&str, &str)]) -> (usize, Vec<String>) {
    let twin = world.twin().await;
    let (mut paid, mut refusals) = (0, Vec::new());
    for _ in 0..2 {
        let asks: Vec<Value> =
            (0..32).map(|_| request(&world.offer(1, 1, 100), json!({"inPixels": WEI}))).collect();
        let replies = join_all(asks.iter().enumerate().map(|(n, ask)| {
            let url = [world.http.as_str(), twin.as_str()][n % 2];
            pay_at(world, url, ask, headers)
        }))
        .await;
        for reply in replies {
            match reply.status {
                200 => paid += 1,
                429 => {
                    assert!(reply.headers.contains_key("retry-after"));
                    let code = reply.json()["error"]["code"].as_str().unwrap().to_owned();
                    refusals.push(format!("{code}: {}", reply.message()));
                }
                other => panic!("{other}: {reply:?}"),
            }
        }
    }
    (paid, refusals)
}

async fn a_budget_holds_against_everyone_at_once(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let key = world.account("acme", json!({"budget_day": "7999 wei"})).await;
    let before = world.books().await.key_operations;
    let (paid, refusals) = storm(&world, &[("authorization", &key)]).await;
    assert_eq!((paid, refusals.len()), (7, 57), "{refusals:?}");
    assert_eq!(spent(&world).await, 7 * WEI, "never beyond the budget, and all of it");
    for refusal in &refusals {
        assert!(
            refusal.starts_with("budget_exceeded: account acme may spend 7999 wei a day: "),
            "{refusal}"
        );
    }
    // This replica's share of the tickets and credentials, and nothing for the refused.
    let operations = world.books().await.key_operations - before;
    assert!(operations <= 7 * 11, "{operations}");
    let ask = request(&world.offer(1, 1, 100), json!({"inPixels": WEI}));
    refused(&world, &ask, &[("authorization", &key)], 429).await;
    // The next day is another budget, which a smaller payment may use up to the last wei.
    world.pass_s(24 * 3600);
    let ask = request(&world.offer(1, 1, 7_999), json!({"inPixels": 7_999}));
    assert_eq!(world.pay_with(&ask, &[("authorization", &key)]).await.status, 200);
    let ask = request(&world.offer(1, 1, 1), json!({"inPixels": 1}));
    refused(&world, &ask, &[("authorization", &key)], 429).await;
}

async fn a_clients_budget_holds_behind_a_gateway(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let gateway = world.account("gateway", json!({"may_name_subjects": true})).await;
    world.account("acme", json!({"subject_day": "3000 wei", "budget_day": "5500 wei"})).await;
    let gateway = ("authorization", gateway.as_str());
    let one = [gateway, ("signer-auth-id", "acme:one")];
    let (paid, refusals) = storm(&world, &one).await;
    assert_eq!(paid, 3);
    assert!(refusals[0].contains("subject acme:one of account acme may spend 3000 wei a day"));
    let (paid, refusals) = storm(&world, &[gateway, ("signer-auth-id", "acme:two")]).await;
    assert_eq!(paid, 2, "what the account has left");
    assert!(refusals[0].contains("account acme may spend 5500 wei a day"));
    assert_eq!(spent(&world).await, 5 * WEI);
}

async fn the_spend_rate_holds_against_everyone_at_once(books: Books) {
    let flags = ["--max-spend-per-hour=6000", "--max-spend-per-orchestrator-hour=4999"];
    let world = World::on(books, &flags).await;
    let (paid, refusals) = storm(&world, &[]).await;
    assert_eq!(paid, 4);
    assert_eq!(spent(&world).await, 4 * WEI);
    for refusal in refusals {
        let named = "max_spend_per_orchestrator_hour: this signer, for recipient ";
        assert!(refusal.starts_with(named), "{refusal}");
        assert!(refusal.contains("(--max-spend-per-orchestrator-hour)"));
    }
    world.pass_s(3600);
    let ask = request(&world.offer(1, 1, 100), json!({"inPixels": WEI}));
    assert_eq!(world.pay(&ask).await.status, 200, "another hour");
}

async fn what_an_account_may_not_pay_for(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let rules = json!({
        "allowed_capabilities": ["scope", "byoc/mine"],
        "max_price_wei_per_unit": "5",
        "max_ticket_ev_wei": "99",
    });
    let key = world.account("acme", rules).await;
    let headers = [("authorization", key.as_str())];
    let ask = |price, ev, members| request(&world.offer(price, 1, ev), members);
    let good = json!({"inPixels": 10, "app": "scope"});
    for (ask, status, text) in [
        (ask(1, 50, json!({"inPixels": 10})), 403, "account acme may not pay for \"transcode/\""),
        (ask(1, 50, json!({"type": "fixed", "app": "other"})), 403, "may not pay for \"other\""),
        (ask(1, 50, json!({"inPixels": 1, "capability": "yours"})), 403, "\"byoc/yours\""),
        (ask(6, 50, good.clone()), 481, "6.000 exceeds account maximum price ceiling 5.000"),
        (ask(1, 100, good.clone()), 403, "ticket EV 100.00000 > account acme's max ticket EV"),
    ] {
        let message = refused(&world, &ask, &headers, status).await;
        assert!(message.contains(text), "{message}");
    }
    // Clients tell by the code that another orchestrator may do.
    let dear = world.pay_with(&ask(1, 100, good.clone()), &headers).await;
    assert_eq!(dear.json()["error"]["code"], "max_ticket_ev");
    assert_eq!(world.pay_with(&ask(5, 99, good), &headers).await.status, 200);
    let job = |capability: &str| json!({"id": "1", "capability": capability, "request": "{}", "timeout_seconds": 1});
    let before = world.books().await;
    let reply = world.post("/sign-byoc-job", job("yours").to_string(), &headers).await;
    assert_eq!(reply.status, 403);
    assert_eq!(world.books().await, before);
    let reply = world.post("/sign-byoc-job", job("mine").to_string(), &headers).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}
