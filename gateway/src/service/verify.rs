//! Whether a result is what was asked for: as many renditions, none of them empty, and signed by
//! the orchestrator (ingest-playback.md section 5.3). Pure.

use bytes::Bytes;
use penstock_domain::{Address, keccak256};
use penstock_payments::{transcode_result_digest, verify_bytes};
use penstock_wire::OrchestratorOffer;

/// A rendition under this many bytes is nothing (orchestrator-wire.md section 6, `ZeroSegments`).
const SMALLEST: usize = 25;

/// The reference's text for a wrong result signature.
pub const PM_CHECK_FAILED: &str = "PM Check Failed";

/// Checks a whole result.
pub fn result(
    wanted: usize,
    renditions: &[Bytes],
    sig: &[u8],
    offer: &OrchestratorOffer,
) -> Result<(), &'static str> {
    if renditions.len() != wanted {
        return Err("MismatchedSegments");
    }
    if renditions.iter().any(|r| r.len() < SMALLEST) {
        return Err("ZeroSegments");
    }
    let Some(signer) = result_signer(offer) else { return Ok(()) };
    let hashes: Vec<_> = renditions.iter().map(keccak256).collect();
    let digest = transcode_result_digest(&hashes);
    verify_bytes(sig, &digest, signer).map(|_| ()).map_err(|_| PM_CHECK_FAILED)
}

/// Who must have signed: the node's own key, or the ticket recipient when it names none. Without
/// ticket parameters nobody, as no money depends on it.
fn result_signer(offer: &OrchestratorOffer) -> Option<Address> {
    let params = offer.ticket_params.as_ref()?;
    Some(offer.address.filter(|a| !a.is_zero()).unwrap_or(params.recipient))
}
