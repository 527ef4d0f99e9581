//! A real orchestrator and its worker, which transcodes with ffmpeg, on the rig's chain.

use super::TICKET_EV_WEI;
use crate::rig::{self, Rig};
use penstock_domain::Rational;
use penstock_testkit::{Process, Spec, until_ok};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Both processes.
#[derive(Debug)]
pub struct Transcoder {
    /// The orchestrator.
    pub orchestrator: Process,
    /// Its worker.
    pub worker: Process,
    http: reqwest::Client,
}

impl Transcoder {
    /// Starts both; the orchestrator is active on the chain afterwards.
    pub(super) async fn start(programs: &Path, host: Ipv4Addr, rig: &Rig) -> Self {
        let folder = rig.scratch().join("orchestrator");
        fs::create_dir_all(folder.join("work")).expect("a folder");
        let address = rig::make_key(&folder).address();
        let secret = secret(&folder);
        let text = |path: PathBuf| path.display().to_string();
        let orchestrator = Spec {
            name: "orchestrator".to_owned(),
            program: programs.join("penstock-orchestrator"),
            args: vec![
                format!("--service-addr=https://{host}:0"),
                format!("--http-addr={host}:0"),
                format!("--admin-addr={host}:0"),
                format!("--metrics-addr={host}:0"),
                "--addr-file={addr_file}".to_owned(),
                format!("--chain={}", rig.chain.chain_url()),
                "--register".to_owned(),
                format!("--ledger=sqlite://{}", text(folder.join("ledger.sqlite"))),
                format!("--key=keystore:{}", text(folder.join("keystore.json"))),
                format!("--key-password-file={}", text(folder.join("keystore-password"))),
                format!("--secret-file={}", text(secret.clone())),
                format!("--data-dir={}", text(folder.clone())),
                "--price-per-unit=1".to_owned(),
                format!("--ticket-ev={TICKET_EV_WEI}"),
                format!("--max-face-value={}", TICKET_EV_WEI * 4),
                "--chain-poll-ms=200".to_owned(),
            ],
            env: BTreeMap::new(),
        };
        let logs = rig.scratch().join("logs");
        let mut orchestrator = Process::start(orchestrator, &logs).await;
        let service = orchestrator.addr("service");
        orchestrator.keep_addresses();
        let http = rig::http();
        let url = format!("{}/v1/orchestrators/{address}", rig.chain.server.uri);
        until_ok("the orchestrator registers itself", || async {
            let answer = http.get(&url).send().await.map_err(|error| error.to_string())?;
            let found: Value = answer.json().await.map_err(|error| error.to_string())?;
            if found["registered"] == true { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
        rig.chain.activate(&[]).await;
        for simulated in &rig.orchestrators {
            rig.chain.show(simulated).await;
        }
        let worker = Spec {
            name: "worker".to_owned(),
            program: programs.join("penstock-worker"),
            args: vec![
                format!("--orchestrator=https://{service}"),
                format!("--secret-file={}", text(secret)),
                format!("--work-dir={}", text(folder.join("work"))),
                format!("--metrics-addr={host}:0"),
                "--addr-file={addr_file}".to_owned(),
                "--nvidia=none".to_owned(),
            ],
            env: BTreeMap::new(),
        };
        let worker = Process::start(worker, &logs).await;
        Self { orchestrator, worker, http }
    }

    /// Where it serves gateways.
    pub fn uri(&self) -> String {
        format!("https://{}", self.orchestrator.addr("service"))
    }

    /// Waits until a worker is there.
    pub async fn ready(&self) {
        let url = format!("http://{}/readyz", self.orchestrator.addr("metrics"));
        until_ok("the orchestrator has its worker", || async {
            let answer = self.http.get(&url).send().await.map_err(|error| error.to_string())?;
            if answer.status().is_success() {
                return Ok(());
            }
            Err(answer.text().await.unwrap_or_default())
        })
        .await;
    }

    /// Credited and debited, exact wei.
    pub async fn totals(&self) -> (Rational, Rational) {
        let url = format!("http://{}/v1/summary", self.orchestrator.addr("admin"));
        let summary: Value = self.http.get(&url).send().await.unwrap().json().await.unwrap();
        let wei = |name: &str| summary[name].as_str().unwrap().parse().unwrap();
        (wei("credited_wei"), wei("debited_wei"))
    }
}

fn secret(folder: &Path) -> PathBuf {
    let path = folder.join("workers");
    fs::write(&path, hex(rand::random::<[u8; 16]>())).expect("a secret");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    path
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
