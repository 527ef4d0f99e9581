//! Fetching results from where an orchestrator says they are.

use super::OrchestratorClient;
use crate::{
    call::{Bounds, Call},
    error::{CallError, Operation},
};
use bytes::Bytes;
use std::time::Duration;

impl OrchestratorClient {
    /// The whole body of a `GET`, of at most `max_bytes`, within `timeout`. The URL is a peer's:
    /// it must lead to where this client may connect, and redirects are not followed.
    pub async fn download(
        &self,
        url: &str,
        max_bytes: u64,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let operation = Operation::Download;
        let (url, origin) = self.target(operation, url)?;
        let bounds = Bounds { head: timeout, whole: timeout, max_bytes };
        let call = Call { operation, origin: &origin };
        Ok(call.send(self.http.get(url), bounds, Some(&self.pins)).await?.body)
    }
}
