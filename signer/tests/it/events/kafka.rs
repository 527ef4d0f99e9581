//! Kafka, as far as librdkafka's own simulated cluster is one: real sockets and the real protocol,
//! but sequence numbers of producers outside transactions are not checked. What is written is read
//! back by a consumer.

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
    collections::HashMap,
    time::{Duration, Instant},
};

const PARTITIONS: i32 = 4;

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("events", PARTITIONS, 1).unwrap();
    cluster
}

fn sink(cluster: &MockCluster<'_, DefaultProducerContext>) -> EventsArgs {
    EventsArgs {
        events_lease_ms: 5_000,
        ..to(&format!("kafka://{}/events", cluster.bootstrap_servers()))
    }
}

/// `count` messages and what comes with them: partition, key, event.
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
    let mut messages = Vec::new();
    let began = Instant::now();
    while messages.len() < count {
        assert!(began.elapsed() < DEADLINE, "{} of {count} messages", messages.len());
        // Nothing is not the end: a poll that noted a commit of offsets, say, has nothing at once.
        // Errors are of connections, which the consumer mends by itself.
        let Some(Ok(message)) = consumer.poll(Duration::from_secs(1)) else { continue };
        let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
        let event = serde_json::from_slice(message.payload().unwrap()).unwrap();
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
    outbox.pay(16, 0, 20).await;
    let kafka = Deliverer::start(&outbox.ledger, sink(&cluster));
    outbox.emptied().await;
    check(&messages(&cluster, 320).await, 16, 20);
    assert_eq!(kafka.report().await["state"], "ok");
    kafka.stop().await;
}

#[tokio::test]
async fn brokers_that_fail_and_go_away_lose_nothing_and_reorder_nothing() {
    let (outbox, cluster) = (Outbox::new().await, cluster());
    cluster.broker_down(1).unwrap();
    // One request after the other. A broker refuses a batch that came after one it has not got;
    // the simulated one takes it, and the producer concludes that it has both.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kafka");
    std::fs::write(&file, "max.in.flight.requests.per.connection=1\n").unwrap();
    let args = EventsArgs { events_kafka_config: Some(file), ..sink(&cluster) };
    let kafka = Deliverer::start(&outbox.ledger, args);
    outbox.pay(8, 0, 10).await;
    until("a delivery has failed", || async {
        kafka.report().await["failures_in_a_row"].as_u64() > Some(0)
    })
    .await;
    assert_eq!(kafka.report().await["pending"], 80);
    cluster.broker_up(1).unwrap();
    // Writes whose acknowledgement fails: the producer repeats them itself.
    let lost = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3];
    cluster.request_errors(RDKafkaApiKey::Produce, &lost);
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
