//! The batch pipelines by their routes: what is sent on, what is paid, what comes back.

use crate::{
    audio::wav,
    world::{Replica, SOURCE, World, error},
};
use penstock_domain::{Capability, PriceInfo, Rational};
use penstock_gateway::service::ai::Pipeline;
use penstock_store::{SegmentKey, SegmentStore, StoreError, StoredSegment, UnixMs};
use penstock_testkit::sim::orchestrator::{Order, SimModel, picture};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A gateway whose orchestrators have the reference's default model of each pipeline, at 3/2 wei.
pub async fn world(orchestrators: usize, flags: &[&str]) -> World {
    let w = World::start(orchestrators, flags).await;
    for o in &w.orchestrators {
        for pipeline in Pipeline::ALL {
            o.ai.has(SimModel::new(pipeline.capability(), pipeline.default_model()));
        }
    }
    w
}

pub fn chat(stream: bool) -> Value {
    json!({
        "model": "", "stream": stream, "max_tokens": 256,
        "messages": [{ "role": "user", "content": "hi" }],
    })
}

fn image_form() -> Form {
    let image = Part::bytes(picture(320, 240, "a cat").to_vec()).file_name("../cat.png");
    Form::new().part("image", image)
}

/// A request of each pipeline, and what it costs in units.
pub fn requests() -> Vec<(&'static str, Result<Value, Form>, u64)> {
    let audio = Part::bytes(wav(58)).file_name("a.wav");
    vec![
        (
            "text-to-image",
            Ok(json!({"prompt": "a", "width": 64, "num_images_per_prompt": 2})),
            65_536,
        ),
        ("image-to-image", Err(image_form().text("prompt", "a").text("strength", "0.5")), 76_800),
        ("image-to-video", Err(image_form().text("fps", "7")), 14_745_600),
        ("upscale", Err(image_form().text("prompt", "a")), 76_800),
        ("audio-to-text", Err(Form::new().part("audio", audio)), 5_000),
        ("segment-anything-2", Err(image_form().text("box", "[1,2,3,4]")), 76_800),
        ("llm", Ok(chat(false)), 256),
        ("image-to-text", Err(image_form()), 76_800),
        ("text-to-speech", Ok(json!({"text": "Größe"})), 5_000),
    ]
}

pub async fn post(w: &World, path: &str, body: Result<Value, Form>) -> reqwest::Response {
    let request = w.http.post(format!("{}/{path}", w.url));
    let request = match body {
        Ok(json) => request.json(&json),
        Err(form) => request.multipart(form),
    };
    request.send().await.unwrap()
}

async fn ok(w: &World, path: &str, body: Result<Value, Form>) -> Value {
    let answer = post(w, path, body).await;
    assert_eq!(answer.status(), 200, "{path}: {}", answer.text().await.unwrap());
    assert_eq!(answer.headers()["content-type"], "application/json");
    let text = answer.text().await.unwrap();
    assert!(text.ends_with('\n'), "{path}");
    serde_json::from_str(&text).unwrap()
}

/// What a result's address leads to.
async fn fetched(w: &World, url: &Value) -> (String, Vec<u8>) {
    let url = url.as_str().unwrap();
    assert!(url.starts_with(&format!("{}/ai/results/", w.url)), "{url}");
    let answer = w.http.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{url}");
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (kind, answer.bytes().await.unwrap().to_vec())
}

/// As an `<img>` would, where everything else wants a caller.
#[tokio::test]
async fn who_knows_a_results_address_may_fetch_it() {
    let w = world(1, &["--allow-private-peers", "--caller-auth=signer"]).await;
    w.signer.admit("psk_bob", "acme:bob", json!({}));
    let request = w.http.post(format!("{}/text-to-image", w.url)).bearer_auth("psk_bob");
    let made = request.json(&json!({ "prompt": "a cat" })).send().await.unwrap();
    let made: Value = made.json().await.unwrap();
    let url = &made["images"][0]["url"];
    assert_eq!(fetched(&w, url).await.0, "image/png");
    let head = w.http.head(url.as_str().unwrap()).send().await.unwrap();
    assert_eq!(head.status(), 200);
    let unknown = w.get("/ai/results/00000000000000000000000000000000/a.png").await;
    assert_eq!(unknown.0, 404);
    assert_eq!(w.get("/v1/models").await.0, 401, "all else wants a caller");
}

#[tokio::test]
async fn every_pipeline_answers_and_is_paid_by_its_units() {
    let w = world(1, &["--allow-private-peers"]).await;
    for ((path, body, units), pipeline) in requests().into_iter().zip(Pipeline::ALL) {
        assert_eq!(path, pipeline.name());
        let answer = ok(&w, path, body).await;
        let text = match pipeline {
            Pipeline::TextToImage | Pipeline::ImageToImage | Pipeline::Upscale => {
                for (number, image) in answer["images"].as_array().unwrap().iter().enumerate() {
                    assert_eq!(
                        (&image["seed"], &image["nsfw"]),
                        (&json!(7 + number), &json!(false))
                    );
                    let (kind, data) = fetched(&w, &image["url"]).await;
                    assert_eq!(kind, "image/png");
                    assert!(
                        String::from_utf8_lossy(&data).ends_with(&format!("{path} {number}: a"))
                    );
                }
                continue_with(&w, pipeline, units);
                continue;
            }
            Pipeline::ImageToVideo => {
                let (kind, data) = fetched(&w, &answer["images"][0]["url"]).await;
                format!("{kind} {}", String::from_utf8_lossy(&data[24..]))
            }
            Pipeline::TextToSpeech => {
                let (kind, data) = fetched(&w, &answer["audio"]["url"]).await;
                format!("{kind} {}", String::from_utf8_lossy(&data[12..]))
            }
            Pipeline::Llm => answer["choices"][0]["message"]["content"].to_string(),
            Pipeline::SegmentAnything2 => answer["masks"].to_string(),
            Pipeline::AudioToText | Pipeline::ImageToText => answer["text"].to_string(),
        };
        let expected = match pipeline {
            Pipeline::ImageToVideo => "video/mp4 a film",
            Pipeline::TextToSpeech => "audio/wav Größe",
            Pipeline::Llm => r#""word0 word1 word2 word3 word4 ""#,
            Pipeline::SegmentAnything2 => r#""[[1]]""#,
            Pipeline::AudioToText => r#""5 seconds of speech""#,
            _ => r#""a picture ()""#,
        };
        assert_eq!(text, expected, "{path}");
        continue_with(&w, pipeline, units);
    }
}

/// The account of the pipeline's model paid for so many units, and the gateway counts the same.
fn continue_with(w: &World, pipeline: Pipeline, units: u64) {
    let model = match pipeline {
        Pipeline::AudioToText => crate::world::MODEL,
        other => other.default_model(),
    };
    let book = w.orchestrator().book(&format!("{}_{model}", pipeline.capability().number()));
    let cost = &Rational::from_int(units.into()) * &Rational::new(3, 2).unwrap();
    assert_eq!(book.debited, cost, "{}", pipeline.name());
    assert!(book.balance().is_positive());
}

#[tokio::test]
async fn what_is_sent_on_is_what_the_reference_sends() {
    let w = world(1, &[]).await;
    let job = || w.orchestrator().ai.jobs.lock().unwrap().last().unwrap().clone();
    let body = json!({"prompt": "a", "guidance_scale": 7.5, "extra": 1, "loras": null});
    post(&w, "text-to-image", Ok(body)).await;
    let expected = json!({
        "model_id": "stabilityai/sdxl-turbo", "prompt": "a", "guidance_scale": 7.5,
        "height": 512, "width": 512, "num_images_per_prompt": 1,
    });
    assert_eq!(job().json.unwrap(), expected);
    let form = image_form().text("prompt", "a").text("strength", "0.5").text("metadata", "x");
    post(&w, "image-to-image", Err(form)).await;
    let sent = job();
    assert_eq!(sent.file.unwrap().0, "cat.png");
    let fields: Vec<_> = sent.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        fields,
        [
            ("model_id", "stabilityai/sdxl-turbo"),
            ("prompt", "a"),
            ("strength", "0.500000"),
            ("num_images_per_prompt", "1"),
        ]
    );
    post(&w, "llm", Ok(chat(false))).await;
    let expected = json!({
        "model": "meta-llama/llama-3.1-8B-Instruct", "stream": false, "max_tokens": 256,
        "messages": [{ "role": "user", "content": "hi" }],
    });
    assert_eq!(job().json.unwrap(), expected);
}

#[tokio::test]
async fn each_model_has_its_price() {
    let w = world(1, &["--max-price=5/2"]).await;
    let price = |n| PriceInfo::new(n, 1).unwrap();
    for (model, n) in [("cheap", 2), ("dear", 3)] {
        let model = SimModel::new(Capability::TextToSpeech, model).at(price(n));
        w.orchestrator().ai.has(model);
    }
    ok(&w, "text-to-speech", Ok(json!({"text": "abc", "model_id": "cheap"}))).await;
    assert_eq!(w.orchestrator().book("36_cheap").debited, Rational::from_int(6_000));
    let dear = post(&w, "text-to-speech", Ok(json!({"text": "abc", "model_id": "dear"}))).await;
    assert_eq!(error(dear).await.0, 503);
    assert_eq!(w.orchestrator().book("36_dear").tickets, 0);
}

#[tokio::test]
async fn another_orchestrator_takes_over_whatever_goes_wrong() {
    for order in [
        Order::Status(503, "insufficient capacity"),
        Order::Status(500, "runner crashed"),
        Order::Garbage,
        // Its file cannot be had: nobody listens there.
        Order::Elsewhere("http://127.0.0.1:9".to_owned()),
    ] {
        let w = world(2, &[]).await;
        let body = json!({"prompt": "a"});
        w.orchestrators[0].ai.orders.then([order.clone()]);
        w.orchestrators[1].ai.orders.then([order.clone()]);
        assert_eq!(error(post(&w, "text-to-image", Ok(body)).await).await.0, 503, "{order:?}");
        let asked: usize = w.orchestrators.iter().map(|o| o.ai.count("text-to-image")).sum();
        assert_eq!(asked, 2, "{order:?}");
    }
}

/// However long the first one took to fail: the time for finding somebody at all is another matter.
#[tokio::test]
async fn a_late_failure_is_mended_elsewhere() {
    let w = world(2, &["--ai-retry-timeout-ms=0"]).await;
    let asked = || w.orchestrators.iter().map(|o| o.ai.count("text-to-image")).sum::<usize>();
    for o in &w.orchestrators {
        o.ai.orders.then([Order::Status(500, "runner crashed")]);
    }
    // Each fails once, at whichever comes first.
    assert_eq!(error(post(&w, "text-to-image", Ok(json!({"prompt": "a"}))).await).await.0, 503);
    assert_eq!(asked(), 2);
    ok(&w, "text-to-image", Ok(json!({"prompt": "a"}))).await;
}

#[tokio::test]
async fn what_a_model_refuses_is_the_callers_to_change() {
    let w = world(2, &[]).await;
    for o in &w.orchestrators {
        o.ai.orders.then([Order::Status(500, "LLM container returned 400: too long")]);
    }
    let (status, code, text) = error(post(&w, "llm", Ok(chat(false))).await).await;
    assert_eq!((status, code.as_str(), text.as_str()), (400, "bad_request", "too long"));
}

#[tokio::test]
async fn bad_requests_cost_nothing() {
    let w = world(1, &["--max-image-bytes=1000", "--max-ai-json-bytes=2000"]).await;
    let big = Form::new().part("image", Part::bytes(vec![0; 1_001])).text("prompt", "a");
    let webp = Form::new().part("image", Part::bytes(&b"RIFF\0\0\0\0WEBPVP8 "[..]));
    let cases = vec![
        ("text-to-image", Ok(json!({})), 400, "bad_field"),
        ("text-to-image", Ok(json!([])), 400, "bad_json"),
        ("text-to-image", Ok(json!({"prompt": "a", "width": "64"})), 400, "bad_field"),
        ("text-to-image", Ok(json!({"prompt": "a", "width": -64})), 400, "bad_field"),
        ("text-to-image", Ok(json!({"prompt": "a", "width": 70_000})), 400, "too_much"),
        (
            "text-to-image",
            Ok(json!({"prompt": "a", "num_images_per_prompt": u64::MAX})),
            400,
            "bad_field",
        ),
        ("text-to-image", Ok(json!({"prompt": "a", "model_id": "x".repeat(62)})), 400, "bad_model"),
        ("text-to-image", Ok(json!({"prompt": "a".repeat(2_000)})), 413, "body_too_large"),
        ("text-to-speech", Ok(json!({"text": ""})), 400, "bad_field"),
        (
            "llm",
            Ok(json!({"messages": [], "model": "", "stream": false, "max_tokens": 1})),
            400,
            "bad_field",
        ),
        ("llm", Ok(json!({"model": "", "stream": false, "max_tokens": 1})), 400, "bad_field"),
        ("image-to-image", Err(image_form()), 400, "bad_field"),
        (
            "image-to-image",
            Err(image_form().text("prompt", "a").text("seed", "x")),
            400,
            "bad_field",
        ),
        ("upscale", Err(Form::new().text("prompt", "a")), 400, "bad_field"),
        ("upscale", Err(big), 413, "body_too_large"),
        ("image-to-text", Err(webp), 400, "bad_image"),
        ("segment-anything-2", Ok(json!({})), 400, "bad_form"),
    ];
    for (path, body, status, code) in cases {
        let said = format!("{path} {body:?}");
        let (got, found, text) = error(post(&w, path, body).await).await;
        assert_eq!((got, found.as_str()), (status, code), "{said}: {text}");
    }
    for pipeline in Pipeline::ALL {
        let answer = w.http.get(format!("{}/{}", w.url, pipeline.name())).send().await.unwrap();
        assert_eq!(error(answer).await.0, 405, "{}", pipeline.name());
    }
    assert!(w.orchestrator().ai.jobs.lock().unwrap().is_empty());
    w.assert_untouched().await;
}

#[tokio::test]
async fn files_of_others_are_not_there() {
    let w = world(1, &[]).await;
    for path in ["x/y.png", "x/y.html", "..%2f..%2fshow/0.png", "x/..%2fy.mp4", "%20/y.png"] {
        assert_eq!(w.get(&format!("/ai/results/{path}")).await.0, 404, "{path}");
    }
}

/// A segment store that is away for its next writes.
struct Away {
    inner: Arc<dyn SegmentStore>,
    writes: AtomicUsize,
}

#[async_trait::async_trait]
impl SegmentStore for Away {
    async fn put(
        &self,
        key: &SegmentKey,
        segment: StoredSegment,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let left = |n: usize| n.checked_sub(1);
        if self.writes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
            return Err(StoreError::Unavailable("away".into()));
        }
        self.inner.put(key, segment, ttl_ms, now).await
    }

    async fn get(
        &self,
        key: &SegmentKey,
        now: UnixMs,
    ) -> Result<Option<StoredSegment>, StoreError> {
        self.inner.get(key, now).await
    }

    async fn remove(&self, key: &SegmentKey, now: UnixMs) -> Result<bool, StoreError> {
        self.inner.remove(key, now).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
}

/// Nothing that comes again would help: it is said which setting is in the way.
#[tokio::test]
async fn what_is_too_large_to_be_kept_is_no_bug() {
    let w = world(1, &["--segment-store-bytes=20"]).await;
    let (status, code, why) =
        error(post(&w, "text-to-image", Ok(json!({"prompt": "a"}))).await).await;
    assert_eq!((status, code.as_str()), (413, "file_too_large"));
    assert!(why.contains("--segment-store-file-bytes"), "{why}");
    let (status, code, _) = error(w.push("/live/show/0.ts", SOURCE).await).await;
    assert_eq!((status, code.as_str()), (413, "file_too_large"));
    assert_eq!(w.segments(), 0, "before anything is paid");
}

/// The orchestrator has answered, and was paid: a store that is away for a moment is waited for.
#[tokio::test]
async fn a_paid_result_waits_for_the_segment_store() {
    let w = world(1, &[]).await;
    let away = Away { inner: Arc::clone(&w.gateway.segments), writes: AtomicUsize::new(3) };
    let away = Arc::new(away);
    let stores = (Arc::clone(&w.gateway.store), Arc::clone(&away) as Arc<dyn SegmentStore>);
    let replica = Replica::on(&w.signer.uri(), &[], Some(stores)).await;
    for (path, body, files) in [
        ("text-to-image", json!({"prompt": "a", "num_images_per_prompt": 2}), "/images/1/url"),
        ("text-to-speech", json!({"text": "a"}), "/audio/url"),
    ] {
        away.writes.store(3, Ordering::SeqCst);
        let request = w.http.post(format!("{}/{path}", replica.url)).json(&body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let url = answer.json::<Value>().await.unwrap().pointer(files).cloned().unwrap();
        let file = w.http.get(url.as_str().unwrap()).send().await.unwrap();
        assert_eq!(file.status(), 200, "{path}");
        assert_eq!(w.orchestrator().ai.count(path), 1);
    }
    replica.stop.cancel();
}
