//! A runner as a worker meets it.

use penstock_testkit::sim::{
    SimRunner,
    runner::{Job, Order},
};
use serde_json::{Value, json};

#[tokio::test]
async fn jobs_need_the_token_and_are_answered_as_ordered() {
    penstock_http_kit::tls::install_crypto_provider();
    let runner = SimRunner::start("m", Some("secret")).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let health: Value =
        http.get(format!("{}/health", runner.uri())).send().await.unwrap().json().await.unwrap();
    assert_eq!(health, json!({ "status": "OK" }));
    let job = async |token: &str| {
        let file = reqwest::multipart::Part::bytes(vec![0; 7]).file_name("a.wav");
        let form = reqwest::multipart::Form::new().part("audio", file).text("model_id", "m");
        let url = format!("{}/audio-to-text", runner.uri());
        let answer = http.post(url).bearer_auth(token).multipart(form).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap_or_default())
    };
    let (status, body) = job("wrong").await;
    assert_eq!((status, body["detail"]["msg"].as_str()), (401, Some("Invalid bearer token")));
    assert!(runner.jobs.lock().unwrap().is_empty());
    let (status, body) = job("secret").await;
    assert_eq!((status, body["text"].as_str()), (200, Some("7 bytes of speech")));
    let expected = Job {
        pipeline: "audio-to-text".to_owned(),
        fields: vec![("audio".to_owned(), "7".to_owned()), ("model_id".into(), "m".into())],
    };
    assert_eq!(*runner.jobs.lock().unwrap(), [expected]);
    runner.orders.then([Order::Status(422, "no such voice"), Order::Answer(json!({ "x": 1 }))]);
    assert_eq!(job("secret").await, (422, json!({ "detail": { "msg": "no such voice" } })));
    assert_eq!(job("secret").await, (200, json!({ "x": 1 })));
}
