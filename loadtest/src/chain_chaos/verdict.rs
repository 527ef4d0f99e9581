//! What chain, ledger and whoever brought the winners say in the end.

use super::world::World;
use penstock_chain::Chain as _;
use penstock_domain::U256;
use penstock_ledger::orchestrator::{LeaseTime, WinnerStatus, open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of the winners that waited together, so many are looked for on the chain one by one, about.
const FOUND: usize = 200;

/// What the books say.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Winners that the redeemer acknowledged.
    pub winners: u64,
    /// In its ledger as redeemed.
    pub ledger_redeemed: u64,
    /// Redemptions on the chain, blocks that were taken back left out.
    pub redemptions: u64,
    /// What the winners were worth, exact wei.
    pub worth_wei: String,
    /// What of the senders' deposits and reserves is gone.
    pub out_of_deposit_wei: String,
    /// What the recipient has earned.
    pub earned_wei: String,
    /// Transactions of the redeemer's account in blocks, those that were taken back left out.
    pub transactions: u64,
    /// Times that a transaction was given to an endpoint.
    pub sent: u64,
    /// Questions to the endpoints.
    pub questions: u64,
    /// Redemptions that the ledger does not hold to be final yet.
    pub unsettled: u64,
}

/// Ends the redeemer and compares everything. The first `many` winners waited together, before anything was broken.
pub async fn judge(world: &mut World, many: usize, violations: &mut Vec<String>) -> Counts {
    let mut broken = |what: String| violations.push(what);
    let earned = world.earned().await.expect("fees");
    let (worth, out) = (world.worth(), world.senders.spent(&world.chain).await);
    let winners = world.winners.len() as u64;
    let mut used = BTreeMap::new();
    for one in world.used() {
        let ticket = (one.sender, one.nonce);
        if used.insert(ticket, one).is_some() {
            broken(format!("{ticket:?} is redeemed twice"));
        }
    }
    for ticket in &world.of_others {
        if used.remove(&(ticket.sender, ticket.sender_nonce)).is_none() {
            broken(format!("{} of another recipient is gone", ticket.hash()));
        }
    }
    let redemptions = used.len() as u64;
    let mut by_events = BTreeMap::new();
    for ticket in &world.winners {
        let (hash, promised) = (ticket.hash(), ticket.face_value);
        let Some(one) = used.remove(&(ticket.sender, ticket.sender_nonce)) else {
            broken(format!("{hash} is not redeemed"));
            continue;
        };
        by_events.insert(hash, one.tx);
        if one.paid != promised {
            broken(format!("{hash} is used up: {:?} were paid of {promised:?}", one.paid));
        }
    }
    for ticket in used.keys() {
        broken(format!("{ticket:?} is redeemed, and nobody brought it"));
    }
    if (out, earned) != (worth, worth) {
        broken(format!("{worth:?} were won, {out:?} are gone from the senders, {earned:?} earned"));
    }
    if !world.redeemer.terminate().await.success() {
        broken("the redeemer did not end in order".to_owned());
    }
    let log = std::fs::read_to_string(world.redeemer.log_file()).unwrap_or_default();
    if log.contains("panicked at") {
        broken("the redeemer's log has a panic".to_owned());
    }
    let url = format!("sqlite://{}", world.folder.path().join("ledger.sqlite").display());
    let ledger = open(&url, LeaseTime::default()).await.expect("the ledger");
    let rows = ledger.winners(u32::MAX).await.expect("winners");
    let unsettled = ledger.unsettled_redemptions(u64::MAX, u32::MAX).await.expect("redemptions");
    ledger.close().await;
    let mut in_ledger: BTreeMap<_, _> =
        rows.into_iter().map(|row| (row.winner.ticket_hash, row)).collect();
    let mut ledger_redeemed = 0;
    for ticket in &world.winners {
        let hash = ticket.hash();
        let Some(row) = in_ledger.remove(&hash) else {
            broken(format!("{hash} was acknowledged and is not in the ledger"));
            continue;
        };
        ledger_redeemed += u64::from(row.status == WinnerStatus::Redeemed);
        let on_chain = by_events.get(&hash);
        if row.status != WinnerStatus::Redeemed || on_chain.is_none() {
            let status = row.status.as_str();
            broken(format!(
                "{hash} is {status} ({:?}), and the chain has {on_chain:?}",
                row.reason
            ));
        }
        if row.tx_hash.is_some() && row.tx_hash.as_ref() != on_chain {
            broken(format!("{hash}: the ledger names {:?}, and it was {on_chain:?}", row.tx_hash));
        }
    }
    // What the client of the chain finds by itself: it looks from the newest block back, so that to have all of many
    // found takes the square of how many there are. Those that something was broken for are the newest.
    let (together, of_acts) = world.winners.split_at(many.min(world.winners.len()));
    let some = together.iter().step_by(many.div_ceil(FOUND).max(1));
    for ticket in some.chain(of_acts) {
        let found = world.chain.redemption(ticket).await.expect("the chain answers");
        let (paid, tx) = (found.map(|found| found.paid()), found.map(|found| found.tx_hash));
        let hash = ticket.hash();
        if paid != Some(ticket.face_value) || tx.as_ref() != by_events.get(&hash) {
            broken(format!("{hash}: the client of the chain finds {found:?}"));
        }
    }
    for hash in in_ledger.keys() {
        broken(format!("{hash} is in the ledger, and nobody brought it"));
    }
    let text = |wei: U256| wei.to_string();
    Counts {
        winners,
        ledger_redeemed,
        redemptions,
        worth_wei: text(worth.0),
        out_of_deposit_wei: text(out.0),
        earned_wei: text(earned.0),
        transactions: world.transactions(),
        sent: world.sent(),
        questions: world.asked(),
        unsettled: unsettled.len() as u64,
    }
}
