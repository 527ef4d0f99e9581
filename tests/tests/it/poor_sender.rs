//! A sender on Ethereum that cannot pay for all that it lost: a ticket that would be used up without pay is held, and says
//! why, until there is money for it.

use penstock::dev::Role;
use penstock_chain::Chain as _;
use penstock_chain_ethereum::EthereumChain;
use penstock_clients::{RedeemerClient, RedeemerOptions};
use penstock_domain::{Address, U256, Wei};
use penstock_keys::TypedSigner;
use penstock_loadtest::chain_chaos::{Draft, on_chain};
use penstock_testkit::{Process, until, until_ok};
use penstock_wire::redeemer::WinnerFields;
use serde_json::{Value, json};

use crate::{
    ethereum,
    network::{Needs, Network, SignerOn},
};

/// What one winner is worth: all that one of two orchestrators may claim of the sender's reserve in a round.
const FACE_WEI: u64 = 1_000_000_000_000_000;

/// A redeemer on a chain with two active orchestrators.
struct Redeeming {
    network: Network,
    redeemer: Process,
    client: RedeemerClient,
    chain: EthereumChain,
}

impl Redeeming {
    async fn start() -> Self {
        let on = SignerOn { ethereum: true, ..SignerOn::default() };
        let network = Network::start_on(Needs::PAYMENTS, on).await;
        let anvil = network.anvil();
        let (_, other) = ethereum::as_new_account(anvil, U256::ZERO);
        other.register("https://other.example").await.unwrap();
        anvil.next_round(true);
        let redeemer = network.a_redeemer(&ethereum::flags(anvil)).await;
        let url = format!("https://{}", redeemer.addr("service")).parse().unwrap();
        let client = RedeemerClient::new(&url, RedeemerOptions::default()).unwrap();
        let chain = network.ethereum_as(Role::Orchestrator);
        assert_eq!(chain.pool_size().await.unwrap(), 2);
        Self { network, redeemer, client, chain }
    }

    /// Winners worth these wei, all of whose offers end together, at the redeemer.
    async fn win(&self, sender: &TypedSigner, worth_wei: &[u64]) -> Vec<WinnerFields> {
        let rounds = self.chain.rounds().await.unwrap();
        let mut won = Vec::new();
        for (nonce, worth) in (1..).zip(worth_wei) {
            let draft = Draft {
                recipient: self.recipient(),
                face_value: Wei::from_u64(*worth),
                nonce,
                round: rounds.into(),
                offer_ends: rounds.last_seen_l1_block + 10,
            };
            let winner = draft.signed(sender).await;
            self.client.queue_ticket(&winner).await.unwrap();
            won.push(winner);
        }
        won
    }

    fn recipient(&self) -> Address {
        self.network.recipient.parse().unwrap()
    }

    /// What the redeemer says of this winner.
    async fn row(&self, winner: &WinnerFields) -> Value {
        let url = format!("http://{}/v1/winners", self.redeemer.addr("admin"));
        let (rows, hash) = (self.network.get(&url).await, on_chain(winner).hash().to_string());
        let mut rows = rows.as_array().unwrap().iter();
        rows.find(|row| row["ticket_hash"] == hash.as_str()).unwrap().clone()
    }

    async fn is_redeemed(&self, winner: &WinnerFields) -> bool {
        self.row(winner).await["status"] == "redeemed"
    }

    /// How often winners were put off because their sender could not pay.
    async fn put_off(&self) -> u64 {
        const COUNTER: &str =
            "orchestrator_redemptions_put_off_total{reason=\"nothing_claimable\"} ";
        let url = format!("http://{}/metrics", self.redeemer.addr("metrics"));
        let text = self.network.http.get(&url).send().await.unwrap().text().await.unwrap();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(COUNTER));
        values.next().expect("shown from the start").trim().parse().unwrap()
    }

    /// Transactions that the redeemer's account has made.
    fn transactions(&self) -> Value {
        let account = self.recipient().to_string();
        self.network.anvil().rpc("eth_getTransactionCount", &json!([account, "latest"]))
    }

    /// Waits until the ticket was looked at `times` more and held.
    async fn is_held(&self, winner: &WinnerFields, times: u64) {
        let had = self.put_off().await;
        until_ok("the winner is held", || async {
            let now = self.put_off().await;
            if now >= had + times {
                return Ok(());
            }
            // What was put off is tried again with later blocks.
            self.network.mine(1).await;
            Err(format!("{now} times, and {:?}", self.row(winner).await))
        })
        .await;
        let row = self.row(winner).await;
        assert_eq!(row["status"], "queued", "{row}");
        let reason = row["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("insufficient sender funds for redeem tx cost"), "{row}");
        let is_used = self.chain.is_used_ticket(on_chain(winner).hash()).await.unwrap();
        assert!(!is_used, "it is used up, and its sender could pay nothing");
    }
}

#[tokio::test]
async fn a_ticket_that_would_be_burnt_waits_until_its_sender_can_pay() {
    let all = Redeeming::start().await;
    // No deposit, and of the reserve one half is for each orchestrator.
    let [face, less] = [FACE_WEI, FACE_WEI / 2].map(Wei::from_u64);
    let (sender, its) = ethereum::as_new_account(all.network.anvil(), U256::from(3 * FACE_WEI));
    its.fund_own(Wei::ZERO, Wei(face.0 + face.0)).await.unwrap();
    let won = all.win(&sender, &[FACE_WEI, FACE_WEI / 2]).await;
    let [first, second] = &won[..] else { panic!("{won:?}") };
    let before = all.put_off().await;
    all.network.mine(10).await;
    until("the first is redeemed", || all.is_redeemed(first)).await;
    until("the second is put off", || async {
        assert!(!all.is_redeemed(second).await, "it is used up, and its sender could pay nothing");
        all.put_off().await > before
    })
    .await;

    // The contract would take it: there is a reserve, none of which is for this orchestrator any more.
    let info = its.sender_info(sender.address()).await.unwrap();
    assert_eq!((info.deposit, info.reserve.funds_remaining), (Wei::ZERO, face));
    assert_eq!(its.claimed_reserve(sender.address(), all.recipient()).await.unwrap(), face);
    let sent = all.transactions();
    all.is_held(second, 3).await;
    assert_eq!(all.transactions(), sent, "nothing is sent");
    let earned = all.chain.pending_fees(all.recipient()).await.unwrap();
    assert_eq!(earned, face);

    its.fund_own(less, Wei::ZERO).await.unwrap();
    until("it is redeemed", || async {
        all.network.mine(1).await;
        all.is_redeemed(second).await
    })
    .await;
    for (winner, worth) in [(first, face), (second, less)] {
        let found = all.chain.redemption(&on_chain(winner)).await.unwrap();
        assert_eq!(found.map(|found| found.paid()), Some(worth));
    }
    let earned = all.chain.pending_fees(all.recipient()).await.unwrap();
    assert_eq!(earned, Wei(face.0 + less.0), "to the wei");
}
