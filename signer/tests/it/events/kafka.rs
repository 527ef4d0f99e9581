//! Kafka, as far as librdkafka's own simulated cluster is one: real sockets, the real protocol. What is
//! written is read back by a consumer.
//!
//! Outside transactions that cluster checks no sequence numbers: it takes the second of two requests
//! whose first one it refused, which no real broker does. The client counts on that: it takes the first
//! for written then. So requests go one by one here.

use super::{Deliverer, Outbox, all_in_order, first_arrivals, to};
use penstock_signer::events::args::EventsArgs;
use penstock_testkit::{until, until::DEADLINE};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::{Duration, Instant},
};

const PARTITIONS: i32 = 4;

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("events", PARTITIONS, 1).unwrap();
    cluster
}

/// Deliver there. The folder has the client's settings.
fn sink(cluster: &MockCluster<'_, DefaultProducerContext>, folder: &Path) -> EventsArgs {
    let file = folder.join("kafka");
    std::fs::write(&file, "max.in.flight=1\n").unwrap();
    EventsArgs {
        events_kafka_config: Some(file),
        ..to(&format!("kafka://{}/events", cluster.bootstrap_servers()))
    }
}

/// Messages until there are `count` events, some oftener than once, and what comes with them: partition,
/// key, event.
fn read(brokers: String, count: usize) -> Vec<(i32, String, Value)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset("events", partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&partitions).unwrap();
    let (mut messages, mut events) = (Vec::new(), HashSet::new());
    let began = Instant::now();
    while events.len() < count {
        assert!(began.elapsed() < DEADLINE, "{} of {count} events", events.len());
        // Nothing is not the end: a poll that noted a commit of offsets, say, has nothing at once.
        // Errors are of connections, which the consumer mends by itself.
        let Some(Ok(message)) = consumer.poll(Duration::from_secs(1)) else { continue };
        let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
        let event = serde_json::from_slice(message.payload().unwrap()).unwrap();
        events.insert(key.clone());
        messages.push((message.partition(), key, event));
    }
    messages
}

async fn messages(
    cluster: &MockCluster<'_, DefaultProducerContext>,
    count: usize,
) -> Vec<(i32, String, Value)> {
    let brokers = cluster.bootstrap_servers();
    tokio::task::spawn_blocking(move || read(brokers, count)).await.unwrap()
}

/// In the order in which a consumer of each partition sees them.
fn check(messages: &[(i32, String, Value)], sessions: u32, to: u64) {
    let mut homes: HashMap<String, i32> = HashMap::new();
    for (partition, key, event) in messages {
        assert_eq!(key, event["id"].as_str().unwrap());
        let session = event["data"]["session_id"].as_str().unwrap().to_owned();
        assert_eq!(*homes.entry(session).or_insert(*partition), *partition);
    }
    assert!(homes.values().any(|p| *p != homes["00000000"]), "sessions are spread: {homes:?}");
    assert_eq!(
        first_arrivals(messages.iter().map(|(_, _, event)| event)),
        all_in_order(sessions, to)
    );
}

#[tokio::test]
async fn a_session_stays_in_its_partition_and_in_order() {
    let (outbox, cluster) = (Outbox::new().await, cluster());
    let folder = tempfile::tempdir().unwrap();
    outbox.pay(16, 0, 20).await;
    let kafka = Deliverer::start(&outbox.ledger, sink(&cluster, folder.path()));
    outbox.emptied().await;
    check(&messages(&cluster, 320).await, 16, 20);
    until("all is well", || async { kafka.report().await["state"] == "ok" }).await;
    kafka.stop().await;
}

#[tokio::test]
async fn brokers_that_fail_and_go_away_lose_nothing_and_reorder_nothing() {
    let (outbox, cluster) = (Outbox::new().await, cluster());
    let folder = tempfile::tempdir().unwrap();
    cluster.broker_down(1).unwrap();
    let kafka = Deliverer::start(&outbox.ledger, sink(&cluster, folder.path()));
    outbox.pay(8, 0, 10).await;
    until("a delivery has failed", || async {
        kafka.report().await["failures_in_a_row"].as_u64() > Some(0)
    })
    .await;
    assert_eq!(kafka.report().await["pending"], 80);
    cluster.broker_up(1).unwrap();
    // Every other write is refused: the producer repeats them itself.
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    let taken = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    cluster.request_errors(RDKafkaApiKey::Produce, &[refused, taken, refused, taken, refused]);
    outbox.emptied().await;
    outbox.pay(8, 10, 20).await;
    outbox.emptied().await;
    check(&messages(&cluster, 160).await, 8, 20);
    kafka.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_found_at_the_start() {
    let outbox = Outbox::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kafka");
    std::fs::write(&file, "no.such.setting=1\n").unwrap();
    let mut args = to("kafka://127.0.0.1:1/events");
    args.events_kafka_config = Some(file);
    let settings = args.settings().unwrap();
    let dispatcher = penstock_signer::events::Dispatcher::new(outbox.ledger.clone(), settings);
    let error = dispatcher.check().unwrap_err().to_string();
    assert!(error.contains("no.such.setting"), "{error}");
}
