//! Which card a session is worked on (video-transcode-worker.md section 5.2): a session stays where it
//! is, a new one goes to the card with the least work that is not full, ties go round. Pure: the caller brings the clock.

use penstock_domain::VideoProfile;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A session without a segment for this long gives its card back.
const IDLE: Duration = Duration::from_secs(70);

/// Sessions and where they are.
#[derive(Debug)]
pub struct Balance {
    sessions: BTreeMap<String, Session>,
    turn: usize,
    most: usize,
    per_card: Option<usize>,
}

#[derive(Debug)]
struct Session {
    place: Place,
    cost: u64,
    used: Instant,
}

/// Where a session is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Card(usize),
    /// For good.
    Processor,
    /// On the processor, until another card than these, which have failed it, has room.
    Waits(Vec<usize>),
}

impl Balance {
    /// More sessions than `most` are not remembered; they get a card anew for each segment, or the processor where at
    /// most `per_card` sessions may be on a card: nobody would count them.
    pub fn new(most: usize, per_card: Option<usize>) -> Self {
        Self { sessions: BTreeMap::new(), turn: 0, most, per_card }
    }

    /// The card for a session's segment: the one it has, as long as that is usable, or of those that are not full the
    /// one with the least work. `None`: the processor; if all are full, until the next segment.
    pub fn choose(
        &mut self,
        session_id: &str,
        cost: u64,
        usable: &[bool],
        now: Instant,
    ) -> Option<usize> {
        self.sessions.retain(|_, session| now.saturating_duration_since(session.used) < IDLE);
        let good = |card: usize| usable.get(card).copied().unwrap_or(false);
        if let Some(session) = self.sessions.get_mut(session_id) {
            let stays = match session.place {
                Place::Card(card) if good(card) => Some(Some(card)),
                Place::Processor => Some(None),
                Place::Card(_) | Place::Waits(_) => None,
            };
            if let Some(place) = stays {
                session.used = now;
                return place;
            }
        }
        // Its own load must not count against the place that it leaves.
        let left = self.sessions.remove(session_id);
        let not_on = match left.map(|session| session.place) {
            Some(Place::Waits(not_on)) => not_on,
            _ => Vec::new(),
        };
        let count = usable.len();
        let card = (0..count)
            .map(|step| (self.turn + step) % count)
            .filter(|card| good(*card) && !self.is_full(*card) && !not_on.contains(card))
            .min_by_key(|card| self.load(*card));
        let Some(card) = card else {
            if !not_on.is_empty() {
                self.wait(session_id, not_on, cost, now);
            }
            return None;
        };
        self.turn = (self.turn + 1) % count;
        let is_counted = self.place(session_id, Some(card), cost, now);
        (is_counted || self.per_card.is_none()).then_some(card)
    }

    /// The session goes on elsewhere: on another card, or for good on the processor. Whether that is remembered.
    pub fn place(
        &mut self,
        session_id: &str,
        card: Option<usize>,
        cost: u64,
        now: Instant,
    ) -> bool {
        self.put(session_id, card.map_or(Place::Processor, Place::Card), cost, now)
    }

    /// The session is on the processor until another card than those that have failed it has room.
    pub fn wait(&mut self, session_id: &str, failed: Vec<usize>, cost: u64, now: Instant) {
        self.put(session_id, Place::Waits(failed), cost, now);
    }

    /// Whether it is.
    pub fn waits(&self, session_id: &str) -> bool {
        let session = self.sessions.get(session_id);
        session.is_some_and(|session| matches!(session.place, Place::Waits(_)))
    }

    fn put(&mut self, session_id: &str, place: Place, cost: u64, now: Instant) -> bool {
        let has_room = self.sessions.len() < self.most || self.sessions.contains_key(session_id);
        if has_room {
            self.sessions.insert(session_id.to_owned(), Session { place, cost, used: now });
        }
        has_room
    }

    /// The session is over.
    pub fn end(&mut self, session_id: &str) {
        self.sessions.remove(session_id);
    }

    /// Sessions on a card.
    pub fn count(&self, card: usize) -> usize {
        self.sessions.values().filter(|session| session.place == Place::Card(card)).count()
    }

    fn is_full(&self, card: usize) -> bool {
        self.per_card.is_some_and(|most| self.count(card) >= most)
    }

    fn load(&self, card: usize) -> u64 {
        let on_it = self.sessions.values().filter(|session| session.place == Place::Card(card));
        on_it.fold(0, |sum, session| sum.saturating_add(session.cost))
    }
}

/// Pixels a second of all renditions, as the reference counts them.
pub fn cost(profiles: &[VideoProfile]) -> u64 {
    let one = |profile: &VideoProfile| {
        let (fps, den) = (u64::from(profile.fps), u64::from(profile.fps_den.max(1)));
        let fps = if fps == 0 { 30 } else { fps / den };
        u64::from(profile.width).saturating_mul(u64::from(profile.height)).saturating_mul(fps)
    };
    profiles.iter().fold(0, |sum, profile| sum.saturating_add(one(profile)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_SESSIONS: usize = 64;

    const ALL: [bool; 3] = [true; 3];

    #[test]
    fn a_session_stays_and_new_ones_go_where_the_least_is() {
        let (mut balance, now) = (Balance::new(MAX_SESSIONS, None), Instant::now());
        let heavy = balance.choose("heavy", 1000, &ALL, now).unwrap();
        let others: Vec<_> =
            (0..4).map(|i| balance.choose(&format!("s{i}"), 100, &ALL, now).unwrap()).collect();
        assert!(others.iter().all(|card| *card != heavy), "{others:?}");
        let first = others.iter().filter(|card| **card == others[0]).count();
        assert_eq!(first, 2, "spread evenly over the other two: {others:?}");
        assert_eq!(balance.choose("heavy", 1000, &ALL, now), Some(heavy));
        assert_eq!(balance.count(heavy), 1);
    }

    #[test]
    fn ties_go_round() {
        let (mut balance, now) = (Balance::new(MAX_SESSIONS, None), Instant::now());
        let mut seen = Vec::new();
        for i in 0..6 {
            let id = format!("s{i}");
            seen.push(balance.choose(&id, 1, &ALL, now).unwrap());
            balance.end(&id);
        }
        assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_lost_card_gives_its_sessions_to_others() {
        let (mut balance, now) = (Balance::new(MAX_SESSIONS, None), Instant::now());
        let card = balance.choose("s", 1, &ALL, now).unwrap();
        let mut usable = ALL;
        usable[card] = false;
        let other = balance.choose("s", 1, &usable, now).unwrap();
        assert_ne!(other, card);
        // Back again, it stays where it is now.
        assert_eq!(balance.choose("s", 1, &ALL, now), Some(other));
        assert_eq!(balance.choose("s", 1, &[false; 3], now), None);
        assert_eq!(balance.choose("s", 1, &[], now), None);
    }

    #[test]
    fn what_only_the_processor_can_do_stays_there() {
        let (mut balance, now) = (Balance::new(MAX_SESSIONS, None), Instant::now());
        balance.choose("s", 1, &ALL, now).unwrap();
        balance.place("s", None, 1, now);
        assert_eq!(balance.choose("s", 1, &ALL, now), None);
        assert_eq!((0..3).map(|card| balance.count(card)).sum::<usize>(), 0);
        balance.end("s");
        assert!(balance.choose("s", 1, &ALL, now).is_some());
    }

    #[test]
    fn idle_sessions_are_forgotten_and_the_number_is_bounded() {
        let (mut balance, now) = (Balance::new(MAX_SESSIONS, None), Instant::now());
        let card = balance.choose("s", 1, &ALL, now).unwrap();
        let later = now + IDLE;
        balance.choose("t", 1, &ALL, later).unwrap();
        assert_eq!(balance.sessions.len(), 1);
        assert!(card < 3);
        for i in 0..2 * MAX_SESSIONS {
            assert!(balance.choose(&i.to_string(), 1, &ALL, later).is_some());
        }
        assert_eq!(balance.sessions.len(), MAX_SESSIONS);
    }

    #[test]
    fn a_full_card_takes_no_more_and_has_room_when_a_session_ends() {
        let (mut balance, now) = (Balance::new(MAX_SESSIONS, Some(2)), Instant::now());
        let two = [true; 2];
        let cards: Vec<_> =
            (0..6).map(|i| balance.choose(&format!("s{i}"), 1, &two, now)).collect();
        assert_eq!(cards, [Some(0), Some(1), Some(0), Some(1), None, None]);
        // Whoever is there stays, and nobody has his place, whatever he costs.
        assert_eq!(balance.choose("s0", 1000, &two, now), Some(0));
        balance.end("s1");
        assert_eq!(balance.choose("s5", 1, &two, now), Some(1), "with its next segment");
        assert_eq!(balance.choose("s4", 1, &two, now), None);
        // Those of a lost card find the other one full.
        assert_eq!(balance.choose("s3", 1, &[true, false], now), None);
        assert_eq!((balance.count(0), balance.count(1)), (2, 1));
        // A silent session gives its place back.
        assert!(balance.choose("s4", 1, &two, now + IDLE).is_some());
    }

    #[test]
    fn nobody_is_on_a_bounded_card_who_is_not_counted() {
        let (mut balance, now) = (Balance::new(1, Some(2)), Instant::now());
        assert_eq!(balance.choose("s", 1, &[true], now), Some(0));
        assert_eq!(balance.choose("t", 1, &[true], now), None);
        assert_eq!(balance.count(0), 1);
    }

    #[test]
    fn costs_are_the_references() {
        let p = VideoProfile::preset("P144p30fps16x9").unwrap();
        let per_frame = 256 * 144;
        assert_eq!(cost(std::slice::from_ref(&p)), per_frame * 30);
        let odd = VideoProfile { fps: 30_000, fps_den: 1001, ..p.clone() };
        let free = VideoProfile { fps: 0, ..p };
        assert_eq!(cost(&[odd, free]), per_frame * (29 + 30));
    }
}
