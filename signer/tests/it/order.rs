//! The documented order of the checks: a request that is wrong in everything is put right one
//! thing at a time, and each time the next row of remote-signer.md section 4 answers.

use crate::world::{World, b64, request};
use penstock_domain::{U256, be_bytes};
use penstock_wire::net;
use serde_json::{Value, json};

/// One step: what is put right, and what is answered before.
struct Row {
    status: u16,
    message: &'static str,
    fix: fn(&mut Wrong),
}

/// A request with every fault at once.
struct Wrong {
    raw: Option<&'static str>,
    orchestrator: Option<Vec<u8>>,
    info: net::OrchestratorInfo,
    members: Value,
}

impl Wrong {
    fn body(&self) -> String {
        if let Some(raw) = self.raw {
            return raw.to_owned();
        }
        let mut body = request(&self.info, self.members.clone());
        if let Some(bytes) = &self.orchestrator {
            body["orchestrator"] = b64(bytes).into();
        }
        body.to_string()
    }
}

async fn walk(world: &World, mut wrong: Wrong, rows: &[Row]) -> Wrong {
    for row in rows {
        let before = world.books().await;
        let reply = world.post("/generate-live-payment", wrong.body(), &[]).await;
        assert_eq!(reply.status, row.status, "{} → {}", row.message, reply.message());
        let message = reply.message();
        assert!(message.contains(row.message), "expected {:?}, got {message:?}", row.message);
        assert_eq!(world.books().await, before, "{message}: no trace, no key operation");
        if row.status == 480 {
            assert_eq!(reply.headers["livepeer-orchestrator-url"], "https://o:8935");
        }
        (row.fix)(&mut wrong);
    }
    wrong
}

fn params(w: &mut Wrong) -> &mut net::TicketParams {
    w.info.ticket_params.as_mut().unwrap()
}

const REFRESH: &str = "refresh session for remote signer";
const CANNOT: &str = "remote signer could not check whether to refresh session: ";

#[tokio::test]
async fn a_first_request() {
    let world = World::with(&["--max-price-per-unit=100", "--max-total-ev=100"]).await;
    let good = world.offer(50, 1, 40);
    let mut info = good.clone();
    info.price_info = None;
    info.ticket_params = None;
    info.auth_token = None;
    let wrong = Wrong {
        raw: Some("{"),
        orchestrator: Some(vec![]),
        info,
        members: json!({
            "type": "hourly", "capabilities": b64([255]), "inPixels": -5,
            "maxPrice": {"price": 0, "currency": "usd", "unit": "x"},
        }),
    };
    let rows = [
        Row { status: 400, message: "JSON", fix: |w| w.raw = None },
        Row {
            status: 400,
            message: "missing orchestrator",
            fix: |w| w.orchestrator = Some(vec![255]),
        },
        Row { status: 400, message: "proto:", fix: |w| w.orchestrator = None },
        Row {
            status: 400,
            message: "missing or zero priceInfo",
            fix: |w| {
                w.info.price_info = Some(net::PriceInfo {
                    price_per_unit: 500,
                    pixels_per_unit: 0,
                    ..Default::default()
                });
            },
        },
        Row {
            status: 400,
            message: "missing or zero priceInfo",
            fix: |w| {
                w.info.price_info.as_mut().unwrap().pixels_per_unit = 1;
            },
        },
        Row {
            status: 400,
            message: "missing ticketParams in OrchestratorInfo",
            fix: |w| {
                w.info.ticket_params = Some(net::TicketParams {
                    recipient: vec![1; 20],
                    win_prob: be_bytes(U256::MAX),
                    ..Default::default()
                });
            },
        },
        Row { status: 400, message: "proto:", fix: |w| w.members["capabilities"] = Value::Null },
    ];
    let mut wrong = walk(&world, wrong, &rows).await;
    let token = good.auth_token.clone().unwrap();
    let reply = world.post("/generate-live-payment", wrong.body(), &[]).await;
    assert_eq!(reply.message(), format!("{CANNOT}missing auth token"));
    wrong.info.auth_token =
        Some(net::AuthToken { expiration: world.now_s() + 179, ..token.clone() });
    let reply = world.post("/generate-live-payment", wrong.body(), &[]).await;
    assert_eq!((reply.status, reply.message().as_str()), (480, REFRESH));
    wrong.info.auth_token = Some(token);
    // Row 17 has many faces; its expiry (row 16) is a refresh.
    let rows = [
        Row {
            status: 400,
            message: "ticketParams expiration block is 0",
            fix: |w| {
                params(w).recipient_rand_hash = vec![1; 32];
                params(w).expiration_block = vec![1];
            },
        },
        Row {
            status: 480,
            message: REFRESH,
            fix: |w| {
                params(w).expiration_block = be_bytes(U256::from(1_000_000));
                params(w).face_value = be_bytes(U256::from(1_000));
            },
        },
        Row {
            status: 400,
            message: "ticket faceValue too low faceValue=1000",
            fix: |w| {
                params(w).win_prob = be_bytes(U256::MAX / U256::from(3));
                params(w).face_value = be_bytes(U256::from(30_000_000_000_000u64));
            },
        },
        Row {
            status: 400,
            message: "ticket EV 10000000000000.00000 > max ticket EV 3000000000000.00000 (--max-ticket-ev)",
            fix: |w| {
                params(w).face_value = be_bytes(U256::from(600));
            },
        },
        Row {
            status: 400,
            message: "total ticket EV 200.00000 for 1 tickets > max total ticket EV 100.00000 (--max-total-ev)",
            fix: |w| {
                params(w).face_value = be_bytes(U256::from(120));
            },
        },
        Row { status: 400, message: "is not an active orchestrator in round", fix: |_| {} },
    ];
    let mut wrong = walk(&world, wrong, &rows).await;
    params(&mut wrong).recipient = world.recipient.to_vec();
    let rows = [
        Row { status: 400, message: "invalid job type", fix: |w| w.members["type"] = "".into() },
        Row {
            status: 400,
            message: "missing billable unit or job type",
            fix: |w| w.members["inPixels"] = 5.into(),
        },
        Row {
            status: 400,
            message: "maxPrice.price must be a positive decimal",
            fix: |w| w.members["maxPrice"]["price"] = json!(1e3),
        },
        Row {
            status: 400,
            message: "maxPrice.currency must be wei",
            fix: |w| w.members["maxPrice"]["currency"] = "wei".into(),
        },
        Row {
            status: 400,
            message: "maxPrice requires payment type live, lv2v, or fixed",
            fix: |w| w.members["type"] = "live".into(),
        },
        Row {
            status: 400,
            message: "maxPrice.unit must be seconds for payment type live",
            fix: |w| {
                w.members["maxPrice"] = Value::Null;
                w.members["type"] = "".into();
            },
        },
        Row {
            status: 481,
            message: "orchestrator price 500.000 exceeds configured maximum price ceiling 100.000",
            fix: |w| {
                w.info.price_info.as_mut().unwrap().price_per_unit = 50;
                w.members["inPixels"] = json!(1_000_000);
            },
        },
        Row {
            status: 400,
            message: "numTickets 1250000 exceeds maximum of 100: a ticket EV of 500000 wei or more would work",
            fix: |w| w.members["inPixels"] = json!(5),
        },
        // Row 27: seven tickets are worth more than the batch limit. 500 says only its name.
        Row {
            status: 500,
            message: "Internal Server Error",
            fix: |w| w.members["inPixels"] = json!(1),
        },
    ];
    let right = walk(&world, wrong, &rows).await;
    let reply = world.post("/generate-live-payment", right.body(), &[]).await;
    assert_eq!(world.tickets(&reply).len(), 2);
}

#[tokio::test]
async fn a_request_with_state() {
    let world = World::new().await;
    let good = world.offer(50, 1, 35);
    let start = json!({"type": "live", "app": "a", "ManifestID": "m"});
    let first = world.pay_with(&request(&good, start), &[("Signer-Auth-Id", "c:s")]).await;
    let state = first.state();
    let mut info = good.clone();
    info.address = vec![8; 20];
    let sig = state["Sig"].as_str().unwrap();
    let wrong = Wrong {
        raw: None,
        orchestrator: None,
        info,
        members: json!({
            "state": {"Sig": sig}, "app": "b", "type": "lv2v", "ManifestID": "", "capabilities": b64([255]),
        }),
    };
    let answers = [
        (400, "invalid sig"),
        (400, "invalid sig"),
        (400, "orchestratorAddress mismatch"),
        (400, "app mismatch"),
        (400, "job type mismatch"),
        (400, "missing manifestID"),
        (400, "proto:"),
        (400, "manifestID mismatch"),
        (500, "Internal Server Error"),
    ];
    let mut wrong = wrong;
    for (step, (status, message)) in answers.into_iter().enumerate() {
        let before = world.books().await;
        let headers: &[(&str, &str)] = &[("Signer-Auth-Id", "someone:else")];
        let reply = world.post("/generate-live-payment", wrong.body(), headers).await;
        assert_eq!(reply.status, status, "step {step}: {}", reply.message());
        assert!(reply.message().contains(message), "step {step}: {}", reply.message());
        assert_eq!(world.books().await, before);
        world.pass_s(1);
        match step {
            0 => wrong.members["state"] = json!({"State": state["State"], "Sig": b64([1; 33])}),
            1 => wrong.members["state"] = state.clone(),
            2 => wrong.info.address = vec![7; 20],
            3 => wrong.members["app"] = "a".into(),
            4 => wrong.members["type"] = "live".into(),
            5 => wrong.members["ManifestID"] = "other".into(),
            6 => wrong.members["capabilities"] = Value::Null,
            7 => wrong.members["ManifestID"] = "m".into(),
            _ => {}
        }
    }
    // Row 32 was the last one: without the wrong subject it passes, and the old one stays.
    let reply = world.post("/generate-live-payment", wrong.body(), &[]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let newest = world.admin("/v1/payments?limit=1").await;
    assert_eq!(newest[0]["auth_id"], "c:s");
}

#[tokio::test]
async fn senders_without_money_do_not_pay() {
    let world = World::new().await;
    let offer = world.offer(1, 1, 1_000_000_000_000);
    let ask = request(&offer, json!({"inPixels": 1}));
    assert_eq!(world.pay(&ask).await.status, 200);
    let mut dear = world.offer(1, 1, 1);
    let face = U256::from(crate::world::FUNDS) + U256::from(1);
    let p = dear.ticket_params.as_mut().unwrap();
    p.face_value = be_bytes(face);
    p.win_prob = be_bytes(U256::MAX / U256::from(1_000_000_000_000u64));
    let reply = world.pay(&request(&dear, json!({"inPixels": 1}))).await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.message(),
        format!(
            "{CANNOT}ticket faceValue {face} > max faceValue {} (--deposit-multiplier)",
            crate::world::FUNDS
        )
    );
}

#[tokio::test]
async fn a_fenced_ledger_asks_for_fresh_offers() {
    let world = World::new().await;
    let offer = world.offer(1, 1, 1);
    let ask = json!({"inPixels": 10, "ManifestID": "m"});
    let first = world.pay(&request(&offer, ask)).await;
    world.signer().ledger.fence().await.unwrap();
    let next = json!({"inPixels": 10, "ManifestID": "m", "state": first.state()});
    let refused = world.pay(&request(&offer, next.clone())).await;
    assert_eq!((refused.status, refused.message().as_str()), (480, REFRESH));
    assert_eq!(world.pay(&request(&world.offer(1, 1, 1), next)).await.status, 200);
}

#[tokio::test]
async fn a_hash_that_is_used_up_asks_for_a_refresh() {
    let world = World::new().await;
    let offer = world.offer(1, 1, 1);
    // A recipient takes 600; whoever would pass 500 refreshes, the last batch included.
    let reply = world.pay(&request(&offer, json!({"inPixels": 1}))).await;
    assert_eq!(reply.nonces(), [1]);
    for round in 0..4u32 {
        let reply = world.pay(&request(&offer, json!({"inPixels": 100}))).await;
        assert_eq!(reply.nonces()[0], round * 100 + 2);
    }
    let before = world.books().await;
    let reply = world.pay(&request(&offer, json!({"inPixels": 100}))).await;
    assert_eq!((reply.status, reply.message().as_str()), (480, REFRESH));
    assert_eq!(world.books().await, before);
    let reply = world.pay(&request(&offer, json!({"inPixels": 99}))).await;
    assert_eq!(reply.nonces().last(), Some(&500));
    let before = world.books().await;
    let reply = world.pay(&request(&offer, json!({"inPixels": 1}))).await;
    assert_eq!((reply.status, reply.message().as_str()), (480, REFRESH));
    assert_eq!(world.books().await, before);
    // A refreshed session goes on, past 600, 1,200 and 6,000 tickets.
    let mut state = world
        .pay(&request(&world.offer(1, 1, 1), json!({"inPixels": 100, "ManifestID": "m"})))
        .await;
    let mut info = world.offer(1, 1, 1);
    let mut tickets = 100;
    while tickets < 6_100 {
        let ask =
            request(&info, json!({"inPixels": 100, "ManifestID": "m", "state": state.state()}));
        let reply = world.pay(&ask).await;
        if reply.status == 480 {
            info = world.offer(1, 1, 1);
            continue;
        }
        tickets += reply.nonces().len();
        state = reply;
    }
    assert_eq!(world.books().await.summary.tickets, 500 + 6_100);
}
