//! OpenAI's paths, and the menu of the network.

use crate::{
    ai::{post, world},
    ai_stream::event,
    audio::wav,
    world::{MODEL, World},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use penstock_domain::{Capability, PriceInfo, Rational};
use penstock_testkit::sim::orchestrator::{Order, SimModel};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

const LLM: &str = "meta-llama/llama-3.1-8B-Instruct";

async fn ok(answer: reqwest::Response) -> Value {
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

fn chat(more: Value) -> Value {
    let mut body = json!({ "model": LLM, "messages": [
        { "role": "developer", "content": "be brief" },
        { "role": "user", "content": [{ "type": "text", "text": "hi" }] },
    ]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_conversation() {
    let w = world(1, &["--default-max-tokens=100"]).await;
    let said =
        ok(post(&w, "v1/chat/completions", Ok(chat(json!({"temperature": 0.5})))).await).await;
    assert_eq!((&said["object"], &said["model"]), (&json!("chat.completion"), &json!(LLM)));
    let choice = &said["choices"][0];
    assert_eq!(choice["message"]["content"], "word0 word1 word2 word3 word4 ");
    assert_eq!(
        (&choice["finish_reason"], &said["usage"]["total_tokens"]),
        (&json!("stop"), &json!(8))
    );
    let sent = w.orchestrator().ai.jobs.lock().unwrap()[0].json.clone().unwrap();
    let expected = json!({
        "model": LLM, "stream": false, "max_tokens": 100, "temperature": 0.5,
        "messages": [
            { "role": "system", "content": "be brief" }, { "role": "user", "content": "hi" },
        ],
    });
    assert_eq!(sent, expected);
    let more = json!({"max_completion_tokens": 7});
    ok(post(&w, "v1/chat/completions", Ok(chat(more))).await).await;
    let book = w.orchestrator().book(&format!("33_{LLM}"));
    assert_eq!(book.debited, Rational::new(107 * 3, 2).unwrap());
}

async fn data(answer: reqwest::Response) -> Vec<String> {
    let (mut answer, mut rest, mut all) = (answer, String::new(), Vec::new());
    while let Some(event) = event(&mut answer, &mut rest).await {
        all.push(event.strip_prefix("data: ").unwrap().to_owned());
    }
    all
}

#[tokio::test]
async fn a_streamed_conversation() {
    let w = world(1, &[]).await;
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let all = data(post(&w, "v1/chat/completions", Ok(chat(more))).await).await;
    assert_eq!((all.len(), all[6].as_str()), (7, "[DONE]"));
    let chunk = |n: usize| serde_json::from_str::<Value>(&all[n]).unwrap();
    assert_eq!(chunk(0)["object"], "chat.completion.chunk");
    assert_eq!(chunk(0)["choices"][0]["finish_reason"], Value::Null);
    assert_eq!(chunk(3)["choices"][0]["delta"]["content"], "word3 ");
    assert_eq!(chunk(4)["choices"][0]["finish_reason"], "stop");
    assert_eq!((&chunk(5)["choices"], &chunk(5)["usage"]["total_tokens"]), (&json!([]), &json!(8)));
    // One that breaks off ends with an error that the client raises, and not with [DONE].
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    *w.orchestrator().ai.gate.lock().unwrap() = Some(gate.clone());
    w.orchestrator().ai.orders.then([Order::CutAfter(1)]);
    let more = json!({"stream": true});
    let mut answer = post(&w, "v1/chat/completions", Ok(chat(more))).await;
    let mut rest = String::new();
    event(&mut answer, &mut rest).await.unwrap();
    gate.add_permits(1);
    let broken = event(&mut answer, &mut rest).await.unwrap();
    let broken: Value = serde_json::from_str(broken.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(broken["error"]["type"], "server_error");
    assert_eq!(event(&mut answer, &mut rest).await, None);
}

#[tokio::test]
async fn transcriptions() {
    let alias = format!("--model-alias=whisper-1={MODEL}");
    let w = world(1, &[&alias]).await;
    let form = |format: &str| {
        let file = Part::bytes(wav(58)).file_name("speech.wav");
        let form = Form::new().part("file", file).text("model", "whisper-1");
        form.text("response_format", format.to_owned()).text("language", "en")
    };
    let post = |format: &'static str| post(&w, "v1/audio/transcriptions", Err(form(format)));
    assert_eq!(ok(post("json").await).await, json!({ "text": "5 seconds of speech" }));
    assert_eq!(post("text").await.text().await.unwrap(), "5 seconds of speech\n");
    let srt = post("srt").await.text().await.unwrap();
    assert_eq!(srt, "1\n00:00:00,000 --> 00:00:01,000\n5 seconds of speech\n\n");
    assert!(post("vtt").await.text().await.unwrap().starts_with("WEBVTT\n\n00:00:00.000 --> "));
    let verbose = ok(post("verbose_json").await).await;
    assert_eq!(verbose["segments"][0]["end"], 1.0);
    assert_eq!(w.orchestrator().seen.lock().unwrap().audio[0].file_name, "speech.wav");
}

#[tokio::test]
async fn speech_and_pictures() {
    let w = world(1, &[]).await;
    let body = json!({
        "model": "parler-tts/parler-tts-large-v1", "input": "hello", "voice": "alloy",
        "instructions": "slowly",
    });
    let answer = post(&w, "v1/audio/speech", Ok(body)).await;
    assert_eq!(answer.headers()["content-type"], "audio/wav");
    assert!(answer.bytes().await.unwrap().ends_with(b"hello"));
    let sent = w.orchestrator().ai.jobs.lock().unwrap()[0].json.clone().unwrap();
    assert_eq!(sent["description"], "slowly");
    let body =
        json!({ "prompt": "a cat", "n": 2, "size": "256x128", "response_format": "b64_json" });
    let made = ok(post(&w, "v1/images/generations", Ok(body.clone())).await).await;
    let second = BASE64.decode(made["data"][1]["b64_json"].as_str().unwrap()).unwrap();
    assert!(second.ends_with(b"text-to-image 1: a cat"));
    let book = w.orchestrator().book("27_stabilityai/sdxl-turbo");
    assert_eq!(book.debited, Rational::from_int(256 * 128 * 2 * 3 / 2));
    let mut body = body;
    body["response_format"] = "url".into();
    let made = ok(post(&w, "v1/images/generations", Ok(body)).await).await;
    let url = made["data"][0]["url"].as_str().unwrap();
    assert_eq!(w.http.get(url).send().await.unwrap().headers()["content-type"], "image/png");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_openais_form() {
    let w = world(1, &[]).await;
    for (path, body, says) in [
        ("chat/completions", chat(json!({"tools": [{}]})), "unsupported_parameter: tools"),
        ("chat/completions", chat(json!({"n": 2})), "unsupported_parameter: n"),
        ("chat/completions", chat(json!({"stop": "x"})), "unsupported_parameter: stop"),
        ("chat/completions", chat(json!({"max_tokens": 0})), "max_tokens"),
        ("chat/completions", chat(json!({"messages": "hi"})), "messages"),
        ("chat/completions", chat(json!({"messages": []})), "missing required fields"),
        ("chat/completions", chat(json!({"model": ""})), "model is required"),
        ("chat/completions", chat(json!({"temperature": "hot"})), "temperature"),
        ("audio/speech", json!({"model": "m", "input": ""}), "input is required"),
        ("audio/speech", json!({"model": "m", "input": "a", "speed": 2}), "speed"),
        ("images/generations", json!({"prompt": "a", "size": "big"}), "size"),
        ("images/generations", json!({"prompt": "a", "n": 11}), "n must be"),
        ("images/generations", json!([]), "invalid JSON"),
    ] {
        let answer = post(&w, &format!("v1/{path}"), Ok(body.clone())).await;
        assert_eq!(answer.status(), 400, "{path} {body}");
        let error: Value = answer.json().await.unwrap();
        let error = &error["error"];
        assert_eq!(error["type"], "invalid_request_error", "{body}");
        assert_eq!(error["param"], Value::Null);
        assert!(error["message"].as_str().unwrap().contains(says), "{says}: {error}");
    }
    let unknown = chat(json!({"model": "nobody/has-it"}));
    let answer = post(&w, "v1/chat/completions", Ok(unknown)).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers().contains_key("retry-after")),
        (503, true)
    );
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error["error"]["type"], "server_error");
    w.assert_untouched().await;
}

#[tokio::test]
async fn models_are_those_of_the_network() {
    let alias = format!("--model-alias=small={LLM}");
    let w = world(1, &[&alias, "--model-alias=none=nobody/has-it"]).await;
    let list = ok(w.http.get(format!("{}/v1/models", w.url)).send().await.unwrap()).await;
    let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    for name in [LLM, MODEL, "small"] {
        assert!(names.contains(&&json!(name)), "{names:?}");
    }
    assert!(!names.contains(&&json!("none")));
    let one = |name: &str| w.http.get(format!("{}/v1/models/{name}", w.url)).send();
    assert_eq!(ok(one(LLM).await.unwrap()).await["object"], "model");
    let answer = one("nobody/has-it").await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn the_menu_has_the_networks_prices_and_the_operators() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prices.json");
    let list = r#"{"margin": "1/3", "prices": [
        {"pipeline": "llm", "model": "*", "wei_per_unit": "5/7"}]}"#;
    std::fs::write(&file, list).unwrap();
    let flag = format!("--price-list={}", file.display());
    let w = World::start(2, &[&flag, "--max-price=4"]).await;
    for (o, n) in w.orchestrators.iter().zip([2, 3]) {
        let model = SimModel::new(Capability::Upscale, "big").at(PriceInfo::new(n, 1).unwrap());
        o.ai.has(model);
        o.ai.has(SimModel::new(Capability::Llm, LLM));
    }
    let dear = SimModel::new(Capability::Upscale, "dear").at(PriceInfo::new(5, 1).unwrap());
    w.orchestrators[0].ai.has(dear);
    let menu = ok(w.http.get(format!("{}/v1/capabilities", w.url)).send().await.unwrap()).await;
    assert_eq!(menu["orchestrators"], 2);
    let of = |pipeline: &str, model: &str| {
        let all = menu["capabilities"].as_array().unwrap();
        let models = all.iter().find(|c| c["pipeline"] == pipeline).unwrap()["models"].clone();
        models.as_array().unwrap().iter().find(|m| m["model"] == model).unwrap().clone()
    };
    let big = of("upscale", "big");
    assert_eq!(big["network_wei_per_unit"], json!({ "min": "2", "max": "3" }));
    assert_eq!((&big["published_wei_per_unit"], &big["orchestrators"]), (&json!("4"), &json!(2)));
    let dear = of("upscale", "dear");
    assert_eq!(dear["network_wei_per_unit"], Value::Null, "above what is paid");
    let llm = of("llm", LLM);
    assert_eq!(llm["network_wei_per_unit"], json!({ "min": "3/2", "max": "3/2" }));
    assert_eq!(llm["published_wei_per_unit"], "5/7");
    assert_eq!(of("audio-to-text", MODEL)["capacity"], 2);
}

/// A ceiling in dollars is as good as one in wei, here and on the operator's page.
#[tokio::test]
async fn a_ceiling_in_dollars_bounds_the_menu() {
    // Four wei: 4e-18 ether at 2500 dollars.
    let flags = ["--max-price=0.00000000000001usd", "--eth-usd=2500"];
    let w = World::start(1, &flags).await;
    for (name, wei) in [("fair", 4), ("dear", 5)] {
        let model = SimModel::new(Capability::Upscale, name);
        w.orchestrator().ai.has(model.at(PriceInfo::new(wei, 1).unwrap()));
    }
    let menu = ok(w.http.get(format!("{}/v1/capabilities", w.url)).send().await.unwrap()).await;
    let all = menu["capabilities"].as_array().unwrap();
    let upscale = all.iter().find(|c| c["pipeline"] == "upscale").unwrap();
    let price = |name: &str| {
        let models = upscale["models"].as_array().unwrap();
        models.iter().find(|m| m["model"] == name).unwrap()["network_wei_per_unit"]["max"].clone()
    };
    assert_eq!((price("fair"), price("dear")), (json!("4"), Value::Null), "{menu}");
    let config = w.http.get(format!("{}/getBroadcastConfig", w.admin)).send().await.unwrap();
    assert_eq!(config.json::<Value>().await.unwrap()["MaxPrice"], "4/1");
}
