//! What passes through a session's two ends, the gateway's and the runner's: whether anything has moved, and for
//! how long the runner has brought nothing of what came. Nothing here looks into the media, and times are counted,
//! not read: a process that was asleep blames nobody for it.

use super::channels::Shape;
use std::time::Duration;

/// What has come so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Segments that the gateway began, be they empty.
    pub segments: u64,
    /// Bytes of the gateway.
    pub input_bytes: u64,
    /// Bytes of the runner.
    pub output_bytes: u64,
}

/// What has moved between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// Nobody says anything.
    Nothing,
    /// The gateway alone.
    Input,
    /// The runner has brought something, so that the time until then is owed.
    Output,
}

/// One who looks.
#[derive(Debug, Clone)]
pub struct Flow {
    shape: Shape,
    seen: Passed,
}

impl Flow {
    /// Nothing has come yet.
    pub fn new(shape: Shape) -> Self {
        Self { shape, seen: Passed::default() }
    }

    /// What has moved since the last look. In `/scope` the runner's messages are not its work, which goes elsewhere:
    /// once it has said something, it counts as at work while its client says anything.
    pub fn look(&mut self, now: Passed) -> Moved {
        let before = std::mem::replace(&mut self.seen, now);
        let has_input = (now.segments, now.input_bytes) != (before.segments, before.input_bytes);
        let works = self.shape == Shape::Scope && now.output_bytes > 0;
        match () {
            () if now.output_bytes != before.output_bytes => Moved::Output,
            () if has_input && works => Moved::Output,
            () if has_input => Moved::Input,
            () => Moved::Nothing,
        }
    }
}

/// For how long a runner has brought nothing of what its gateway sends. Time in which the gateway sends nothing
/// either is of no account.
#[derive(Debug, Clone)]
pub struct Silence {
    flow: Flow,
    lasted: Duration,
    input_bytes: u64,
    /// Of the last output.
    answered_bytes: u64,
}

impl Silence {
    /// From now on.
    pub fn new(shape: Shape) -> Self {
        Self { flow: Flow::new(shape), lasted: Duration::ZERO, input_bytes: 0, answered_bytes: 0 }
    }

    /// One more look, `since` the last one; how long it has lasted.
    pub fn look(&mut self, now: Passed, since: Duration) -> Duration {
        self.input_bytes = now.input_bytes;
        match self.flow.look(now) {
            Moved::Output => (self.lasted, self.answered_bytes) = (Duration::ZERO, now.input_bytes),
            Moved::Input => self.lasted += since,
            Moved::Nothing => {}
        }
        self.lasted
    }

    /// Whether anything came that a runner can work on. Segments without a byte only take its room.
    pub fn has_media(&self) -> bool {
        self.input_bytes > self.answered_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(1);

    fn passed(segments: u64, input_bytes: u64, output_bytes: u64) -> Passed {
        Passed { segments, input_bytes, output_bytes }
    }

    #[test]
    fn what_moves() {
        let looks = [
            (passed(0, 0, 0), Moved::Nothing),
            (passed(1, 0, 0), Moved::Input),
            (passed(1, 5, 0), Moved::Input),
            (passed(1, 5, 2), Moved::Output),
            (passed(2, 9, 2), Moved::Input),
            (passed(2, 9, 2), Moved::Nothing),
        ];
        let (mut video, mut scope) = (Flow::new(Shape::Video), Flow::new(Shape::Scope));
        for (now, moved) in looks {
            assert_eq!(video.look(now), moved, "{now:?}");
            let works = now.output_bytes > 0 && moved == Moved::Input;
            assert_eq!(scope.look(now), if works { Moved::Output } else { moved }, "{now:?}");
        }
    }

    #[test]
    fn silence_is_the_runners_while_its_gateway_sends() {
        let mut silence = Silence::new(Shape::Video);
        assert_eq!(silence.look(passed(1, 0, 0), STEP), STEP);
        assert!(!silence.has_media(), "it cannot make anything of that");
        assert_eq!(silence.look(passed(1, 7, 0), STEP), 2 * STEP);
        assert_eq!(silence.look(passed(1, 7, 0), STEP), 2 * STEP, "nobody sends");
        assert!(silence.has_media());
        assert_eq!(silence.look(passed(2, 8, 1), STEP), Duration::ZERO);
        assert!(!silence.has_media());
        assert_eq!(silence.look(passed(3, 9, 1), STEP), STEP);
        assert!(silence.has_media());
    }
}
