//! A document against its service: schemathesis makes requests from `openapi/*.json`, good and bad ones,
//! and holds the service to what the document promises: no answer outside its schema, no status that is
//! not documented, no 5xx but what is expected.

use crate::places;
use std::path::Path;

/// A run.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The document's name in `openapi/`.
    pub document: &'a str,
    /// Where the service is.
    pub url: &'a str,
    /// Where `schemathesis.toml`, if there is one, and `hooks.py` are.
    pub folder: &'a Path,
    /// Requests of each kind for one operation.
    pub examples: u32,
    /// Operations that are left out.
    pub without_tag: Option<&'a str>,
}

impl Run<'_> {
    /// Makes the requests. Panics with what schemathesis says when a promise is broken.
    pub async fn holds(self) {
        let mut command = tokio::process::Command::new(places::schemathesis());
        command
            .arg("run")
            .arg(places::repository().join("openapi").join(self.document))
            .args(["--url", self.url, "--max-examples", &self.examples.to_string()])
            .args(["--seed", "1", "--no-color"])
            // How many of its own ideas the generator throws away says nothing of the service, and changes
            // with every change of a document.
            .arg("--suppress-health-check=filter_too_much")
            // Each phase on its own; a bad request that is taken for a good one is no breach of the
            // document: unknown keys are ignored.
            .args(["--phases", "examples,coverage,fuzzing"])
            .args([
                "--checks",
                "not_a_server_error,status_code_conformance,content_type_conformance,\
                 response_headers_conformance,response_schema_conformance,unsupported_method",
            ])
            .current_dir(self.folder);
        if let Some(tag) = self.without_tag {
            command.args(["--exclude-tag", tag]);
        }
        if self.folder.join("hooks.py").exists() {
            command.env("SCHEMATHESIS_HOOKS", "hooks.py");
        }
        let output = command.output().await.expect("schemathesis runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("passed"), "{said}");
    }
}
