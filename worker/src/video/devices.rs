//! The cards that segments are transcoded on: which of them work, which sessions they have, and what
//! becomes of one that fails.
//!
//! A card is used after a trial with a real transcode. One that loses several segments in a row, or
//! that the driver no longer lists, is taken out: its sessions go elsewhere, and it comes back when
//! the driver lists it and the trial succeeds again.

use super::{
    balance::Balance,
    encoder::{Accel, Device},
};
use penstock_http_kit::health::NotReady;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::Notify;

/// Segments lost in a row that take a card out.
const STRIKES: u32 = 3;

/// All cards.
#[derive(Debug)]
pub struct Devices {
    inner: Mutex<Inner>,
    /// Rung when a card is taken out, so that somebody tries it again.
    fallen: Notify,
}

#[derive(Debug)]
struct Inner {
    cards: Vec<Card>,
    balance: Balance,
}

#[derive(Debug)]
struct Card {
    device: Device,
    /// How it is used when it works; of one that never worked, nothing is known.
    accel: Option<Accel>,
    /// Why it is out.
    trouble: Option<String>,
    strikes: u32,
    /// It must work: the operator named it, or it has worked before.
    expected: bool,
}

/// One card, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// `nvidia-0`.
    pub name: String,
    /// What is done where.
    pub engines: Option<&'static str>,
    /// Why it is not used.
    pub trouble: Option<String>,
    /// Sessions on it.
    pub sessions: usize,
}

/// A card for one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    card: usize,
    /// How to use it.
    pub accel: Accel,
}

impl Devices {
    /// Cards with the outcome of their trials, and who is to be on which; `named`: the operator wants just these.
    pub fn new(tried: Vec<(Device, Result<Accel, String>)>, named: bool, balance: Balance) -> Self {
        let card = |(device, outcome): (Device, Result<Accel, String>)| Card {
            device,
            expected: named || outcome.is_ok(),
            accel: outcome.as_ref().ok().copied(),
            trouble: outcome.err(),
            strikes: 0,
        };
        let cards = tried.into_iter().map(card).collect();
        let inner = Mutex::new(Inner { cards, balance });
        let devices = Self { inner, fallen: Notify::new() };
        devices.record(&devices.lock());
        devices
    }

    /// A card for a segment of this session; `None` is the processor.
    pub fn choose(&self, session_id: &str, cost: u64) -> Option<Chosen> {
        let mut inner = self.lock();
        let usable = inner.usable();
        let card = inner.balance.choose(session_id, cost, &usable, Instant::now())?;
        let chosen = inner.chosen(card);
        self.record(&inner);
        chosen
    }

    /// Another card than those that have failed already, for the rest of the session; `None` is the processor. If the
    /// others are merely full, that is until one of them has room.
    pub fn choose_other(&self, session_id: &str, cost: u64, failed: &[Chosen]) -> Option<Chosen> {
        let mut inner = self.lock();
        let mut usable = inner.usable();
        for tried in failed {
            if let Some(flag) = usable.get_mut(tried.card) {
                *flag = false;
            }
        }
        let now = Instant::now();
        inner.balance.end(session_id);
        let Some(card) = inner.balance.choose(session_id, cost, &usable, now) else {
            if usable.contains(&true) {
                let failed = failed.iter().map(|tried| tried.card).collect();
                inner.balance.wait(session_id, failed, cost, now);
            }
            return None;
        };
        inner.chosen(card)
    }

    /// The segment is done. The cards that failed before have a strike each, and where nothing but
    /// the processor could do it, the rest of the session stays there.
    pub fn done(&self, session_id: &str, cost: u64, by: Option<Chosen>, failed: &[Chosen]) {
        let mut inner = self.lock();
        if let Some(card) = by.and_then(|by| inner.cards.get_mut(by.card)) {
            card.strikes = 0;
        }
        let is_waiting = by.is_none() && inner.balance.waits(session_id);
        if !failed.is_empty() && !is_waiting {
            inner.balance.place(session_id, by.map(|by| by.card), cost, Instant::now());
        }
        for card in failed {
            self.strike(&mut inner, card.card);
        }
        self.record(&inner);
    }

    fn strike(&self, inner: &mut Inner, index: usize) {
        let Some(card) = inner.cards.get_mut(index) else { return };
        card.strikes += 1;
        if card.strikes >= STRIKES && card.trouble.is_none() {
            let reason = format!("it lost {STRIKES} segments in a row");
            tracing::error!(device = %card.device, reason, "a card is taken out");
            card.trouble = Some(reason);
            self.fallen.notify_one();
        }
    }

    /// The session is over.
    pub fn end(&self, session_id: &str) {
        let mut inner = self.lock();
        inner.balance.end(session_id);
        self.record(&inner);
    }

    /// Takes a card out.
    pub fn lost(&self, device: Device, reason: &str) {
        let mut inner = self.lock();
        let found = inner.cards.iter_mut().find(|card| card.device == device);
        if let Some(card) = found.filter(|card| card.trouble.as_deref() != Some(reason)) {
            tracing::error!(%device, reason, "a card is taken out");
            card.trouble = Some(reason.to_owned());
        }
        self.record(&inner);
    }

    /// A trial succeeded: the card is used (again).
    pub fn works(&self, device: Device, accel: Accel) {
        let mut inner = self.lock();
        if let Some(card) = inner.cards.iter_mut().find(|card| card.device == device) {
            tracing::info!(%device, engines = accel.engines(), "a card is used again");
            card.accel = Some(accel);
            card.trouble = None;
            card.expected = true;
            card.strikes = 0;
        }
        self.record(&inner);
    }

    /// Cards that are out although they should work.
    pub fn fallen(&self) -> Vec<Device> {
        let inner = self.lock();
        let out = inner.cards.iter().filter(|card| card.expected && card.trouble.is_some());
        out.map(|card| card.device).collect()
    }

    /// Returns when a card has been taken out for losing segments.
    pub async fn wait_fallen(&self) {
        self.fallen.notified().await;
    }

    /// Cards that work now.
    pub fn working(&self) -> Vec<Device> {
        let inner = self.lock();
        let usable = inner.usable();
        inner
            .cards
            .iter()
            .zip(usable)
            .filter(|(_, usable)| *usable)
            .map(|(c, _)| c.device)
            .collect()
    }

    /// All of them, for the hardware report.
    pub fn list(&self) -> Vec<Described> {
        let inner = self.lock();
        let describe = |(index, card): (usize, &Card)| Described {
            name: card.device.to_string(),
            engines: card.accel.map(Accel::engines),
            trouble: card.trouble.clone(),
            sessions: inner.balance.count(index),
        };
        inner.cards.iter().enumerate().map(describe).collect()
    }

    /// What readiness has to say: cards that should work and do not.
    pub fn missing(&self) -> Vec<NotReady> {
        let inner = self.lock();
        let out = inner.cards.iter().filter(|card| card.expected);
        out.filter_map(|card| Some((card, card.trouble.clone()?)))
            .map(|(card, reason)| NotReady::new(card.device.to_string(), reason))
            .collect()
    }

    fn record(&self, inner: &Inner) {
        for (index, card) in inner.cards.iter().enumerate() {
            let device = card.device.to_string();
            let usable = if card.trouble.is_none() { 1.0 } else { 0.0 };
            metrics::gauge!("penstock_worker_device_usable", "device" => device.clone())
                .set(usable);
            metrics::gauge!("penstock_worker_device_sessions", "device" => device)
                .set(inner.balance.count(index) as f64);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn usable(&self) -> Vec<bool> {
        self.cards.iter().map(|card| card.trouble.is_none() && card.accel.is_some()).collect()
    }

    fn chosen(&self, index: usize) -> Option<Chosen> {
        let accel = self.cards.get(index)?.accel?;
        Some(Chosen { card: index, accel })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn on(card: u32) -> Accel {
        Accel::Nvidia { card, decode: true, encode: true }
    }

    fn anybody() -> Balance {
        Balance::new(4_096, None)
    }

    fn two() -> Devices {
        let tried = (0..2).map(|i| (Device::Nvidia(i), Ok(on(i)))).collect();
        Devices::new(tried, false, anybody())
    }

    #[test]
    fn a_failing_card_passes_its_session_on_and_is_taken_out() {
        let devices = two();
        for round in 0..STRIKES {
            let id = format!("s{round}");
            // Until it is card 0's turn.
            let mut first = devices.choose(&id, 1).unwrap();
            if first.accel != on(0) {
                devices.end(&id);
                first = devices.choose(&id, 1).unwrap();
            }
            assert_eq!(first.accel, on(0), "round {round}");
            let other = devices.choose_other(&id, 1, &[first]).unwrap();
            assert_eq!(other.accel, on(1));
            devices.done(&id, 1, Some(other), &[first]);
            // The session is card 1's now.
            assert_eq!(devices.choose(&id, 1).unwrap().accel, on(1));
            devices.end(&id);
        }
        assert_eq!(devices.fallen(), [Device::Nvidia(0)]);
        assert!(devices.wait_fallen().now_or_never().is_some(), "somebody is told");
        assert_eq!(devices.missing()[0].dependency, "nvidia-0");
        for i in 0..4 {
            assert_eq!(devices.choose(&format!("n{i}"), 1).unwrap().accel, on(1));
        }
        devices.works(Device::Nvidia(0), on(0));
        assert!(devices.missing().is_empty());
        assert_eq!(devices.choose("new", 1).unwrap().accel, on(0));
    }

    #[test]
    fn a_session_whose_card_failed_waits_for_one_that_is_merely_full() {
        let tried = (0..2).map(|i| (Device::Nvidia(i), Ok(on(i)))).collect();
        let devices = Devices::new(tried, false, Balance::new(4_096, Some(1)));
        let first = devices.choose("s", 1).unwrap();
        let other = devices.choose("t", 1).unwrap();
        assert_eq!(devices.choose_other("s", 1, &[first]), None, "the other one is full");
        devices.done("s", 1, None, &[first]);
        // The processor does it, and not the card that failed it, which has room.
        for _ in 0..2 {
            assert_eq!(devices.choose("s", 1), None);
            devices.done("s", 1, None, &[]);
        }
        assert_eq!(devices.choose("u", 1), Some(first), "another one's it is");
        devices.end("t");
        assert_eq!(devices.choose("s", 1), Some(other));
        // Where that fails it too, only the processor is left.
        assert_eq!(devices.choose_other("s", 1, &[other, first]), None);
        devices.done("s", 1, None, &[other, first]);
        devices.end("u");
        assert_eq!(devices.choose("s", 1), None);
    }

    #[test]
    fn success_wipes_strikes_out() {
        let devices = Devices::new(vec![(Device::Nvidia(0), Ok(on(0)))], false, anybody());
        for _ in 0..3 * STRIKES {
            let card = devices.choose("s", 1).unwrap();
            devices.done("s", 1, None, &[card]);
            // On the processor from now on, so a new session for the next round.
            assert_eq!(devices.choose("s", 1), None);
            devices.end("s");
            let card = devices.choose("t", 1).unwrap();
            devices.done("t", 1, Some(card), &[]);
        }
        assert!(devices.fallen().is_empty());
    }

    #[test]
    fn a_lost_card_is_out_until_it_works() {
        let devices = two();
        devices.lost(Device::Nvidia(1), "the driver no longer lists it");
        assert_eq!(devices.fallen(), [Device::Nvidia(1)]);
        assert_eq!(devices.list()[1].trouble.as_deref(), Some("the driver no longer lists it"));
        assert_eq!(devices.choose("a", 1).unwrap().accel, on(0));
        devices.lost(Device::Nvidia(0), "the driver no longer lists it");
        assert_eq!(devices.choose("a", 1), None);
    }

    #[test]
    fn a_card_that_never_worked_is_missed_only_if_it_was_named() {
        let tried = || vec![(Device::Nvidia(0), Err("no encoder".to_owned()))];
        assert!(Devices::new(tried(), false, anybody()).missing().is_empty());
        let named = Devices::new(tried(), true, anybody());
        assert_eq!(named.missing()[0].reason, "no encoder");
        assert_eq!(named.choose("s", 1), None);
    }
}
