//! Slowness, refusals and silence.

use penstock_testkit::sim::SimSink;
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_sink_fails_as_often_as_it_is_told_and_keeps_each_event_once() {
    penstock_http_kit::tls::install_crypto_provider();
    let sink = SimSink::start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = async |id: u32| {
        let event = json!({ "id": id.to_string(), "data": { "session_id": "s",
            "sequence_number": id } });
        http.post(sink.uri()).json(&event).send().await.unwrap().status().as_u16()
    };
    sink.faults.fail_one_in(2);
    assert_eq!([post(1).await, post(2).await, post(2).await], [200, 503, 200]);
    sink.faults.fail_one_in(0);
    assert_eq!([post(2).await, post(3).await], [200, 200]);
    assert_eq!((sink.count(), sink.deliveries(), sink.faults.requests()), (3, 4, 5));
    assert_eq!(sink.sequences()["s"], [1, 2, 3]);
    assert_eq!(http.post(sink.uri()).body("?").send().await.unwrap().status(), 400);
    assert_eq!(sink.malformed(), 1);
}

#[tokio::test]
async fn latency_delays_and_silence_is_for_ever() {
    penstock_http_kit::tls::install_crypto_provider();
    let sink = SimSink::start().await;
    let patience = Duration::from_millis(50);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let send = || http.post(sink.uri()).body(r#"{"id":"1"}"#);
    sink.faults.set_latency(patience);
    let asked = Instant::now();
    assert_eq!(send().send().await.unwrap().status(), 200);
    assert!(asked.elapsed() >= patience, "it answered before it was allowed to");
    sink.faults.set_latency(Duration::ZERO);
    sink.faults.set_silent(true);
    assert!(send().timeout(patience).send().await.unwrap_err().is_timeout());
}
