//! The documents against the gateway. Of 5xx there is 503 only (nobody can take a job for a model that
//! was made up), and on the admin listener the 500 of a process without logs, which this one is.
//!
//! Made-up requests hardly ever are jobs. So a part of them is replaced with jobs that can be done (`tests/api/jobs.py`),
//! and every route of jobs has to have done some.

use crate::{
    ai,
    audio::wav,
    world::{MODEL, SOURCE},
};
use penstock_domain::PriceInfo;
use penstock_testkit::{places, schemathesis::Run, sim::orchestrator::picture};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_hold() {
    let w = ai::world(1, &["--embeddings-capability=embed"]).await;
    for name in ["embed", "flux"] {
        w.orchestrator().byoc.has(name, PriceInfo::new(1_000_000, 1).unwrap());
    }
    *w.orchestrator().byoc.says.lock().unwrap() = Some(json!({
        "object": "list", "model": "m", "data": [{ "object": "embedding", "index": 0, "embedding": [0.5] }],
        "usage": { "prompt_tokens": 2, "total_tokens": 2 },
    }));
    // Something to be found under the names that paths hold.
    w.pushed("/live/known/0.ts", SOURCE).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let config = |fails: &str| {
        format!(
            "[parameters]\n\"path.stream\" = \"known\"\n\"query.model\" = \"{MODEL}\"\n\n\
             [checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", {fails}]\n"
        )
    };
    std::fs::write(file("schemathesis.toml"), config("503")).unwrap();
    std::fs::copy(places::repository().join("tests/api/jobs.py"), file("hooks.py")).unwrap();
    std::fs::write(file("picture.png"), picture(64, 64, "a kite")).unwrap();
    std::fs::write(file("speech.wav"), wav(20)).unwrap();
    std::fs::write(file("segment.ts"), SOURCE).unwrap();
    let run = Run {
        document: "gateway.json",
        url: &w.url,
        folder: folder.path(),
        examples: 10,
        without_tag: None,
    };
    run.holds().await;
    let document = std::fs::read_to_string(places::repository().join("openapi/gateway.json"));
    let document: Value = serde_json::from_str(&document.unwrap()).unwrap();
    let posts =
        document["paths"].as_object().unwrap().iter().filter(|(_, item)| item["post"].is_object());
    let done = std::fs::read_to_string(file("done")).unwrap();
    let done: BTreeSet<&str> = done.lines().collect();
    let undone: Vec<_> =
        posts.map(|(path, _)| path).filter(|path| !done.contains(path.as_str())).collect();
    assert!(undone.is_empty(), "no job of these was done: {undone:?}");

    std::fs::write(file("schemathesis.toml"), config("500, 503")).unwrap();
    // Paths of the Go node that are refused whatever is asked.
    let without_tag = Some("refused");
    Run { document: "gateway-admin.json", url: &w.admin, without_tag, ..run }.holds().await;
    assert_eq!(w.get("/healthz").await.0, 200);
}
