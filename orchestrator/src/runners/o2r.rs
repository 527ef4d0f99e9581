//! Messages to a runner: a trickle channel of its own, with a word every ten seconds (live-runner.md
//! section 2). A runner that does not read loses messages, and nobody waits for it.

use crate::release::Reason;
use bytes::Bytes;
use penstock_trickle::{Refusal, TrickleServer};
use serde_json::{Value, json};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

/// Its name.
pub const NAME: &str = "o2r";
/// What it carries.
pub const MIME: &str = "application/json";
/// Between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A runner's channel; closed when dropped.
pub struct Messages {
    channel: String,
    trickle: TrickleServer,
    queue: mpsc::Sender<Value>,
}

impl Messages {
    /// Makes the channel. So many messages may wait; more are dropped.
    pub fn open(trickle: &TrickleServer, channel: String, most: usize) -> Result<Self, Refusal> {
        trickle.create(&channel, MIME)?;
        let (queue, waiting) = mpsc::channel(most);
        tokio::spawn(write(trickle.clone(), channel.clone(), waiting));
        Ok(Self { channel, trickle: trickle.clone(), queue })
    }

    /// Its name among all channels.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// A session has begun.
    pub fn reserved(&self, session: &str) {
        self.send(json!({ "event": "reserved", "session": session, "timestamp": now() }));
    }

    /// A session has ended. Programs that know no reasons do not look at it.
    pub fn released(&self, session: &str, reason: Reason) {
        self.send(json!({
            "event": "released", "session": session, "timestamp": now(), "reason": reason.as_str(),
        }));
    }

    fn send(&self, message: Value) {
        if self.queue.try_send(message).is_err() {
            tracing::warn!("a message for a live runner was dropped: it does not read them");
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        // It may have been closed by its reader.
        let _ = self.trickle.close(&self.channel);
    }
}

async fn write(trickle: TrickleServer, channel: String, mut waiting: mpsc::Receiver<Value>) {
    let mut publisher = trickle.publisher(&channel, MIME);
    let mut alive = interval(KEEP_ALIVE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    alive.reset();
    loop {
        let message = tokio::select! {
            message = waiting.recv() => match message {
                Some(message) => message,
                None => return,
            },
            _ = alive.tick() => json!({ "keep": "alive" }),
        };
        match publisher.write(Bytes::from(message.to_string())) {
            Ok(_) => {}
            Err(Refusal::NoChannel) => return,
            Err(error) => tracing::warn!(%error, "a message for a live runner was lost"),
        }
    }
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_trickle::Settings;

    #[tokio::test]
    async fn messages_come_in_order_and_the_channel_ends_with_the_runner() {
        let trickle = TrickleServer::new(Settings::default()).unwrap();
        let messages = Messages::open(&trickle, "runner-o2r".to_owned(), 32).unwrap();
        let mut reader = trickle.subscriber("runner-o2r");
        messages.reserved("s");
        let mut next = async || {
            let mut segment = reader.read().unwrap();
            let mut bytes = Vec::new();
            while let Some(chunk) = segment.chunk().await {
                bytes.extend_from_slice(&chunk.unwrap());
            }
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        let told = next().await;
        assert_eq!((&told["event"], &told["session"]), (&json!("reserved"), &json!("s")));
        messages.released("s", Reason::LeaseExpired);
        let told = next().await;
        assert_eq!(
            (&told["event"], &told["reason"]),
            (&json!("released"), &json!("lease_expired"))
        );
        drop(messages);
        assert!(!trickle.exists("runner-o2r"));
    }
}
