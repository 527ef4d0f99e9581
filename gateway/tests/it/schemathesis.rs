//! The documents against the gateway. Of 5xx there is 503 only (nobody can take a job for a model that
//! was made up), and on the admin listener the 500 of a process without logs, which this one is.

use crate::world::{MODEL, SOURCE, World};
use penstock_testkit::schemathesis::Run;

/// Media as bodies: whatever the generator makes up, as bytes.
const HOOKS: &str = r#"
import schemathesis

@schemathesis.serializer("video/mp2t", "video/mp4")
def media(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_hold() {
    let w = World::with(1).await;
    // Something to be found under the names that paths hold.
    w.pushed("/live/known/0.ts", SOURCE).await;
    let folder = tempfile::tempdir().unwrap();
    let config = |fails: &str| {
        format!(
            "[parameters]\n\"path.stream\" = \"known\"\n\"query.model\" = \"{MODEL}\"\n\n\
             [checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", {fails}]\n"
        )
    };
    std::fs::write(folder.path().join("schemathesis.toml"), config("503")).unwrap();
    std::fs::write(folder.path().join("hooks.py"), HOOKS).unwrap();
    let run = Run {
        document: "gateway.json",
        url: &w.url,
        folder: folder.path(),
        examples: 10,
        without_tag: None,
    };
    run.holds().await;
    std::fs::write(folder.path().join("schemathesis.toml"), config("500, 503")).unwrap();
    // Paths of the Go node that are refused whatever is asked.
    let without_tag = Some("refused");
    Run { document: "gateway-admin.json", url: &w.admin, without_tag, ..run }.holds().await;
    assert_eq!(w.get("/healthz").await.0, 200);
}
