//! Keeps runners running: starts the process, waits until its model is loaded, watches its health,
//! starts it again when it dies, stops it with us.

use super::{
    client::{Endpoint, Health, RunnerClient, RunnerHttp},
    pool::{Live, State},
};
use crate::{child, link::backoff::Backoff};
use penstock_config::Secret;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::{process::Child, time::Instant};
use tokio_util::sync::CancellationToken;
use url::Url;

/// From start to loaded (ai-pipelines.md section 8.2).
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// Between looks while it starts, and while it runs.
const START_POLL: Duration = Duration::from_millis(100);
const HEALTH_POLL: Duration = Duration::from_secs(5);
/// Failed looks in a row before it is given up.
const PATIENCE: u32 = 2;
/// How long a stopping runner may take to finish.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// A runner that lived this long did not die of its start.
const SETTLED: Duration = Duration::from_secs(60);

/// How to start one runner process.
#[derive(Debug, Clone)]
pub struct RunnerSpec {
    /// Python of the runner's environment.
    pub python: PathBuf,
    /// Folder of the `penstock_runner` package.
    pub runner_dir: PathBuf,
    /// Installed models.
    pub models_dir: PathBuf,
    /// The pipeline.
    pub pipeline: String,
    /// The model.
    pub model_id: String,
    /// The card to use; `None` is the processor.
    pub gpu: Option<u32>,
    /// Longest text of a language model, in tokens.
    pub context_tokens: u32,
    /// The ffmpeg program it decodes with.
    pub ffmpeg: OsString,
    /// A folder of its own for its address file.
    pub directory: PathBuf,
    /// The operator's settings for what it computes with, by name of an environment variable.
    pub flags: BTreeMap<String, String>,
}

/// Why a runner is not, or no longer, running.
#[derive(Debug, Error)]
pub enum RunnerEnd {
    /// It could not be started.
    #[error("cannot be started: {0}")]
    Start(std::io::Error),
    /// The process ended.
    #[error("ended by itself ({0})")]
    Exited(String),
    /// Too slow to start.
    #[error("did not load its model within {}s", START_TIMEOUT.as_secs())]
    Slow,
    /// Its own word.
    #[error("reports that its model cannot be loaded (its log says why)")]
    Broken,
    /// It no longer answers.
    #[error("does not answer: {0}")]
    Silent(String),
    /// We want it so.
    #[error("was stopped")]
    Stopped,
}

/// Runs a runner of our own for ever, telling `report` what becomes of it, until `stop`.
pub async fn keep_running(
    spec: RunnerSpec,
    http: RunnerHttp,
    report: impl Fn(State),
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(60));
    loop {
        let mut was_live = None;
        let end = run_once(&spec, &http, &stop, |live| {
            was_live = Some((Instant::now(), live.clone()));
            report(State::Live(live));
        })
        .await;
        if matches!(end, RunnerEnd::Stopped) {
            report(State::Down("stopped".to_owned()));
            return;
        }
        tracing::warn!(pipeline = spec.pipeline, model = spec.model_id, reason = %end, "the runner has to be started again");
        metrics::counter!("penstock_worker_runner_restarts_total", "model" => spec.model_id.clone())
            .increment(1);
        if was_live.as_ref().is_some_and(|(since, _)| since.elapsed() > SETTLED) {
            backoff.reset();
        }
        report(match was_live {
            Some((_, live)) => State::Restarting(live),
            None => State::Down(format!("runner {end}")),
        });
        tokio::select! {
            () = tokio::time::sleep(backoff.next(rand::random())) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Watches a runner that somebody else runs.
pub async fn keep_watching(
    endpoint: Endpoint,
    http: RunnerHttp,
    report: impl Fn(State),
    stop: CancellationToken,
) {
    let client = RunnerClient::new(http, endpoint.clone());
    loop {
        let watched = async {
            wait_loaded(&client).await?;
            report(State::Live(Arc::new(describe(&client, endpoint.clone()).await)));
            Err::<(), _>(watch_health(&client).await)
        };
        tokio::select! {
            Err(end) = watched => report(State::Down(format!("runner {end}"))),
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(HEALTH_POLL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn run_once(
    spec: &RunnerSpec,
    http: &RunnerHttp,
    stop: &CancellationToken,
    mut live: impl FnMut(Arc<Live>),
) -> RunnerEnd {
    let token = Secret::new(uuid::Uuid::new_v4().simple().to_string());
    let addr_file = spec.directory.join(format!("{}.json", uuid::Uuid::new_v4().simple()));
    let mut process = match start(spec, &addr_file, &token) {
        Ok(process) => process,
        Err(error) => return RunnerEnd::Start(error),
    };
    // Held here, because waiting for a child closes its standard input.
    let leash = process.stdin.take();
    if let Some(stderr) = process.stderr.take() {
        let model = spec.model_id.clone();
        tokio::spawn(child::read_lines(stderr, move |line| {
            tracing::info!(model, "runner: {line}");
        }));
    }
    let life = async {
        let url = tokio::time::timeout(START_TIMEOUT, wait_address(&addr_file))
            .await
            .map_err(|_| RunnerEnd::Slow)?;
        let endpoint = Endpoint { url, token: Some(token) };
        let client = RunnerClient::new(http.clone(), endpoint.clone());
        wait_loaded(&client).await?;
        live(Arc::new(describe(&client, endpoint).await));
        Err::<(), _>(watch_health(&client).await)
    };
    let end = tokio::select! {
        Err(end) = life => end,
        status = process.wait() => RunnerEnd::Exited(match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }),
        () = stop.cancelled() => RunnerEnd::Stopped,
    };
    drop(leash);
    end_process(process).await;
    let _ = tokio::fs::remove_file(&addr_file).await;
    end
}

fn start(spec: &RunnerSpec, addr_file: &Path, token: &Secret) -> std::io::Result<Child> {
    let device = if spec.gpu.is_some() { "auto" } else { "cpu" };
    let mut line: Vec<OsString> = vec![spec.python.clone().into()];
    line.extend(["-m", "penstock_runner", "--port", "0", "--exit-with-parent"].map(OsString::from));
    line.extend(["--pipeline".into(), spec.pipeline.clone().into()]);
    line.extend(["--model-id".into(), spec.model_id.clone().into()]);
    line.extend(["--models-dir".into(), spec.models_dir.clone().into()]);
    line.extend(["--addr-file".into(), addr_file.into()]);
    line.extend(["--ffmpeg".into(), spec.ffmpeg.clone()]);
    line.extend(["--device".into(), device.into()]);
    line.extend(["--context-tokens".into(), spec.context_tokens.to_string().into()]);
    let visible = spec.gpu.map(|index| index.to_string()).unwrap_or_default();
    child::command(&line, &spec.directory)
        .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?
        // Ours go before the operator's.
        .envs(&spec.flags)
        .env("PYTHONPATH", &spec.runner_dir)
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // From the environment: a process list would show it.
        .env("AUTH_TOKEN", token.expose())
        .env("CUDA_VISIBLE_DEVICES", visible)
        // It stops when this pipe closes, so also when we are killed.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}

/// The address file appears whole, by a rename.
async fn wait_address(path: &Path) -> Url {
    loop {
        if let Ok(text) = tokio::fs::read_to_string(path).await
            && let Ok(json) = serde_json::from_str::<serde_json::Value>(&text)
            && let Some(address) = json.get("http").and_then(|a| a.as_str())
            && let Ok(url) = Url::parse(&format!("http://{address}"))
        {
            return url;
        }
        tokio::time::sleep(START_POLL).await;
    }
}

async fn wait_loaded(client: &RunnerClient) -> Result<(), RunnerEnd> {
    let loaded = async {
        loop {
            match client.health().await {
                Ok(Health::Ready) => return Ok(()),
                Ok(Health::Broken) => return Err(RunnerEnd::Broken),
                // Not listening yet, or loading.
                Ok(Health::Loading) | Err(_) => tokio::time::sleep(START_POLL).await,
            }
        }
    };
    tokio::time::timeout(START_TIMEOUT, loaded).await.map_err(|_| RunnerEnd::Slow)?
}

/// What the runner says about itself.
pub async fn describe(client: &RunnerClient, endpoint: Endpoint) -> Live {
    Live { endpoint, version: client.version().await, gpus: client.gpus().await }
}

/// Returns when the runner is no good any more.
async fn watch_health(client: &RunnerClient) -> RunnerEnd {
    let mut failures = 0;
    loop {
        tokio::time::sleep(HEALTH_POLL).await;
        match client.health().await {
            Ok(Health::Ready) => failures = 0,
            Ok(Health::Broken) => return RunnerEnd::Broken,
            Ok(Health::Loading) => {}
            Err(error) => {
                failures += 1;
                if failures >= PATIENCE {
                    return RunnerEnd::Silent(error.to_string());
                }
            }
        }
    }
}

/// The end of its standard input was the polite word; kills it if it does not listen.
async fn end_process(mut process: Child) {
    if tokio::time::timeout(STOP_TIMEOUT, process.wait()).await.is_err()
        && let Err(error) = process.kill().await
    {
        tracing::error!(%error, "a runner process cannot be killed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn flags_are_in_its_environment_and_change_nothing_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        // Instead of Python: a shell, which runs the file that is named as the module.
        std::fs::write(folder.path().join("penstock_runner"), "env > said; echo $* >> said")
            .unwrap();
        let text = str::to_owned;
        let spec = RunnerSpec {
            python: "/bin/sh".into(),
            runner_dir: "/runner".into(),
            models_dir: "/models".into(),
            pipeline: text("upscale"),
            model_id: text("m"),
            gpu: Some(3),
            context_tokens: 8192,
            ffmpeg: "ffmpeg".into(),
            directory: folder.path().to_owned(),
            flags: [("OMP_NUM_THREADS", "2"), ("AUTH_TOKEN", "x"), ("CUDA_VISIBLE_DEVICES", "0")]
                .map(|(name, value)| (text(name), text(value)))
                .into(),
        };
        let mut runner = start(&spec, Path::new("address"), &Secret::new("sesame")).unwrap();
        assert!(runner.wait().await.unwrap().success());
        let said = std::fs::read_to_string(folder.path().join("said")).unwrap();
        for line in ["OMP_NUM_THREADS=2", "AUTH_TOKEN=sesame", "CUDA_VISIBLE_DEVICES=3"] {
            assert!(said.lines().any(|said| said == line), "{line}: {said}");
        }
        let arguments = "--pipeline upscale --model-id m --models-dir /models --addr-file address";
        assert!(said.contains(arguments), "{said}");
        assert!(said.contains("--device auto --context-tokens 8192"), "{said}");
    }
}
