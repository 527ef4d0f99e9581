//! A simulated orchestrator that refuses everybody until it is told what to say.

use penstock_testkit::sim::{Running, SimOrchestrator};
use penstock_wire::net::OrchestratorInfo;

/// A running one.
pub struct ScriptedOrchestrator {
    pub uri: String,
    pub sim: Running<SimOrchestrator>,
}

impl ScriptedOrchestrator {
    pub async fn start() -> Self {
        let sim = SimOrchestrator::start().await;
        let orchestrator = Self { uri: sim.uri(), sim };
        orchestrator.refuses();
        orchestrator
    }

    /// How often it was asked for an offer.
    pub fn asked(&self) -> usize {
        self.sim.seen.lock().unwrap().asked.len()
    }

    pub fn says(&self, info: OrchestratorInfo) {
        *self.sim.says.lock().unwrap() = Some(info);
        *self.sim.refuse_offers.lock().unwrap() = None;
    }

    pub fn refuses(&self) {
        *self.sim.refuse_offers.lock().unwrap() = Some("OrchestratorCapped");
    }
}
