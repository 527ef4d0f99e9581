//! What runs beside the requests: the view of the chain and redemption on a paid network, and prices.

use crate::{
    chain_view::ChainView,
    clock,
    node::Node,
    pricing::book::Prices,
    redeemer::{hand_over::HandOver, remote::Remote},
    service::{
        redemption::Redeemer,
        stake::{Automatic, Rounds},
    },
};
use penstock_chain::Chain;
use penstock_clients::EthUsd;
use penstock_http_kit::CancellationToken;
use penstock_ledger::orchestrator::{LedgerError, OrchestratorLedger};
use std::{sync::Arc, time::Duration};

/// Lines of each journal that go in one transaction. It locks as many accounts, for as long as a payment to one of
/// them may wait for it.
const FOLDED_AT_ONCE: u32 = 16;
/// Such transactions with each new block, at most.
const FOLDINGS: u32 = 64;

/// What runs beside the requests on a paid network.
pub struct ChainWork {
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// How often it is asked.
    pub poll: Duration,
    /// For how long lines stay in the journals of the ledger.
    pub journal_ms: i64,
    /// Silence after which other processes take this one for dead.
    pub lease: Duration,
    /// Who redeems instead of this process.
    pub remote: Option<Arc<Remote>>,
    /// Whether this orchestrator still has to join the pool.
    pub register: bool,
    /// What is done by itself in each round.
    pub automatic: Automatic,
}

/// Polls the chain, registers, forgets old nonces, and redeems.
pub fn spawn(
    tasks: &mut tokio::task::JoinSet<()>,
    node: &Arc<Node>,
    work: ChainWork,
    stop: &CancellationToken,
) {
    let Some(cashier) = &node.cashier else { return };
    let (view, poll) = (Arc::clone(&cashier.chain), work.poll);
    let redeemer = Redeemer::new(Arc::clone(&work.chain), cashier.funds(), work.lease);
    match work.remote.clone() {
        Some(remote) => {
            let hand_over = HandOver::new(remote, redeemer);
            tasks.spawn(hand_over_winners(hand_over, view, poll, stop.clone()))
        }
        None => tasks.spawn(redeem_all(redeemer, view, stop.clone())),
    };
    tasks.spawn(fold_journals(Arc::clone(node), work.journal_ms, stop.clone()));
    if work.register {
        tasks.spawn(register(Arc::clone(node), work.chain, poll, stop.clone()));
    }
    if let Some(stake) = node.stake.clone() {
        let rounds = Rounds::new(stake, work.automatic);
        tasks.spawn(care_for_rounds(rounds, Arc::clone(&cashier.chain), stop.clone()));
    }
    tasks.spawn(watch(Arc::clone(node), poll, stop.clone()));
}

/// Redeems what an earlier setting handed over, too: its redeemer may be gone, and the chain pays once.
async fn redeem_all(redeemer: Redeemer, view: Arc<ChainView>, stop: CancellationToken) {
    let back = redeemer.funds.ledger.take_back_winners(i64::MAX, clock::now_ms()).await;
    match back {
        Ok(0) => {}
        Ok(winners) => tracing::info!(winners, "winners that were handed over are redeemed here"),
        Err(error) => {
            tracing::warn!(%error, "winners that were handed over stay there until the next start");
        }
    }
    redeem(redeemer, view, stop).await;
}

/// Redeems after each look at the chain.
pub async fn redeem(redeemer: Redeemer, view: Arc<ChainView>, stop: CancellationToken) {
    let mut news = view.subscribe();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = news.changed() => if changed.is_err() { return },
        }
        let snapshot = *news.borrow_and_update();
        if let Some(snapshot) = snapshot {
            redeemer.run_once(&snapshot).await;
        }
    }
}

/// Begins rounds and calls rewards, after each look at the chain. On its own: a transaction may take its time.
async fn care_for_rounds(mut rounds: Rounds, view: Arc<ChainView>, stop: CancellationToken) {
    let mut news = view.subscribe();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = news.changed() => if changed.is_err() { return },
        }
        let snapshot = *news.borrow_and_update();
        if let Some(snapshot) = snapshot {
            // What is cut off here is in the ledger, and goes on in the next life.
            let _ = stop.run_until_cancelled(rounds.run_once(&snapshot)).await;
        }
    }
}

/// Hands winners over at an interval: the chain is not needed for it.
async fn hand_over_winners(
    hand_over: HandOver,
    view: Arc<ChainView>,
    every: Duration,
    stop: CancellationToken,
) {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let snapshot = view.latest();
        tokio::select! {
            // What is cut off here is handed over once more.
            () = stop.cancelled() => return,
            () = hand_over.run_once(snapshot.as_ref()) => {}
        }
    }
}

/// Keeps old lines of the journals as sums, some with each new block. On its own: neither the view of the chain nor
/// redemption waits for it.
async fn fold_journals(node: Arc<Node>, journal_ms: i64, stop: CancellationToken) {
    let Some(cashier) = &node.cashier else { return };
    let mut news = cashier.chain.subscribe();
    let mut last_block = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = news.changed() => if changed.is_err() { return },
        }
        let block =
            news.borrow_and_update().map_or(0, |snapshot| snapshot.rounds.last_seen_l1_block);
        if block <= last_block {
            continue;
        }
        last_block = block;
        let before_ms = clock::now_ms().saturating_sub(journal_ms);
        tokio::select! {
            () = stop.cancelled() => return,
            folded = fold(cashier.ledger.as_ref(), before_ms) => if let Err(error) = folded {
                tracing::warn!(%error, "old lines of the journals stay for now");
            },
        }
    }
}

/// Little by little, so that payments come between.
async fn fold(ledger: &dyn OrchestratorLedger, before_ms: i64) -> Result<(), LedgerError> {
    for _ in 0..FOLDINGS {
        if ledger.fold(before_ms, FOLDED_AT_ONCE).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Reads what an ether costs, and files with prices that may have changed.
pub async fn prices(
    prices: Arc<Prices>,
    ether: Arc<EthUsd>,
    every: Duration,
    stop: CancellationToken,
) {
    let dollars = async {
        let Some(poll) = ether.poll() else { return std::future::pending().await };
        loop {
            tokio::time::sleep(poll).await;
            match ether.refresh().await {
                Ok(()) => prices.see_ether(),
                Err(error) => tracing::warn!(error, "what an ether costs could not be read"),
            }
        }
    };
    let files = async {
        if !prices.may_change() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(every).await;
            let prices = Arc::clone(&prices);
            // Its errors are in the log and on the admin address.
            let _ = tokio::task::spawn_blocking(move || prices.reload()).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = dollars => {}
        () = files => {}
    }
}

/// Joins the pool. On its own: a transaction may take as long as it likes, and what is known of the chain gets no older
/// meanwhile.
async fn register(
    node: Arc<Node>,
    chain: Arc<dyn Chain>,
    every: Duration,
    stop: CancellationToken,
) {
    let uri = node.service_uri();
    let registering = async {
        loop {
            match chain.register(uri).await {
                Ok(Some(receipt)) => {
                    tracing::info!(uri, tx = %receipt.tx_hash, "registered in the pool");
                    return;
                }
                Ok(None) => {
                    tracing::info!(uri, "was registered before");
                    return;
                }
                Err(error) => tracing::warn!(%error, "could not register; trying again"),
            }
            tokio::time::sleep(every).await;
        }
    };
    // What is out by then is found by the next start, which registers only what is not.
    let _ = stop.run_until_cancelled(registering).await;
}

async fn watch(node: Arc<Node>, poll: Duration, stop: CancellationToken) {
    let Some(cashier) = &node.cashier else { return };
    let mut interval = tokio::time::interval(poll);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut last_block, mut failing) = (0, false);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        let Some(snapshot) = cashier.chain.refresh_and_log(&mut failing).await else { continue };
        let block = snapshot.rounds.last_seen_l1_block;
        cashier.prices.see_block(block);
        if block > last_block {
            last_block = block;
            if let Err(error) = cashier.ledger.forget_nonces(block).await {
                tracing::warn!(%error, "old nonces stay for now");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{Address, Rational};
    use penstock_ledger::orchestrator::{AccountKey, Debit, InvoiceQuery, LeaseTime, open};

    #[tokio::test]
    async fn old_lines_go_until_there_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/o.db", folder.path().display());
        let ledger = open(&url, LeaseTime::default()).await.unwrap();
        let lines = FOLDED_AT_ONCE * 3 + 1;
        for line in 0..=lines {
            let debit = Debit {
                account: AccountKey::new(Address::repeat_byte(7), "a").unwrap(),
                job_id: format!("j{line}"),
                units: 1,
                price: Rational::ONE,
                began_ms: 0,
                price_stale_before_ms: 0,
                // The last one is not old.
                now_ms: if line == lines { 20 } else { 10 },
                covered: false,
                hold: None,
            };
            ledger.debit(&debit).await.unwrap();
        }
        fold(ledger.as_ref(), 20).await.unwrap();
        let query = InvoiceQuery { session: "a".into(), sender: None, limit: 1_000 };
        let [invoice] = &ledger.invoices(&query).await.unwrap()[..] else { panic!() };
        assert_eq!(invoice.debits.len(), 1);
        assert_eq!(invoice.account.debited, Rational::from_int((lines + 1).into()));
        assert_eq!(invoice.account.folded_debits, Rational::from_int(lines.into()));
        ledger.close().await;
    }
}
