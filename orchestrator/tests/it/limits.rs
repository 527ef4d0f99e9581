//! Bounds of what peers may send are settings: what is beyond one is refused, and what is within it is not.

use crate::{
    payer::{Payer, answer, empty, post, segment},
    scripted_worker::AiWorker,
    speech::{BOUNDARY, form, request, wav},
    world::{MODEL, World},
};
use penstock_domain::Capability;
use penstock_orchestrator::Args;
use penstock_wire::header;

#[tokio::test]
async fn bodies_are_as_large_as_the_operator_says() {
    let settings = ["--limit-segment-bytes=1000", "--limit-ai-json-bytes=1024"];
    let world = World::offchain(&settings).await;
    let payer = Payer::new(&world);
    let info = payer.info(&world, None).await.unwrap();
    for (length, status) in [(1_000, 200), (1_001, 413)] {
        let data = vec![7; length];
        let headers = payer.headers(&payer.nothing(&info), &segment(&info, 1, &data)).await;
        let sent = post(&world, "/segment", &headers)
            .header("Content-Type", header::CONTENT_SEGMENT)
            .body(data);
        assert_eq!(answer(sent).await.0, status, "{length} bytes");
    }
    let _worker = AiWorker::register_for(&world, &[(Capability::Llm, "m")], 1).await;
    let headers = payer.headers(&payer.nothing(&info), &empty(&info, "m")).await;
    let ask = |length: usize| {
        // Without max_tokens it is refused, once it has been read.
        let body = format!("{:length$}", r#"{"model":"m","messages":[]}"#);
        answer(post(&world, "/llm", &headers).body(body))
    };
    assert_eq!(ask(1_024).await, (400, "MaxTokens not specified".to_owned()));
    assert_eq!(ask(1_025).await.0, 413);
}

#[tokio::test]
async fn forms_have_as_many_fields_as_the_operator_says() {
    let settings = ["--limit-ai-form-fields=16", "--limit-ai-form-text-bytes=1024"];
    let world = World::offchain(&settings).await;
    let payer = Payer::new(&world);
    let info = payer.info(&world, None).await.unwrap();
    let headers = payer.headers(&payer.nothing(&info), &empty(&info, "m")).await;
    // With fields before those of a good request, which has two of its own.
    let ask = |fields: usize, text: usize| {
        let field = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n{}\r\n",
            "y".repeat(text)
        );
        let body = [field.repeat(fields).into_bytes(), form(&wav(1), MODEL)].concat();
        answer(request(&world, &headers, body))
    };
    // What is within the bounds gets as far as the question who could do it.
    for (fields, text) in [(14, 1), (1, 1_024)] {
        assert_eq!(ask(fields, text).await, (503, "insufficient capacity".to_owned()));
    }
    for (fields, text, setting) in
        [(15, 1, "--limit-ai-form-fields"), (1, 1_025, "--limit-ai-form-text-bytes")]
    {
        let (status, said) = ask(fields, text).await;
        assert!(status == 400 && said.contains(setting), "{status} {said}");
    }
}

#[tokio::test]
async fn headers_are_as_long_as_the_operator_says() {
    let world = World::offchain(&["--limit-header-bytes=16384"]).await;
    for version in [http::Version::HTTP_11, http::Version::HTTP_2] {
        let http = match version {
            http::Version::HTTP_2 => crate::world::client().build(),
            _ => crate::world::client().http1_only().build(),
        };
        let http = http.unwrap();
        let ask = async |length: usize| {
            let request = http.get(format!("{}/healthz", world.service));
            request.header("x-long", "y".repeat(length)).send().await.unwrap()
        };
        let within = ask(12_000).await;
        assert_eq!((within.version(), within.status().as_u16()), (version, 200));
        assert_eq!(ask(20_000).await.status(), 431, "{version:?}");
    }
}

#[test]
fn what_is_beyond_a_range_stops_the_start_and_names_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    let of = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let line = ["penstock-orchestrator", "--config", file.to_str().unwrap()];
        penstock_config::try_parse_from::<Args>(line)
    };
    assert!(of("limit-segment-bytes = 1000\nlimit-webhook-known = 5").is_ok());
    for (setting, bad) in [
        ("limit-segment-bytes", "999"),
        ("limit-header-bytes", "16777217"),
        ("limit-webhook-known", "0"),
        ("limit-ai-form-fields", "-1"),
        ("limit-trainings-kept", "\"many\""),
    ] {
        let error = of(&format!("{setting} = {bad}")).unwrap_err().to_string();
        assert!(error.contains(&format!("--{setting}")), "{error}");
    }
}
