//! `POST /audio-to-text`.

use crate::world::{MODEL, World, error};
use penstock_testkit::sim::{orchestrator::Order, signer};
use reqwest::multipart::{Form, Part};

/// Mono, 16 bits, 8 kHz.
pub fn wav(seconds_tenths: u32) -> Vec<u8> {
    let bytes = 8_000 * 2 * seconds_tenths / 10;
    let mut f = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    f.extend(8_000u32.to_le_bytes());
    f.extend(16_000u32.to_le_bytes());
    f.extend([2, 0, 16, 0]);
    f.extend(b"data");
    f.extend(bytes.to_le_bytes());
    f.resize(f.len() + bytes as usize, 0);
    f
}

fn form(audio: Vec<u8>) -> Form {
    Form::new().part("audio", Part::bytes(audio).file_name("dir/speech.wav"))
}

async fn post(w: &World, form: Form) -> reqwest::Response {
    w.http.post(format!("{}/audio-to-text", w.url)).multipart(form).send().await.unwrap()
}

async fn ok(w: &World, form: Form) -> serde_json::Value {
    let answer = post(w, form).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(answer.headers()["content-type"], "application/json");
    answer.json().await.unwrap()
}

#[tokio::test]
async fn speech_becomes_text() {
    let w = World::with(1).await;
    let form = form(wav(58)).text("return_timestamps", "word").text("metadata", "{\"x\":1}");
    assert_eq!(ok(&w, form).await["text"], "5 seconds of speech");
    let seen = w.orchestrator().seen.lock().unwrap().audio[0].clone();
    assert_eq!((seen.bytes, seen.file_name.as_str()), (44 + 92_800, "speech.wav"));
    let fields: Vec<_> = seen.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        fields,
        [("model_id", MODEL), ("return_timestamps", "word"), ("metadata", r#"{"duration":"5"}"#),]
    );
    // Paid by the thousandth of a second, into the account of the capability and model.
    let book = w.orchestrator().book(&format!("31_{MODEL}"));
    assert_eq!(book.debited, penstock_domain::Rational::from_int(7_500));
    assert!(book.balance().is_positive());
}

#[tokio::test]
async fn credit_in_hand_needs_no_signer() {
    let w = World::with(1).await;
    ok(&w, form(wav(20))).await;
    let (asked, payments) = (w.signer.asked(), w.orchestrator().seen.lock().unwrap().payments);
    for _ in 0..3 {
        ok(&w, form(wav(20)).text("model_id", "")).await;
    }
    assert_eq!(w.signer.asked(), asked);
    assert_eq!(*w.signer.credential_requests.lock().unwrap(), 0);
    assert_eq!(w.orchestrator().seen.lock().unwrap().payments, payments);
}

#[tokio::test]
async fn another_orchestrator_takes_over() {
    for order in [
        Order::Status(503, "insufficient capacity"),
        Order::Status(500, "runner crashed"),
        Order::Garbage,
    ] {
        // The second try has its time on a busy machine as well.
        let w = World::start(2, &["--ai-retry-timeout-ms=60000"]).await;
        w.orchestrators[0].audio_orders.then([order.clone()]);
        w.orchestrators[1].audio_orders.then([order.clone()]);
        let answer = post(&w, form(wav(20))).await;
        assert_eq!(error(answer).await.0, 503, "{order:?}");
        let asked: usize = w.orchestrators.iter().map(|o| o.seen.lock().unwrap().audio.len()).sum();
        assert_eq!(asked, 2, "{order:?}");
        w.orchestrators[0].audio_orders.then([order.clone()]);
        ok(&w, form(wav(20))).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_no_transcription_counts_as_charged() {
    let w = World::with(1).await;
    ok(&w, form(wav(20))).await;
    let account = format!("31_{MODEL}");
    let key = penstock_store::CreditKey {
        auth_id: w.gateway.settings.auth_id.clone(),
        sender: w.signer.key.address(),
        orchestrator: w.signer.orchestrators.lock().unwrap()[0].clone(),
        session: account,
    };
    let credit = || w.gateway.store.credit(&key, penstock_gateway::clock::now());
    let before = credit().await.unwrap();
    w.orchestrator().audio_orders.then([Order::Garbage]);
    assert_eq!(error(post(&w, form(wav(20))).await).await.0, 503);
    assert_eq!(credit().await.unwrap(), before - 2_000);
}

#[tokio::test]
async fn what_a_runner_refuses_is_the_callers_to_change() {
    let w = World::with(2).await;
    for o in &w.orchestrators {
        o.audio_orders
            .then([Order::Status(500, "audio-to-text container returned 400: not speech")]);
    }
    let (status, code, text) = error(post(&w, form(wav(20))).await).await;
    assert_eq!((status, code.as_str(), text.as_str()), (400, "bad_request", "not speech"));
    let asked: usize = w.orchestrators.iter().map(|o| o.seen.lock().unwrap().audio.len()).sum();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn refreshes_and_payments_happen_where_they_are_needed() {
    let w = World::start(1, &["--ai-retry-timeout-ms=60000"]).await;
    ok(&w, form(wav(20))).await;
    w.orchestrator().forget_balances();
    ok(&w, form(wav(20))).await;
    w.orchestrator().audio_orders.then([Order::Status(403, "expired auth token")]);
    ok(&w, form(wav(20))).await;
    // The new token needed a credential of its own, and the account stayed the same.
    assert_eq!(*w.signer.credential_requests.lock().unwrap(), 1);
    ok(&w, form(wav(20))).await;
    assert_eq!(*w.signer.credential_requests.lock().unwrap(), 1, "kept for the next");
    let accounts: Vec<_> = w.orchestrator().books.lock().unwrap().keys().cloned().collect();
    assert_eq!(accounts, [format!("31_{MODEL}")]);
    w.orchestrator().forget_balances();
    w.signer.payment_orders.then([signer::Order::Status(480)]);
    ok(&w, form(wav(20))).await;
}

#[tokio::test]
async fn a_model_that_nobody_has() {
    let w = World::with(1).await;
    let (status, code, text) =
        error(post(&w, form(wav(20)).text("model_id", "nobody/has-it")).await).await;
    assert_eq!((status, code.as_str()), (503, "no_orchestrators"));
    assert_eq!(text, "Service Unavailable Error");
    w.assert_untouched().await;
}

#[tokio::test]
async fn other_containers_are_measured_by_ffprobe() {
    let w = World::with(1).await;
    for (format, name) in [("ogg", "libvorbis"), ("flac", "flac"), ("mp3", "libmp3lame")] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("speech");
        let made = tokio::process::Command::new("ffmpeg")
            .args([
                "-nostdin",
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                "sine=d=3.5",
                "-c:a",
                name,
                "-f",
                format,
            ])
            .arg(&path)
            .status()
            .await
            .expect("ffmpeg is installed (cargo xtask setup)");
        assert!(made.success());
        let text = ok(&w, form(std::fs::read(&path).unwrap())).await;
        assert_eq!(text["text"], "3 seconds of speech", "{format}");
    }
}
