//! What a payment costs and how many tickets it holds (remote-signer.md sections 5, 6, 9, 14).

use crate::world::{World, b64, r, request};
use penstock_domain::{Rational, keccak256};
use penstock_payments::{Signature, node_digest, segment_digest};
use penstock_wire::net;
use prost::Message;
use serde_json::{Value, json};

async fn balance(world: &World) -> Rational {
    let newest = world.admin("/v1/payments?limit=1").await;
    r(newest[0]["balance_wei"].as_str().unwrap())
}

#[tokio::test]
async fn the_reference_example_of_thousand_pixels() {
    let world = World::new().await;
    let offer = world.offer(150, 175, 35);
    let first = world.pay(&request(&offer, json!({"inPixels": 1000, "ManifestID": "m"}))).await;
    let tickets = world.tickets(&first);
    assert_eq!(tickets.len(), 25);
    assert_eq!(first.nonces(), (1..=25).collect::<Vec<_>>());
    assert_eq!(balance(&world).await, r("875") - r("6000/7"), "25 × 35 − 6000/7, exactly");
    let payment = first.payment();
    let params = payment.ticket_params.clone().unwrap();
    assert!(params.expiration_params.is_none(), "not set inside the params");
    let round = payment.expiration_params.clone().unwrap();
    assert_eq!((round.creation_round, round.creation_round_block_hash), (5, vec![3; 32]));
    assert_eq!(payment.expected_price, offer.price_info);
    // A cheaper orchestrator later: the fee stays, the expected price is the new one.
    let cheaper = world.offer(450, 700, 35);
    let again =
        request(&cheaper, json!({"inPixels": 1000, "ManifestID": "m", "state": first.state()}));
    let second = world.pay(&again).await;
    assert_eq!(second.payment().expected_price, cheaper.price_info);
    let expected = r("125/7") + Rational::from(35u64 * second.nonces().len() as u64) - r("6000/7");
    assert_eq!(balance(&world).await, expected);
    assert_eq!(second.nonces()[0], 1, "another recipientRandHash counts from one");
}

#[tokio::test]
async fn the_expected_price_is_copied_whole() {
    let world = World::new().await;
    let mut offer = world.offer(3, 1, 3);
    let price = offer.price_info.as_mut().unwrap();
    price.capability = 31;
    price.constraint = "model".into();
    let reply = world.pay(&request(&offer, json!({"type": "fixed"}))).await;
    assert_eq!(reply.payment().expected_price, offer.price_info);
}

#[tokio::test]
async fn live_seconds() {
    let world = World::new().await;
    let offer = world.offer(3, 1, 35);
    let first = world.pay(&request(&offer, json!({"type": "live", "inPixels": 99}))).await;
    assert_eq!((first.nonces().len(), first.units()), (1, 10));
    assert_eq!(balance(&world).await, r("5"), "35 − 30");
    world.pass_s(12);
    let next = json!({"type": "live", "ManifestID": "m", "state": first.state()});
    let second = world.pay(&request(&offer, next)).await;
    assert_eq!((second.nonces().len(), second.units()), (1, 12));
    assert_eq!(second.nonces(), [2], "the same hash goes on counting");
    assert_eq!(balance(&world).await, r("4"), "5 + 35 − 36");
    // A fraction of a second is a whole one; a clock that goes back bills the preload again.
    world.pass(20_000_000_001);
    let next = json!({"type": "live", "ManifestID": "m", "state": second.state()});
    let third = world.pay(&request(&offer, next)).await;
    assert_eq!(third.units(), 21);
    world.pass_s(-50);
    let next = json!({"type": "live", "ManifestID": "m", "state": third.state()});
    assert_eq!(world.pay(&request(&offer, next)).await.units(), 10);
}

#[tokio::test]
async fn lv2v_pixels() {
    let world = World::new().await;
    let offer = world.offer(1, 1, 1_000_000_000);
    let first = world.pay(&request(&offer, json!({"type": "lv2v"}))).await;
    assert_eq!((first.units(), first.nonces().len()), (1_658_880_000, 2));
    world.pass(5_500_000_000);
    let next = json!({"type": "lv2v", "ManifestID": "m", "state": first.state()});
    let second = world.pay(&request(&offer, next)).await;
    assert_eq!(second.units(), 27_648_000 * 11 / 2);
}

#[tokio::test]
async fn fixed_is_one_unit() {
    let world = World::new().await;
    let offer = world.offer(3, 1, 3);
    let first = world.pay(&request(&offer, json!({"type": "fixed", "inPixels": 1000}))).await;
    assert_eq!(first.nonces().len(), 1);
    assert_eq!(balance(&world).await, r("0"));
    let next = json!({"type": "fixed", "ManifestID": "m", "state": first.state()});
    let second = world.pay(&request(&offer, next)).await;
    assert_eq!(second.nonces(), [2]);
    assert_eq!(balance(&world).await, r("0"));
}

#[tokio::test]
async fn enough_credit_is_no_tickets_and_books_nothing() {
    let world = World::new().await;
    let offer = world.offer(1, 1, 100);
    let first = world.pay(&request(&offer, json!({"inPixels": 1, "ManifestID": "m"}))).await;
    assert_eq!(balance(&world).await, r("99"));
    let before = world.books().await;
    let cheap = world.offer(1, 1, 50);
    let next = request(&cheap, json!({"inPixels": 1, "ManifestID": "m", "state": first.state()}));
    let refused = world.pay(&next).await;
    assert_eq!((refused.status, refused.message().as_str()), (482, "no tickets"));
    assert_eq!(world.books().await, before);
    // The same state goes on to be good for more.
    let more = request(&cheap, json!({"inPixels": 120, "ManifestID": "m", "state": first.state()}));
    assert_eq!(world.pay(&more).await.nonces().len(), 1);
}

#[tokio::test]
async fn a_hundred_tickets_and_no_more() {
    let world = World::new().await;
    let offer = world.offer(1, 1, 1);
    let before = world.books().await;
    let refused = world.pay(&request(&offer, json!({"inPixels": 101}))).await;
    assert_eq!(refused.status, 400);
    assert_eq!(
        refused.message(),
        "numTickets 101 exceeds maximum of 100: a ticket EV of 2 wei or more would work, this offer's is 1.000"
    );
    assert_eq!(refused.json()["error"]["code"], "max_tickets");
    assert_eq!(world.books().await, before);
    let reply = world.pay(&request(&offer, json!({"inPixels": 100}))).await;
    assert_eq!(world.tickets(&reply).len(), 100);
    assert_eq!(world.books().await.key_operations, before.key_operations + 101);
}

#[tokio::test]
async fn worthless_tickets_buy_nothing() {
    let world = World::new().await;
    let mut offer = world.offer(1, 1, 1);
    offer.ticket_params.as_mut().unwrap().face_value = vec![];
    let refused = world.pay(&request(&offer, json!({"inPixels": 1}))).await;
    assert_eq!(
        refused.status, 482,
        "an EV of zero passes the sender's checks and makes no tickets"
    );
}

#[tokio::test]
async fn credentials_of_an_empty_segment() {
    let world = World::new().await;
    let offer = world.offer(3, 1, 35);
    let asks = net::Capabilities {
        bitstring: vec![1 << 35],
        constraints: Some(net::capabilities::Constraints {
            per_capability: [(
                35,
                net::capabilities::CapabilityConstraints {
                    models: [(
                        "m".to_owned(),
                        net::capabilities::capability_constraints::ModelConstraint {
                            capacity_in_use: 7,
                            ..Default::default()
                        },
                    )]
                    .into(),
                },
            )]
            .into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let body = json!({"type": "live", "capabilities": b64(asks.encode_to_vec())});
    let reply = world.pay(&request(&offer, body)).await;
    let segment = reply.seg_data();
    let manifest = String::from_utf8(segment.manifest_id.clone()).unwrap();
    assert_eq!(manifest.len(), 8, "made by the signer");
    assert_eq!(segment.profiles, b"invalid");
    assert_eq!(segment.hash, keccak256([]).to_vec());
    assert_eq!((segment.seq, segment.duration), (0, 0));
    assert_eq!(segment.auth_token, offer.auth_token);
    let capabilities = segment.capabilities.unwrap();
    assert_eq!(capabilities.capacities, [(35, 1)].into(), "filled from the bits");
    let models = &capabilities.constraints.unwrap().per_capability[&35].models;
    assert_eq!(models["m"].capacity_in_use, 0, "dropped");
    let names: [&str; 0] = [];
    let digest = segment_digest(manifest.as_bytes(), 0, &keccak256([]), &names);
    Signature::from_slice(&segment.sig).unwrap().verify(&digest, world.account).unwrap();
    let bare = world.pay(&request(&world.offer(3, 1, 35), json!({"type": "live"}))).await;
    assert!(bare.seg_data().capabilities.is_none(), "absent if not given");
}

#[tokio::test]
async fn the_address_is_signed_once_and_for_all() {
    let world = World::new().await;
    let before = world.books().await;
    let one = world.post("/sign-orchestrator-info", "", &[]).await;
    let two = world.post("/sign-orchestrator-info", "{}", &[]).await;
    assert_eq!(one.body, two.body);
    let body: Value = one.json();
    assert_eq!(body["address"], world.account.to_string());
    let text = body["signature"].as_str().unwrap();
    assert_eq!(text.len(), 132);
    let signature = hex::decode(text.strip_prefix("0x").unwrap()).unwrap();
    let digest = node_digest(world.account.to_string().as_bytes());
    Signature::from_slice(&signature).unwrap().verify(&digest, world.account).unwrap();
    assert_eq!(world.books().await, before, "no key operation for it");
}

fn wants(capability: u32, model: &str) -> String {
    let models = [(model.to_owned(), Default::default())].into();
    let wanted = net::capabilities::CapabilityConstraints { models };
    let capabilities = net::Capabilities {
        constraints: Some(net::capabilities::Constraints {
            per_capability: [(capability, wanted)].into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    b64(capabilities.encode_to_vec())
}

#[tokio::test]
async fn price_ceilings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prices.json");
    let prices = json!({"capabilities_prices": [
        {"pipeline": "text-to-image", "model_id": "dear", "price_per_unit": 10, "pixels_per_unit": 1},
        {"pipeline": "text-to-image", "model_id": "cheap", "price_per_unit": 1, "pixels_per_unit": 1},
    ]});
    std::fs::write(&file, prices.to_string()).unwrap();
    let file = file.display().to_string();
    let world = World::with(&["--max-price-per-unit=3", "--max-price-per-capability", &file]).await;
    let refused = async |offer: &net::OrchestratorInfo, members: Value| {
        let before = world.books().await;
        let reply = world.pay(&request(offer, members)).await;
        assert_eq!(reply.status, 481, "{reply:?}");
        assert_eq!(world.books().await, before);
        reply.message()
    };
    // Above the general limit but below the capability's own: accepted. The reverse: refused.
    let five = world.offer(5, 1, 35);
    let dear = json!({"inPixels": 1, "capabilities": wants(27, "dear")});
    assert_eq!(world.pay(&request(&five, dear)).await.status, 200);
    let two = world.offer(2, 1, 35);
    let cheap = json!({"inPixels": 1, "capabilities": wants(27, "cheap")});
    assert_eq!(
        refused(&two, cheap).await,
        "orchestrator price 2.000 exceeds configured maximum price ceiling 1.000"
    );
    assert_eq!(
        refused(&five, json!({"inPixels": 1})).await,
        "orchestrator price 5.000 exceeds configured maximum price ceiling 3.000"
    );
    // Ceilings 3 (configured), 2 (initial), 1.5 (request) against 7/4.
    let start = json!({"type": "live", "ManifestID": "m"});
    let first = world.pay(&request(&two, start)).await;
    let bid = |price: Value| json!({"price": price, "currency": "wei", "unit": "seconds"});
    let next = json!({"type": "live", "ManifestID": "m", "state": first.state(), "maxPrice": bid(json!(1.5))});
    world.pass_s(30);
    assert_eq!(
        refused(&world.offer(7, 4, 35), next).await,
        "orchestrator price 1.750 exceeds request maxPrice ceiling 1.500"
    );
    let equal = json!({"type": "live", "maxPrice": bid(json!("2"))});
    assert_eq!(world.pay(&request(&two, equal)).await.status, 200, "equality passes");
}

#[tokio::test]
async fn a_risen_price_names_the_initial_one() {
    let world = World::new().await;
    let first = world
        .pay(&request(&world.offer(100, 1, 35), json!({"inPixels": 1, "ManifestID": "m"})))
        .await;
    let next = json!({"inPixels": 100, "ManifestID": "m", "state": first.state()});
    for price in [150, 1_000_000] {
        let reply = world.pay(&request(&world.offer(price, 1, 35), next.clone())).await;
        assert_eq!(reply.status, 481);
        assert_eq!(
            reply.message(),
            format!("orchestrator price {price}.000 exceeds initial session price ceiling 100.000")
        );
    }
}
