//! What a test run says about its tests.

use std::{collections::BTreeMap, time::Instant};

use super::Patience;

/// libtest's word on a test that takes long.
const TAKES_LONG: &str = " has been running for over ";
/// Between a test's name and how it ended, in libtest and in Python's unittest.
const ENDED: &str = " ... ";

/// Tests that are known to be running, and when somebody spoke last.
#[derive(Debug)]
pub struct Progress {
    patience: Patience,
    /// Since when it is heard of.
    running: BTreeMap<String, Instant>,
    spoke: Instant,
    /// Lines that have not ended: of the output, of the errors.
    begun: [Vec<u8>; 2],
}

impl Progress {
    pub fn new(patience: Patience, now: Instant) -> Self {
        Self { patience, running: BTreeMap::new(), spoke: now, begun: Default::default() }
    }

    /// A piece of the output, or of the errors.
    pub fn hear(&mut self, is_error: bool, bytes: &[u8], now: Instant) {
        self.spoke = now;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let [output, errors] = &mut self.begun;
            let line = if is_error { errors } else { output };
            line.extend_from_slice(piece);
            if !piece.ends_with(b"\n") {
                // One test at a time: it says the name first, and how it ended later.
                if let Some(name) = name_in(&String::from_utf8_lossy(line), true) {
                    self.running.entry(name).or_insert(now);
                }
                continue;
            }
            let line = std::mem::take(line);
            self.read(&String::from_utf8_lossy(&line), now);
        }
    }

    fn read(&mut self, line: &str, now: Instant) {
        let line = line.trim_end();
        if let Some((test, _)) = line.rsplit_once(TAKES_LONG) {
            // What a test prints may stand before it.
            let name = test.rsplit_once("test ").map_or(test, |(_, name)| name);
            self.running.entry(name.to_owned()).or_insert(now);
        } else if line.starts_with("test result:") || is_beginning(line) {
            // Another binary may have tests of the same names.
            self.running.clear();
        } else if let Some(name) = name_in(line, false) {
            // As in `name - should panic ... ok`.
            self.running.retain(|test, _| {
                name.strip_prefix(test.as_str())
                    .is_none_or(|rest| !(rest.is_empty() || rest.starts_with(" - ")))
            });
        }
    }

    /// Those that run for too long, if there are any; or that nobody says anything.
    pub fn hanging(&self, now: Instant) -> Option<Vec<String>> {
        let hangs = |since: &Instant| now.duration_since(*since) >= self.patience.test;
        let hanging = self.running.iter().filter(|(_, since)| hangs(since));
        let hanging: Vec<String> = hanging.map(|(name, _)| name.clone()).collect();
        if !hanging.is_empty() {
            return Some(hanging);
        }
        let is_silent = now.duration_since(self.spoke) >= self.patience.silence;
        is_silent.then(|| vec![format!("(said nothing for {:?})", self.patience.silence)])
    }

    /// All that are known to be running.
    pub fn running(&self) -> Vec<String> {
        self.running.keys().cloned().collect()
    }
}

/// `running 3 tests`
fn is_beginning(line: &str) -> bool {
    let count = line.strip_prefix("running ").and_then(|rest| rest.split_once(" test"));
    count.is_some_and(|(count, _)| count.parse::<u32>().is_ok())
}

/// The name in `test NAME ... ` or `test_name (place) ... `, which is all of the line if it is only
/// begun.
fn name_in(line: &str, is_begun: bool) -> Option<String> {
    let (name, end) = line.split_once(ENDED)?;
    let is_test = name.starts_with("test") && end.is_empty() == is_begun;
    is_test.then(|| name.strip_prefix("test ").unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn progress() -> (Progress, Instant) {
        let patience =
            Patience { test: Duration::from_secs(600), silence: Duration::from_secs(900) };
        let now = Instant::now();
        (Progress::new(patience, now), now)
    }

    fn names(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_test_that_does_not_end_hangs_although_others_speak() {
        let (mut progress, start) = progress();
        let after = |s| start + Duration::from_secs(s);
        let text = "test a::one has been running for over 60 seconds\n\
                    test b::two has been running for over 60 seconds\n\
                    test c::three has been running for over 60 seconds\n";
        // In pieces, as pipes give them.
        for piece in text.as_bytes().chunks(7) {
            progress.hear(false, piece, start);
        }
        progress.hear(
            false,
            b"test b::two ... ok\ntest c::three - should panic ... ok\n",
            after(9),
        );
        for s in 10..600 {
            progress.hear(false, format!("test t::{s} ... ok\n").as_bytes(), after(s));
            assert_eq!(progress.hanging(after(s)), None);
        }
        assert_eq!(progress.hanging(after(600)), names(&["a::one"]));
    }

    #[test]
    fn tests_of_an_earlier_binary_do_not_count() {
        let (mut progress, start) = progress();
        progress.hear(false, b"test a has been running for over 60 seconds\n", start);
        progress.hear(false, b"test a ... FAILED\n\ntest result: FAILED. 1 failed\n", start);
        progress.hear(false, b"test b has been running for over 60 seconds\n", start);
        progress.hear(false, b"test result: ok. 1 passed\n", start);
        assert_eq!(progress.hanging(start + Duration::from_secs(899)), None);
    }

    #[test]
    fn one_at_a_time_is_named_by_the_line_that_it_began() {
        let (mut progress, start) = progress();
        progress.hear(false, b"running 2 tests\ntest one ... ", start);
        progress.hear(false, b"ok\ntest two ... ", start);
        let late = start + Duration::from_secs(600);
        assert_eq!(progress.hanging(late), names(&["two"]));
        progress.hear(false, b"ok\n", late);
        // Python's way, among the errors.
        progress.hear(true, b"test_a (test_runner.Runner.test_a) ... ok\n", late);
        progress.hear(true, b"test_b (test_runner.Runner.test_b) ... ", late);
        let later = late + Duration::from_secs(600);
        assert_eq!(progress.hanging(later), names(&["test_b (test_runner.Runner.test_b)"]));
    }

    #[test]
    fn silence_is_a_hang_too() {
        let (mut progress, start) = progress();
        progress.hear(true, b"   Doc-tests penstock_wire\n", start);
        assert_eq!(progress.hanging(start + Duration::from_secs(899)), None);
        let hanging = progress.hanging(start + Duration::from_secs(900));
        assert_eq!(hanging, names(&["(said nothing for 900s)"]));
    }
}
