//! Prices that change while the process runs: price lists, dollars, prices per gateway.

use crate::{
    payer::{Payer, answer, empty, post, token},
    scripted_worker::{AiWorker, Transcoder, ai_upload},
    speech::{ANSWER, form, request, wav},
    world::{AUDIO_PRICE, MODEL, PIXEL_PRICE, World},
};
use penstock_domain::{Capabilities, Capability, address_lower};
use penstock_testkit::{until, until_some};
use penstock_wire::{json::eth_address_header, net};
use serde_json::json;
use std::path::Path;

fn audio() -> Capabilities {
    Capabilities::ai_job(Capability::AudioToText, MODEL, false)
}

async fn price(payer: &Payer, world: &World, job: Option<&Capabilities>) -> i64 {
    let price = payer.info(world, job).await.unwrap().price_info.unwrap();
    assert_eq!(price.pixels_per_unit, 1);
    price.price_per_unit
}

fn list(path: &Path, price: &str) {
    // Renamed into place: a poll must not see half of it.
    let half = path.with_extension("half");
    let text = format!("[[price]]\npipeline = \"audio-to-text\"\nmodel = \"{MODEL}\"\n{price}\n");
    std::fs::write(&half, text).unwrap();
    std::fs::rename(half, path).unwrap();
}

async fn operator_posts(world: &World, path: &str) -> (u16, String) {
    let answer = world.http.post(format!("{}{path}", world.admin)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Two seconds of audio; whether it was done.
async fn transcribe(
    world: &World,
    worker: &mut AiWorker,
    payer: &Payer,
    info: &net::OrchestratorInfo,
    nonces: &[u32],
) {
    let payment = payer.payment(info, nonces).await;
    let headers = payer.headers(&payment, &empty(info, "manifest")).await;
    let running = tokio::spawn(answer(request(world, &headers, form(&wav(20), MODEL))));
    let job = worker.next().await;
    ai_upload(world, job.task_id, ANSWER).send().await.unwrap();
    assert_eq!(running.await.unwrap().0, 200);
}

async fn debited(world: &World, payer: &Payer) -> String {
    let path = format!("/v1/invoices/31_{MODEL}?sender={}", payer.signer.address());
    world.operator(&path).await[0]["debited_wei"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_list_changes_without_a_restart_and_what_was_offered_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.toml");
    list(&path, "price = 5");
    let file = format!("--price-file={}", path.display());
    let world = World::paid_with(100_000, &[&file, "--price-poll-ms=20"]).await;
    let mut worker = AiWorker::register(&world, 2).await;
    world.workers(1).await;
    let (early, late) = (Payer::funded(&world).await, Payer::funded(&world).await);
    assert_eq!(price(&early, &world, Some(&audio())).await, 5);
    assert_eq!(price(&early, &world, None).await, PIXEL_PRICE);
    let menu = early.info(&world, None).await.unwrap().capabilities_prices;
    assert_eq!((menu.len(), menu[0].price_per_unit), (1, 5));
    let offer = early.info(&world, Some(&audio())).await.unwrap();

    list(&path, "price = 9");
    until("the new price is offered", || async { price(&late, &world, Some(&audio())).await == 9 })
        .await;
    // The old offer is paid only now, and holds; so does what it pinned, from then on.
    transcribe(&world, &mut worker, &early, &offer, &(1..=30).collect::<Vec<_>>()).await;
    assert_eq!(debited(&world, &early).await, "10000");
    transcribe(&world, &mut worker, &early, &offer, &[31]).await;
    assert_eq!(debited(&world, &early).await, "20000");
    let offer = late.info(&world, Some(&audio())).await.unwrap();
    transcribe(&world, &mut worker, &late, &offer, &(1..=30).collect::<Vec<_>>()).await;
    assert_eq!(debited(&world, &late).await, "18000");

    // A list that makes no sense leaves the one in force, and says so.
    list(&path, "price = 1\ncolour = \"red\"");
    let error = until_some("the operator is told", || async {
        let said = world.operator("/v1/prices").await["error"].clone();
        said.as_str().map(str::to_owned)
    })
    .await;
    assert!(error.contains("--price-file") && error.contains("colour"), "{error}");
    let (status, text) = operator_posts(&world, "/v1/prices/reload").await;
    assert_eq!(status, 400);
    assert!(text.contains("the prices of before hold"), "{text}");
    assert_eq!(price(&Payer::funded(&world).await, &world, Some(&audio())).await, 9);

    // Cards and load count from the moment on.
    list(&path, "gpu = \"no such card\"\nprice = 70");
    until("the list counts", || async {
        price(&late, &world, Some(&audio())).await == AUDIO_PRICE
    })
    .await;
    assert_eq!(world.operator("/v1/prices").await["error"], serde_json::Value::Null);
    list(&path, "load_percent = 0\nprice = 71");
    until("the list counts", || async { price(&late, &world, Some(&audio())).await == 71 }).await;
}

/// A process that never had the price in its lists holds it all the same, for what it was asked for.
#[tokio::test]
async fn what_another_process_offered_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.toml");
    list(&path, "price = 5");
    let file = format!("--price-file={}", path.display());
    let mut world = World::paid_with(100_000, &[&file]).await;
    let (payer, other) = (Payer::funded(&world).await, Payer::funded(&world).await);
    let offer = payer.info(&world, Some(&audio())).await.unwrap();
    let cheap = other.info(&world, None).await.unwrap();
    assert!(cheap.price_info.as_ref().unwrap().price_per_unit < 9);

    list(&path, "price = 9");
    world.restart().await;
    let mut worker = AiWorker::register(&world, 2).await;
    world.workers(1).await;
    let tickets: Vec<_> = (1..=30).collect();
    transcribe(&world, &mut worker, &payer, &offer, &tickets).await;
    assert_eq!(debited(&world, &payer).await, "10000");
    // What was asked for other work buys at the price of this one.
    transcribe(&world, &mut worker, &other, &cheap, &tickets).await;
    assert_eq!(debited(&world, &other).await, "18000");
}

#[tokio::test]
async fn dollars_need_the_price_of_an_ether() {
    let folder = tempfile::tempdir().unwrap();
    let (prices, ether) = (folder.path().join("prices.toml"), folder.path().join("ether"));
    list(&prices, "price = \"0.001usd\"\nunits = 1_000_000_000");
    let settings = [
        format!("--price-file={}", prices.display()),
        format!("--eth-usd-file={}", ether.display()),
        "--eth-usd-poll-ms=100".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let world = World::paid_with(100_000, &settings).await;
    let payer = Payer::funded(&world).await;
    let refused = payer.info(&world, Some(&audio())).await.unwrap_err();
    assert!(refused.message().contains("what an ether costs is not known"), "{refused}");
    assert!(payer.info(&world, None).await.unwrap().capabilities_prices.is_empty());
    assert_eq!(price(&payer, &world, None).await, PIXEL_PRICE, "which is in wei");
    std::fs::write(&ether, "2000").unwrap();
    let at = async |wei: i64| {
        until("the price is known", || async {
            let info = payer.info(&world, Some(&audio())).await;
            info.is_ok_and(|info| info.price_info.unwrap().price_per_unit == wei)
        })
        .await;
    };
    at(500).await;
    // Half the dollars for an ether are twice the wei.
    std::fs::write(&ether, "1000").unwrap();
    at(1000).await;
    assert_eq!(world.operator("/v1/prices").await["micro_usd_per_eth"], "1000000000");
}

#[tokio::test]
async fn single_gateways_have_prices_of_their_own() {
    let known = penstock_domain::Address::repeat_byte(1);
    let json = format!(
        r#"--price-per-gateway={{"gateways":[{{"ethaddress":"{known}","priceperunit":4,"pixelsperunit":1}}]}}"#
    );
    let world = World::paid_with(100_000, &[&json]).await;
    let payer = Payer::funded(&world).await;
    let address = payer.signer.address();
    assert_eq!(price(&payer, &world, None).await, PIXEL_PRICE);
    let set = async |price: &str, who: &str| {
        let form = format!("pricePerUnit={price}&pixelsPerUnit=1&broadcasterEthAddr={who}");
        operator_posts(&world, &format!("/setPriceForBroadcaster?{form}")).await
    };
    let said = format!("Price per pixel set to 8 wei for 1 pixels for broadcaster {address}\n");
    assert_eq!(set("8", &address.to_string()).await, (200, said));
    assert_eq!(price(&payer, &world, None).await, 8);
    assert_eq!(set("6", "default").await.0, 200);
    assert_eq!(price(&payer, &world, None).await, 8);
    assert_eq!(price(&Payer::funded(&world).await, &world, None).await, 6);
    for (price, who, why) in [
        ("-1", "default", "a price must be"),
        ("1", "0x12", "invalid broadcasterEthAddr"),
        ("1", "", "missing form param: broadcasterEthAddr"),
        ("1&currency=usd", "default", "--eth-usd"),
        ("1&currency=doge", "default", "currency must be"),
    ] {
        let (status, text) = set(price, who).await;
        assert_eq!(status, 400, "{text}");
        assert!(text.contains(why), "{text}");
    }
    assert_eq!(price(&payer, &world, None).await, 8, "nothing of that counts");
    let listed = world.operator("/v1/prices").await;
    let rules = listed["prices"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["gateways"][0] == address_lower(&address).as_str()
        && rule["wei_per_unit"] == "8"));
    assert!(rules.iter().any(|rule| rule["gateways"][0] == address_lower(&known).as_str()));
    let info = payer.info(&world, None).await.unwrap();
    let payment = payer.payment(&info, &[1]).await;
    let headers = payer.headers(&payment, &empty(&info, &token(&info).session_id)).await;
    assert_eq!(answer(post(&world, "/payment", &headers)).await.0, 200);
    let session = token(&info).session_id;
    let invoice = &world.operator(&format!("/v1/invoices/{session}")).await[0];
    assert_eq!(invoice["fixed_price_wei_per_unit"], "8");
}

/// What is done on a card has that card's price, whatever kind of work it is.
#[tokio::test]
async fn cards_that_serve_have_prices() {
    let runner = axum::Router::new()
        .route("/health", axum::routing::get(|| async { r#"{"status":"IDLE"}"# }))
        .route(
            "/hardware/info",
            axum::routing::get(|| async { r#"{"gpu_info":{"0":{"name":"NVIDIA L40S"}}}"# }),
        );
    let runner = penstock_testkit::sim::Server::clear(runner).await;
    let folder = tempfile::tempdir().unwrap();
    let (prices, models) = (folder.path().join("prices.toml"), folder.path().join("models.json"));
    let entry = serde_json::json!([{ "pipeline": "live-video-to-video", "model_id": "noop",
        "url": runner.uri, "price_per_unit": 1 }]);
    std::fs::write(&models, entry.to_string()).unwrap();
    let rule = |pipeline: &str, gpu: &str, price: u32| {
        format!("[[price]]\npipeline = \"{pipeline}\"\ngpu = \"{gpu}\"\nprice = {price}\n")
    };
    let rules = [
        rule("transcoding", "T4", 21),
        rule("audio-to-text", "h100", 22),
        rule("live-video-to-video", "l40", 23),
    ];
    std::fs::write(&prices, rules.concat()).unwrap();
    let settings = [
        format!("--price-file={}", prices.display()),
        format!("--models-file={}", models.display()),
        "--live-health-interval-ms=20".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let world = World::paid_with(100_000, &settings).await;
    let payer = Payer::funded(&world).await;
    assert_eq!(price(&payer, &world, None).await, PIXEL_PRICE);
    assert_eq!(price(&payer, &world, Some(&audio())).await, AUDIO_PRICE);
    let other = AiWorker::register_on(&world, 1, "NVIDIA A100").await;
    world.workers(1).await;
    assert_eq!(price(&payer, &world, Some(&audio())).await, AUDIO_PRICE, "another card");
    let _audio = AiWorker::register_on(&world, 1, "NVIDIA H100 80GB HBM3").await;
    let _video = Transcoder::register_on(&world, 1, "Tesla T4; NVIDIA A10").await;
    world.workers(3).await;
    assert_eq!(price(&payer, &world, Some(&audio())).await, 22);
    assert_eq!(price(&payer, &world, None).await, 21);
    drop(other);
    let live = Capabilities::ai_job(Capability::LiveVideoToVideo, "noop", false);
    until("the runner has said what it runs on", || async {
        payer
            .info(&world, Some(&live))
            .await
            .is_ok_and(|info| info.price_info.is_some_and(|price| price.price_per_unit == 23))
    })
    .await;
}

/// Work that is done fast enough has a price of its own.
#[tokio::test]
async fn throughput_that_was_measured_has_a_price() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.toml");
    list(&path, "units_per_second = 1\nprice = 13");
    let file = format!("--price-file={}", path.display());
    let world = World::paid_with(100_000, &[&file]).await;
    let mut worker = AiWorker::register(&world, 2).await;
    world.workers(1).await;
    let payer = Payer::funded(&world).await;
    assert_eq!(price(&payer, &world, Some(&audio())).await, AUDIO_PRICE, "nothing was done yet");
    let offer = payer.info(&world, Some(&audio())).await.unwrap();
    transcribe(&world, &mut worker, &payer, &offer, &(1..=30).collect::<Vec<_>>()).await;
    let next = Payer::funded(&world).await;
    assert_eq!(
        price(&next, &world, Some(&audio())).await,
        13,
        "two seconds of it in less than 2,000"
    );
}

/// All of the list that concerns whoever asks is there to be read.
#[tokio::test]
async fn prices_are_published() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.toml");
    let world = {
        let conditions = "gpu = \"h100\"\nregion = \"eu\"\nlatency = \"warm\"\nload_percent = 80\n\
                          units_per_second = 5\nprice = \"0.5\"\nunits = 3";
        list(&path, conditions);
        let file = format!("--price-file={}", path.display());
        World::paid_with(100_000, &[&file, "--region=eu"]).await
    };
    let (payer, other) = (Payer::new(&world), Payer::new(&world));
    let form =
        format!("pricePerUnit=7&pixelsPerUnit=2&broadcasterEthAddr={}", payer.signer.address());
    assert_eq!(operator_posts(&world, &format!("/setPriceForBroadcaster?{form}")).await.0, 200);
    let ask = async |who: Option<(&Payer, &Payer)>| {
        let mut request = world.http.get(format!("{}/prices", world.service));
        if let Some((signer, named)) = who {
            let sig = signer.signer.sign_orchestrator_request().await.unwrap();
            let proof = eth_address_header(named.signer.address(), sig.as_bytes());
            request = request.header("Livepeer-Eth-Address", proof);
        }
        crate::runners::read(request).await
    };
    let (status, all) = ask(None).await;
    assert_eq!((status, &all["gateway"], &all["region"]), (200, &json!(null), &json!("eu")));
    let listed = json!({
        "pipeline": "audio-to-text", "model": MODEL, "gpu": "h100", "region": "eu", "latency": "warm",
        "load_percent": 80, "units_per_second": 5, "price_per_unit": "1/6 wei", "wei_per_unit": "1/6",
    });
    assert_eq!(all["prices"][0], listed);
    let lines = all["prices"].as_array().unwrap().len();
    let (status, own) = ask(Some((&payer, &payer))).await;
    assert_eq!((status, own["prices"].as_array().unwrap().len()), (200, lines + 1));
    assert_eq!(own["prices"][0]["wei_per_unit"], "7/2");
    assert_eq!(ask(Some((&other, &other))).await, (200, all), "who is not named sees what all see");
    assert_eq!(ask(Some((&other, &payer))).await.0, 400, "nobody sees another's");
    let offchain = World::offchain(&[]).await;
    let none = world.http.get(format!("{}/prices", offchain.service));
    assert_eq!(crate::runners::read(none).await.0, 404);
}
