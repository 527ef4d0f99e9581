//! `POST /audio-to-text`, with a scripted AI worker.

use crate::{
    payer::{Headers, Payer, answer, empty, post, short},
    scripted_worker::{AiWorker, ai_upload, source},
    world::{AUDIO_PRICE, MODEL, World},
};
use penstock_domain::{Capabilities, Capability, Rational};
use penstock_testkit::until;
use penstock_wire::net;
use serde_json::{Value, json};

pub const BOUNDARY: &str = "form";
pub const ANSWER: &str = r#"{"text":" hello","chunks":[]}"#;

/// 16-bit mono at 8 kHz, so many tenths of a second of silence.
pub fn wav(tenths: u32) -> Vec<u8> {
    let data = 1600 * tenths;
    let mut w = b"RIFF".to_vec();
    w.extend((36 + data).to_le_bytes());
    w.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    w.extend(8_000u32.to_le_bytes());
    w.extend(16_000u32.to_le_bytes());
    w.extend(b"\x02\0\x10\0data");
    w.extend(data.to_le_bytes());
    w.resize(w.len() + data as usize, 0);
    w
}

pub fn form(audio: &[u8], model: &str) -> Vec<u8> {
    let part =
        |name: &str| format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"");
    let mut body = format!("{}; filename=\"a.wav\"\r\n\r\n", part("audio")).into_bytes();
    body.extend(audio);
    for (name, value) in [("model_id", model), ("return_timestamps", "true")] {
        body.extend(format!("\r\n{}\r\n\r\n{value}", part(name)).as_bytes());
    }
    body.extend(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    body
}

pub fn request(world: &World, headers: &Headers, body: Vec<u8>) -> reqwest::RequestBuilder {
    post(world, "/audio-to-text", headers)
        .header("Content-Type", format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(body)
}

async fn offer(world: &World) -> (Payer, net::OrchestratorInfo) {
    let payer = Payer::funded(world).await;
    let job = Capabilities::ai_job(Capability::AudioToText, MODEL, false);
    let info = payer.info(world, Some(&job)).await.unwrap();
    (payer, info)
}

#[tokio::test]
async fn a_paid_transcription() {
    let world = World::paid(100_000).await;
    let mut worker = AiWorker::register(&world, 1).await;
    let (payer, info) = offer(&world).await;
    let capabilities = info.capabilities.as_ref().unwrap();
    let model = &capabilities.constraints.as_ref().unwrap().per_capability[&31].models[MODEL];
    assert_eq!((model.capacity, model.warm), (1, true));
    let menu = payer.info(&world, None).await.unwrap();
    assert_eq!(menu.hardware.len(), 1);

    let payment = payer.payment(&info, &(1..=40).collect::<Vec<_>>()).await;
    let headers = payer.headers(&payment, &empty(&info, "manifest")).await;
    let running = tokio::spawn(request(&world, &headers, form(&wav(37), MODEL)).send());
    let job = worker.next().await;
    let told = job.ai_job_data.unwrap();
    assert_eq!(told.pipeline, "audio-to-text");
    let request_data: Value = serde_json::from_slice(&told.request_data).unwrap();
    assert_eq!(request_data["request"]["model_id"], MODEL);
    assert_eq!(request_data["request"]["return_timestamps"], "true");
    assert_eq!(request_data["request"]["audio"], Value::Null);
    let input = request_data["input_url"].as_str().unwrap();
    assert_eq!(source(&world, input).await, wav(37));

    // The one slot is taken; a second job finds no room, and its payment is not touched.
    let busy = payer.payment(&info, &[99]).await;
    let second = payer.headers(&busy, &empty(&info, "manifest")).await;
    let refused = answer(request(&world, &second, form(&wav(37), MODEL))).await;
    assert_eq!(refused, (503, "insufficient capacity".into()));

    assert_eq!(answer(ai_upload(&world, job.task_id, ANSWER)).await, (200, "OK".into()));
    let response = running.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.text().await.unwrap(), format!("{ANSWER}\n"));
    assert_eq!(world.http.get(input).send().await.unwrap().status(), 404);

    // 3 whole seconds at 1000 units each, to the account of capability and model.
    let summary = world.operator("/v1/summary").await;
    assert_eq!(summary["tickets"], 40);
    assert_eq!(summary["debited_wei"], (3000 * AUDIO_PRICE).to_string());
    let credited: Rational = summary["credited_wei"].as_str().unwrap().parse().unwrap();
    let balance = world.balance(payer.signer.address(), &format!("31_{MODEL}")).await;
    assert_eq!(balance, &credited - &Rational::from_int((3000 * AUDIO_PRICE).into()));

    let invoices = world.operator(&format!("/v1/invoices/31_{MODEL}")).await;
    let [invoice] = &invoices.as_array().unwrap()[..] else { panic!("{invoices}") };
    let [fee] = &invoice["debits"].as_array().unwrap()[..] else { panic!("{invoice}") };
    assert_eq!((&fee["units"], &fee["amount_wei"]), (&json!(3000), &summary["debited_wei"]));
    assert_eq!(fee["price_wei_per_unit"], AUDIO_PRICE.to_string());
    assert!(fee["from_ms"].as_i64().unwrap() <= fee["to_ms"].as_i64().unwrap());
    let [paid] = &invoice["credits"].as_array().unwrap()[..] else { panic!("{invoice}") };
    assert_eq!((&paid["tickets"], &paid["amount_wei"]), (&json!(40), &summary["credited_wei"]));
    assert_eq!(invoice["balance_wei"], balance.to_string());
    assert_eq!(invoice["is_whole"], true);
    let none = format!("{}/v1/invoices/31_{MODEL}?sender=0x{}", world.admin, "00".repeat(20));
    assert_eq!(world.http.get(none).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn without_room_credit_or_sense_there_is_no_job() {
    let world = World::paid(100_000).await;
    let (payer, info) = offer(&world).await;
    let nothing = payer.nothing(&info);
    let headers = payer.headers(&nothing, &empty(&info, "manifest")).await;
    let full = answer(request(&world, &headers, form(&wav(20), MODEL))).await;
    assert_eq!(full, (503, "insufficient capacity".into()), "no worker at all");
    let _worker = AiWorker::register(&world, 1).await;
    world.workers(1).await;
    let poor = answer(request(&world, &headers, form(&wav(20), MODEL))).await;
    assert_eq!(poor, short("0"));
    let other = answer(request(&world, &headers, form(&wav(20), "no/such-model"))).await;
    assert_eq!(other, (503, "insufficient capacity".into()));
    let duration = (400, "Unable to calculate duration".into());
    for bad in [&b"no audio"[..], &wav(9), b"RIFF\0\0\0\0WAVE"] {
        assert_eq!(answer(request(&world, &headers, form(bad, MODEL))).await, duration);
    }
    for bad in [form(b"", MODEL), form(&wav(20), "with space"), b"--form".to_vec(), Vec::new()] {
        assert_eq!(answer(request(&world, &headers, bad)).await.0, 400);
    }
    let untyped = post(&world, "/audio-to-text", &headers).body(form(&wav(20), MODEL));
    assert_eq!(answer(untyped).await.0, 400);
    // Every refusal gave its room back.
    let still = answer(request(&world, &headers, form(&wav(20), MODEL))).await;
    assert_eq!(still, short("0"));
    assert_eq!(world.operator("/v1/summary").await["debited_wei"], "0");
}

#[tokio::test]
async fn a_failed_job_is_not_charged() {
    let world = World::paid(100_000).await;
    let mut worker = AiWorker::register(&world, 1).await;
    let (payer, info) = offer(&world).await;
    let payment = payer.payment(&info, &[1]).await;
    let headers = payer.headers(&payment, &empty(&info, "manifest")).await;
    let running = tokio::spawn(answer(request(&world, &headers, form(&wav(20), MODEL))));
    let job = worker.next().await;
    let mut failed = ai_upload(&world, job.task_id, "").body("model on fire").build().unwrap();
    failed.headers_mut().insert("content-type", "livepeer/ai-worker-error".parse().unwrap());
    world.http.execute(failed).await.unwrap();
    assert_eq!(running.await.unwrap(), (500, "model on fire".into()));

    let headers = payer.headers(&payer.nothing(&info), &empty(&info, "manifest")).await;
    let running = tokio::spawn(answer(request(&world, &headers, form(&wav(20), MODEL))));
    worker.next().await;
    drop(worker);
    let lost = running.await.unwrap();
    assert_eq!(lost, (500, "no workers can process job requested".into()));
    assert_eq!(world.operator("/v1/summary").await["debited_wei"], "0");
    until("the worker is forgotten", || async { world.operator("/v1/workers").await == json!([]) })
        .await;
}

#[tokio::test]
async fn an_offer_for_cheap_work_does_not_make_dear_work_cheap() {
    let world = World::paid(100_000).await;
    let mut worker = AiWorker::register(&world, 1).await;
    let payer = Payer::funded(&world).await;
    // An offer for pixels, which cost less than audio does here.
    let video = payer.info(&world, None).await.unwrap();
    assert!(video.price_info.as_ref().unwrap().price_per_unit < AUDIO_PRICE);
    let payment = payer.payment(&video, &(1..=20).collect::<Vec<_>>()).await;
    let headers = payer.headers(&payment, &empty(&video, &format!("31_{MODEL}"))).await;
    assert_eq!(answer(post(&world, "/payment", &headers)).await.0, 200, "money is money");
    let headers = payer.headers(&payer.nothing(&video), &empty(&video, "manifest")).await;
    let running = tokio::spawn(answer(request(&world, &headers, form(&wav(20), MODEL))));
    let job = worker.next().await;
    ai_upload(&world, job.task_id, ANSWER).send().await.unwrap();
    assert_eq!(running.await.unwrap().0, 200);
    let summary = world.operator("/v1/summary").await;
    assert_eq!(summary["debited_wei"], (2000 * AUDIO_PRICE).to_string());
}

#[tokio::test]
async fn a_gateway_that_hangs_up_pays_for_the_work() {
    let world = World::paid(100_000).await;
    let mut worker = AiWorker::register(&world, 1).await;
    let (payer, info) = offer(&world).await;
    let payment = payer.payment(&info, &(1..=20).collect::<Vec<_>>()).await;
    let headers = payer.headers(&payment, &empty(&info, "manifest")).await;
    let running = tokio::spawn(request(&world, &headers, form(&wav(20), MODEL)).send());
    let job = worker.next().await;
    running.abort();
    ai_upload(&world, job.task_id, ANSWER).send().await.unwrap();
    let fee = (2000 * AUDIO_PRICE).to_string();
    until("the fee is booked", || async {
        world.operator("/v1/summary").await["debited_wei"] == fee.as_str()
    })
    .await;
}

#[tokio::test]
async fn jobs_that_run_together_do_not_share_one_balance() {
    let world = World::paid(100_000).await;
    let mut worker = AiWorker::register(&world, 4).await;
    let (payer, info) = offer(&world).await;
    // Ten tickets of 1000 wei; a job of two seconds costs 6000.
    let payment = payer.payment(&info, &(1..=10).collect::<Vec<_>>()).await;
    let headers = payer.headers(&payment, &empty(&info, "manifest")).await;
    let first = tokio::spawn(answer(request(&world, &headers, form(&wav(20), MODEL))));
    let first_job = worker.next().await;
    let headers = payer.headers(&payer.nothing(&info), &empty(&info, "manifest")).await;
    let second = tokio::spawn(answer(request(&world, &headers, form(&wav(20), MODEL))));
    let second_job = worker.next().await;
    let third = answer(request(&world, &headers, form(&wav(20), MODEL))).await;
    assert_eq!(third, short("-2000"));
    for (job, running) in [(first_job, first), (second_job, second)] {
        ai_upload(&world, job.task_id, ANSWER).send().await.unwrap();
        assert_eq!(running.await.unwrap().0, 200);
    }
    let summary = world.operator("/v1/summary").await;
    assert_eq!(summary["debited_wei"], (2 * 2000 * AUDIO_PRICE).to_string());
    // What was held is given back: new credit counts in full.
    let payment = payer.payment(&info, &(11..=14).collect::<Vec<_>>()).await;
    let headers = payer.headers(&payment, &empty(&info, "manifest")).await;
    let fourth = tokio::spawn(answer(request(&world, &headers, form(&wav(20), MODEL))));
    ai_upload(&world, worker.next().await.task_id, ANSWER).send().await.unwrap();
    assert_eq!(fourth.await.unwrap().0, 200);
}
