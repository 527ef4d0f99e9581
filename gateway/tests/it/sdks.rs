//! The openai and livepeer-ai SDKs, unmodified, run their calls.

use crate::{ai::world, audio::wav, world::MODEL};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use penstock_domain::PriceInfo;
use penstock_testkit::{places, sim::orchestrator::picture};
use serde_json::{Value, json};

#[tokio::test]
async fn the_sdks_run_unmodified() {
    let whisper = format!("--model-alias=whisper-1={MODEL}");
    let flags = [
        whisper.as_str(),
        "--model-alias=chat=meta-llama/llama-3.1-8B-Instruct",
        "--model-alias=tts-1=parler-tts/parler-tts-large-v1",
        "--model-alias=dall-e-3=stabilityai/sdxl-turbo",
        "--embeddings-capability=embed",
    ];
    let w = world(1, &flags).await;
    let o = w.orchestrator();
    o.byoc.has("embed", PriceInfo::new(1_000_000, 1).unwrap());
    let embedding = |n: u32| json!({ "object": "embedding", "index": n, "embedding": [0.5, n] });
    let vectors = json!({
        "object": "list", "model": "m", "data": [embedding(0), embedding(1)],
        "usage": { "prompt_tokens": 2, "total_tokens": 2 },
    });
    *o.byoc.says.lock().unwrap() = Some(vectors);

    let dir = tempfile::tempdir().unwrap();
    let (image, sound) = (dir.path().join("kite.png"), dir.path().join("speech.wav"));
    std::fs::write(&image, picture(64, 64, "a kite")).unwrap();
    std::fs::write(&sound, wav(20)).unwrap();
    let output = tokio::process::Command::new(places::ai_sdks_python())
        .arg(places::repository().join("tests/sdk/ai.py"))
        .arg(&w.url)
        .args([&image, &sound])
        .output()
        .await
        .unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    let seen: Value = serde_json::from_str(said.trim()).unwrap();

    let words: Vec<_> = (0..5).map(|n| format!("word{n} ")).collect();
    assert_eq!(seen["chat"], words.concat());
    assert_eq!(seen["stream"], json!(words));
    assert_eq!(seen["stream_tokens"], 8);
    assert_eq!(seen["transcription"], "2 seconds of speech");
    assert_eq!(seen["segments"], json!(["2 seconds of speech"]));
    assert_eq!(seen["speech"], "RIFF____WAVEhello".len());
    let png = BASE64.decode(seen["image"].as_str().unwrap()).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    for name in ["chat", "whisper-1", MODEL] {
        assert!(seen["models"].as_array().unwrap().contains(&json!(name)), "{}", seen["models"]);
    }
    assert_eq!(seen["embeddings"], json!([[0.5, 0.0], [0.5, 1.0]]));
    assert_eq!(seen["embeddings_as_usual"], seen["embeddings"]);
    assert_eq!(seen["pcm"], "unsupported_parameter: response_format");
    assert_eq!(seen["nobody"], json!([503, "server_error", "no_orchestrators"]));
    assert_eq!(seen["bad"], "unsupported_parameter: n");
    for (key, expected) in [
        ("image_to_image", json!(1)),
        ("upscale", json!(1)),
        ("audio_to_text", json!("2 seconds of speech")),
        ("segment_anything_2", json!("[[1]]")),
        ("llm", json!(words.concat())),
        ("image_to_text", json!("a picture ()")),
    ] {
        assert_eq!(seen[key], expected, "{key}");
    }
    for url in [&seen["text_to_image"][0], &seen["image_to_video"][0], &seen["text_to_speech"]] {
        let answer = w.http.get(url.as_str().unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{url}");
    }
}
