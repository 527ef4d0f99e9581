//! Breaks what the plan says, with winners on their way, and sees to it that all of them are redeemed afterwards.

use super::{
    endpoint::{Answering, Endpoint},
    plan::Act,
    winners::{Draft, on_chain},
    world::{DEAR_WEI, World},
};
use crate::gateway_chaos::ms;
use penstock_domain::{U256, Wei};
use penstock_testkit::{until, until_ok};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{collections::BTreeMap, time::Instant};

/// Winners that each act has on their way.
const WINNERS: usize = 4;
/// Why a winner waits whose sender cannot pay, as the metrics say it.
pub const NOTHING_CLAIMABLE: &str = "nothing_claimable";
/// Questions to endpoints that do not say what is, before they do again.
const QUESTIONS: u64 = 40;

/// What was broken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Broken {
    /// Redeemers killed (`kill -9`) while a redemption waited for its block.
    pub kills: u64,
    /// Dead at failpoints.
    pub failpoints: BTreeMap<String, u64>,
    /// Blocks taken back.
    pub blocks_taken_back: u64,
    /// Redemptions that went with them.
    pub redemptions_taken_back: u64,
    /// Winners that waited until their sender could pay.
    #[serde(default)]
    pub held: u64,
    /// Of each kind.
    pub acts: BTreeMap<String, Effect>,
}

/// What one kind of act came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Effect {
    /// How often.
    pub times: u64,
    /// Of each, milliseconds from its beginning until all winners were redeemed.
    pub settled_ms: Vec<u64>,
}

impl Broken {
    /// Of the redeemer.
    pub fn deaths(&self) -> u64 {
        self.kills + self.failpoints.values().sum::<u64>()
    }
}

/// Whoever breaks things.
pub struct Monkey<'a> {
    pub world: &'a mut World,
    pub broken: Broken,
    pub violations: Vec<String>,
}

impl Monkey<'_> {
    /// Does it, and waits until everything is as it should be.
    pub async fn perform(&mut self, act: Act) {
        let began = Instant::now();
        match act {
            Act::DieAt(point) => self.die_at(point).await,
            Act::Kill => self.kill().await,
            Act::OneDown => self.one_is(Answering::Down, act).await,
            Act::FarBlock => self.one_is(Answering::FarBlock, act).await,
            Act::FarL1 => self.one_is(Answering::FarL1, act).await,
            Act::LostAnswers => self.lost_answers().await,
            Act::AllDown => self.all_down().await,
            Act::Behind => self.behind().await,
            Act::Dear => self.dear().await,
            Act::DearMeanwhile => self.dear_meanwhile().await,
            Act::Stuck => self.stuck().await,
            Act::Poor => self.poor().await,
            Act::PoorMeanwhile => self.poor_meanwhile().await,
            Act::TakenBack(blocks) => self.taken_back(blocks).await,
        }
        self.world.answer(Answering::Well);
        if !self.violations.is_empty() {
            return;
        }
        self.world.settled(&format!("after {act}")).await;
        let effect = self.broken.acts.entry(act.kind()).or_default();
        effect.times += 1;
        effect.settled_ms.push(ms(began.elapsed()));
    }

    async fn die_at(&mut self, point: &'static str) {
        let world = &mut *self.world;
        let log = world.folder.path().join("hits");
        let _ = std::fs::remove_file(&log);
        // It has nothing to do: an end in order is no death.
        if !world.redeemer.terminate().await.success() {
            self.violations.push("the redeemer did not end in order".to_owned());
        }
        let env = world.redeemer.env_mut();
        env.insert("PENSTOCK_FAILPOINTS".to_owned(), format!("{point}=abort@1"));
        env.insert("PENSTOCK_FAILPOINT_LOG".to_owned(), log.to_string_lossy().into_owned());
        world.redeemer.restart().await;
        world.redeemer.env_mut().clear();
        let winners = world.make(WINNERS).await;
        world.try_to_bring(&winners).await;
        let status = world.redeemer.ended().await;
        let hits = std::fs::read_to_string(&log).unwrap_or_default();
        if status.success() || !hits.lines().any(|line| line.starts_with(point)) {
            self.violations.push(format!("it did not die at {point}: {status}, {hits:?}"));
        }
        *self.broken.failpoints.entry(point.to_owned()).or_default() += 1;
        world.redeemer.restart().await;
        // Whoever had no answer brings them again.
        world.bring(&winners).await;
    }

    async fn kill(&mut self) {
        let world = &mut *self.world;
        world.automine(false);
        let sent = world.sent();
        world.bring_new(WINNERS).await;
        until("something is sent", || async { world.sent() > sent }).await;
        world.redeemer.kill9();
        self.broken.kills += 1;
        // In its block while nobody is there, or when somebody is there again.
        if self.broken.kills.is_multiple_of(2) {
            world.automine(true);
        }
        world.redeemer.restart().await;
        world.automine(true);
    }

    /// The first endpoint is like this, and the other one is enough.
    async fn one_is(&mut self, answering: Answering, act: Act) {
        self.world.endpoints[0].answer(answering);
        self.world.bring_new(WINNERS).await;
        self.world.settled(&format!("while there is {act}")).await;
    }

    async fn lost_answers(&mut self) {
        self.world.answer(Answering::LoseSent);
        self.world.bring_new(WINNERS).await;
        self.world.settled("without an answer to what is sent").await;
    }

    async fn all_down(&mut self) {
        let world = &mut *self.world;
        world.answer(Answering::Down);
        let asked = world.asked();
        world.bring_new(WINNERS).await;
        until("endpoints are asked in vain", || async { world.asked() >= asked + QUESTIONS }).await;
    }

    async fn behind(&mut self) {
        let world = &mut *self.world;
        // It stays where the next winners are not redeemed yet.
        let height = world.height();
        world.bring_new(WINNERS).await;
        world.settled("before an endpoint stays behind").await;
        world.endpoints[0].answer(Answering::Behind(height));
        let asked = world.endpoints[0].asked();
        world.bring_new(WINNERS).await;
        until("what is behind is asked", || async {
            world.endpoints[0].asked() >= asked + QUESTIONS
        })
        .await;
    }

    async fn dear(&mut self) {
        let world = &mut *self.world;
        world.gas_costs(DEAR_WEI);
        let (before, transactions) = (world.winners.len() as u64, world.transactions());
        let had = world.put_off("").await.expect("metrics");
        world.bring_new(WINNERS).await;
        until_ok("winners wait for cheaper gas", || async {
            let now = world.put_off("").await?;
            if now >= had + WINNERS as u64 { Ok(()) } else { Err(format!("{now} put off")) }
        })
        .await;
        let redeemed = world.redeemed().await.expect("a summary");
        if redeemed > before || world.transactions() > transactions {
            self.violations.push("something was sent while gas was above what is paid".to_owned());
        }
        world.gas_costs(1);
    }

    async fn stuck(&mut self) {
        let world = &mut *self.world;
        world.automine(false);
        let sent = world.sent();
        world.bring_new(WINNERS).await;
        // The first, and what replaces it.
        until("a stuck transaction is replaced", || async { world.sent() >= sent + 2 }).await;
        world.automine(true);
    }

    async fn dear_meanwhile(&mut self) {
        let world = &mut *self.world;
        world.automine(false);
        let (sent, had) = (world.sent(), world.put_off("gas").await.expect("metrics"));
        world.bring_new(WINNERS).await;
        until("a transaction waits", || async { world.sent() > sent }).await;
        let transactions = world.transactions();
        // It offers less than blocks ask for from now on, and more than is paid may not be offered in its place.
        world.gas_costs(DEAR_WEI);
        until_ok("the redeemer finds gas too dear", || async {
            let now = world.put_off("gas").await?;
            if now > had { Ok(()) } else { Err(format!("{now} put off")) }
        })
        .await;
        if world.transactions() > transactions {
            self.violations.push("more than the limit was offered for gas".to_owned());
        }
        world.gas_costs(1);
        world.automine(true);
    }

    /// What is left of a reserve is for others: a ticket that is redeemed then is used up and brings nothing.
    async fn poor(&mut self) {
        let world = &mut *self.world;
        let (before, transactions) = (world.winners.len() as u64, world.transactions());
        let had = world.put_off(NOTHING_CLAIMABLE).await.expect("metrics");
        let first = world.draft().await;
        // Half of it is for each of two orchestrators.
        let reserve = Wei(first.face_value.0 + first.face_value.0);
        let sender = world.senders.without_deposit(&world.anvil, reserve).await;
        let mut made = vec![first.signed(&sender).await];
        let mut rest = Wei::ZERO;
        for less in 1..WINNERS as u64 {
            // Less, so that the first is the first of those that wait.
            let face_value = Wei(first.face_value.0 - U256::from(2 * less));
            let draft = Draft { face_value, ..world.draft().await };
            rest = Wei(rest.0 + draft.face_value.0);
            made.push(draft.signed(&sender).await);
        }
        let held = made.len() as u64 - 1;
        world.bring(&made).await;
        world.are_held(held, had + held).await;
        // Nor does one that was started again forget what they wait for.
        let is_in_order = world.redeemer.terminate().await.success();
        world.redeemer.restart().await;
        world.are_held(held, held).await;
        let redeemed = world.redeemed().await.expect("a summary");
        let sent = world.transactions() - transactions;
        if !is_in_order || (redeemed, sent) != (before + 1, 1) {
            self.violations.push(format!(
                "of {} winners, of which one could be paid, {} are redeemed in {sent} transactions",
                made.len(),
                redeemed - before
            ));
        }
        for winner in made.iter().skip(1).map(on_chain) {
            if world.chain_says(&winner).await {
                let hash = winner.hash();
                self.violations
                    .push(format!("{hash} is used up, and its sender could pay nothing"));
            }
        }
        self.broken.held += held;
        world.senders.fund(&world.anvil, &sender, rest, Wei::ZERO).await;
    }

    /// Whoever has the transaction may bring it at any time: what it would redeem is used up then for nothing.
    async fn poor_meanwhile(&mut self) {
        let world = &mut *self.world;
        let draft = world.draft().await;
        let sender = world.senders.without_reserve(&world.anvil, draft.face_value).await;
        let made = [draft.signed(&sender).await];
        let had = world.put_off(NOTHING_CLAIMABLE).await.expect("metrics");
        let given_up = world.put_off("").await.expect("metrics");
        world.answer(Answering::Keep);
        let sent = world.sent();
        world.bring(&made).await;
        until("a redemption is out", || async { world.sent() > sent }).await;
        // And given up for now: nobody replaces it any more.
        until_ok("the redeemer has given it up", || async {
            let now = world.put_off("").await?;
            if now >= given_up + 2 { Ok(()) } else { Err(format!("{now} put off")) }
        })
        .await;
        world.pay_the_other(&sender, draft.face_value).await;
        world.answer(Answering::Well);
        world.are_held(1, had + 1).await;
        let [winner] = made.each_ref().map(on_chain);
        for raw in world.endpoints.iter().flat_map(Endpoint::kept) {
            let said = world.anvil.refusal("eth_sendRawTransaction", &json!([raw]));
            if !said.contains("nonce too low") {
                self.violations.push(format!("what was out may still come: {said}"));
            }
        }
        if world.chain_says(&winner).await {
            let hash = winner.hash();
            self.violations.push(format!("{hash} is used up, and its sender could pay nothing"));
        }
        self.broken.held += 1;
        world.senders.fund(&world.anvil, &sender, draft.face_value, Wei::ZERO).await;
    }

    async fn taken_back(&mut self, blocks: u64) {
        let world = &mut *self.world;
        world.bring_new(WINNERS).await;
        world.settled_at_once("before their blocks are taken back").await;
        world.mine(blocks - 1);
        world.anvil.rpc("anvil_reorg", &json!([blocks, []]));
        self.broken.blocks_taken_back += blocks;
        let mut gone = 0;
        for ticket in &world.winners {
            let is_used = world.chain_says(ticket).await;
            gone += u64::from(!is_used);
        }
        self.broken.redemptions_taken_back += gone;
        if gone == 0 {
            self.violations.push(format!("{blocks} blocks were taken back with no redemption"));
        }
    }
}
