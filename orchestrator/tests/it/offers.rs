//! GetOrchestrator, Ping, EndTranscodingSession.

use crate::{
    payer::{Payer, token},
    world::{AUDIO_PRICE, MODEL, PIXEL_PRICE, World},
};
use penstock_domain::{Capabilities, Capability, CapabilitySet, keccak256};
use penstock_payments::{Signature, ping_digest};
use penstock_wire::{OrchestratorOffer, net, net::orchestrator_client::OrchestratorClient};

#[tokio::test]
async fn the_full_menu_and_the_priced_short_form() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let menu = payer.info(&world, None).await.unwrap();
    let offer = OrchestratorOffer::try_from(&menu).unwrap();
    let terms = offer.terms().unwrap();
    assert_eq!(terms.transcoder, world.service);
    assert_eq!(offer.address, Some(world.recipient));
    assert_eq!(terms.ticket_params.recipient, world.recipient);
    assert_eq!(terms.price.rational().to_string(), PIXEL_PRICE.to_string());
    assert_eq!(terms.auth_token.session_id.len(), 8);
    let capabilities = offer.capabilities.as_ref().unwrap();
    assert_eq!(capabilities.set, CapabilitySet::default_video());
    assert_eq!(offer.capabilities_prices.len(), 1);
    assert_eq!(offer.capabilities_prices[0].constraint, MODEL);
    assert_eq!(offer.capabilities_prices[0].price.price_per_unit(), AUDIO_PRICE);

    let job = Capabilities::ai_job(Capability::AudioToText, MODEL, false);
    let short = payer.info(&world, Some(&job)).await.unwrap();
    let short = OrchestratorOffer::try_from(&short).unwrap();
    assert_eq!(short.price.unwrap().price_per_unit(), AUDIO_PRICE);
    assert!(short.capabilities_prices.is_empty() && short.hardware.is_empty());
    assert_ne!(short.auth_token, offer.auth_token, "a session of its own");
    let empty = payer.info(&world, Some(&Capabilities::default())).await.unwrap();
    assert!(empty.capabilities_prices.is_empty(), "an empty message is a message");
}

#[tokio::test]
async fn the_overhead_of_redemption_is_in_the_price() {
    // Gas costs nothing on this devnet, so the overhead is 0; the cut to three decimals shows.
    let world = World::paid_with(100_000, &["--pixels-per-unit=3000"]).await;
    let payer = Payer::funded(&world).await;
    assert_eq!(payer.info(&world, None).await.unwrap().price_info.unwrap().price_per_unit, 0);
    let exact =
        World::paid_with(100_000, &["--pixels-per-unit=3000", "--auto-adjust-price=false"]).await;
    let payer = Payer::funded(&exact).await;
    let price = payer.info(&exact, None).await.unwrap().price_info.unwrap();
    assert_eq!((price.price_per_unit, price.pixels_per_unit), (1, 1500));
}

#[tokio::test]
async fn refusals_say_why() {
    let world = World::paid(100_000).await;
    let payer = Payer::new(&world);
    let text = |status: tonic::Status| {
        assert_eq!(status.code(), tonic::Code::Unknown);
        status.message().to_owned()
    };
    let poor = payer.info(&world, None).await.unwrap_err();
    // Both numbers: what stands behind tickets of hers, and what a ticket is worth.
    assert_eq!(
        text(poor),
        "insufficient sender reserve: 0 wei of it can stand behind a ticket here, 1000 wei are needed for a \
         ticket's worth (--ticket-ev); the sender has to add to its reserve"
    );

    let mut client = OrchestratorClient::new(world.grpc().await);
    let forged = net::OrchestratorRequest {
        address: Payer::new(&world).signer.address().to_vec(),
        ..payer.request(None).await
    };
    for bad in [forged, net::OrchestratorRequest::default()] {
        assert_eq!(
            text(client.get_orchestrator(bad).await.unwrap_err()),
            "Invalid orchestrator request: orchestrator req sig check failed"
        );
    }
    let live = Capabilities::ai_job(Capability::LiveVideoToVideo, "noop", false);
    payer.fund(&world).await;
    let capped = payer.info(&world, Some(&live)).await.unwrap_err();
    assert_eq!(text(capped), "Invalid orchestrator request: OrchestratorCapped");
}

#[tokio::test]
async fn a_full_orchestrator_is_capped() {
    let world = World::offchain(&["--max-sessions=0"]).await;
    let payer = Payer::new(&world);
    let capped = payer.info(&world, None).await.unwrap_err();
    assert_eq!(capped.message(), "Invalid orchestrator request: OrchestratorCapped");
}

#[tokio::test]
async fn offchain_offers_have_no_price() {
    let world = World::offchain(&[]).await;
    let mut client = OrchestratorClient::new(world.grpc().await);
    let info =
        client.get_orchestrator(net::OrchestratorRequest::default()).await.unwrap().into_inner();
    assert!(info.price_info.is_none() && info.ticket_params.is_none());
    // Gateways of the reference take one with nothing here for a blocked one.
    assert_eq!(info.address, [0; 20]);
    assert_eq!(info.transcoder, world.service);
}

#[tokio::test]
async fn ping_signs_thirty_two_bytes_and_nothing_else() {
    let world = World::paid(100_000).await;
    let mut client = OrchestratorClient::new(world.grpc().await);
    let value = keccak256(b"who are you").to_vec();
    let pong =
        client.ping(net::PingPong { value: value.clone() }).await.unwrap().into_inner().value;
    Signature::from_slice(&pong).unwrap().verify(&ping_digest(&value), world.recipient).unwrap();
    // 168 and 232 bytes are tickets in disguise.
    for length in [0, 1, 31, 33, 168, 232, 4096] {
        client.ping(net::PingPong { value: vec![7; length] }).await.unwrap_err();
    }
}

#[tokio::test]
async fn only_a_sessions_own_token_ends_it() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let good = token(&info);
    let mut client = OrchestratorClient::new(world.grpc().await);
    let mut end = async |auth_token| {
        client
            .end_transcoding_session(net::EndTranscodingSessionRequest { auth_token })
            .await
            .map(|_| ())
            .map_err(|status| status.message().to_owned())
    };
    assert_eq!(end(Some((&good).into())).await, Ok(()));
    assert_eq!(end(None).await, Err("Invalid auth token".into()));
    let mut moved = net::AuthToken::from(&good);
    moved.expiration += 1;
    assert_eq!(end(Some(moved)).await, Err("Invalid auth token".into()));
    let mut other = net::AuthToken::from(&good);
    other.session_id = "00000000".into();
    assert_eq!(end(Some(other)).await, Err("Invalid auth token".into()));
}
