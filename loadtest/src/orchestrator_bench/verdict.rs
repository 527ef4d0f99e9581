//! What has to hold of memory when channels come and go again and again, whatever the machine.

use super::live::Live;

/// What may be left behind, or taken in a round more than in the first: allocators keep some pages that they
/// may give out again.
const SLACK_KIB: u64 = 32 << 10;
/// What all rounds together may add to what is left behind.
const GROWTH_KIB: u64 = 12 << 10;
/// Memory of a channel with its writer and readers, KiB: its segments, and what sockets and tasks take.
const CHANNEL_KIB: f64 = 1024.0;

/// The most that a process may have when nothing is left of what it did since it had `before`, KiB.
pub(super) fn at_rest_kib(before: u64) -> u64 {
    before + before / 10 + SLACK_KIB
}

/// What does not hold, a sentence each.
pub(super) fn of_memory(live: &Live) -> Vec<String> {
    let mut broken = Vec::new();
    let [first, .., last] = live.rounds.as_slice() else {
        return vec!["whether memory leaks can be seen from two rounds on".to_owned()];
    };
    for (number, round) in live.rounds.iter().enumerate() {
        if round.rss_after_kib > at_rest_kib(live.rss_before_kib) {
            broken.push(format!(
                "memory when all channels were deleted: {} KiB after round {}, {} KiB before the first",
                round.rss_after_kib,
                number + 1,
                live.rss_before_kib
            ));
        }
    }
    let (at_first, at_last) = (first.rss_after_kib, last.rss_after_kib);
    if at_last > at_first + GROWTH_KIB {
        broken.push(format!(
            "memory when all channels were deleted: {at_last} KiB in the last round, {at_first} KiB in the first"
        ));
    }
    let (first, last) = (first.rss_most_kib, last.rss_most_kib);
    if last > first + first / 10 + SLACK_KIB {
        broken.push(format!(
            "memory at most: {last} KiB in the last round, {first} KiB in the first"
        ));
    }
    if live.kib_each > CHANNEL_KIB + SLACK_KIB as f64 / live.channels.max(1) as f64 {
        broken.push(format!(
            "a channel takes {:.0} KiB, and may take {CHANNEL_KIB:.0} KiB",
            live.kib_each
        ));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Times, live::Round},
        *,
    };

    fn live(kib: &[(u64, u64)], kib_each: f64) -> Live {
        let round = |(most, after): &(u64, u64)| Round {
            times: Times::default(),
            bytes: 0,
            cpu_s: 0.0,
            rss_most_kib: *most,
            payload_most_bytes: 0,
            rss_after_kib: *after,
        };
        Live {
            channels: 2000,
            readers: 3,
            seconds: 10.0,
            rss_before_kib: 60_000,
            kib_each,
            rounds: kib.iter().map(round).collect(),
            bare: None,
            added: None,
        }
    }

    #[test]
    fn memory_that_grows_is_a_leak() {
        let holds = |rounds: &[(u64, u64)]| of_memory(&live(rounds, 100.0)).is_empty();
        assert!(holds(&[(300_000, 90_000), (320_000, 98_000)]));
        assert!(!holds(&[(300_000, 80_000), (320_000, 98_000)]), "a little each time");
        assert!(!holds(&[(300_000, 80_000), (300_000, 99_000)]), "it does not come back");
        assert!(!holds(&[(300_000, 99_000), (300_000, 80_000)]), "not in any round");
        assert!(!holds(&[(300_000, 80_000), (300_000, 80_000), (380_000, 80_000)]));
        assert!(!holds(&[(300_000, 80_000)]), "one round says nothing");
        assert_eq!(of_memory(&live(&[(1, 1), (1, 1)], 2000.0)).len(), 1);
    }
}
