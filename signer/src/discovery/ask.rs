//! One orchestrator is asked: for its offer, and for its runners if it has any.

use super::reason::{Failure, Reason};
use penstock_clients::{OfferRequest, OrchestratorClient};
use penstock_wire::{OrchestratorOffer, json::DiscoveryEntry};
use std::time::Duration;

/// Limit of one call (remote-signer.md section 10). Who is later is asked again at the next poll.
const CALL: Duration = Duration::from_secs(3);
/// Runners kept of one orchestrator: what it sends may be a megabyte, times the number of
/// orchestrators.
const MAX_RUNNERS: usize = 1_024;

/// What one orchestrator answered.
#[derive(Debug, Clone)]
pub(super) struct Polled {
    pub offer: OrchestratorOffer,
    pub discovery: Vec<DiscoveryEntry>,
    pub latency: Duration,
}

/// Asks. The call for runners may fail: that only loses the runners.
pub(super) async fn ask(
    client: &OrchestratorClient,
    uri: &str,
    request: &OfferRequest,
) -> Result<Polled, Failure> {
    let (offered, runners) =
        tokio::join!(client.get_orchestrator(uri, request, Some(CALL)), client.discovery(uri));
    let offered = offered?;
    if offered.offer.address.is_none() {
        return Err(Failure::new(Reason::NoAddress, "it names no address"));
    }
    if offered.offer.price.is_none() {
        return Err(Failure::new(Reason::NoPrice, "it names no price"));
    }
    let mut left = MAX_RUNNERS;
    let mut discovery = runners.unwrap_or_default();
    for entry in &mut discovery {
        entry.runners.truncate(left);
        left = left.saturating_sub(entry.runners.len());
    }
    discovery.retain(|entry| !entry.runners.is_empty());
    Ok(Polled { offer: offered.offer, discovery, latency: offered.latency })
}
