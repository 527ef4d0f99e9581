//! Winners whose sender can pay a part of them, or nothing: tests of what redemption does with them, on a devnet.

use super::{
    funds::Funds,
    redemption::{BATCH, Redeemer, on_chain},
};
use crate::{
    chain_senders::SenderBounds,
    chain_view::{ChainView, Snapshot},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use penstock_chain::{Chain, Look, Standing};
use penstock_domain::{B256, U256, Wei};
use penstock_keys::TypedSigner;
use penstock_ledger::orchestrator::{
    Fence, LeaseTime, OrchestratorLedger, QueueLimits, StoredWinner, WinnerStatus, open,
};
use penstock_payments::{ExpirationParams, RecipientRand, Ticket, Winner};
use penstock_testkit::sim::{Running, SimChain, account};
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;

struct World {
    chain: Running<SimChain>,
    sender: TypedSigner,
    recipient: TypedSigner,
    view: Arc<ChainView>,
    redeemer: Redeemer,
    ledger: Arc<dyn OrchestratorLedger>,
    _folder: TempDir,
}

/// What the gas of a redemption costs: 10 units of 1 wei.
const GAS: u64 = 10;
/// L1 blocks of a round.
const ROUND: u64 = 200;
/// The block of a ticket's last round from which it takes what there is.
const CLOSES: u64 = 150;

impl World {
    /// Two orchestrators, so that each may take half of a reserve.
    async fn start(deposit: u64, reserve: u64) -> Self {
        let chain = SimChain::start_with(ROUND).await;
        let (sender, recipient) = (account(), account());
        for key in [recipient.clone(), account()] {
            chain.register(key, "https://o.example").await;
        }
        chain.begin_rounds(1).await;
        let (deposit, reserve) = (Wei::from_u64(deposit), Wei::from_u64(reserve));
        let fund = chain.client.fund_deposit_and_reserve_for(sender.address(), deposit, reserve);
        fund.await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/o.db", folder.path().display());
        let lease = LeaseTime(Duration::from_secs(3_600));
        let ledger = open(&url, lease).await.unwrap();
        let client: Arc<dyn Chain> = Arc::new(chain.client.clone());
        let bounds = SenderBounds { lookups: 4, known: 4 };
        let recipient_address = recipient.address();
        let view = ChainView::new(Arc::clone(&client), recipient_address, lease.0, bounds);
        let view = Arc::new(view);
        let funds =
            Funds { ledger: Arc::clone(&ledger), chain: Arc::clone(&view), redeem_gas: GAS };
        let redeemer = Redeemer::new(client, funds, lease.0);
        Self { chain, sender, recipient, view, redeemer, ledger, _folder: folder }
    }

    async fn snapshot(&self) -> Snapshot {
        Snapshot { gas_price: Wei::from_u64(1), ..self.view.refresh().await.unwrap() }
    }

    /// One that may be redeemed now.
    async fn win(&self, face_value: u64, nonce: u32) {
        let rounds = self.chain.client.rounds().await.unwrap();
        let recipient_rand = RecipientRand::from_bytes([nonce.to_be_bytes()[3]; 32]);
        let ticket = Ticket {
            recipient: self.recipient.address(),
            sender: self.sender.address(),
            face_value: Wei::from_u64(face_value),
            win_prob: U256::MAX,
            sender_nonce: nonce,
            recipient_rand_hash: recipient_rand.hash(),
            expiration_params: ExpirationParams {
                creation_round: rounds.last_initialized_round,
                creation_round_block_hash: rounds.l1_block_hash,
            },
        };
        let winner = Winner {
            ticket_hash: ticket.hash(),
            signature: self.sender.sign_ticket(&ticket).await.unwrap(),
            ticket,
            recipient_rand,
            params_expiration_block: U256::ZERO,
        };
        let limits = QueueLimits { all: 999, sender: 999 };
        self.ledger.queue_winner(&winner, limits, 1).await.unwrap();
    }

    /// The newest winner, after all that was put off was tried once more.
    async fn tried(&self) -> StoredWinner {
        self.chain.mine_blocks(2).await;
        self.redeemer.run_once(&self.snapshot().await).await;
        self.newest().await
    }

    /// One more look at the same block, or at the next.
    async fn look(&self, blocks: u64) {
        if blocks > 0 {
            self.chain.mine_blocks(blocks).await;
        }
        self.redeemer.run_once(&self.snapshot().await).await;
    }

    /// Up to this block of the present round.
    async fn mine_to(&self, block_of_round: u64) {
        let rounds = self.chain.client.rounds().await.unwrap();
        let block = rounds.round_start_block + block_of_round;
        self.chain.mine_blocks(block - rounds.last_seen_l1_block).await;
    }

    /// A look at this block of the present round.
    async fn look_at(&self, block_of_round: u64) {
        self.mine_to(block_of_round).await;
        self.look(0).await;
    }

    async fn newest(&self) -> StoredWinner {
        self.ledger.winners(1).await.unwrap().remove(0)
    }

    async fn paid(&self) -> Vec<u64> {
        let all = self.chain.client.redemptions(9).await.unwrap();
        all.iter().map(|one| u64::try_from(one.paid().0).unwrap()).collect()
    }
}

#[tokio::test]
async fn what_can_be_paid_in_part_waits_for_the_end_of_its_last_round_and_says_what_it_got() {
    let world = World::start(20, 60).await;
    world.win(100, 1).await;
    for _ in 0..2 {
        let held = world.tried().await;
        assert_eq!(held.status, WinnerStatus::Queued);
        let reason = held.reason.unwrap();
        assert!(reason.contains("are there 50 wei now, and it promises 100 wei"), "{reason}");
    }
    assert!(world.paid().await.is_empty());
    // Tried when the round begins, as its part of the reserve may be another one, and then now and then until it closes.
    let before = world.newest().await.attempts;
    world.look_at(ROUND - 1).await;
    world.chain.begin_rounds(1).await;
    world.look(0).await;
    assert_eq!(world.newest().await.attempts, before + 2);
    for block in [CLOSES / 2, CLOSES - 1] {
        world.look_at(block).await;
        assert_eq!(world.newest().await.status, WinnerStatus::Queued, "{block}");
    }
    assert!(world.paid().await.is_empty());
    world.look_at(CLOSES).await;
    let redeemed = world.newest().await;
    assert_eq!(redeemed.status, WinnerStatus::Redeemed);
    let reason = redeemed.reason.unwrap();
    assert!(reason.contains("paid 50 of 100 wei"), "{reason}");
    assert_eq!(world.paid().await, [50]);
}

#[tokio::test]
async fn what_is_paid_in_whole_later_is_not_redeemed_for_a_part_before() {
    let world = World::start(20, 60).await;
    world.win(100, 1).await;
    assert_eq!(world.tried().await.status, WinnerStatus::Queued);
    world.chain.fund(world.sender.address(), 50).await;
    let redeemed = world.tried().await;
    assert_eq!((redeemed.status, redeemed.reason), (WinnerStatus::Redeemed, None));
    assert_eq!(world.paid().await, [100]);
}

#[tokio::test]
async fn what_can_be_paid_in_whole_does_not_wait_for_the_end_of_its_last_round() {
    let world = World::start(20, 60).await;
    world.win(100, 1).await;
    world.chain.begin_rounds(1).await;
    assert_eq!(world.tried().await.status, WinnerStatus::Queued);
    world.chain.fund(world.sender.address(), 50).await;
    assert_eq!(world.tried().await.status, WinnerStatus::Redeemed);
    assert_eq!(world.paid().await, [100]);
}

/// Who is not active in the next round gets nothing of a reserve then.
#[tokio::test]
async fn who_leaves_takes_what_there_is_at_the_end_of_the_round() {
    let world = World::start(20, 60).await;
    world.win(100, 1).await;
    for (block, paid) in [(CLOSES - 1, [].as_slice()), (CLOSES, &[50])] {
        world.mine_to(block).await;
        // As of one that others have pushed out of the pool, who is registered still.
        let leaving = Snapshot { leaves: true, ..world.snapshot().await };
        world.redeemer.run_once(&leaving).await;
        assert_eq!(world.paid().await, paid, "{block}");
    }
    let snapshot = world.snapshot().await;
    assert!(snapshot.active && !snapshot.leaves);
    world.chain.client.clone().with_account(world.recipient.clone()).resign().await.unwrap();
    let snapshot = world.snapshot().await;
    assert!(snapshot.active && snapshot.leaves);
    world.chain.begin_rounds(1).await;
    let snapshot = world.snapshot().await;
    assert!(!snapshot.active && !snapshot.leaves, "it has left");
}

#[tokio::test]
async fn no_more_than_the_gas_is_not_worth_it_even_in_the_last_round() {
    let world = World::start(GAS, 0).await;
    world.win(100, 1).await;
    world.chain.begin_rounds(1).await;
    for block in [CLOSES, ROUND - 1] {
        world.look_at(block).await;
        let held = world.newest().await;
        assert_eq!(held.status, WinnerStatus::Queued, "{held:?}");
    }
    assert!(world.paid().await.is_empty());
}

#[tokio::test]
async fn what_is_held_is_tried_after_ever_more_blocks_and_when_there_is_more_money_too() {
    let world = World::start(20, 60).await;
    world.win(100, 1).await;
    let mut tried = Vec::new();
    for block in 0..34_u64 {
        let before = world.ledger.winners(1).await.unwrap()[0].attempts;
        world.look(1).await;
        world.look(0).await;
        let held = world.ledger.winners(1).await.unwrap().remove(0);
        assert_eq!(held.status, WinnerStatus::Queued);
        if held.attempts > before {
            assert_eq!(held.attempts, before + 1, "once in a block");
            tried.push(block);
        }
    }
    assert_eq!(tried, [0, 1, 3, 7, 15, 31]);
    world.chain.fund(world.sender.address(), 50).await;
    world.look(29).await;
    assert!(world.paid().await.is_empty(), "its turn has not come");
    world.look(1).await;
    assert_eq!(world.paid().await, [100]);
}

#[tokio::test]
async fn many_that_are_held_starve_nobody() {
    let world = World::start(20, 60).await;
    for nonce in 1..=BATCH {
        world.win(100, nonce).await;
    }
    world.win(30, BATCH + 1).await;
    for _ in 0..3 {
        world.look(1).await;
    }
    assert_eq!(world.paid().await, [30]);
}

/// Begun by a process that died, and paid by the contract meanwhile.
async fn paid_unseen(world: &World, face_value: u64) -> (Fence, B256) {
    world.win(face_value, 1).await;
    let winner = world.ledger.winners(1).await.unwrap().remove(0).winner;
    let fence = world.ledger.redeemer().await.unwrap().unwrap();
    assert!(world.ledger.begin_redemption(winner.ticket_hash, fence, 1).await.unwrap());
    world.chain.client.redeem(&on_chain(&winner)).await.unwrap();
    (fence, winner.ticket_hash)
}

/// As the look back does, whatever block was final.
async fn look_back(world: &World, fence: Fence) -> StoredWinner {
    let stored = world.ledger.unsettled_redemptions(u64::MAX, 1).await.unwrap().remove(0);
    let ticket = on_chain(&stored.winner).ticket;
    let look = world.chain.client.look_again(&ticket, stored.tx_hash, 5).await.unwrap();
    world.redeemer.note_look(fence, &stored, look).await.unwrap();
    world.ledger.winners(1).await.unwrap().remove(0)
}

#[tokio::test]
async fn what_was_paid_is_said_when_it_is_found_out_later() {
    let world = World::start(20, 60).await;
    let (fence, hash) = paid_unseen(&world, 100).await;
    // That it is used is all that is known at first.
    world.ledger.mark_redeemed(hash, None, Some(0), None, 1).await.unwrap();
    let found = look_back(&world, fence).await;
    assert_eq!(found.status, WinnerStatus::Redeemed);
    assert_eq!(found.reason.as_deref(), Some("paid 50 of 100 wei: the sender had no more"));
    assert!(found.tx_hash.is_some());
}

/// The transaction was taken back and came again, when the money was elsewhere.
#[tokio::test]
async fn what_was_paid_in_whole_at_first_and_less_in_the_end_is_underpaid_once() {
    let world = World::start(20, 60).await;
    let (fence, hash) = paid_unseen(&world, 100).await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    super::short::show();
    let is_counted = |times: u64| {
        let line = format!("orchestrator_winners_underpaid_total {times}\n");
        recorder.handle().render().contains(&line)
    };
    world.ledger.mark_redeemed(hash, Some(B256::repeat_byte(1)), Some(3), None, 1).await.unwrap();
    let stored = world.ledger.winners(1).await.unwrap().remove(0);
    // In a block that may still go, and then for good; another reader may not know the amount.
    let tx_hash = stored.tx_hash;
    let again = Standing::InBlock { tx_hash, block: 4 };
    for (standing, paid, want) in [
        (again, Some(Wei::from_u64(100)), 0),
        (again, Some(Wei::ZERO), 1),
        (again, None, 1),
        (Standing::Final { tx_hash }, Some(Wei::ZERO), 1),
    ] {
        let stored = world.ledger.winners(1).await.unwrap().remove(0);
        world.redeemer.note_look(fence, &stored, Look { standing, paid }).await.unwrap();
        assert!(is_counted(want), "{want} at {standing:?} {paid:?}");
        let reason = world.ledger.winners(1).await.unwrap().remove(0).reason;
        let want = (want > 0).then_some("paid 0 of 100 wei: the sender had no more");
        assert_eq!(reason.as_deref(), want);
    }
    assert!(world.ledger.unsettled_redemptions(u64::MAX, 1).await.unwrap().is_empty());
}

/// The view of the chain is from before: what the contract says now counts, not what it says of the active set.
#[tokio::test]
async fn a_view_of_the_chain_from_before_burns_no_ticket() {
    let world = World::start(0, 60).await;
    world.win(30, 1).await;
    let before = world.snapshot().await;
    assert!(before.active);
    // The round ends, and this orchestrator is in the pool no more.
    world.chain.client.clone().with_account(world.recipient.clone()).resign().await.unwrap();
    world.chain.begin_rounds(1).await;
    world.redeemer.run_once(&before).await;
    let held = world.ledger.winners(1).await.unwrap().remove(0);
    assert_eq!(held.status, WinnerStatus::Queued, "{held:?}");
    assert!(world.paid().await.is_empty());
}
