//! Registration, loss, refusal, stop.

use crate::{
    orchestrator::{Orchestrator, SECRET},
    worker::{Worker, script},
};
use penstock_domain::{CapabilitySet, VideoProfile};
use penstock_testkit::{Process, Spec, places, until};
use penstock_wire::{net, profile};
use penstock_worker::{App, BuildError, RunError, settings::Args};
use std::sync::Arc;

fn small_job(task_id: i64, url: &str) -> net::NotifySegment {
    let mut data = net::SegData {
        manifest_id: b"m".to_vec(),
        hash: vec![0; 32],
        duration: 5000,
        ..Default::default()
    };
    profile::write_lists(&[VideoProfile::preset("P144p30fps16x9").unwrap()], &mut data);
    net::NotifySegment { url: url.into(), task_id, seg_data: Some(data), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_registered_and_when_it_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    // An orchestrator that is not there yet.
    let gone = Orchestrator::start().await;
    let (addr, url) = (gone.addr, gone.url());
    gone.stop().await;
    let worker = Worker::start_in(folder, &url, &["--max-sessions=3"]).await;
    assert_eq!(worker.ready().await, 503);

    let mut orchestrator = start_again(addr).await;
    let transcoder = orchestrator.transcoder().await;
    assert_eq!((transcoder.request.secret.as_str(), transcoder.request.capacity), (SECRET, 3));
    let told = transcoder.request.capabilities.unwrap();
    let set = CapabilitySet::from_words(&told.bitstring).unwrap();
    // Gateways of the reference want all of these, slicing too.
    assert!(CapabilitySet::default_video().is_subset(&set), "{told:?}");
    assert_eq!(told.version, "0.9.1");
    worker.becomes_ready().await;

    // The stream ends: it comes back. The orchestrator dies: it comes back.
    drop(transcoder.jobs);
    let again = orchestrator.transcoder().await;
    orchestrator.stop().await;
    drop(again);
    let mut orchestrator = start_again(addr).await;
    let transcoder = orchestrator.transcoder().await;
    let url = orchestrator.offer("film.mp4", std::fs::read(places::film()).unwrap());
    transcoder.jobs.send(Ok(small_job(1, &url))).unwrap();
    assert_eq!(orchestrator.result().await.header("taskid"), "1");
    worker.stop().await;
}

/// The old connections may hold the address for a moment.
async fn start_again(addr: std::net::SocketAddr) -> Orchestrator {
    until("the address is free", || async move { std::net::TcpListener::bind(addr).is_ok() }).await;
    Orchestrator::start_at(addr).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_final() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "battery staple\n").unwrap();
    let orchestrator = Orchestrator::start().await;
    let worker = Worker::start_in(folder, &orchestrator.url(), &[]).await;
    let error = worker.ended().await.unwrap_err();
    assert!(matches!(error, RunError::Refused(_)));
    assert!(error.to_string().contains("invalid secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_worker_finishes_its_job() {
    let folder = tempfile::tempdir().unwrap();
    // Says that it has begun, and waits to be let on.
    let (begun, go) = (folder.path().join("begun"), folder.path().join("go"));
    std::process::Command::new("mkfifo").arg(&begun).arg(&go).status().unwrap();
    let text = format!(
        "case \"$*\" in *-encoders*|*-decoders*|*-filters*) exec ffmpeg \"$@\";; esac\n\
         echo > {}\ncat {} > /dev/null\nexec ffmpeg \"$@\"",
        begun.display(),
        go.display()
    );
    let ffmpeg = format!("--ffmpeg={}", script(&folder, "waiting-ffmpeg", &text).display());
    let mut orchestrator = Orchestrator::start().await;
    let flags = [ffmpeg.as_str(), "--drain-timeout-ms=60000"];
    let worker = Worker::start(&orchestrator, &flags).await;
    let transcoder = orchestrator.transcoder().await;
    let url = orchestrator.offer("film.mp4", std::fs::read(places::film()).unwrap());
    transcoder.jobs.send(Ok(small_job(5, &url))).unwrap();
    tokio::fs::read(&begun).await.unwrap();
    worker.begin_stop();
    assert!(!transcoder.jobs.is_closed(), "the stream stays while a job runs");
    tokio::fs::write(&go, "").await.unwrap();
    let posted = orchestrator.result().await;
    assert_eq!(posted.header("taskid"), "5");
    assert_eq!(posted.header("pixels"), (132u64 * 1280 * 720).to_string());
    worker.ended().await.unwrap();
}

#[tokio::test]
async fn settings_that_cannot_work_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let models = folder.path().join("models.json");
    let build = async |flags: &[String]| {
        let mut line = vec![
            "w".to_owned(),
            "--orchestrator=https://127.0.0.1:1".to_owned(),
            format!("--secret-file={}", secret.display()),
            "--nvidia=none".to_owned(),
        ];
        line.extend(flags.iter().cloned());
        let args: Args = penstock_config::try_parse_from(line).unwrap();
        match App::build(args, Arc::new(String::new)).await {
            Err(BuildError::Config(error)) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("built"),
        }
    };
    let file = format!("--models-file={}", models.display());
    assert!(build(std::slice::from_ref(&file)).await.starts_with("--models-file: cannot read"));
    std::fs::write(&models, "[{}]").unwrap();
    assert!(build(std::slice::from_ref(&file)).await.starts_with("--models-file: "));
    std::fs::write(&models, r#"[{"pipeline":"audio-to-text","model_id":"m"}]"#).unwrap();
    let python = "--runner-python=sh".to_owned();
    let dir = |name: &str, path: &std::path::Path| format!("--{name}={}", path.display());
    let missing = folder.path().join("missing");
    let no_python = "--runner-python=no-such-python".to_owned();
    assert!(build(&[file.clone(), no_python]).await.starts_with("--runner-python: "));
    let flags = [file.clone(), python.clone(), dir("runner-dir", &missing)];
    assert!(build(&flags).await.starts_with("--runner-dir: no folder"));
    let flags = [file.clone(), python.clone(), dir("runner-dir", folder.path())];
    assert!(build(&flags).await.contains("no package penstock_runner"));
    let runner = places::repository().join("runner");
    let flags = [file, python, dir("runner-dir", &runner), dir("models-dir", &missing)];
    assert!(build(&flags).await.starts_with("--models-dir: no folder"));
}

/// The program itself: exit statuses, address file, metrics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_exits_as_promised() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "wrong").unwrap();
    let mut orchestrator = Orchestrator::start().await;
    let spec = |flags: &[&str]| {
        let mut args = vec![
            format!("--orchestrator={}", orchestrator.url()),
            format!("--secret-file={}", secret.display()),
            format!("--work-dir={}", folder.path().join("work").display()),
            "--addr-file={addr_file}".to_owned(),
            "--metrics-addr=127.0.0.1:0".to_owned(),
            "--nvidia=none".to_owned(),
        ];
        args.extend(flags.iter().map(|f| (*f).to_owned()));
        Spec {
            name: "worker".to_owned(),
            program: env!("CARGO_BIN_EXE_penstock-worker").into(),
            args,
            env: std::collections::BTreeMap::new(),
        }
    };
    let mut bad = Process::new(spec(&["--nvidia=everything"]), folder.path());
    bad.spawn();
    assert_eq!(bad.ended().await.code(), Some(64));
    let mut bad = Process::new(spec(&["--models-file=/nonexistent"]), folder.path());
    bad.spawn();
    assert_eq!(bad.ended().await.code(), Some(64));
    let mut refused = Process::new(spec(&[]), folder.path());
    refused.spawn();
    assert_eq!(refused.ended().await.code(), Some(1));

    std::fs::write(&secret, SECRET).unwrap();
    let least = ["--min-read-bytes-per-second=1048576", "--min-read-window-ms=100"];
    let mut good = Process::start(spec(&least), folder.path()).await;
    let _registered = orchestrator.transcoder().await;
    let metrics = format!("http://{}/metrics", good.addr("metrics"));
    until("the registration is counted", || async {
        let text = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        text.contains("penstock_worker_registered{work=\"transcoding\"} 1")
    })
    .await;
    penstock_testkit::http2::ask_without_room(&good.addr("metrics"), "/metrics").await;
    assert_eq!(good.terminate().await.code(), Some(0));
    // Nothing of four starts is left.
    assert_eq!(std::fs::read_dir(folder.path().join("work")).unwrap().count(), 0);
}
