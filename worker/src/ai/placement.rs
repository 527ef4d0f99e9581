//! Which card each runner process of our own is put on, and which ones find no room. Pure.
//!
//! All of them start with the worker. Those of warm models, and of live video, have to: where they do not fit, the
//! settings contradict each other. Models that are not warm have what room is left, and are offered with as many
//! processes as fit.

use super::models::{Backend, ModelEntry};
use penstock_domain::Capability;
use std::cmp::Reverse;
use thiserror::Error;

/// A card that runner processes may be put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    /// The driver's number of it.
    pub index: u32,
    /// Bytes of its memory that are free before any runner starts; 0 where the driver does not say.
    pub memory_free: u64,
}

/// Where a process runs: on the card with this number; `None` is the processor.
pub type Place = Option<u32>;

/// Runners that have to be there from the start on do not fit on the cards: the operator's settings contradict each
/// other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{pipeline} {model_id} needs {wanted} runner processes from the start on, and there is room for {fit} more on \
     the cards ({cards} of them, {most} on each); raise it, name more cards in --nvidia, or lower `capacity` in \
     --models-file"
)]
pub struct NoRoom {
    pipeline: String,
    model_id: String,
    wanted: u32,
    fit: usize,
    cards: usize,
    most: u32,
}

/// The places of each entry's processes, entry by entry: as many as its capacity, or as fit if it may do with fewer;
/// none for entries that have no processes of ours. At most `most` are on one card; without a card all are on the
/// processor, which has no such bound.
pub fn place(entries: &[ModelEntry], cards: &[Card], most: u32) -> Result<Vec<Vec<Place>>, NoRoom> {
    let mut room = Room { cards: cards.iter().map(|card| (*card, 0)).collect(), most };
    let mut places = vec![Vec::new(); entries.len()];
    for first in [true, false] {
        for (entry, places) in entries.iter().zip(&mut places) {
            let is_ours = matches!(entry.backend, Backend::Managed { .. });
            if !is_ours || has_to_run(entry) != first {
                continue;
            }
            places.extend((0..entry.capacity).map_while(|_| room.take()));
            if first && places.len() < entry.capacity as usize {
                return Err(NoRoom {
                    pipeline: entry.capability.pipeline(),
                    model_id: entry.model_id.clone(),
                    wanted: entry.capacity,
                    fit: places.len(),
                    cards: cards.len(),
                    most,
                });
            }
        }
    }
    Ok(places)
}

/// Nobody waits for a session of live video until a model has loaded.
fn has_to_run(entry: &ModelEntry) -> bool {
    entry.warm || entry.capability == Capability::LiveVideoToVideo
}

/// Cards with the processes that they have already.
struct Room {
    cards: Vec<(Card, u32)>,
    most: u32,
}

impl Room {
    /// The card with the fewest processes; of several the one with the most free memory.
    fn take(&mut self) -> Option<Place> {
        if self.cards.is_empty() {
            return Some(None);
        }
        let most = self.most;
        let with_room = self.cards.iter_mut().filter(|(_, taken)| *taken < most);
        let (card, taken) = with_room
            .min_by_key(|(card, taken)| (*taken, Reverse(card.memory_free), card.index))?;
        *taken += 1;
        Some(Some(card.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::models::parse;
    use serde_json::json;

    const SMALL: Card = Card { index: 0, memory_free: 20 };
    const LARGE: Card = Card { index: 3, memory_free: 140 };

    fn entries(list: &[(&str, u32, bool)]) -> Vec<ModelEntry> {
        let entry = |(model, capacity, warm): &(&str, u32, bool)| json!({"pipeline": "upscale", "model_id": model, "capacity": capacity, "warm": warm});
        let list: Vec<_> = list.iter().map(entry).collect();
        parse(&json!(list).to_string()).unwrap()
    }

    #[test]
    fn the_card_with_most_room_is_next() {
        let places = place(&entries(&[("a", 3, true), ("b", 1, true)]), &[SMALL, LARGE], 2);
        // Of two with as many processes the one with more memory.
        assert_eq!(places, Ok(vec![vec![Some(3), Some(0), Some(3)], vec![Some(0)]]));
        let alike = [0, 1, 2].map(|index| Card { index, memory_free: 7 });
        let places = place(&entries(&[("a", 6, false)]), &alike, 2).unwrap();
        assert_eq!(places[0], [0, 1, 2, 0, 1, 2].map(Some));
    }

    #[test]
    fn what_is_not_warm_has_what_is_left() {
        let all = entries(&[("cold", 2, false), ("warm", 2, true), ("last", 1, false)]);
        let places = place(&all, &[SMALL, LARGE], 2).unwrap();
        // However late it is listed.
        assert_eq!(places[1], [Some(3), Some(0)]);
        assert_eq!((places[0].len(), places[2].len()), (2, 0));
        let places = place(&all, &[LARGE], 3).unwrap();
        assert_eq!(places, [vec![Some(3)], vec![Some(3), Some(3)], vec![]]);
    }

    #[test]
    fn what_is_warm_fits_or_is_an_error() {
        let all = entries(&[("a", 2, true), ("b", 3, true)]);
        assert!(place(&all, &[SMALL], 5).is_ok());
        let error = place(&all, &[SMALL], 4).unwrap_err().to_string();
        assert!(error.starts_with("upscale b needs 3 runner processes"), "{error}");
        assert!(error.contains("room for 2 more on the cards (1 of them, 4 on each)"), "{error}");
        // Live video is there from the start on, whatever its entry says.
        let live = r#"[{"pipeline":"live-video-to-video","model_id":"noop","capacity":2}]"#;
        let live = parse(live).unwrap();
        assert!(place(&live, &[SMALL], 1).is_err());
        assert_eq!(place(&live, &[SMALL], 2), Ok(vec![vec![Some(0); 2]]));
    }

    #[test]
    fn only_processes_of_ours_take_room_and_the_processor_has_no_bound() {
        let text = r#"[{"pipeline":"upscale","model_id":"a","url":"http://10.0.0.1:8700","capacity":9},
                       {"pipeline":"upscale","model_id":"b","warm":true}]"#;
        let all = parse(text).unwrap();
        assert_eq!(place(&all, &[SMALL], 1), Ok(vec![vec![], vec![Some(0)]]));
        let many = entries(&[("a", 1024, true)]);
        assert_eq!(place(&many, &[], 1), Ok(vec![vec![None; 1024]]));
    }
}
