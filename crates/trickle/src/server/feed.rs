//! The channel that tells of channels: one segment an event (trickle.md section 7).

use crate::{channel::Channel, wire::Seq};
use bytes::Bytes;
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;

pub(super) const NAME: &str = "_changes";
pub(super) const MIME: &str = "application/json";

#[derive(Debug)]
pub(super) struct Feed {
    channel: Arc<Channel>,
    next: Option<Seq>,
}

impl Feed {
    pub fn new(channel: Arc<Channel>) -> Self {
        Self { channel, next: Some(Seq::ZERO) }
    }

    pub fn added(&mut self, name: &str) {
        self.tell(&json!({ "added": [name] }));
    }

    pub fn removed(&mut self, name: &str) {
        self.tell(&json!({ "removed": [name] }));
    }

    fn tell(&mut self, event: &serde_json::Value) {
        let now = Instant::now();
        let Some(seq) = self.next else { return };
        self.next = seq.next();
        // It fails when this process has closed the channel, or when memory is used up. Neither
        // concerns the channel that the event is about.
        let told = self.channel.write_fresh(seq, now).and_then(|mut claim| {
            let appended = claim.append(Bytes::from(event.to_string()), now);
            claim.finish();
            appended
        });
        if let Err(reason) = told {
            tracing::debug!(%reason, "a change was not told");
        }
    }
}
