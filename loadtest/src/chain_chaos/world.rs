//! A redeemer as a process of its own, two endpoints that may lie, the chain behind them, and winners that are brought to
//! it. Whoever brings them has every key, so that no winner can be lost unseen.

use super::{
    endpoint::{Answering, Endpoint},
    plan::DEEPEST,
};
use crate::{fleet::own_host, rig};
use clap::Parser as _;
use penstock_chain::{Chain as _, NotesInMemory, OnChainTicket};
use penstock_chain_ethereum::{Endpoints, EthereumArgs, EthereumChain};
use penstock_clients::{RedeemerClient, RedeemerOptions};
use penstock_domain::{Address, U256, Wei, keccak256};
use penstock_keys::{LocalKey, TypedSigner};
use penstock_payments::{ExpirationParams, Ticket};
use penstock_testkit::{
    Process, Spec,
    anvil::{Anvil, CHAIN_ID},
    until_ok,
};
use penstock_wire::{ExpirationFields, redeemer::WinnerFields};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};
use tempfile::TempDir;

/// What the first winner pays; each next one a wei more. A redemption costs less, but not while gas is dear.
const FACE_WEI: u64 = 1_000_000_000_000_000;
/// What the sender has paid in, in wei: enough for a million winners.
const DEPOSIT_WEI: u128 = 1_000_000_000_000_000_000_000;
/// What is paid for a unit of gas at most, and what it costs when it is dear: still less than what anvil's own account
/// offers, which moves L1.
const MOST_WEI: u64 = 4_000_000_000;
pub const DEAR_WEI: u64 = 8_000_000_000;
/// L1 blocks in a round: nothing expires within a run.
const ROUND_BLOCKS: u64 = 1_000_000;
/// L1 blocks that pass between two looks at whether all is redeemed: what waits longer than it was told, waits for them.
const TICK_BLOCKS: u64 = 16;
const ONE: u64 = 1_000_000_000_000_000_000;

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    ethereum: EthereumArgs,
}

/// What runs. Everything ends with it.
pub struct World {
    pub anvil: Anvil,
    /// In the order in which the redeemer asks them.
    pub endpoints: [Endpoint; 2],
    pub redeemer: Process,
    /// Every winner that the redeemer has acknowledged.
    pub winners: Vec<OnChainTicket>,
    /// The chain, with nobody in between.
    pub chain: EthereumChain,
    pub recipient: Address,
    /// Who pays for gas.
    pub payer: Address,
    sender: TypedSigner,
    client: RedeemerClient,
    http: reqwest::Client,
    made: u32,
    // Last, so that the process is gone before its files are.
    pub folder: TempDir,
}

/// How far it is.
#[derive(Debug)]
pub struct Standing {
    redeemed: u64,
    deposit: Wei,
}

impl World {
    /// Starts everything; nothing is to be redeemed yet.
    pub async fn start(programs: &Path) -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let folder =
            tempfile::Builder::new().prefix("penstock-chain-").tempdir().expect("a folder");
        let cheap = ["--block-base-fee-per-gas", "1", "--disable-min-priority-fee"];
        // Left alone, it keeps fewer and fewer blocks in RAM, down to ten: what it reads back of a block on its disk
        // knows no contract's code, and it can take no more blocks back than it has in RAM. Here it keeps all.
        let rewinds = ["--prune-history", "20000"];
        let anvil = Anvil::start_with(ROUND_BLOCKS, &[cheap.as_slice(), &rewinds].concat()).await;
        let signer = || TypedSigner::new(Arc::new(LocalKey::random().expect("a key")));
        let (sender, recipient) = (signer(), signer());
        let payer = rig::make_key(folder.path()).address();
        for account in [sender.address(), recipient.address(), payer] {
            anvil.give(account, U256::from(DEPOSIT_WEI) * U256::from(2), U256::from(ONE));
        }
        let url = anvil.url();
        let chain = open(&anvil, &url);
        let own = |signer: &TypedSigner| {
            let notes = Arc::<NotesInMemory>::default();
            open(&anvil, &url).with_account(signer.clone()).for_operation(notes)
        };
        own(&recipient).register("https://orchestrator.example").await.expect("it registers");
        own(&sender)
            .fund_own(Wei(U256::from(DEPOSIT_WEI)), Wei::ZERO)
            .await
            .expect("a deposit is made");
        anvil.next_round(true);
        let endpoints = [Endpoint::before(&url).await, Endpoint::before(&url).await];
        let urls = endpoints.each_ref().map(Endpoint::url).join(",");
        let recipient = recipient.address();
        let spec = Spec {
            name: "redeemer".to_owned(),
            program: programs.join("penstock-orchestrator"),
            args: args(folder.path(), &anvil, &urls, recipient),
            env: std::collections::BTreeMap::new(),
        };
        let mut redeemer = Process::start(spec, folder.path()).await;
        redeemer.keep_addresses();
        let url = format!("https://{}", redeemer.addr("service"));
        let url = url.parse().expect("a URL");
        let client = RedeemerClient::new(&url, RedeemerOptions::default()).expect("a client");
        Self {
            anvil,
            endpoints,
            redeemer,
            winners: Vec::new(),
            chain,
            recipient,
            payer,
            sender,
            client,
            http: rig::http(),
            made: 0,
            folder,
        }
    }

    /// Winners whose offer is over.
    pub async fn make(&mut self, winners: usize) -> Vec<WinnerFields> {
        let rounds = self.chain.rounds().await.expect("the chain's rounds");
        let mut made = Vec::with_capacity(winners);
        for _ in 0..winners {
            self.made += 1;
            let recipient_rand = U256::from(self.made);
            let ticket = Ticket {
                recipient: self.recipient,
                sender: self.sender.address(),
                face_value: Wei::from_u64(FACE_WEI + u64::from(self.made)),
                win_prob: U256::MAX,
                sender_nonce: self.made,
                recipient_rand_hash: keccak256(recipient_rand.to_be_bytes::<32>()),
                expiration_params: ExpirationParams {
                    creation_round: rounds.last_initialized_round,
                    creation_round_block_hash: rounds.l1_block_hash,
                },
            };
            let sig = self.sender.sign_ticket(&ticket).await.expect("a signature");
            made.push(WinnerFields {
                recipient: ticket.recipient,
                sender: ticket.sender,
                face_value: ticket.face_value,
                win_prob: ticket.win_prob,
                sender_nonce: ticket.sender_nonce,
                recipient_rand_hash: ticket.recipient_rand_hash,
                recipient_rand,
                expiration_block: U256::from(rounds.last_seen_l1_block),
                expiration_params: ExpirationFields {
                    creation_round: ticket.expiration_params.creation_round,
                    creation_round_block_hash: ticket.expiration_params.creation_round_block_hash,
                },
                sig: sig.as_bytes().to_vec(),
            });
        }
        made
    }

    /// Brings them once, whether they are taken or not.
    pub async fn try_to_bring(&self, winners: &[WinnerFields]) {
        for winner in winners {
            // It may die of the first one; the others would wait for it in vain.
            if self.client.queue_ticket(winner).await.is_err() {
                return;
            }
        }
    }

    /// Brings them until each is acknowledged, and every other one once more.
    pub async fn bring(&mut self, winners: &[WinnerFields]) {
        for (number, winner) in winners.iter().enumerate() {
            for _ in 0..1 + number % 2 {
                let client = &self.client;
                until_ok("a winner is taken", || async move {
                    client.queue_ticket(winner).await.map_err(|error| error.to_string())
                })
                .await;
            }
            self.winners.push(on_chain(winner));
        }
    }

    /// Makes and brings so many.
    pub async fn bring_new(&mut self, winners: usize) {
        let made = self.make(winners).await;
        self.bring(&made).await;
    }

    /// What all winners pay together.
    pub fn worth(&self) -> Wei {
        self.winners.iter().fold(Wei::ZERO, |sum, ticket| Wei(sum.0 + ticket.face_value.0))
    }

    /// Winners that the redeemer calls redeemed.
    pub async fn redeemed(&self) -> Result<u64, String> {
        let url = format!("http://{}/v1/summary", self.redeemer.addr("admin"));
        let answer = self.http.get(&url).send().await.map_err(|error| error.to_string())?;
        let summary: Value = answer.json().await.map_err(|error| error.to_string())?;
        summary["redeemed"].as_u64().ok_or_else(|| summary.to_string())
    }

    /// The value of one of the redeemer's counters since its start.
    pub async fn counter(&self, name: &str) -> Result<u64, String> {
        let url = format!("http://{}/metrics", self.redeemer.addr("metrics"));
        let answer = self.http.get(&url).send().await.map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let of = |line: &str| -> Option<u64> {
            let rest = line.strip_prefix(name)?;
            let value = rest.strip_prefix(' ').or_else(|| rest.split_once("} ").map(|(_, v)| v))?;
            value.trim().parse().ok()
        };
        Ok(text.lines().filter_map(of).sum())
    }

    /// What is left of the deposit when all winners are paid.
    pub fn deposit_when_settled(&self) -> Wei {
        Wei(U256::from(DEPOSIT_WEI) - self.worth().0)
    }

    /// The sender's deposit.
    pub async fn deposit(&self) -> Wei {
        let info = self.chain.sender_info(self.sender.address()).await;
        info.expect("the chain answers").deposit
    }

    async fn standing(&self) -> Result<Standing, String> {
        let info = self.chain.sender_info(self.sender.address()).await;
        let deposit = info.map_err(|error| error.to_string())?.deposit;
        Ok(Standing { redeemed: self.redeemed().await?, deposit })
    }

    /// Waits until ledger and chain say that all winners are redeemed, while blocks of L1 come.
    pub async fn settled(&self, why: &str) {
        let (all, deposit) = (self.winners.len() as u64, self.deposit_when_settled());
        until_ok(&format!("all winners are redeemed {why}"), || async {
            let standing = self.standing().await?;
            if standing.redeemed == all && standing.deposit == deposit {
                return Ok(());
            }
            self.anvil.mine_blocks(TICK_BLOCKS);
            Err(format!("{standing:?} of {all}, {deposit:?}"))
        })
        .await;
    }

    /// The same without blocks of L1.
    pub async fn settled_at_once(&self, why: &str) {
        let (all, deposit) = (self.winners.len() as u64, self.deposit_when_settled());
        until_ok(&format!("all winners are redeemed {why}"), || async {
            let standing = self.standing().await?;
            let is_settled = standing.redeemed == all && standing.deposit == deposit;
            if is_settled { Ok(()) } else { Err(format!("{standing:?} of {all}, {deposit:?}")) }
        })
        .await;
    }

    /// All endpoints answer so.
    pub fn answer(&self, answering: Answering) {
        for endpoint in &self.endpoints {
            endpoint.answer(answering);
        }
    }

    /// Questions to all of them so far.
    pub fn asked(&self) -> u64 {
        self.endpoints.iter().map(Endpoint::asked).sum()
    }

    /// Transactions that they were given so far.
    pub fn sent(&self) -> u64 {
        self.endpoints.iter().map(Endpoint::sent).sum()
    }

    /// The height of the chain.
    pub fn height(&self) -> u64 {
        number(&self.anvil.rpc("eth_blockNumber", &json!([])))
    }

    /// Transactions of the redeemer's account in blocks.
    pub fn transactions(&self) -> u64 {
        let who = self.payer.to_string();
        number(&self.anvil.rpc("eth_getTransactionCount", &json!([who, "latest"])))
    }

    /// Whether the chain has redeemed it, as of now.
    pub async fn chain_says(&self, ticket: &OnChainTicket) -> bool {
        self.chain.is_used_ticket(ticket.hash()).await.expect("the chain answers")
    }

    /// So many blocks in which nothing happens.
    pub fn mine(&self, blocks: u64) {
        self.anvil.rpc("anvil_mine", &json!([format!("{blocks:#x}")]));
    }
}

/// A ticket as the chain knows it.
pub fn on_chain(winner: &WinnerFields) -> OnChainTicket {
    let params = ExpirationParams {
        creation_round: winner.expiration_params.creation_round,
        creation_round_block_hash: winner.expiration_params.creation_round_block_hash,
    };
    OnChainTicket {
        recipient: winner.recipient,
        sender: winner.sender,
        face_value: winner.face_value,
        win_prob: winner.win_prob,
        sender_nonce: U256::from(winner.sender_nonce),
        recipient_rand_hash: winner.recipient_rand_hash,
        aux_data: params.aux_data(),
    }
}

fn number(text: &Value) -> u64 {
    let text = text.as_str().expect("a number");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a number")
}

/// What the redeemer, and whoever looks at the chain beside it, is told of it.
fn flags(anvil: &Anvil) -> Vec<String> {
    vec![
        format!("--eth-controller={}", anvil.controller()),
        format!("--eth-chain-id={CHAIN_ID}"),
        format!("--eth-stake-lptu={ONE}"),
        format!("--eth-max-gas-price-wei={MOST_WEI}"),
        format!("--eth-final-blocks={}", DEEPEST + 5),
        "--eth-rpc-timeout-ms=2000".to_owned(),
        "--eth-tx-poll-ms=20".to_owned(),
        "--eth-tx-timeout-ms=500".to_owned(),
        "--eth-tx-replacements=6".to_owned(),
        // Blocks come when the run makes them, and as many as it likes.
        "--eth-max-head-age-ms=0".to_owned(),
        "--eth-max-l1-jump-blocks=1000000".to_owned(),
    ]
}

fn open(anvil: &Anvil, url: &str) -> EthereumChain {
    let flags = std::iter::once("run".to_owned()).chain(flags(anvil));
    let settings = Flags::try_parse_from(flags).expect("settings of the chain").ethereum;
    let endpoints = Endpoints::parse(&format!("ethereum:{url}")).expect("an endpoint");
    EthereumChain::open(&endpoints, (&settings).into()).expect("a chain")
}

fn args(folder: &Path, anvil: &Anvil, urls: &str, recipient: Address) -> Vec<String> {
    let host = own_host();
    let file = |name: &str| folder.join(name).display().to_string();
    let mut args = vec![
        "--redeemer".to_owned(),
        format!("--redeemer-recipient={recipient}"),
        "--redeemer-max-tickets=1000000".to_owned(),
        "--redeemer-max-sender-tickets=1000000".to_owned(),
        format!("--service-addr=https://{host}:0"),
        format!("--http-addr={host}:0"),
        format!("--admin-addr={host}:0"),
        format!("--metrics-addr={host}:0"),
        "--addr-file={addr_file}".to_owned(),
        "--log-level=info".to_owned(),
        format!("--data-dir={}", file("data")),
        format!("--ledger=sqlite://{}", file("ledger.sqlite")),
        format!("--key=keystore:{}", file("keystore.json")),
        format!("--key-password-file={}", file("keystore-password")),
        format!("--chain=ethereum:{urls}"),
        "--chain-poll-ms=100".to_owned(),
    ];
    args.extend(flags(anvil));
    args
}
