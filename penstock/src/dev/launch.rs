//! The command line of each role in a local network: pure functions of the settings, so that the
//! system tests start the roles exactly as `penstock dev` does.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{Layout, Role};

/// Worth of one ticket, wei: a two-second segment in three renditions costs one or two.
const TICKET_EV_WEI: &str = "20000000000";
/// What a winning ticket pays, wei. Four times its worth, so that one ticket in four wins and a
/// short tour sees winners redeemed.
const FACE_VALUE_WEI: &str = "80000000000";
/// What one pixel of transcoding costs, wei.
const PRICE_PER_PIXEL_WEI: &str = "500";
/// What a pushed film comes back as, when the pusher names nothing else.
const RENDITIONS: &str = "P240p25fps16x9,P360p25fps16x9,P720p25fps16x9";
/// The model that the local network serves.
const SPEECH_MODEL: &str = "openai/whisper-tiny.en";
/// What one millisecond of speech costs, wei.
const PRICE_PER_AUDIO_MS_WEI: &str = "4000000";

/// How to start one role.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Which.
    pub role: Role,
    /// Its binary.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What every role of one network shares.
#[derive(Debug, Clone)]
pub struct Network {
    /// The data folder.
    pub layout: Layout,
    /// Where the roles' binaries lie.
    pub bin_dir: PathBuf,
    /// `--log-level` of every role.
    pub log_level: String,
    /// `--drain-timeout-ms` of every role.
    pub drain_timeout_ms: u64,
    /// Milliseconds between two L1 blocks; 0 = only those that `POST /mine` asks for.
    pub block_interval_ms: u64,
    /// What the orchestrator and the signer have to be told of the chain besides where it is.
    pub chain_flags: Vec<String>,
    /// Whether the worker serves the speech model, in a runner process.
    pub speech: bool,
    /// The runner.
    pub runner: Runner,
}

/// What the worker needs for its AI runner.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The Python with the runner's packages.
    pub python: PathBuf,
    /// The runner's program.
    pub folder: PathBuf,
    /// Installed models.
    pub models: PathBuf,
    /// `--nvidia` of the worker.
    pub nvidia: String,
}

impl Network {
    /// The books of the signer or of the orchestrator.
    pub fn ledger(&self, role: Role) -> PathBuf {
        self.layout.state(role).join("ledger.sqlite")
    }

    /// The models that the worker serves, in the network's own format.
    pub fn models_json() -> serde_json::Value {
        serde_json::json!([
            { "pipeline": "audio-to-text", "model_id": SPEECH_MODEL, "warm": true }
        ])
    }

    fn launch(&self, role: Role, args: Vec<String>) -> Launch {
        let mut all = args;
        all.extend([
            "--addr-file".to_owned(),
            text(&self.layout.addrs(role)),
            "--metrics-addr=127.0.0.1:0".to_owned(),
            format!("--log-level={}", self.log_level),
            format!("--drain-timeout-ms={}", self.drain_timeout_ms),
        ]);
        Launch { role, program: self.bin_dir.join(role.program()), args: all }
    }

    /// Anvil in the devnet's place.
    pub fn anvil(&self, listen: SocketAddr, program: &Path, contracts: &Path) -> Launch {
        let mut launch = self.devnet(listen);
        launch.args.push(format!("--anvil={}", text(program)));
        launch.args.push(format!("--contracts={}", text(contracts)));
        launch.program = self.bin_dir.join("penstock-anvil");
        launch
    }

    /// The chain.
    pub fn devnet(&self, listen: SocketAddr) -> Launch {
        let args = vec![
            format!("--http-addr={listen}"),
            format!("--data-dir={}", text(&self.layout.state(Role::Devnet))),
            format!("--block-interval-ms={}", self.block_interval_ms),
        ];
        self.launch(Role::Devnet, args)
    }

    /// The orchestrator, which registers itself on the chain under its own address.
    pub fn orchestrator(&self, listen: SocketAddr, chain: &str) -> Launch {
        let state = self.layout.state(Role::Orchestrator);
        let mut args = vec![
            format!("--service-addr=https://{listen}"),
            format!("--http-addr={listen}"),
            format!("--chain={chain}"),
            "--register".to_owned(),
            format!("--ledger=sqlite://{}", text(&self.ledger(Role::Orchestrator))),
            format!("--key=keystore:{}", text(&self.layout.key(Role::Orchestrator))),
            format!("--key-password-file={}", text(&self.layout.key_password(Role::Orchestrator))),
            format!("--secret-file={}", text(&self.layout.worker_secret())),
            format!("--data-dir={}", text(&state)),
            format!("--price-per-unit={PRICE_PER_PIXEL_WEI}"),
            format!("--ticket-ev={TICKET_EV_WEI}"),
            format!("--max-face-value={FACE_VALUE_WEI}"),
            "--chain-poll-ms=200".to_owned(),
        ];
        if self.speech {
            let price = format!("audio-to-text/{SPEECH_MODEL}={PRICE_PER_AUDIO_MS_WEI}");
            args.push(format!("--price-per-model={price}"));
        }
        args.extend(self.chain_flags.iter().cloned());
        self.launch(Role::Orchestrator, args)
    }

    /// The signer; it finds orchestrators on the chain.
    pub fn signer(&self, listen: SocketAddr, chain: &str) -> Launch {
        let state = self.layout.state(Role::Signer);
        let mut args = vec![
            format!("--http-addr={listen}"),
            format!("--chain={chain}"),
            format!("--ledger=sqlite://{}", text(&self.ledger(Role::Signer))),
            format!("--key=keystore:{}", text(&self.layout.key(Role::Signer))),
            format!("--key-password-file={}", text(&self.layout.key_password(Role::Signer))),
            format!("--data-dir={}", text(&state)),
            // What is new on the chain or in the network is wanted at once on a local one.
            "--chain-poll-ms=200".to_owned(),
            "--discovery-interval-ms=1000".to_owned(),
        ];
        args.extend(self.chain_flags.iter().cloned());
        self.launch(Role::Signer, args)
    }

    /// The worker with its runner.
    pub fn worker(&self, orchestrator_url: &str) -> Launch {
        let mut args = vec![
            format!("--orchestrator={orchestrator_url}"),
            format!("--secret-file={}", text(&self.layout.worker_secret())),
            format!("--work-dir={}", text(&self.layout.state(Role::Worker))),
            format!("--nvidia={}", self.runner.nvidia),
            format!("--runner-python={}", text(&self.runner.python)),
            format!("--runner-dir={}", text(&self.runner.folder)),
            format!("--models-dir={}", text(&self.runner.models)),
        ];
        if self.speech {
            args.push(format!("--models-file={}", text(&self.layout.models_file())));
        }
        self.launch(Role::Worker, args)
    }

    /// The gateway.
    pub fn gateway(&self, listen: SocketAddr, signer_url: &str) -> Launch {
        let args = vec![
            format!("--http-addr={listen}"),
            format!("--signer-url={signer_url}"),
            format!("--transcoding-options={RENDITIONS}"),
            format!("--default-model=audio-to-text={SPEECH_MODEL}"),
            "--discovery-interval-ms=1000".to_owned(),
            // No load balancer has to notice.
            "--drain-notice-ms=0".to_owned(),
        ];
        self.launch(Role::Gateway, args)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
