//! gRPC and HTTP to one orchestrator, over TLS whose certificate nobody signed.
//!
//! Orchestrators make their own certificates, the Go node a new one at every start
//! (orchestrator-wire.md section 1), so there is no authority to ask. A certificate that changes
//! while we run is logged.

use penstock_clients::{BuildError, HttpOptions, Reach, Trust};
use std::time::Duration;
use tonic::transport::Channel;
use url::Url;

/// How long a TCP and TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence while an answer is read.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A channel that connects when first used, and again whenever the connection is gone.
pub fn grpc(url: &Url) -> Result<Channel, BuildError> {
    penstock_clients::channel(url, &Trust::AcceptAny, CONNECT_TIMEOUT)
}

/// A client for transfers of any length; every use brings its own deadline.
pub fn http(reach: Reach) -> Result<reqwest::Client, BuildError> {
    with_patience(reach, READ_TIMEOUT)
}

/// The same for uploads that are answered only at the end of a job's work.
pub fn streams(longest: Duration) -> Result<reqwest::Client, BuildError> {
    with_patience(Reach::Anywhere, longest)
}

fn with_patience(reach: Reach, read_timeout: Duration) -> Result<reqwest::Client, BuildError> {
    penstock_clients::http(&HttpOptions {
        trust: Trust::AcceptAny,
        reach,
        connect_timeout: CONNECT_TIMEOUT,
        read_timeout,
        total_timeout: None,
        ..HttpOptions::default()
    })
}
