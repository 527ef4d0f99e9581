//! Events as Kafka messages: key = event id, as the Go node's; the partition follows from the
//! payment session, so that a consumer reads a session in its order.
//!
//! The producer is idempotent, so that its own retries neither repeat nor reorder. But a message
//! that it gave up on may leave a gap before its successors; so an event is handed over only after
//! its session's earlier one was acknowledged.

use super::{
    args::KafkaProperties,
    sink::{Outcome, SinkError},
};
use penstock_domain::StateId;
use penstock_ledger::signer::Event;
use rdkafka::{
    ClientConfig,
    producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer},
    util::Timeout,
};
use std::{collections::HashSet, time::Duration};

/// The client.
pub(super) struct Kafka {
    config: ClientConfig,
    topic: String,
    time: Duration,
    /// Made when needed, dropped after an error: an idempotent producer may be beyond repair.
    producer: Option<(FutureProducer, i32)>,
}

impl Kafka {
    /// What properties may not change: the promises rest on it.
    const OURS: [(&'static str, &'static str); 3] =
        [("enable.idempotence", "true"), ("acks", "all"), ("log.connection.close", "false")];

    pub fn new(
        brokers: &str,
        topic: &str,
        properties: &KafkaProperties,
        time: Duration,
    ) -> Result<Self, SinkError> {
        let mut config = ClientConfig::new();
        // A message has most of the time; the rest of it is for finding brokers.
        let message_ms = time.as_millis().saturating_mul(6) / 10;
        config.set("message.timeout.ms", message_ms.to_string());
        config.set("socket.timeout.ms", message_ms.max(10).to_string());
        config.set("linger.ms", "0").set("client.id", "penstock-signer");
        for (name, value) in &properties.0 {
            config.set(name, value);
        }
        config.set("bootstrap.servers", brokers);
        for (name, value) in Self::OURS {
            config.set(name, value);
        }
        // Bad settings are found here, not at the first event.
        drop(config.create::<FutureProducer>().map_err(SinkError::new)?);
        Ok(Self { config, topic: topic.to_owned(), time, producer: None })
    }

    pub async fn deliver(&mut self, events: &[Event]) -> Outcome {
        // Taken out: when this future is dropped half way, the producer is not used again, and
        // what it still holds is given up with it.
        let (producer, partitions) = match self.producer.take() {
            Some(producer) => producer,
            None => match self.connect().await {
                Ok(producer) => producer,
                Err(error) => return Outcome { delivered: Vec::new(), error: Some(error) },
            },
        };
        let outcome = self.send(&producer, partitions, events).await;
        if outcome.error.is_none() {
            self.producer = Some((producer, partitions));
        } else {
            // Its destructor waits for its thread.
            tokio::task::spawn_blocking(move || {
                producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
                drop(producer);
            });
        }
        outcome
    }

    async fn connect(&self) -> Result<(FutureProducer, i32), SinkError> {
        let (config, topic, time) = (self.config.clone(), self.topic.clone(), self.time * 3 / 10);
        let connect = move || {
            let producer: FutureProducer = config.create().map_err(SinkError::new)?;
            let metadata = producer
                .client()
                .fetch_metadata(Some(&topic), Timeout::After(time))
                .map_err(SinkError::new)?;
            let partitions = metadata.topics().first().map_or(0, |t| t.partitions().len());
            let partitions = i32::try_from(partitions).unwrap_or(0);
            if partitions < 1 {
                return Err(SinkError::new(format!("there is no topic {topic}")));
            }
            Ok((producer, partitions))
        };
        match tokio::task::spawn_blocking(connect).await {
            Ok(connected) => connected,
            Err(error) => Err(SinkError::new(error)),
        }
    }

    /// One event of each session after the other; sessions beside each other. After a failure
    /// nothing more is tried: brokers that are away make every event wait for its time.
    async fn send(&self, producer: &FutureProducer, partitions: i32, events: &[Event]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut waiting: Vec<&Event> = events.iter().collect();
        while !waiting.is_empty() && outcome.error.is_none() {
            let mut promises: Vec<(&Event, DeliveryFuture)> = Vec::new();
            let mut sessions: HashSet<&StateId> = HashSet::new();
            let (wave, later): (Vec<&Event>, Vec<&Event>) =
                waiting.into_iter().partition(|event| sessions.insert(&event.state_id));
            waiting = later;
            for event in wave {
                match producer.send_result(self.record(event, partitions, &event.id.to_string())) {
                    Ok(promise) => promises.push((event, promise)),
                    Err((error, _)) => outcome.error = Some(SinkError::new(error)),
                }
            }
            for (event, promise) in promises {
                match promise.await {
                    Ok(Ok(_)) => outcome.delivered.push(event.id),
                    Ok(Err((error, _))) => outcome.error = Some(SinkError::new(error)),
                    Err(_) => outcome.error = Some(SinkError::new("the producer went away")),
                }
            }
        }
        outcome
    }

    fn record<'a>(
        &'a self,
        event: &'a Event,
        partitions: i32,
        key: &'a str,
    ) -> FutureRecord<'a, str, [u8]> {
        FutureRecord::to(&self.topic)
            .key(key)
            .payload(event.payload.as_slice())
            .partition(partition(&event.state_id, partitions))
    }
}

/// The same one for all events of a session.
fn partition(session: &StateId, partitions: i32) -> i32 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(session.as_str().as_bytes());
    let number = digest.iter().take(4).fold(0u32, |n, byte| (n << 8) | u32::from(*byte));
    let partitions = u32::try_from(partitions).unwrap_or(1).max(1);
    i32::try_from(number % partitions).unwrap_or(0)
}
