//! Bugs that are put in on purpose, each at the edge of a role and none in it. A law has to find each of
//! them: a simulator that finds none of these would find no other one either.

/// What a bug of ours does that panics.
#[allow(clippy::panic, reason = "on purpose: the hook for panics has to see it")]
pub fn panics() -> ! {
    panic!("planted")
}

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Planted {
    /// Retries come to the signer without the state and the key that name them, as if it had no check of
    /// idempotency.
    RetriesLookNew,
    /// The signer's disk says that writes are stored and stores some of them not.
    SignersDiskLies,
    /// The orchestrator's nonces do not survive its process.
    NoncesAreForgotten,
    /// The orchestrator's disk says that writes are stored and stores some of them not.
    OrchestratorsDiskLies,
    /// The contract forgets which tickets it has paid.
    TicketsAreForgotten,
    /// Now and then an orchestrator panics in a request: its caller sees no more than that it died.
    OrchestratorsPanic,
    /// The chain panics when blocks are mined, which the history itself does and nobody catches.
    ChainPanics,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::RetriesLookNew,
        Self::SignersDiskLies,
        Self::NoncesAreForgotten,
        Self::OrchestratorsDiskLies,
        Self::TicketsAreForgotten,
        Self::OrchestratorsPanic,
        Self::ChainPanics,
    ];
}
