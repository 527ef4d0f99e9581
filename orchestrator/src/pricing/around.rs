//! What a price may depend on besides the request: the cards that serve a model, how much of the room for it is
//! taken, and how fast it was done lately. Live video is paid by the time, so that its speed says nothing.

use super::{
    list::{Around, Work},
    throughput::Throughput,
};
use crate::{
    live::runners::Runners,
    service::sessions::Sessions,
    workers::{ai::AiPool, transcoders::TranscoderPool},
};
use penstock_domain::Capability;
use std::sync::Arc;

/// Where that is known.
pub struct Surroundings {
    /// Batch AI.
    pub ai: Arc<AiPool>,
    /// Live video.
    pub live: Arc<Runners>,
    /// Transcoding.
    pub sessions: Sessions,
    /// Who transcodes.
    pub transcoders: Arc<TranscoderPool>,
    /// How fast.
    pub throughput: Arc<Throughput>,
}

impl Surroundings {
    /// For this work, now.
    pub fn of(&self, work: Work<'_>) -> Around {
        let Work::Model { capability, model, .. } = work else {
            // What others brought is asked for with what is around it.
            return Around {
                cards: self.transcoders.cards(),
                load_percent: percent(self.sessions.used()),
                units_per_second: self.throughput.of(None),
            };
        };
        if capability == Capability::LiveVideoToVideo.number() {
            let (cards, used) = (self.live.cards(model), self.live.used(model));
            return Around { cards, load_percent: percent(used), units_per_second: 0 };
        }
        let (cards, used) = self.ai.serving(capability, model);
        let units_per_second = self.throughput.of(Some((capability, model)));
        Around { cards, load_percent: percent(used), units_per_second }
    }
}

/// So many of so many, rounded down; no room at all is all of it taken.
pub fn percent((used, all): (u64, u64)) -> u32 {
    let percent = used.saturating_mul(100).checked_div(all).unwrap_or(100).min(100);
    u32::try_from(percent).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let of = |used, all| percent((used, all));
        assert_eq!([of(0, 3), of(1, 3), of(3, 3), of(4, 3), of(0, 0)], [0, 33, 100, 100, 100]);
    }
}
