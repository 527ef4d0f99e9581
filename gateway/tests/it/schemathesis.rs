//! The document against the gateway: schemathesis makes requests from `openapi/gateway.json`, good and
//! bad ones, and holds the gateway to what the document promises. No 5xx but 503 (nobody can take a job
//! for a model that was made up), no answer outside its schema.

use crate::world::{MODEL, SOURCE, World};
use penstock_testkit::places;
use std::path::Path;

/// Media as bodies: whatever the generator makes up, as bytes.
const HOOKS: &str = r#"
import schemathesis

@schemathesis.serializer("video/mp2t", "video/mp4")
def media(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()
"#;

/// Requests of each kind for one operation.
const EXAMPLES: &str = "10";

async fn fuzz(document: &Path, url: &str, folder: &Path) {
    let output = tokio::process::Command::new(places::schemathesis())
        .arg("run")
        .arg(document)
        .args(["--url", url, "--max-examples", EXAMPLES, "--seed", "1", "--no-color"])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,\
             response_headers_conformance,response_schema_conformance,unsupported_method",
        ])
        .current_dir(folder)
        .env("SCHEMATHESIS_HOOKS", "hooks.py")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_holds() {
    let w = World::with(1).await;
    // Something to be found under the names that paths hold.
    w.pushed("/live/known/0.ts", SOURCE).await;
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[parameters]\n\"path.stream\" = \"known\"\n\"query.model\" = \"{MODEL}\"\n\n\
         [checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", 503]\n"
    );
    std::fs::write(folder.path().join("schemathesis.toml"), config).unwrap();
    std::fs::write(folder.path().join("hooks.py"), HOOKS).unwrap();
    let document = places::repository().join("openapi/gateway.json");
    fuzz(&document, &w.url, folder.path()).await;
    assert_eq!(w.get("/healthz").await.0, 200);
}
