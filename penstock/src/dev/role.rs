//! The roles of a local network, in the order in which they are stopped.

use std::fmt;

/// A child process of a local network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Serves applications; drained first, while the others still answer it.
    Gateway,
    /// Runs ffmpeg and the AI runner.
    Worker,
    /// Signs payments.
    Signer,
    /// Takes payments and hands out work.
    Orchestrator,
    /// The development chain, needed to the last.
    Devnet,
}

impl Role {
    /// All of them, in the order in which they are stopped.
    pub const ALL: [Self; 5] =
        [Self::Gateway, Self::Worker, Self::Signer, Self::Orchestrator, Self::Devnet];

    /// The name in files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Worker => "worker",
            Self::Signer => "signer",
            Self::Orchestrator => "orchestrator",
            Self::Devnet => "devnet",
        }
    }

    /// The binary beside this one.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Gateway => "penstock-gateway",
            Self::Worker => "penstock-worker",
            Self::Signer => "penstock-signer",
            Self::Orchestrator => "penstock-orchestrator",
            Self::Devnet => "penstock-devnet",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
