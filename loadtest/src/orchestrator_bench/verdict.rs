//! What has to hold of memory when channels come and go again and again, whatever the machine.

use super::live::Live;

/// What one round may leave behind, or take, more than the first: allocators keep pages that they may give out
/// again.
const SLACK_KIB: u64 = 32 << 10;
/// Memory of a channel with its writer and readers, KiB: its segments, and what sockets and tasks take.
const CHANNEL_KIB: f64 = 1024.0;

/// What does not hold, a sentence each.
pub(super) fn of_memory(live: &Live) -> Vec<String> {
    let mut broken = Vec::new();
    let [first, .., last] = live.rounds.as_slice() else {
        return vec!["whether memory leaks can be seen from two rounds on".to_owned()];
    };
    let rows = [
        ("when all channels were deleted", first.rss_after_kib, last.rss_after_kib),
        ("at most", first.rss_most_kib, last.rss_most_kib),
    ];
    for (when, first, last) in rows {
        if last > first + first / 10 + SLACK_KIB {
            broken.push(format!(
                "memory {when}: {last} KiB in the last round, {first} KiB in the first"
            ));
        }
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
            rss_before_kib: 0,
            kib_each,
            rounds: kib.iter().map(round).collect(),
            bare: None,
            added: None,
        }
    }

    #[test]
    fn memory_that_grows_is_a_leak() {
        let holds = |rounds: &[(u64, u64)]| of_memory(&live(rounds, 100.0)).is_empty();
        assert!(holds(&[(300_000, 80_000), (320_000, 110_000)]));
        assert!(!holds(&[(300_000, 80_000), (300_000, 130_000)]), "it does not come back");
        assert!(!holds(&[(300_000, 80_000), (300_000, 80_000), (380_000, 80_000)]));
        assert!(!holds(&[(300_000, 80_000)]), "one round says nothing");
        assert_eq!(of_memory(&live(&[(1, 1), (1, 1)], 2000.0)).len(), 1);
    }
}
