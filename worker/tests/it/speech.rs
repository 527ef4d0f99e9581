//! Real speech through the whole worker: its runner process, the real model, the result's form.

use crate::{
    orchestrator::{Orchestrator, Posted},
    worker::{MODEL, Worker, ai_flags, script},
};
use penstock_testkit::{media, places, wer};
use penstock_wire::net;
use std::path::Path;

fn job(task_id: i64, url: &str, model: &str) -> net::NotifyAiJob {
    let request = serde_json::json!({
        "input_url": url,
        "request": {
            "audio": null, "model_id": model, "return_timestamps": "word",
            "metadata": "{\"duration\":\"7\"}",
        },
    });
    let data = net::AiJobData {
        pipeline: "audio-to-text".to_owned(),
        request_data: request.to_string().into_bytes(),
    };
    net::NotifyAiJob { ai_job_data: Some(data), task_id, ..Default::default() }
}

async fn transcript(posted: &Posted) -> serde_json::Value {
    assert_eq!(posted.path, "/aiResults");
    assert_eq!(posted.header("pipeline"), "audio-to-text");
    let error = posted.header("content-type") == "livepeer/ai-worker-error";
    assert!(!error, "{}", posted.text());
    let parts = posted.parts().await;
    assert_eq!(parts.len(), 1);
    let (headers, body) = &parts[0];
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["content-length"], body.len().to_string());
    serde_json::from_slice(body).unwrap()
}

fn text_of(pid_file: &Path) -> Option<u32> {
    std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speech_becomes_text_also_after_the_runner_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    // Notes its process id, which exec keeps.
    let pid_file = folder.path().join("pid");
    let python = format!(
        "echo $$ > {}\nexec {} \"$@\"",
        pid_file.display(),
        places::runner_python().display()
    );
    let python = script(&folder, "python", &python);
    let flags = ai_flags(&folder, &python);
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.push("--max-sessions=0");

    let mut orchestrator = Orchestrator::start().await;
    let worker = Worker::start(&orchestrator, &flags).await;
    let ai = orchestrator.ai_worker().await;
    let capabilities =
        penstock_wire::capabilities::read(&ai.request.capabilities.unwrap()).unwrap();
    let offered = capabilities.model(penstock_domain::Capability::AudioToText, MODEL).unwrap();
    assert_eq!(
        (offered.capacity, offered.warm, offered.runner_version.as_str()),
        (1, true, "0.1.0")
    );
    assert_eq!(capabilities.version, "0.9.1");
    worker.becomes_ready().await;

    let clips = media::speech();
    let mut errors = wer::Errors::default();
    for (task, clip) in (10i64..).zip(&clips[..2]) {
        let url = orchestrator.offer(&format!("{task}.wav"), std::fs::read(&clip.wav).unwrap());
        ai.jobs.send(Ok(job(task, &url, MODEL))).unwrap();
        let posted = orchestrator.result().await;
        assert_eq!(posted.header("taskid"), task.to_string());
        let answer = transcript(&posted).await;
        errors = errors.plus(wer::errors(&clip.text, answer["text"].as_str().unwrap()));
        assert!(answer["chunks"].as_array().unwrap().len() > 5);
    }
    assert!(errors.at_most_percent(10), "{errors:?}");

    // Killed between jobs: the next one waits for the restart, on the same registration.
    let killed = text_of(&pid_file).unwrap();
    let kill = std::process::Command::new("kill").args(["-9", &killed.to_string()]).status();
    assert!(kill.unwrap().success());
    let url = orchestrator.offer("again.wav", std::fs::read(&clips[1].wav).unwrap());
    ai.jobs.send(Ok(job(20, &url, MODEL))).unwrap();
    let answer = transcript(&orchestrator.result().await).await;
    assert!(answer["text"].as_str().unwrap().contains("young man"));
    assert_ne!(text_of(&pid_file).unwrap(), killed);
    assert!(!ai.jobs.is_closed(), "still registered");

    // What cannot be done is said in the words that gateways know.
    let mut refused = async |task, url: &str, model: &str| {
        ai.jobs.send(Ok(job(task, url, model))).unwrap();
        let posted = orchestrator.result().await;
        assert_eq!(posted.header("content-type"), "livepeer/ai-worker-error");
        posted.text().to_owned()
    };
    let no_audio =
        "audio-to-text container returned 415: Unsupported audio format or malformed file.";
    assert_eq!(refused(30, &url, "other/model").await, "no workers can process job requested");
    assert!(
        refused(31, "https://10.0.0.1/x", MODEL)
            .await
            .starts_with("AI request validation failed for audio-to-text pipeline err=")
    );
    assert!(refused(32, &url, "").await.contains("model_id is missing"));
    let url = orchestrator.offer("junk", "this is not sound".as_bytes());
    ai.jobs.send(Ok(job(33, &url, MODEL))).unwrap();
    assert!(orchestrator.result().await.text().starts_with(no_audio));

    let runner = text_of(&pid_file).unwrap();
    worker.stop().await;
    assert!(!Path::new(&format!("/proc/{runner}")).exists(), "the runner outlived its worker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_comes_later_is_registered_later() {
    let folder = tempfile::tempdir().unwrap();
    // The first two starts fail.
    let count = folder.path().join("starts");
    let text = format!(
        "echo x >> {count}\n[ $(wc -l < {count}) -gt 2 ] || exit 7\nexec {python} \"$@\"",
        count = count.display(),
        python = places::runner_python().display()
    );
    let python = script(&folder, "python", &text);
    let flags = ai_flags(&folder, &python);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut orchestrator = Orchestrator::start().await;
    let worker = Worker::start(&orchestrator, &flags).await;
    // Transcoding does not wait for the model.
    let transcoder = orchestrator.transcoder().await;
    let ai = orchestrator.ai_worker().await;
    assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 3);
    assert!(!transcoder.jobs.is_closed() && !ai.jobs.is_closed());
    worker.stop().await;
}
