//! A devnet in this process, and accounts to use it with.

use async_trait::async_trait;
use penstock_chain::{Chain, conformance::Network};
use penstock_chain_devnet::{App, Args, DevnetChain, wire::MineRequest};
use penstock_domain::Address;
use penstock_http_kit::CancellationToken;
use penstock_keys::{LocalKey, TypedSigner};
use penstock_payments::{Signature, Ticket};
use std::{path::Path, sync::Arc};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A signer whose key is its number.
pub fn signer(number: usize) -> TypedSigner {
    let byte = u8::try_from(number + 1).unwrap();
    TypedSigner::new(Arc::new(LocalKey::from_bytes([byte; 32].into()).unwrap()))
}

/// Settings: a port and a folder of its own, blocks only when asked for, short rounds. `more` goes
/// before the defaults that it names.
pub fn args(data_dir: &Path, more: &[&str]) -> Args {
    let mut argv = vec!["penstock-devnet", "--data-dir", data_dir.to_str().unwrap()];
    argv.extend(more);
    for (flag, value) in
        [("--http-addr", "127.0.0.1:0"), ("--block-interval-ms", "0"), ("--round-length", "10")]
    {
        if !more.contains(&flag) {
            argv.extend([flag, value]);
        }
    }
    penstock_config::try_parse_from(argv).unwrap()
}

/// A running devnet; stops with the test's runtime.
pub struct Devnet {
    pub folder: TempDir,
    pub url: String,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Devnet {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[]).await
    }

    pub async fn start_in(folder: TempDir, more: &[&str]) -> Self {
        // Tests talk to it with clients of their own, which need it as well.
        penstock_http_kit::tls::install_crypto_provider();
        let app = App::build(&args(folder.path(), more)).await.unwrap();
        let url = app.chain_url();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let running = tokio::spawn(async move { app.run(token, None).await.unwrap() });
        Self { folder, url, stop, running }
    }

    /// Stops it and gives its folder back.
    pub async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.running.await.unwrap();
        self.folder
    }

    pub fn client(&self) -> DevnetChain {
        DevnetChain::connect(&self.url).unwrap()
    }

    /// The base address for plain HTTP.
    pub fn http(&self) -> &str {
        self.url.strip_prefix("devnet:").unwrap()
    }

    pub async fn mine(&self, blocks: Option<u64>, rounds: Option<u64>, initialize_rounds: bool) {
        let request = MineRequest { blocks, rounds, initialize_rounds };
        self.client().mine(&request).await.unwrap();
    }
}

/// The devnet as the conformance suite sees it.
pub struct UnderTest(Option<Devnet>);

impl UnderTest {
    pub async fn start() -> Self {
        Self(Some(Devnet::start().await))
    }

    fn devnet(&self) -> &Devnet {
        self.0.as_ref().unwrap()
    }
}

#[async_trait]
impl Network for UnderTest {
    fn chain(&self) -> Arc<dyn Chain> {
        Arc::new(self.devnet().client())
    }

    fn anyone(&self) -> Arc<dyn Chain> {
        self.chain()
    }

    fn account(&self, number: usize) -> Arc<dyn Chain> {
        Arc::new(self.devnet().client().with_account(signer(number)))
    }

    fn address(&self, number: usize) -> Address {
        signer(number).address()
    }

    async fn sign(&self, number: usize, ticket: &Ticket) -> Signature {
        signer(number).sign_ticket(ticket).await.unwrap()
    }

    async fn mine_blocks(&self, blocks: u64) {
        self.devnet().mine(Some(blocks), None, true).await;
    }

    async fn next_round(&self) {
        self.devnet().mine(None, Some(1), true).await;
    }

    async fn next_round_uninitialized(&self) {
        self.devnet().mine(None, Some(1), false).await;
    }

    async fn restart(&mut self) {
        let folder = self.0.take().unwrap().stop().await;
        self.0 = Some(Devnet::start_in(folder, &[]).await);
    }
}
