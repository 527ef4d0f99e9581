//! The signer's clock jumps, a day ahead or back: no budget grows, no nonce comes twice, a bill is
//! at most a preload, and what was answered stays answered.

use super::{on_both_books, refused, spent};
use crate::world::{Books, World, request};
use serde_json::{Value, json};
use std::collections::HashSet;

on_both_books!(
    a_clock_that_jumps_does_not_move_money,
    a_clock_that_goes_back_and_forth_opens_no_budget,
);

const DAY_S: i64 = 24 * 3600;

async fn a_clock_that_jumps_does_not_move_money(books: Books) {
    let world = World::on(books, &[]).await;
    // An offer whose token outlives the jumps.
    let mut offer = world.offer(3, 1, 35);
    offer.auth_token.as_mut().unwrap().expiration = world.now_s() + 10 * DAY_S;
    let ask =
        |state: &Value| request(&offer, json!({"type": "live", "ManifestID": "m", "state": state}));
    let mut state = world.pay(&ask(&Value::Null)).await.state();
    let mut nonces: HashSet<u32> = [1].into();
    let mut asked = Vec::new();
    for jump in [30, -DAY_S, 40, -3600, 50] {
        world.pass_s(jump);
        let body = ask(&state);
        let reply = world.pay(&body).await;
        if reply.status == 482 {
            continue;
        }
        assert_eq!(reply.status, 200, "{reply:?}");
        // Backwards it is the preload again, forwards the seconds that passed.
        assert!(reply.units() <= 10.max(u64::try_from(jump).unwrap_or(0)), "{}", reply.units());
        for nonce in reply.nonces() {
            assert!(nonces.insert(nonce), "nonce {nonce} twice");
        }
        state = reply.state();
        asked.push((body, reply.body));
    }
    assert!(asked.len() >= 3);
    // A day ahead: too many seconds to bill at once, which is said and not signed.
    world.pass_s(DAY_S);
    let message = refused(&world, &ask(&state), &[], 400).await;
    assert!(message.starts_with("numTickets "), "{message}");
    // Every answer is given again, whatever the clock says.
    for (body, answer) in asked {
        assert_eq!(world.pay(&body).await.body, answer);
    }
}

async fn a_clock_that_goes_back_and_forth_opens_no_budget(books: Books) {
    let world = World::on(books, &["--accounts", "--max-spend-per-hour=3000"]).await;
    let key = world.account("acme", json!({"budget_day": "2000 wei"})).await;
    let headers = [("authorization", key.as_str())];
    let pay = async |units: u64| {
        let ask = request(&world.offer(1, 1, 100), json!({"inPixels": units}));
        (world.pay_with(&ask, &headers).await.status, ask)
    };
    assert_eq!(pay(2_000).await.0, 200);
    for jump in [-DAY_S, DAY_S, -DAY_S, DAY_S] {
        world.pass_s(jump);
        // Yesterday has a budget of its own, once.
        let before = spent(&world).await;
        let (status, _) = pay(2_000).await;
        assert!(status == 429 || (jump < 0 && before == 2_000), "{jump}: {status}");
    }
    assert_eq!(spent(&world).await, 4_000, "two days' budgets, each once");
    let ask = request(&world.offer(1, 1, 100), json!({"inPixels": 100}));
    refused(&world, &ask, &headers, 429).await;
}
