//! The sinks behind one call. Which one is chosen at the start, so an enum will do.

use super::{
    args::{EventsSettings, Target},
    webhook::Webhook,
};
use penstock_ledger::signer::Event;
use thiserror::Error;
use uuid::Uuid;

/// Events were not taken. There is one thing to do: wait, and send them again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct SinkError(String);

impl SinkError {
    /// Longest text kept: part of it may be the sink's words.
    const CHARS: usize = 512;

    pub(super) fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string().chars().take(Self::CHARS).collect())
    }
}

/// What came of one delivery.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Events that the sink has for certain. Of each session these are the oldest ones.
    pub delivered: Vec<Uuid>,
    /// Why the others have to be sent again.
    pub error: Option<SinkError>,
}

impl Outcome {
    /// All or nothing.
    pub fn whole(events: &[Event], result: Result<(), SinkError>) -> Self {
        match result {
            Ok(()) => Self { delivered: events.iter().map(|e| e.id).collect(), error: None },
            Err(error) => Self { delivered: Vec::new(), error: Some(error) },
        }
    }
}

/// An opened sink.
pub(super) enum Sink {
    Webhook(Webhook),
    #[cfg(feature = "redis")]
    Redis(super::redis::Redis),
    #[cfg(feature = "kafka")]
    Kafka(super::kafka::Kafka),
}

impl Sink {
    /// Makes a client; connects nowhere yet: a sink may be away at the start as at any time.
    pub fn open(settings: &EventsSettings) -> Result<Self, SinkError> {
        let time = settings.delivery_time();
        match &settings.target {
            Target::Webhook { url, token, hmac_key } => {
                let webhook = Webhook::new(url, token.as_ref(), hmac_key.as_ref(), time)?;
                Ok(Self::Webhook(webhook))
            }
            #[cfg(feature = "redis")]
            Target::Redis { url, password, stream, maxlen } => {
                let redis =
                    super::redis::Redis::new(url, password.as_ref(), stream, *maxlen, time)?;
                Ok(Self::Redis(redis))
            }
            #[cfg(feature = "kafka")]
            Target::Kafka { brokers, topic, properties } => {
                Ok(Self::Kafka(super::kafka::Kafka::new(brokers, topic, properties, time)?))
            }
            #[cfg(not(all(feature = "redis", feature = "kafka")))]
            other => Err(SinkError::new(format!("{other}: this build has no such sink"))),
        }
    }

    /// Sends events, oldest first. May be dropped at any time; then it counts as failed.
    pub async fn deliver(&mut self, events: &[Event]) -> Outcome {
        match self {
            Self::Webhook(webhook) => Outcome::whole(events, webhook.deliver(events).await),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => Outcome::whole(events, redis.deliver(events).await),
            #[cfg(feature = "kafka")]
            Self::Kafka(kafka) => kafka.deliver(events).await,
        }
    }
}
