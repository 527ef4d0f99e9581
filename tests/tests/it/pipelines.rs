//! Batch AI from the application to the runner and back, paid for: gateway, signer, orchestrator and worker
//! are real processes; the runner is a stand-in for the network's own that checks each request against
//! its interface.

use crate::{
    books::Books,
    network::{Needs, Network, SignerOn},
};
use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{
    sim::{Running, SimRunner, runner_api},
    until, until_ok,
};
use penstock_wire::ai::events::EventReader;
use serde_json::{Value, json};
use std::sync::{Arc, atomic::Ordering};
use tokio::sync::Semaphore;

const MODEL: &str = "m/1";
/// Pipelines, and wei a unit.
const PRICES: [(&str, u64); 3] =
    [("llm", 1_000_000_000), ("text-to-image", 10_000_000), ("image-to-text", 10_000_000_000)];

/// A network whose worker has one runner for these pipelines.
async fn start(runner: &Running<SimRunner>) -> Network {
    let prices = PRICES.map(|(p, price)| format!("--price-per-model={p}/{MODEL}={price}"));
    let mut network = Network::start_with(Needs::VIDEO, SignerOn::default(), &prices).await;
    let entries = PRICES.map(|(pipeline, _)| {
        json!({"pipeline": pipeline, "model_id": MODEL, "url": runner.uri(), "warm": true})
    });
    let models = network.plan.layout.models_file();
    std::fs::write(&models, json!(entries).to_string()).unwrap();
    let mut worker = network.plan.worker(&network.url(Role::Orchestrator));
    worker.args.push(format!("--models-file={}", models.display()));
    network.process(Role::Worker).set_args(worker.args);
    network.crash(Role::Worker).await;
    // All of them, before the gateway asks for the first.
    let workers = format!("{}/v1/workers", network.admin(Role::Orchestrator));
    until("the orchestrator knows the models", || async {
        let workers = network.get(&workers).await;
        let models = |w: &Value| w["models"].as_array().map_or(0, Vec::len);
        workers.as_array().unwrap().iter().map(models).sum::<usize>() == PRICES.len()
    })
    .await;
    network
}

fn chat(stream: bool) -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": "count"}], "stream": stream,
        "max_tokens": 64})
}

fn post(network: &Network, path: &str) -> reqwest::RequestBuilder {
    network.http.post(format!("{}/{path}", network.url(Role::Gateway)))
}

/// The answer of a job that is done sooner or later: what discovery does not know yet is refused.
async fn done(what: &str, request: impl Fn() -> reqwest::RequestBuilder) -> reqwest::Response {
    until_ok(what, || async {
        let answer = request().send().await.map_err(|error| error.to_string())?;
        match answer.status().as_u16() {
            200 => Ok(answer),
            status => Err(format!("{status}: {}", answer.text().await.unwrap_or_default())),
        }
    })
    .await
}

/// The words of a streamed answer, one by one.
struct Words(reqwest::Response, EventReader);

impl Words {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(event) = self.1.next_event().unwrap() {
                let event: Value = serde_json::from_str(&event).unwrap();
                return Some(event["choices"][0]["delta"]["content"].as_str().unwrap().to_owned());
            }
            let bytes = self.0.chunk().await.unwrap()?;
            self.1.push(&bytes);
        }
    }
}

#[tokio::test]
async fn jobs_of_three_kinds_are_done_and_paid_to_the_wei() {
    let runner = SimRunner::start(MODEL, None).await;
    let network = start(&runner).await;
    let mut owed = 0;

    // Words as the runner says them: it is let to say one, and that one arrives.
    let pace = Arc::new(Semaphore::new(1));
    *runner.pace.lock().unwrap() = Some(Arc::clone(&pace));
    let answer = done("a streamed answer", || post(&network, "llm").json(&chat(true))).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut words = Words(answer, EventReader::new(1 << 20));
    assert_eq!(words.next().await.as_deref(), Some("one "));
    pace.add_permits(3);
    assert_eq!(words.next().await.as_deref(), Some("two "));
    assert_eq!(words.next().await.as_deref(), Some("three"));
    assert_eq!(words.next().await, None);
    owed += 64 * PRICES[0].1;

    // Who hangs up has paid all the same, and the runner is let go.
    let pace = Arc::new(Semaphore::new(1));
    *runner.pace.lock().unwrap() = Some(Arc::clone(&pace));
    let answer = done("another one", || post(&network, "llm").json(&chat(true))).await;
    let mut words = Words(answer, EventReader::new(1 << 20));
    words.next().await.unwrap();
    drop(words);
    // Nothing more is ever said.
    until("the runner is let go", || async { runner.streams.load(Ordering::SeqCst) == 0 }).await;
    *runner.pace.lock().unwrap() = None;
    owed += 64 * PRICES[0].1;

    let answer = done("a whole answer", || post(&network, "llm").json(&chat(false))).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "one two three");
    owed += 64 * PRICES[0].1;

    let wanted = json!({"model_id": MODEL, "prompt": "a kite", "height": 32, "width": 48,
        "num_images_per_prompt": 2, "guidance_scale": 7.5});
    let answer = done("pictures", || post(&network, "text-to-image").json(&wanted)).await;
    let answer: Value = answer.json().await.unwrap();
    let images = answer["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    for image in images {
        let picture = network.http.get(image["url"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(picture.bytes().await.unwrap(), runner_api::small_picture());
    }
    owed += 32 * 48 * 2 * PRICES[1].1;

    let form = || {
        let file = reqwest::multipart::Part::bytes(runner_api::small_picture()).file_name("p.png");
        let form = reqwest::multipart::Form::new().part("image", file);
        post(&network, "image-to-text")
            .multipart(form.text("model_id", MODEL).text("prompt", "what?"))
    };
    let answer: Value = done("a caption", form).await.json().await.unwrap();
    let bytes = runner_api::small_picture().len();
    assert_eq!(answer["text"], format!("a picture of {bytes} bytes"));
    owed += 2 * 2 * PRICES[2].1;

    let books = Books::read(&network).await;
    books.assert_settled();
    assert_eq!(books.debited_wei, Rational::from(owed), "what the jobs cost, to the wei");
    assert!(books.signed_tickets > 0 && books.credited_wei >= books.debited_wei, "{books:?}");
}
