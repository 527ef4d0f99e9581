//! The clients of orchestrators: connections of their own for each workload, so that a flood of AI
//! jobs never waits in front of a video segment, and for those that were named by others, which may be
//! reached at public addresses only. All of them share the certificates seen.
//!
//! An address is checked when it is connected to: a name that leads elsewhere than it did at discovery
//! gains nothing.

use crate::{config::Settings, front::workload::Workload};
use penstock_clients::{BuildError, OrchestratorClient, OrchestratorOptions, Pins, Reach};
use std::{sync::Arc, time::Duration};

/// Two clients of one workload.
#[derive(Debug, Clone)]
struct Pair {
    listed: OrchestratorClient,
    foreign: OrchestratorClient,
}

/// All clients.
#[derive(Debug, Clone)]
pub struct Peers {
    pins: Arc<Pins>,
    video: Pair,
    ai: Pair,
}

/// How a session reaches its orchestrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// Whose connections.
    pub workload: Workload,
    /// It was named by another than itself.
    pub foreign: bool,
}

impl Peers {
    /// From the settings; connects to nothing yet.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        let pins = match settings.selection.strict_tls {
            true => Arc::new(Pins::strict()),
            false => Arc::new(Pins::default()),
        };
        let elsewhere = match settings.args.allow_private_peers {
            true => Reach::Anywhere,
            false => Reach::PublicOnly,
        };
        let client = |reach| {
            OrchestratorClient::new(OrchestratorOptions {
                // A payment happens inside a request and under a lease.
                payment_timeout: Duration::from_millis(settings.args.payment_timeout_ms),
                ping_every: (settings.args.orchestrator_ping_ms > 0)
                    .then(|| Duration::from_millis(settings.args.orchestrator_ping_ms)),
                reach,
                names: settings.names.clone(),
                pins: Arc::clone(&pins),
                ..OrchestratorOptions::default()
            })
        };
        let pair = || {
            Ok::<_, BuildError>(Pair {
                listed: client(Reach::Anywhere)?,
                foreign: client(elsewhere)?,
            })
        };
        Ok(Self { video: pair()?, ai: pair()?, pins: Arc::clone(&pins) })
    }

    /// For jobs and payments.
    pub fn of(&self, via: Via) -> &OrchestratorClient {
        let pair = match via.workload {
            Workload::Video => &self.video,
            Workload::Ai => &self.ai,
        };
        if via.foreign { &pair.foreign } else { &pair.listed }
    }

    /// The certificates seen.
    pub fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }
}
