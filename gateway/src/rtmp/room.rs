//! Memory for what publishers have sent: taken as it arrives, handed on with each segment, given back
//! when that is done. All publishers of a replica share it.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// It is taken in steps.
const STEP_KIB: usize = 64;

/// One publisher's part of it.
#[derive(Debug)]
pub struct Room {
    /// A permit is a KiB.
    all: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Of the memory that `all` counts in KiB; nothing yet.
    pub fn new(all: Arc<Semaphore>) -> Self {
        Self { all, held: None }
    }

    /// Holds so much and no more; or, if there is not enough, what it had.
    pub fn hold(&mut self, bytes: usize) -> bool {
        let (need, have) = (kib(bytes), self.kib());
        if need <= have {
            drop(self.split(have - need));
            return true;
        }
        let more = u32::try_from(need - have).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.all).try_acquire_many_owned(more) else { return false };
        match &mut self.held {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        true
    }

    /// Hands on what such a segment takes.
    pub fn hand_on(&mut self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.split(kib(bytes).min(self.kib()))
    }

    fn split(&mut self, kib: usize) -> Option<OwnedSemaphorePermit> {
        self.held.as_mut()?.split(kib)
    }

    fn kib(&self) -> usize {
        self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(STEP_KIB * 1024) * STEP_KIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_in_work_keeps_its_room() {
        let all = Arc::new(Semaphore::new(256));
        let (mut one, mut other) = (Room::new(Arc::clone(&all)), Room::new(Arc::clone(&all)));
        assert!(one.hold(100 << 10) && other.hold(1));
        assert_eq!(all.available_permits(), 64);
        let in_work = one.hand_on(60 << 10);
        assert!(one.hold(0));
        assert_eq!(all.available_permits(), 128, "one hands on 64, gives back 64");
        assert!(!one.hold(129 << 10));
        assert!(one.hold(128 << 10), "what failed took nothing");
        drop(in_work);
        assert!(one.hold(129 << 10));
        drop((one, other));
        assert_eq!(all.available_permits(), 256);
    }
}
