//! A chain that roles reach as `devnet:URL`: the devnet itself, whose rounds the test turns, under
//! [`Faults`].

use super::{Faults, Running, SimOrchestrator, server::Server};
use axum::{
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use penstock_chain::Chain;
use penstock_chain_devnet::{DevnetChain, node::Node, server, wire::MineRequest};
use penstock_domain::{Address, Wei};
use penstock_keys::TypedSigner;
use penstock_payments::RoundView;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;

/// L1 blocks in a round: a few offers long.
const ROUND_BLOCKS: u64 = 200;

/// A simulated chain. Its time stands still until the test mines.
#[derive(Debug)]
pub struct SimChain {
    /// What roles would ask it with; not under the faults' latency only because the test chooses
    /// when to ask.
    pub client: DevnetChain,
    /// Slowness, refusals, silence.
    pub faults: Arc<Faults>,
    redemptions_sent: Arc<AtomicU64>,
    node: Node,
    _folder: TempDir,
}

impl SimChain {
    /// In its first round.
    pub async fn start() -> Running<Self> {
        Self::start_with(ROUND_BLOCKS).await
    }

    /// The same with rounds of so many L1 blocks.
    pub async fn start_with(round_blocks: u64) -> Running<Self> {
        penstock_http_kit::tls::install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path(), round_blocks, Wei::ZERO).await.unwrap();
        let faults = Arc::<Faults>::default();
        let redemptions_sent = Arc::<AtomicU64>::default();
        let count = middleware::from_fn_with_state(Arc::clone(&redemptions_sent), count_redemption);
        let router = faults.over(server::router(node.clone()).layer(count));
        let server = Server::clear(router).await;
        let client = DevnetChain::connect(&server.uri).unwrap();
        let sim = Arc::new(Self { client, faults, redemptions_sent, node, _folder: folder });
        sim.begin_rounds(1).await;
        Running { sim, server }
    }

    /// How often somebody asked for a redemption, whatever became of it.
    pub fn redemptions_sent(&self) -> u64 {
        self.redemptions_sent.load(Ordering::SeqCst)
    }

    /// Gives an account a deposit and a reserve of so many wei each.
    pub async fn fund(&self, account: Address, wei: u64) {
        let wei = Wei::from_u64(wei);
        self.client.fund_deposit_and_reserve_for(account, wei, wei).await.unwrap();
    }

    /// Registers an orchestrator; it is active from the next round.
    pub async fn register(&self, key: TypedSigner, service_uri: &str) {
        self.client.clone().with_account(key).register(service_uri).await.unwrap();
    }

    /// Registers simulated orchestrators, begins the round in which they are active, and lets each
    /// see it.
    pub async fn activate(&self, orchestrators: &[Running<SimOrchestrator>]) {
        for orchestrator in orchestrators {
            self.register(orchestrator.key.clone(), &orchestrator.uri()).await;
        }
        self.begin_rounds(1).await;
        for orchestrator in orchestrators {
            self.show(orchestrator).await;
        }
    }

    /// Lets a simulated orchestrator see today's round and block.
    pub async fn show(&self, orchestrator: &SimOrchestrator) {
        let rounds = self.client.rounds().await.unwrap();
        *orchestrator.rounds.lock().unwrap() = RoundView {
            last_initialized_round: rounds.last_initialized_round,
            l1_block_hash: rounds.l1_block_hash,
            previous_round_l1_block_hash: rounds.previous_round_l1_block_hash,
            last_seen_l1_block: rounds.last_seen_l1_block,
        };
    }

    /// Mines until so many rounds have begun.
    pub async fn begin_rounds(&self, rounds: u64) {
        self.mine(None, Some(rounds)).await;
    }

    /// Mines L1 blocks.
    pub async fn mine_blocks(&self, blocks: u64) {
        self.mine(Some(blocks), None).await;
    }

    async fn mine(&self, blocks: Option<u64>, rounds: Option<u64>) {
        let request = MineRequest { blocks, rounds, initialize_rounds: true };
        self.client.mine(&request).await.unwrap();
    }

    /// Stops for good: the store is written and let go of.
    pub async fn close(&self) {
        self.node.close().await;
    }
}

async fn count_redemption(
    State(sent): State<Arc<AtomicU64>>,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().path() == "/v1/tickets/redeem" {
        sent.fetch_add(1, Ordering::SeqCst);
    }
    next.run(request).await
}

impl Running<SimChain> {
    /// What `--chain` of a role is to be.
    pub fn chain_url(&self) -> String {
        format!("devnet:{}", self.server.uri)
    }
}
