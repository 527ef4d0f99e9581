//! An orchestrator with everything real around it.

use penstock_chain::Chain;
use penstock_chain_devnet::{App as Devnet, DevnetChain, wire::MineRequest};
use penstock_clients::Trust;
use penstock_domain::{Address, Rational, Wei};
use penstock_http_kit::{CancellationToken, tls::install_crypto_provider};
use penstock_keys::{LocalKey, TypedSigner, keystore, keystore::ScryptCost};
use penstock_orchestrator::{App, Args};
use penstock_testkit::{Process, Spec, until, until_some};
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use tonic::transport::Channel;

/// What workers register with.
pub const SECRET: &str = "sesame";
/// The audio model that has a price.
pub const MODEL: &str = "openai/whisper-tiny.en";
/// Worth of a ticket, wei.
pub const TICKET_EV: i128 = 1000;
/// Wei per pixel, wei per millisecond of audio.
pub const PIXEL_PRICE: i64 = 2;
pub const AUDIO_PRICE: i64 = 3;
/// Wei on both sides of a sender's account.
const FUNDS: u64 = 1_000_000_000_000_000_000;

pub struct World {
    pub folder: TempDir,
    pub chain: Option<DevnetChain>,
    pub recipient: Address,
    pub service: String,
    pub admin: String,
    pub http: reqwest::Client,
    args: Vec<String>,
    stop: CancellationToken,
    devnet_stop: CancellationToken,
    running: Option<tokio::task::JoinHandle<()>>,
    is_process: bool,
    process: Option<Process>,
    /// Variables of the process's next start.
    env: BTreeMap<String, String>,
}

pub fn open_chain(text: &str, _: &Args, account: TypedSigner) -> Result<Arc<dyn Chain>, String> {
    let chain = DevnetChain::connect(text).map_err(|error| error.to_string())?;
    Ok(Arc::new(chain.with_account(account)))
}

/// A client that trusts any certificate, as the network's gateways do.
pub fn client() -> reqwest::ClientBuilder {
    install_crypto_provider();
    reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .timeout(penstock_testkit::until::DEADLINE)
}

impl World {
    /// Paid work; every ticket wins when `face_value` is the ticket EV, one in `n` when it is `n`
    /// times that.
    pub async fn paid(face_value: i128) -> Self {
        Self::paid_with(face_value, &[]).await
    }

    pub async fn paid_with(face_value: i128, extra: &[&str]) -> Self {
        Self::paid_as(face_value, extra, false).await
    }

    /// The same as a process of its own.
    pub async fn process(face_value: i128, extra: &[&str]) -> Self {
        Self::paid_as(face_value, extra, true).await
    }

    async fn paid_as(face_value: i128, extra: &[&str], is_process: bool) -> Self {
        install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let (devnet_url, devnet_stop) = devnet(&folder).await;
        let chain = DevnetChain::connect(&devnet_url).unwrap();
        let key = LocalKey::random().unwrap();
        let keystore = folder.path().join("key.json");
        let cost = ScryptCost { log2_n: 2, r: 1, p: 1 };
        keystore::create(&keystore, &key, "password", cost).unwrap();
        let password = write(&folder, "password", "password\n");
        let mut args = vec![
            format!("--key=keystore:{}", keystore.display()),
            format!("--key-password-file={}", password.display()),
            format!("--chain={devnet_url}"),
            "--register".to_owned(),
            "--chain-poll-ms=20".to_owned(),
            format!("--ticket-ev={TICKET_EV}"),
            format!("--max-face-value={face_value}"),
            format!("--price-per-unit={PIXEL_PRICE}"),
            format!("--price-per-model=audio-to-text/{MODEL}={AUDIO_PRICE}/1"),
        ];
        args.extend(extra.iter().map(|a| (*a).to_owned()));
        let world = Self::start(
            folder,
            args,
            Some((chain.clone(), devnet_stop)),
            key.address(),
            is_process,
        )
        .await;
        until("the orchestrator is in the pool", || async {
            chain.pool_size().await.unwrap() == 1
        })
        .await;
        world.mine(None, Some(1)).await;
        world.see_the_chain().await;
        world
    }

    /// A network without payments.
    pub async fn offchain(extra: &[&str]) -> Self {
        install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let mut args = vec!["--network=offchain".to_owned()];
        args.extend(extra.iter().map(|a| (*a).to_owned()));
        Self::start(folder, args, None, Address::ZERO, false).await
    }

    /// Without TLS.
    pub async fn cleartext() -> Self {
        Self::offchain(&["--service-addr=http://127.0.0.1:0"]).await
    }

    async fn start(
        folder: TempDir,
        args: Vec<String>,
        chain: Option<(DevnetChain, CancellationToken)>,
        recipient: Address,
        is_process: bool,
    ) -> Self {
        let (chain, devnet_stop) = chain.unzip();
        let devnet_stop = devnet_stop.unwrap_or_default();
        write(&folder, "secret", SECRET);
        let mut world = Self {
            folder,
            chain,
            recipient,
            service: String::new(),
            admin: String::new(),
            http: client().build().unwrap(),
            args,
            stop: CancellationToken::new(),
            devnet_stop,
            running: None,
            is_process,
            process: None,
            env: BTreeMap::new(),
        };
        world.run().await;
        world
    }

    async fn run(&mut self) {
        let folder = self.folder.path();
        let mut argv = vec![
            "penstock-orchestrator".to_owned(),
            "--http-addr=127.0.0.1:0".to_owned(),
            format!("--data-dir={}", folder.join("data").display()),
            format!("--secret-file={}", folder.join("secret").display()),
        ];
        argv.extend(self.args.iter().cloned());
        if !argv.iter().any(|a| a.starts_with("--service-addr")) {
            argv.push("--service-addr=https://127.0.0.1:0".to_owned());
        }
        if self.is_process {
            argv.push("--addr-file={addr_file}".to_owned());
            let spec = Spec {
                name: "orchestrator".to_owned(),
                program: env!("CARGO_BIN_EXE_penstock-orchestrator").into(),
                args: argv.split_off(1),
                env: self.env.clone(),
            };
            let process = Process::start(spec, folder).await;
            let is_clear = self.args.iter().any(|a| a.starts_with("--service-addr=http:"));
            let scheme = if is_clear { "http" } else { "https" };
            self.service = format!("{scheme}://{}", process.addr("service"));
            self.admin = format!("http://{}", process.addr("admin"));
            self.process = Some(process);
            return;
        }
        let args: Args = penstock_config::try_parse_from(argv).unwrap();
        let app = App::build(&args, open_chain).await.unwrap();
        self.service = app.service_uri().to_owned();
        self.admin = format!("http://{}", app.addresses()["admin"]);
        self.stop = CancellationToken::new();
        let running = app.run(self.stop.clone(), None);
        self.running = Some(tokio::spawn(async { running.await.unwrap() }));
    }

    /// Stops the process's work in order, and starts over with the same folder.
    pub async fn restart(&mut self) {
        self.stop.cancel();
        self.running.take().unwrap().await.unwrap();
        self.run().await;
        if self.chain.is_some() {
            self.see_the_chain().await;
        }
    }

    /// Starts over after [`Self::stop`].
    pub async fn start_again(&mut self) {
        self.run().await;
    }

    /// The same with one more setting.
    pub async fn start_again_with(&mut self, setting: &str) {
        self.args.push(setting.to_owned());
        self.run().await;
    }

    /// Replaces a setting for the next start, or adds it.
    pub fn set(&mut self, setting: &str) {
        let name = setting.split_once('=').map_or(setting, |(name, _)| name);
        self.args.retain(|arg| arg.split_once('=').map_or(arg.as_str(), |(n, _)| n) != name);
        self.args.push(setting.to_owned());
    }

    /// The chain, as roles are told it.
    pub fn chain_flag(&self) -> &str {
        self.args.iter().find_map(|arg| arg.strip_prefix("--chain=")).unwrap()
    }

    /// Another process of the same orchestrator: the same key, secrets and `--ledger`, and a folder of its own.
    pub async fn beside(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut args = self.args.clone();
        for (flag, file) in [
            ("--recipient-secret-file", "recipient.secret"),
            ("--auth-token-secret-file", "auth-token.secret"),
        ] {
            args.push(format!("{flag}={}", self.data(file).display()));
        }
        // It ends no devnet.
        let chain = Some((self.chain().clone(), CancellationToken::new()));
        let world = Self::start(folder, args, chain, self.recipient, self.is_process).await;
        world.see_the_chain().await;
        world
    }

    /// Stops the process in its tracks.
    pub fn pause(&self) {
        self.process.as_ref().unwrap().signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.as_ref().unwrap().signal("CONT");
    }

    /// Kills the process, and leaves it at that.
    pub fn kill9(&mut self) {
        self.process.take().unwrap().kill9();
    }

    /// Asks the process to end in order, and waits for its death; the next one is not armed.
    pub async fn terminate(&mut self) {
        self.process.as_ref().unwrap().signal("TERM");
        self.its_death().await;
    }

    /// Kills the process, and starts one over.
    pub async fn kill(&mut self) {
        self.process.take().unwrap().kill9();
        self.run().await;
        self.see_the_chain().await;
    }

    /// Kills the process, and starts one over that dies at a failpoint. The file shows that it was reached.
    pub async fn arm(&mut self, failpoint: &str) -> PathBuf {
        let log = self.folder.path().join(format!("{failpoint}.hits"));
        self.env = BTreeMap::from([
            ("PENSTOCK_FAILPOINTS".to_owned(), format!("{failpoint}=abort@1")),
            ("PENSTOCK_FAILPOINT_LOG".to_owned(), log.to_string_lossy().into_owned()),
        ]);
        self.process.take().unwrap().kill9();
        self.run().await;
        self.see_the_chain().await;
        log
    }

    /// Waits for the process's death; the next one is not armed.
    pub async fn its_death(&mut self) {
        self.process.take().unwrap().ended().await;
        self.env.clear();
    }

    /// Waits for the process's death, and starts it over on what it left.
    pub async fn after_its_death(&mut self) {
        self.its_death().await;
        self.run().await;
        self.see_the_chain().await;
    }

    /// Ends the devnet, and waits until it does not answer any more.
    pub async fn stop_the_chain(&self) {
        self.devnet_stop.cancel();
        until("the devnet is gone", || async { self.chain().rounds().await.is_err() }).await;
    }

    /// Where the process shows its metrics, with `--metrics-addr`.
    pub fn metrics(&self) -> String {
        format!("http://{}/metrics", self.process.as_ref().unwrap().addr("metrics"))
    }

    /// Of the process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().pid()
    }

    /// A file of the data folder.
    pub fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// Asks for SIGTERM's work, and gives the handle to wait for the end.
    pub fn stop(&mut self) -> tokio::task::JoinHandle<()> {
        self.stop.cancel();
        self.running.take().unwrap()
    }

    pub fn chain(&self) -> &DevnetChain {
        self.chain.as_ref().unwrap()
    }

    pub async fn mine(&self, blocks: Option<u64>, rounds: Option<u64>) {
        let request = MineRequest { blocks, rounds, initialize_rounds: true };
        self.chain().mine(&request).await.unwrap();
    }

    /// Waits until the orchestrator has seen the newest block, by what it offers.
    pub async fn see_the_chain(&self) {
        let block = self.chain().rounds().await.unwrap().last_seen_l1_block;
        let payer = crate::payer::Payer::new(self);
        payer.fund(self).await;
        until("the orchestrator sees the newest block", || async {
            let Ok(info) = payer.info(self, None).await else { return false };
            let expiration = info.ticket_params.unwrap().expiration_block;
            penstock_domain::u256_from_be(&expiration).unwrap()
                >= penstock_domain::U256::from(block + 40)
        })
        .await;
    }

    /// The orchestrator is out of the pool from the next round on, which has begun.
    pub async fn leave_the_pool(&self) {
        let key = keystore::open(&self.folder.path().join("key.json"), "password").unwrap();
        let account = TypedSigner::new(Arc::new(key));
        self.chain().clone().with_account(account).resign().await.unwrap();
        self.mine(None, Some(1)).await;
    }

    pub async fn fund(&self, sender: Address) {
        let funds = Wei::from_u64(FUNDS);
        self.chain().fund_deposit_and_reserve_for(sender, funds, funds).await.unwrap();
    }

    /// gRPC over TLS, as the network's nodes connect: any certificate will do.
    pub async fn grpc(&self) -> Channel {
        let url = self.service.parse().unwrap();
        penstock_clients::channel(&url, &Trust::AcceptAny, Duration::from_secs(10)).unwrap()
    }

    pub async fn operator(&self, path: &str) -> Value {
        let response = self.http.get(format!("{}{path}", self.admin)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    /// Balance of an account as the operator sees it; zero without one.
    pub async fn balance(&self, sender: Address, session: &str) -> Rational {
        let accounts = self.operator("/v1/accounts").await;
        let sender = penstock_domain::address_lower(&sender);
        let found = accounts
            .as_array()
            .unwrap()
            .iter()
            .find(|a| a["sender"] == sender.as_str() && a["session_id"] == session);
        let text = |a: &Value| a["balance_wei"].as_str().unwrap().parse().unwrap();
        found.map_or(Rational::ZERO, text)
    }

    pub async fn workers(&self, count: usize) -> Value {
        until_some("the workers are registered", || async {
            let workers = self.operator("/v1/workers").await;
            (workers.as_array().unwrap().len() == count).then_some(workers)
        })
        .await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        self.devnet_stop.cancel();
    }
}

async fn devnet(folder: &TempDir) -> (String, CancellationToken) {
    let args = penstock_config::try_parse_from([
        "penstock-devnet".to_owned(),
        "--http-addr=127.0.0.1:0".to_owned(),
        "--block-interval-ms=0".to_owned(),
        "--round-length=100".to_owned(),
        format!("--data-dir={}", folder.path().join("devnet").display()),
    ])
    .unwrap();
    let devnet = Devnet::build(&args).await.unwrap();
    let url = devnet.chain_url();
    let stop = CancellationToken::new();
    tokio::spawn(devnet.run(stop.clone(), None));
    (url, stop)
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}
