//! A redeemer as a process of its own, two endpoints that may lie, the chain behind them, and winners that are brought to
//! it. Whoever brings them has every key, so that no winner can be lost unseen.

use super::{
    args::{MOST_WEI, args, open},
    endpoint::{Answering, Endpoint},
    events::{self, Used},
    monkey::NOTHING_CLAIMABLE,
    senders::{Senders, account, acting},
    winners::{Draft, Round, on_chain},
};
use crate::rig;
use penstock_chain::{Chain as _, OnChainTicket, WinningTicket};
use penstock_chain_ethereum::EthereumChain;
use penstock_clients::{RedeemerClient, RedeemerOptions};
use penstock_domain::{Address, U256, Wei};
use penstock_keys::TypedSigner;
use penstock_testkit::{Process, Spec, anvil::Anvil, until_ok};
use penstock_wire::redeemer::WinnerFields;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// What the least of the winners pays. A redemption costs less, but not while gas is dear.
const FACE_WEI: u64 = 1_000_000_000_000_000;
/// What a unit of gas costs when it is dear: more than is paid, and still less than what anvil's own account offers, which
/// moves L1.
pub const DEAR_WEI: u64 = 2 * MOST_WEI;
/// L1 blocks in a round: nothing expires within a run.
const ROUND_BLOCKS: u64 = 1_000_000;
/// L1 blocks that pass between two looks at whether all is redeemed: what waits longer than it was told, waits for them.
const TICK_BLOCKS: u64 = 16;
/// L1 blocks until the offers of those end that are brought at once.
const OFFER_BLOCKS: u64 = 40;
/// Of those that are brought at once, in a hundred: of the first sender, and of the first two.
const OF_THE_FIRST: [usize; 2] = [60, 90];
const ONE: u64 = 1_000_000_000_000_000_000;

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
    pub senders: Senders,
    /// Another orchestrator.
    pub other: TypedSigner,
    /// What that one was paid for.
    pub of_others: Vec<OnChainTicket>,
    /// The round before the present one, whose tickets expire first.
    before: Round,
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
    earned: Wei,
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
        let [recipient, other] = [account(&anvil, U256::ZERO), account(&anvil, U256::ZERO)];
        let payer = rig::make_key(folder.path()).address();
        anvil.give(payer, U256::from(1_000) * U256::from(ONE), U256::ZERO);
        let url = anvil.url();
        // Two share each reserve: what one of them has claimed is not all of it.
        for (orchestrator, uri) in
            [(&recipient, "https://orchestrator.example"), (&other, "https://other.example")]
        {
            acting(&anvil, orchestrator).register(uri).await.expect("it registers");
        }
        let senders = Senders::new(&anvil).await;
        anvil.next_round(true);
        let before = open(&anvil, &url).rounds().await.expect("the chain's rounds").into();
        anvil.next_round(true);
        // Who has seen the round before does not believe in one so long at once.
        let chain = open(&anvil, &url);
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
            senders,
            other,
            of_others: Vec::new(),
            before,
            client,
            http: rig::http(),
            made: 0,
            folder,
        }
    }

    /// Winners of senders that can pay, whose offer is over.
    pub async fn make(&mut self, winners: usize) -> Vec<WinnerFields> {
        let mut made = Vec::with_capacity(winners);
        for number in 0..winners {
            let draft = self.draft().await;
            made.push(draft.signed(&self.senders.plenty(number)).await);
        }
        made
    }

    /// One whose offer is over, and which no other one is like.
    pub async fn draft(&mut self) -> Draft {
        self.made += 1;
        let rounds = self.chain.rounds().await.expect("the chain's rounds");
        Draft {
            recipient: self.recipient,
            face_value: Wei::from_u64(FACE_WEI + u64::from(self.made)),
            nonce: self.made,
            offer_ends: rounds.last_seen_l1_block,
            round: rounds.into(),
        }
    }

    /// Winners of several senders and of both rounds, each worth something else, in no order, whose offers all live.
    pub async fn make_for_later(&mut self, winners: usize, seed: u64) -> Vec<WinnerFields> {
        let mut random = StdRng::seed_from_u64(seed);
        let like = self.draft().await;
        let mut worth: Vec<u64> = (0..winners as u64).collect();
        worth.shuffle(&mut random);
        let mut made = Vec::with_capacity(winners);
        for more in worth {
            self.made += 1;
            let round = if random.random_bool(0.5) { self.before } else { like.round };
            let face_value = Wei::from_u64(FACE_WEI + more);
            let offer_ends = like.offer_ends + random.random_range(1..=OFFER_BLOCKS);
            let draft = Draft { face_value, round, offer_ends, nonce: self.made, ..like };
            let share = random.random_range(0..100);
            let sender = OF_THE_FIRST.iter().filter(|most| share >= **most).count();
            made.push(draft.signed(&self.senders.plenty(sender)).await);
        }
        made
    }

    /// All offers end.
    pub fn end_offers(&self) {
        self.anvil.mine_blocks(OFFER_BLOCKS);
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

    /// All that a sender has goes to the other orchestrator, for a ticket of that worth.
    pub async fn pay_the_other(&mut self, sender: &TypedSigner, face_value: Wei) {
        let draft = self.draft().await;
        let draft = Draft { recipient: self.other.address(), face_value, ..draft };
        let winner = draft.signed(sender).await;
        let ticket = on_chain(&winner);
        let winner = WinningTicket {
            ticket: ticket.clone(),
            sig: winner.sig,
            recipient_rand: winner.recipient_rand,
        };
        let paid = acting(&self.anvil, &self.other).redeem(&winner).await;
        assert_eq!(paid.expect("another one is paid").paid(), face_value);
        self.senders.paid_others(face_value);
        self.of_others.push(ticket);
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

    /// The value of one of the redeemer's counters since its start; of those with this label, if it is not empty.
    pub async fn counter(&self, name: &str, label: &str) -> Result<u64, String> {
        let url = format!("http://{}/metrics", self.redeemer.addr("metrics"));
        let answer = self.http.get(&url).send().await.map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let of = |line: &str| -> Option<u64> {
            let rest = line.strip_prefix(name).filter(|rest| rest.contains(label))?;
            let value = rest.strip_prefix(' ').or_else(|| rest.split_once("} ").map(|(_, v)| v))?;
            value.trim().parse().ok()
        };
        Ok(text.lines().filter_map(of).sum())
    }

    /// Winners that it has put off for this reason since its start, or for any.
    pub async fn put_off(&self, reason: &str) -> Result<u64, String> {
        let label = if reason.is_empty() { String::new() } else { format!("reason=\"{reason}\"") };
        self.counter("orchestrator_redemptions_put_off_total", &label).await
    }

    /// Waits until all but the last `held` winners are redeemed, and so many were put off since nothing of their sender's
    /// can be claimed, while blocks of L1 come.
    pub async fn are_held(&self, held: u64, times: u64) {
        let others = self.winners.len() as u64 - held;
        until_ok("winners wait for their sender's money", || async {
            let (now, redeemed) = (self.put_off(NOTHING_CLAIMABLE).await?, self.redeemed().await?);
            // More of them is not what was to be, and whoever waits says so.
            if redeemed > others || (now >= times && redeemed == others) {
                return Ok(());
            }
            self.tick();
            Err(format!("{now} of {times} put off, {redeemed} of {others} others redeemed"))
        })
        .await;
    }

    /// What the recipient has earned.
    pub async fn earned(&self) -> Result<Wei, String> {
        self.chain.pending_fees(self.recipient).await.map_err(|error| error.to_string())
    }

    async fn standing(&self) -> Result<Standing, String> {
        Ok(Standing { redeemed: self.redeemed().await?, earned: self.earned().await? })
    }

    /// Waits until ledger and chain say that all winners are redeemed, while blocks of L1 come.
    pub async fn settled(&self, why: &str) {
        let (all, worth) = (self.winners.len() as u64, self.worth());
        until_ok(&format!("all winners are redeemed {why}"), || async {
            let standing = self.standing().await?;
            if standing.redeemed == all && standing.earned == worth {
                return Ok(());
            }
            self.tick();
            Err(format!("{standing:?} of {all}, {worth:?}"))
        })
        .await;
    }

    /// The same without blocks of L1.
    pub async fn settled_at_once(&self, why: &str) {
        let (all, worth) = (self.winners.len() as u64, self.worth());
        until_ok(&format!("all winners are redeemed {why}"), || async {
            let standing = self.standing().await?;
            let is_settled = standing.redeemed == all && standing.earned == worth;
            if is_settled { Ok(()) } else { Err(format!("{standing:?} of {all}, {worth:?}")) }
        })
        .await;
    }

    /// Some blocks of L1.
    pub fn tick(&self) {
        self.anvil.mine_blocks(TICK_BLOCKS);
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

    /// What the chain itself says of every ticket that is used, in order.
    pub fn used(&self) -> Vec<Used> {
        events::used(&self.anvil)
    }

    /// Whether transactions are in a block as soon as they are sent. Those that wait are then, too.
    pub fn automine(&self, is_on: bool) {
        self.anvil.rpc("evm_setAutomine", &json!([is_on]));
        if is_on {
            self.mine(1);
        }
    }

    /// What a unit of gas costs from now on; without transactions less with each block.
    pub fn gas_costs(&self, wei: u64) {
        self.anvil.rpc("anvil_setNextBlockBaseFeePerGas", &json!([format!("{wei:#x}")]));
        self.mine(1);
    }

    /// So many blocks in which nothing happens.
    pub fn mine(&self, blocks: u64) {
        self.anvil.rpc("anvil_mine", &json!([format!("{blocks:#x}")]));
    }
}

fn number(text: &Value) -> u64 {
    let text = text.as_str().expect("a number");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a number")
}
