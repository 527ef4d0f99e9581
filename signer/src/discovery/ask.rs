//! One orchestrator is asked: for its offer, and for its runners if it has any.

use super::reason::{Failure, Reason};
use penstock_clients::{OfferRequest, OrchestratorClient};
use penstock_wire::{OrchestratorOffer, json::DiscoveryEntry};
use std::time::Duration;

/// Runners kept of one orchestrator: what it sends may be a megabyte, times the number of
/// orchestrators.
const MAX_RUNNERS: usize = 1_024;
/// Models kept of one orchestrator, for the same reason.
const MAX_MODELS: usize = 4_096;

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
    limit: Duration,
) -> Result<Polled, Failure> {
    let (offered, runners) =
        tokio::join!(client.get_orchestrator(uri, request, Some(limit)), client.discovery(uri));
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
    Ok(Polled { offer: kept(offered.offer), discovery, latency: offered.latency })
}

/// What the list needs of an offer; the rest may be large.
fn kept(mut offer: OrchestratorOffer) -> OrchestratorOffer {
    (offer.hardware, offer.storage, offer.auth_token) = (Vec::new(), None, None);
    let mut left = MAX_MODELS;
    for models in offer.capabilities.iter_mut().flat_map(|c| c.models.values_mut()) {
        let mut place = 0usize;
        models.retain(|_, _| {
            place = place.saturating_add(1);
            place <= left
        });
        left = left.saturating_sub(models.len());
    }
    offer
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{Capabilities, ModelConstraint, Models};

    #[test]
    fn what_is_kept_has_an_end() {
        let models = |n: usize| -> Models {
            (0..n).map(|n| (format!("m{n:04}"), ModelConstraint::default())).collect()
        };
        let bare = penstock_wire::net::OrchestratorInfo::default();
        let offer = OrchestratorOffer {
            capabilities: Some(Capabilities {
                models: [(27, models(3_000)), (31, models(3_000)), (35, models(10))].into(),
                ..Capabilities::default()
            }),
            ..OrchestratorOffer::try_from(&bare).unwrap()
        };
        let kept = kept(offer).capabilities.unwrap();
        let left: Vec<usize> = kept.models.values().map(|m| m.len()).collect();
        assert_eq!(left, [3_000, 1_096, 0]);
    }
}
