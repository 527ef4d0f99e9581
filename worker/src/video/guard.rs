//! Watches over the cards: one that the driver no longer lists is taken out, and one that is out is
//! tried again, in growing distances, as long as the driver lists it.

use super::{devices::Devices, encoder::Device, trial::Trial};
use crate::{
    gpu::{Inventory, monitor::Monitor},
    link::backoff::Backoff,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Between trials of a card that is out, at first and at most.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// Guards the cards for ever. `seen` is what the driver listed when they were tried first.
pub async fn guard(devices: Arc<Devices>, trial: Trial, monitor: Monitor, seen: Inventory) {
    let mut news = monitor.watch();
    let known: BTreeMap<u32, String> =
        seen.cards.into_iter().map(|card| (card.index, card.uuid)).collect();
    let mut retries: BTreeMap<Device, (Backoff, Instant)> = BTreeMap::new();
    loop {
        let inventory = news.borrow_and_update().clone();
        for index in known.keys() {
            if let Some(reason) = gone(&known, &inventory, *index) {
                devices.lost(Device::Nvidia(*index), &reason);
            }
        }
        let fallen = devices.fallen();
        retries.retain(|device, _| fallen.contains(device));
        for device in fallen {
            if matches!(device, Device::Nvidia(index) if gone(&known, &inventory, index).is_some())
            {
                continue;
            }
            let (backoff, due) = retries
                .entry(device)
                .or_insert_with(|| (Backoff::new(FIRST_RETRY, LAST_RETRY), Instant::now()));
            if Instant::now() < *due {
                continue;
            }
            match trial.card(device).await {
                Ok(accel) => devices.works(device, accel),
                Err(reason) => {
                    *due = Instant::now() + backoff.next(rand::random());
                    devices.lost(device, &reason);
                }
            }
        }
        let next = retries.values().map(|(_, due)| *due).min();
        let wait = next.unwrap_or_else(|| Instant::now() + LAST_RETRY);
        tokio::select! {
            changed = news.changed() => {
                if changed.is_err() {
                    // Nobody asks the driver any more; trials go on.
                    tokio::time::sleep_until(wait).await;
                }
            }
            () = devices.wait_fallen() => {}
            () = tokio::time::sleep_until(wait) => {}
        }
    }
}

/// Why a card that was listed is not there, if it is not. A card that was never listed (no library, no
/// device files) is nobody's loss.
fn gone(known: &BTreeMap<u32, String>, now: &Inventory, index: u32) -> Option<String> {
    let uuid = known.get(&index)?;
    match now.card(index) {
        Some(card) if card.uuid == *uuid || uuid.is_empty() => None,
        Some(card) => Some(format!("another card ({}) has its number now", card.uuid)),
        None => {
            let why = now.trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            Some(format!("the driver no longer lists it{why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::monitor::tests::card;

    #[test]
    fn who_is_gone() {
        let known = BTreeMap::from([(0, "GPU-0".to_owned()), (1, String::new())]);
        let now = |cards| Inventory { cards, ..Inventory::default() };
        assert_eq!(gone(&known, &now(vec![card(0), card(1)]), 0), None);
        assert_eq!(gone(&known, &now(vec![card(0), card(1)]), 1), None);
        assert_eq!(gone(&known, &now(vec![]), 7), None);
        let trouble = Some("card 0: lost".to_owned());
        let lost = Inventory { trouble, ..Inventory::default() };
        let text = gone(&known, &lost, 0).unwrap();
        assert_eq!(text, "the driver no longer lists it: card 0: lost");
        let other = crate::gpu::Card { uuid: "GPU-9".into(), ..card(0) };
        assert!(gone(&known, &now(vec![other]), 0).unwrap().contains("GPU-9"));
    }
}
