//! A real orchestrator as a process: for money on a chain of its own, for media without any.

use crate::{cpu, rig};
use penstock_chain::Chain as _;
use penstock_clients::{OfferRequest, OrchestratorClient, OrchestratorOptions};
use penstock_testkit::{
    Process, Spec,
    sim::{Running, SimChain},
    until_ok,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// What workers and runners register with.
pub const SECRET: &str = "sesame";

/// A running orchestrator. Everything ends with it.
pub struct Node {
    pub process: Process,
    /// Where it serves, with its scheme.
    pub service: String,
    pub http: reqwest::Client,
    // Last, so that the process is gone before its files are.
    folder: TempDir,
}

impl Node {
    /// Without a chain, in cleartext.
    pub async fn offchain(programs: &Path, core: Option<usize>, flags: Vec<String>) -> Self {
        let mut all = vec!["--network=offchain".to_owned()];
        all.extend(flags);
        Self::start(programs, core, "http", folder(), all).await
    }

    /// On this chain, where it is active afterwards.
    pub async fn onchain(
        programs: &Path,
        core: Option<usize>,
        chain: &Running<SimChain>,
        ledger: &str,
        flags: Vec<String>,
    ) -> Self {
        let folder = folder();
        let address = rig::make_key(folder.path()).address();
        let text = |name: &str| folder.path().join(name).display().to_string();
        let mut all = vec![
            format!("--chain={}", chain.chain_url()),
            "--register".to_owned(),
            format!("--key=keystore:{}", text("keystore.json")),
            format!("--key-password-file={}", text("keystore-password")),
            match ledger {
                "sqlite" => format!("--ledger=sqlite://{}", text("ledger.sqlite")),
                url => format!("--ledger={url}"),
            },
        ];
        all.extend(flags);
        let node = Self::start(programs, core, "https", folder, all).await;
        let url = format!("{}/v1/orchestrators/{address}", chain.server.uri);
        until_ok("the orchestrator registers itself", || async {
            let found = node.json(&url).await?;
            if found["registered"] == true { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
        chain.activate(&[]).await;
        node.sees(chain).await;
        node
    }

    async fn start(
        programs: &Path,
        core: Option<usize>,
        scheme: &str,
        folder: TempDir,
        flags: Vec<String>,
    ) -> Self {
        let secret = folder.path().join("secret");
        fs::write(&secret, SECRET).expect("a secret");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("its mode");
        let mut args = vec![
            format!("--service-addr={scheme}://127.0.0.1:0"),
            "--http-addr=127.0.0.1:0".to_owned(),
            "--admin-addr=127.0.0.1:0".to_owned(),
            "--metrics-addr=127.0.0.1:0".to_owned(),
            "--addr-file={addr_file}".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--data-dir={}", folder.path().join("data").display()),
            format!("--secret-file={}", secret.display()),
        ];
        args.extend(flags);
        let program = programs.join("penstock-orchestrator");
        let process = pinned("orchestrator", core, program, args, folder.path()).await;
        let service = format!("{scheme}://{}", process.addr("service"));
        Self { process, service, http: rig::http(), folder }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The file with the workers' secret.
    pub fn secret_file(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// For what else belongs to it.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// A page of its operator address.
    pub async fn admin(&self, path: &str) -> Value {
        let url = format!("http://{}{path}", self.process.addr("admin"));
        self.json(&url).await.unwrap_or_else(|why| panic!("{url}: {why}"))
    }

    async fn json(&self, url: &str) -> Result<Value, String> {
        let answer = self.http.get(url).send().await.map_err(|error| error.to_string())?;
        answer.json().await.map_err(|error| error.to_string())
    }

    /// Waits until its offers are of the chain's round, in which it is active.
    async fn sees(&self, chain: &Running<SimChain>) {
        let sender = super::tickets::Sender::funded(chain).await;
        let client = OrchestratorClient::new(OrchestratorOptions::default()).unwrap();
        let request: OfferRequest = sender.request();
        until_ok("the orchestrator sees the newest round", || async {
            let rounds = chain.client.rounds().await.map_err(|error| error.to_string())?;
            let asked = client.get_orchestrator(&self.service, &request, None).await;
            let offer = asked.map_err(|error| error.to_string())?.offer;
            let round = offer.ticket_params.map(|params| params.expiration_params.creation_round);
            match round == Some(rounds.last_initialized_round) {
                true => Ok(()),
                false => Err(format!("{round:?} of {rounds:?}")),
            }
        })
        .await;
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("penstock-bench-").tempdir().expect("a folder")
}

/// Starts a program on one core, where that can be.
pub async fn pinned(
    name: &str,
    core: Option<usize>,
    program: PathBuf,
    mut args: Vec<String>,
    folder: &Path,
) -> Process {
    let (program, args) = match core {
        Some(core) if cpu::has_taskset() => {
            let core = ["--cpu-list".to_owned(), core.to_string(), program.display().to_string()];
            (PathBuf::from("taskset"), core.into_iter().chain(args.drain(..)).collect())
        }
        _ => (program, args),
    };
    let spec = Spec { name: name.to_owned(), program, args, env: BTreeMap::new() };
    Process::start(spec, &folder.join("logs")).await
}
