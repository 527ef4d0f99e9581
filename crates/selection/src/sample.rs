//! What tests choose among.

use crate::{Candidate, Facts};
use penstock_domain::{Capabilities, Capability, CapabilitySet, Rational};
use std::sync::Arc;

/// Somebody who can do video, at a price of 1.
pub fn facts(name: &str) -> Facts {
    Facts {
        transcoder: name.to_owned(),
        score: 1.0,
        capabilities: Some(Capabilities::of_set(CapabilitySet::default_video())),
        discovery_latency_ms: 5,
        ..Facts::default()
    }
    .priced(Some(Rational::from_int(1)))
}

/// Somebody of whom nothing else is known.
pub fn of(facts: Facts) -> Candidate {
    Candidate { facts: Arc::new(facts), ..Candidate::default() }
}

/// A job of video.
pub fn job() -> Capabilities {
    Capabilities::of_set(CapabilitySet::of([Capability::MpegTs]))
}
