//! Where a file of a result goes: into the bucket that the gateway gave, into the operator's, or into
//! memory, which is also where it goes when its bucket does not take it. A gateway of the reference fetches what is
//! not in its bucket, and puts it there itself.

use super::upload::escaped;
use crate::{node::Node, storage::StoredFile};
use penstock_wire::Bucket;

impl Node {
    /// Keeps a file, and says where it is. `None`: there is no memory for it.
    pub async fn keep(
        &self,
        given: Option<&Bucket>,
        session: &str,
        folder: &str,
        name: &str,
        file: StoredFile,
    ) -> Option<String> {
        let (whose, bucket, uploader) = match (given, &self.objects.own) {
            (Some(bucket), _) => ("gateway", Some(bucket.clone()), Some(&self.objects.gateways)),
            (None, Some(own)) => ("orchestrator", self.objects.grant(session), Some(&own.uploader)),
            (None, None) => ("", None, None),
        };
        if let (Some(bucket), Some(uploader)) = (bucket, uploader) {
            let written = uploader.put(&bucket, (folder, name), file.clone()).await;
            let outcome = if written.is_ok() { "written" } else { "failed" };
            metrics::counter!("orchestrator_uploads_total", "bucket" => whose, "outcome" => outcome)
                .increment(1);
            match written {
                Ok(url) => return Some(url),
                Err(error) => {
                    tracing::warn!(%error, whose, ?bucket, session, folder, name,
                        "a bucket did not take a result; it stays in memory");
                }
            }
        }
        if !self.storage.save(session, folder, name, file) {
            tracing::warn!(
                session,
                folder,
                name,
                "a result does not fit into --result-memory-bytes"
            );
            return None;
        }
        Some(format!("{}/stream/{session}/{}/{name}", self.service_uri(), path_element(folder)))
    }
}

/// A name as one element of a path: slashes are escaped, too.
fn path_element(name: &str) -> String {
    escaped(name).replace('/', "%2F")
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_escaped() {
        assert_eq!(super::path_element("P240p30fps16x9"), "P240p30fps16x9");
        assert_eq!(super::path_element("a b?/%é"), "a%20b%3F%2F%25%C3%A9");
    }
}
