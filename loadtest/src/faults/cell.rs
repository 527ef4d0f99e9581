//! The matrix as data: which wire, what is wrong with it, and what is promised while it is. What holds in
//! every cell is said once, in [`super::promise`].

use super::promise::Sign::{self, Degraded, Elsewhere, GoesOn, Lost, Red, Redeemed, Refused};
use penstock_testkit::proxy::{Fault, Way};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// Work that is asked for all the while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Segments of one stream, which both orchestrators transcode.
    Segments,
    /// Jobs in words of a model that both orchestrators have.
    Words,
    /// Jobs in words of a model that only the real orchestrator has.
    OwnWords,
    /// Jobs of a brought capability, which only the real orchestrator has.
    Brought,
}

/// All of them.
pub const KINDS: [Kind; 4] = [Kind::Segments, Kind::Words, Kind::OwnWords, Kind::Brought];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Segments => "segments",
            Self::Words => "AI jobs",
            Self::OwnWords => "AI jobs of a model that nobody else has",
            Self::Brought => "brought jobs",
        })
    }
}

/// Who says whether it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "roles")]
pub enum Role {
    Gateway,
    Signer,
    Orchestrator,
    Redeemer,
    Worker,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "gateway",
            Self::Signer => "signer",
            Self::Orchestrator => "orchestrator",
            Self::Redeemer => "redeemer",
            Self::Worker => "worker",
        })
    }
}

/// A wire: who connects to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is named as it is shown")]
pub enum Pair {
    ApplicationGateway,
    GatewaySigner,
    GatewayOrchestrator,
    GatewayRedis,
    SignerPostgres,
    SignerChain,
    OrchestratorPostgres,
    OrchestratorChain,
    WorkerOrchestrator,
    OrchestratorRedeemer,
    RedeemerPostgres,
    RedeemerChain,
    WorkerRunner,
    OrchestratorRunner,
}

/// All of them.
pub const PAIRS: [Pair; 14] = [
    Pair::ApplicationGateway,
    Pair::GatewaySigner,
    Pair::GatewayOrchestrator,
    Pair::GatewayRedis,
    Pair::SignerPostgres,
    Pair::SignerChain,
    Pair::OrchestratorPostgres,
    Pair::OrchestratorChain,
    Pair::WorkerOrchestrator,
    Pair::OrchestratorRedeemer,
    Pair::RedeemerPostgres,
    Pair::RedeemerChain,
    Pair::WorkerRunner,
    Pair::OrchestratorRunner,
];

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApplicationGateway => "application → gateway",
            Self::GatewaySigner => "gateway → signer",
            Self::GatewayOrchestrator => "gateway → orchestrator",
            Self::GatewayRedis => "gateway → Redis",
            Self::SignerPostgres => "signer → PostgreSQL",
            Self::SignerChain => "signer → chain",
            Self::OrchestratorPostgres => "orchestrator → PostgreSQL",
            Self::OrchestratorChain => "orchestrator → chain",
            Self::WorkerOrchestrator => "worker → orchestrator",
            Self::OrchestratorRedeemer => "orchestrator → redeemer",
            Self::RedeemerPostgres => "redeemer → PostgreSQL",
            Self::RedeemerChain => "redeemer → chain",
            Self::WorkerRunner => "worker → runner",
            Self::OrchestratorRunner => "orchestrator → brought runner",
        })
    }
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Trouble {
    /// 100 ms more each way.
    Delay,
    /// Connections broken off, and each new one.
    Reset,
    /// Connections stand and nothing passes.
    Silence,
    /// What is asked arrives, and its answers do not: they end.
    HalfClose,
    /// Answers are damaged. In clear text only the beginning of a message is hit: what is damaged inside a
    /// value nobody could find without TLS.
    Damage,
    /// 128 KiB a second each way.
    Throttle,
    /// 40 ms before each piece.
    Stalls,
    /// What is asked does not arrive: it ends.
    LostRequests,
    /// What is asked is damaged, as answers are.
    DamagedRequests,
}

/// All of them.
pub const TROUBLES: [Trouble; 9] = [
    Trouble::Delay,
    Trouble::Reset,
    Trouble::Silence,
    Trouble::HalfClose,
    Trouble::Damage,
    Trouble::Throttle,
    Trouble::Stalls,
    Trouble::LostRequests,
    Trouble::DamagedRequests,
];

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delay => "100 ms later",
            Self::Reset => "broken off",
            Self::Silence => "silent",
            Self::HalfClose => "half closed",
            Self::Damage => "damaged",
            Self::Throttle => "128 KiB/s",
            Self::Stalls => "stalls of 40 ms",
            Self::LostRequests => "requests lost",
            Self::DamagedRequests => "requests damaged",
        })
    }
}

impl Trouble {
    /// Whether what is sent arrives in the end: then nobody may be refused for good.
    pub fn is_slow_only(self) -> bool {
        matches!(self, Self::Delay | Self::Throttle | Self::Stalls)
    }

    /// In which directions, and what.
    pub fn faults(self) -> (&'static [Way], Fault) {
        const BOTH: &[Way] = &[Way::There, Way::Back];
        const ANSWERS: &[Way] = &[Way::Back];
        const REQUESTS: &[Way] = &[Way::There];
        match self {
            Self::Delay => (BOTH, Fault::Delay(Duration::from_millis(100))),
            Self::Reset => (BOTH, Fault::Reset),
            Self::Silence => (BOTH, Fault::Silent),
            Self::HalfClose => (ANSWERS, Fault::HalfClose),
            Self::Damage => (ANSWERS, Fault::Corrupt { every: 1_000 }),
            Self::Throttle => (BOTH, Fault::Throttle { bytes_per_s: 128 << 10 }),
            Self::Stalls => (BOTH, Fault::Stall(Duration::from_millis(40))),
            Self::LostRequests => (REQUESTS, Fault::HalfClose),
            Self::DamagedRequests => (REQUESTS, Fault::Corrupt { every: 1_000 }),
        }
    }
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    /// Which wire.
    pub pair: Pair,
    /// What is wrong with it.
    pub trouble: Trouble,
}

/// Every cell.
pub fn all() -> Vec<Cell> {
    let of = |pair| TROUBLES.into_iter().map(move |trouble| Cell { pair, trouble });
    PAIRS.into_iter().flat_map(of).filter(|cell| cell.says_something()).collect()
}

/// The cells whose names contain these words: at least one.
pub fn named(words: &str) -> Result<Vec<Cell>, String> {
    let mut cells = all();
    cells.retain(|cell| cell.to_string().contains(words));
    if cells.is_empty() {
        let pairs = PAIRS.map(|pair| pair.to_string()).join(", ");
        let troubles = TROUBLES.map(|trouble| trouble.to_string()).join(", ");
        return Err(format!(
            "no cell's name contains `{words}`: a name is a wire, a comma and a fault, as \
             `gateway → signer, silent`; wires: {pairs}; faults: {troubles}"
        ));
    }
    Ok(cells)
}

/// For a test of two minutes: each trouble, and the wires that money crosses.
pub fn short() -> Vec<Cell> {
    use {Pair as P, Trouble as T};
    [
        (P::ApplicationGateway, T::Silence),
        (P::GatewaySigner, T::Reset),
        (P::GatewayOrchestrator, T::Stalls),
        (P::GatewayOrchestrator, T::HalfClose),
        (P::GatewayRedis, T::Damage),
        (P::SignerPostgres, T::LostRequests),
        (P::OrchestratorPostgres, T::DamagedRequests),
        (P::OrchestratorPostgres, T::Throttle),
        (P::OrchestratorRedeemer, T::Delay),
        (P::RedeemerChain, T::HalfClose),
    ]
    .map(|(pair, trouble)| Cell { pair, trouble })
    .to_vec()
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.pair, self.trouble)
    }
}

impl Cell {
    /// What has to be seen while the fault lasts.
    pub fn promise(self) -> Vec<Sign> {
        use Kind::{Brought, OwnWords, Segments, Words};
        let everything = || KINDS.map(GoesOn).to_vec();
        if self.trouble.is_slow_only() {
            let mut signs = everything();
            if self.redemption_is_under_way() {
                signs.push(Redeemed);
            }
            return signs;
        }
        match self.pair {
            // Nobody is told anything; what that may do, the books tell.
            Pair::ApplicationGateway => vec![Lost],
            Pair::GatewaySigner => vec![Red(Role::Gateway), Refused(OwnWords), Refused(Segments)],
            Pair::GatewayRedis => vec![Red(Role::Gateway), Refused(OwnWords), Refused(Segments)],
            Pair::SignerPostgres => vec![Red(Role::Signer), Refused(OwnWords)],
            // For as long as what is known of the chain is not too old, and then no longer.
            Pair::SignerChain => vec![Red(Role::Signer), Refused(OwnWords)],
            Pair::GatewayOrchestrator => {
                vec![GoesOn(Segments), GoesOn(Words), Elsewhere, Refused(OwnWords)]
            }
            Pair::OrchestratorPostgres => vec![
                Red(Role::Orchestrator),
                GoesOn(Segments),
                GoesOn(Words),
                Elsewhere,
                Refused(OwnWords),
            ],
            Pair::OrchestratorChain => {
                vec![Red(Role::Orchestrator), GoesOn(Segments), GoesOn(Words)]
            }
            Pair::WorkerOrchestrator => {
                vec![
                    Red(Role::Worker),
                    GoesOn(Segments),
                    GoesOn(Words),
                    GoesOn(Brought),
                    Elsewhere,
                    Refused(OwnWords),
                ]
            }
            Pair::OrchestratorRedeemer => {
                let mut signs = everything();
                signs.push(Degraded);
                signs
            }
            // Winners wait in the orchestrator's books, or the redeemer's.
            Pair::RedeemerPostgres | Pair::RedeemerChain => {
                let mut signs = everything();
                signs.push(Red(Role::Redeemer));
                signs
            }
            Pair::WorkerRunner => {
                vec![GoesOn(Segments), GoesOn(Words), GoesOn(Brought), Refused(OwnWords)]
            }
            Pair::OrchestratorRunner => {
                vec![GoesOn(Segments), GoesOn(Words), GoesOn(OwnWords), Refused(Brought)]
            }
        }
    }

    /// Whether work whose answer is lost on the way is asked for, done and paid again: it is between who asks and who
    /// works. Elsewhere no job is paid twice.
    pub fn may_repeat_work(self) -> bool {
        !self.trouble.is_slow_only()
            && matches!(
                self.pair,
                Pair::GatewayOrchestrator
                    | Pair::OrchestratorPostgres
                    | Pair::WorkerOrchestrator
                    | Pair::WorkerRunner
                    | Pair::OrchestratorRunner
            )
    }

    /// Whether anything can be promised: in clear text a server answers 400 to a request that it cannot read, and that is
    /// an answer, which is passed on to whoever asked.
    fn says_something(self) -> bool {
        let answers_400 = matches!(
            self.pair,
            Pair::ApplicationGateway
                | Pair::GatewaySigner
                | Pair::WorkerRunner
                | Pair::OrchestratorRunner
        );
        !(answers_400 && self.trouble == Trouble::DamagedRequests)
    }

    /// Whether the fault comes while a redemption is on its way over this wire.
    pub fn redemption_is_under_way(self) -> bool {
        self.pair == Pair::RedeemerChain
    }

    /// Why its promise is not kept, where it is known not to be.
    pub fn known_cause(self) -> Option<&'static str> {
        let known: [(Cell, &str); 0] = [];
        known.into_iter().find_map(|(cell, cause)| (cell == self).then_some(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_wire_meets_every_trouble_of_which_something_is_said_once() {
        let cells = all();
        assert_eq!(cells.len(), PAIRS.len() * TROUBLES.len() - 4);
        assert_eq!(BTreeSet::from_iter(&cells).len(), cells.len());
        for cell in cells {
            assert!(!cell.promise().is_empty(), "{cell}");
        }
    }

    #[test]
    fn words_that_name_no_cell_are_refused() {
        assert_eq!(named("").unwrap(), all());
        let one = named("gateway → signer, silent").unwrap();
        assert_eq!(one, [Cell { pair: Pair::GatewaySigner, trouble: Trouble::Silence }]);
        let why = named("gateway -> signer").unwrap_err();
        assert!(why.contains("`gateway -> signer`") && why.contains("gateway → signer"), "{why}");
    }

    #[test]
    fn the_short_form_has_every_trouble() {
        let troubles: BTreeSet<Trouble> = short().iter().map(|cell| cell.trouble).collect();
        assert_eq!(troubles, BTreeSet::from(TROUBLES));
    }
}
