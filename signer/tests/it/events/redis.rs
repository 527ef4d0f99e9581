//! A stream in a real Redis.

use super::{Deliverer, Outbox, all_in_order, first_arrivals, to};
use penstock_testkit::{places, until};
use redis::{AsyncCommands, aio::MultiplexedConnection, streams::StreamRangeReply};
use serde_json::Value;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

fn server() -> String {
    places::server_url("PENSTOCK_TEST_REDIS_URL")
}

async fn connection() -> MultiplexedConnection {
    let client = redis::Client::open(server()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// A stream of one's own.
fn stream() -> String {
    format!("test:{}", Uuid::new_v4())
}

async fn entries(stream: &str) -> Vec<Value> {
    let all: StreamRangeReply = connection().await.xrange_all(stream).await.unwrap();
    all.ids
        .iter()
        .map(|entry| {
            let event: Vec<u8> = entry.get("event").unwrap();
            let event: Value = serde_json::from_slice(&event).unwrap();
            assert_eq!(entry.get::<String>("id").unwrap(), event["id"].as_str().unwrap());
            let session = event["data"]["session_id"].as_str().unwrap();
            assert_eq!(entry.get::<String>("session").unwrap(), session);
            event
        })
        .collect()
}

#[tokio::test]
async fn a_stream_has_every_event_in_order() {
    let (outbox, stream) = (Outbox::new().await, stream());
    outbox.pay(4, 0, 100).await;
    let redis = Deliverer::start(&outbox.ledger, to(&format!("{}?stream={stream}", server())));
    outbox.emptied().await;
    let found = entries(&stream).await;
    assert_eq!((found.len(), first_arrivals(&found)), (400, all_in_order(4, 100)));
    redis.stop().await;
}

#[tokio::test]
async fn a_refused_batch_is_sent_again_whole() {
    let (outbox, stream) = (Outbox::new().await, stream());
    // Something else sits under the stream's name.
    let mut connection = connection().await;
    let () = connection.set(&stream, "taken").await.unwrap();
    outbox.pay(2, 0, 5).await;
    let redis = Deliverer::start(&outbox.ledger, to(&format!("{}?stream={stream}", server())));
    until("it is refused", || async { redis.report().await["state"] == "degraded" }).await;
    assert!(redis.report().await["last_error"].as_str().unwrap().contains("WRONGTYPE"));
    let () = connection.del(&stream).await.unwrap();
    outbox.emptied().await;
    let found = entries(&stream).await;
    assert_eq!((found.len(), first_arrivals(&found)), (10, all_in_order(2, 5)));
    redis.stop().await;
}

#[tokio::test]
async fn a_stream_with_a_bound_forgets_its_oldest() {
    let (outbox, stream) = (Outbox::new().await, stream());
    outbox.pay(1, 0, 500).await;
    let sink = format!("{}?stream={stream}&maxlen=100", server());
    let redis = Deliverer::start(&outbox.ledger, to(&sink));
    outbox.emptied().await;
    let found = entries(&stream).await;
    // Redis drops whole nodes of a hundred entries.
    assert!((100..300).contains(&found.len()), "{}", found.len());
    assert_eq!(found.last().unwrap()["data"]["sequence_number"], 499);
    redis.stop().await;
}

#[tokio::test]
async fn a_server_that_is_away_loses_nothing() {
    let (outbox, stream) = (Outbox::new().await, stream());
    let up = Arc::new(AtomicBool::new(false));
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = relay.local_addr().unwrap();
    let behind = server().strip_prefix("redis://").unwrap().trim_end_matches('/').to_owned();
    tokio::spawn({
        let up = up.clone();
        async move {
            loop {
                let (mut near, _) = relay.accept().await.unwrap();
                if up.load(Ordering::SeqCst) {
                    let mut far = TcpStream::connect(&behind).await.unwrap();
                    tokio::spawn(async move {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    });
                }
            }
        }
    });
    outbox.pay(2, 0, 300).await;
    let redis = Deliverer::start(&outbox.ledger, to(&format!("redis://{address}?stream={stream}")));
    until("it has failed more than once", || async {
        redis.report().await["failures_in_a_row"].as_u64() > Some(1)
    })
    .await;
    up.store(true, Ordering::SeqCst);
    outbox.emptied().await;
    assert_eq!(first_arrivals(&entries(&stream).await), all_in_order(2, 300));
    redis.stop().await;
}
