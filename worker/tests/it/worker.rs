//! A worker inside the test, with its own folder.

use crate::orchestrator::{Orchestrator, SECRET, expect};
use penstock_testkit::places;
use penstock_worker::{App, RunError, settings::Args};
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const MODEL: &str = "openai/whisper-tiny.en";

pub struct Worker {
    pub folder: TempDir,
    pub metrics: String,
    stop: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

impl Worker {
    pub async fn start(orchestrator: &Orchestrator, flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &orchestrator.url(), flags).await
    }

    pub async fn start_in(folder: TempDir, orchestrator_url: &str, flags: &[&str]) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let secret = folder.path().join("secret");
        if !secret.exists() {
            std::fs::write(&secret, SECRET).unwrap();
        }
        let mut line = vec![
            "penstock-worker".to_owned(),
            format!("--orchestrator={orchestrator_url}"),
            format!("--secret-file={}", secret.display()),
            format!("--work-dir={}", folder.path().join("work").display()),
            "--metrics-addr=127.0.0.1:0".to_owned(),
        ];
        if !flags.iter().any(|flag| flag.starts_with("--nvidia=")) {
            line.push("--nvidia=none".to_owned());
        }
        line.extend(flags.iter().map(|f| (*f).to_owned()));
        let args: Args = penstock_config::try_parse_from(line).unwrap();
        let app = App::build(args, Arc::new(String::new)).await.unwrap();
        let metrics = format!("http://{}", app.addresses()["metrics"]);
        let stop = CancellationToken::new();
        let running = tokio::spawn(app.run(stop.clone()));
        Self { folder, metrics, stop, running }
    }

    /// The status of `/readyz`.
    pub async fn ready(&self) -> u16 {
        reqwest::get(format!("{}/readyz", self.metrics)).await.unwrap().status().as_u16()
    }

    pub async fn becomes_ready(&self) {
        penstock_testkit::until("the worker is ready", || async { self.ready().await == 200 })
            .await;
    }

    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// How it ended, once it has.
    pub async fn ended(self) -> Result<(), RunError> {
        expect("end of the worker", self.running).await.unwrap()
    }

    pub async fn stop(self) {
        self.begin_stop();
        self.ended().await.unwrap();
    }
}

/// Flags for audio-to-text with the real runner; `python` starts it.
pub fn ai_flags(folder: &TempDir, python: &Path) -> Vec<String> {
    let models = folder.path().join("aiModels.json");
    let list = format!(
        r#"[{{"pipeline":"audio-to-text","model_id":"{MODEL}","warm":true,"price_per_unit":1}}]"#
    );
    std::fs::write(&models, list).unwrap();
    vec![
        format!("--models-file={}", models.display()),
        format!("--runner-python={}", python.display()),
        format!("--runner-dir={}", places::repository().join("runner").display()),
        format!("--models-dir={}", places::models().display()),
    ]
}

/// An executable shell script. Another process puts it there: a program that this one has open for
/// writing, be it in a child that another test has just forked, cannot be run ("text file busy").
pub fn script(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    let written = path.with_extension("text");
    std::fs::write(&written, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&written, PermissionsExt::from_mode(0o755)).unwrap();
    let copied = std::process::Command::new("cp").arg("-p").arg(&written).arg(&path).status();
    assert!(copied.unwrap().success());
    path
}
