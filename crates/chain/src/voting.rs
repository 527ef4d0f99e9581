//! Votes of those who have a stake: on proposals for the treasury, and in polls (on-chain.md section 2).

use core::fmt;
use penstock_domain::{Address, U256, Wei};
use serde::{Deserialize, Serialize};

/// Longest reason of a vote: it is paid for by the byte.
pub const MAX_REASON_BYTES: usize = 1_024;

/// A choice in a poll, by its number in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PollChoice {
    /// 0
    Yes,
    /// 1
    No,
}

impl PollChoice {
    /// The contract's number.
    pub fn number(self) -> U256 {
        match self {
            Self::Yes => U256::ZERO,
            Self::No => U256::from(1),
        }
    }
}

/// A vote on a proposal, by its number in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Support {
    /// 0
    Against,
    /// 1
    For,
    /// 2: counts for the quorum only.
    Abstain,
}

impl Support {
    /// The contract's number.
    pub fn number(self) -> u8 {
        match self {
            Self::Against => 0,
            Self::For => 1,
            Self::Abstain => 2,
        }
    }
}

/// What becomes of a proposal, in the governor's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProposalState {
    /// Votes are not taken yet.
    Pending,
    /// Votes are taken.
    Active,
    /// Its proposer took it back.
    Canceled,
    /// It failed.
    Defeated,
    /// It passed.
    Succeeded,
    /// It passed, and waits.
    Queued,
    /// It passed, and was not executed in time.
    Expired,
    /// It was done.
    Executed,
}

impl ProposalState {
    /// From the contract's number.
    pub fn of(number: u8) -> Option<Self> {
        use ProposalState as S;
        let order = [
            S::Pending,
            S::Active,
            S::Canceled,
            S::Defeated,
            S::Succeeded,
            S::Queued,
            S::Expired,
            S::Executed,
        ];
        order.get(usize::from(number)).copied()
    }
}

impl fmt::Display for ProposalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Canceled => "canceled",
            Self::Defeated => "defeated",
            Self::Succeeded => "succeeded",
            Self::Queued => "queued",
            Self::Expired => "expired",
            Self::Executed => "executed",
        })
    }
}

/// How a proposal stands, as of the newest block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProposalStanding {
    /// What becomes of it.
    pub state: ProposalState,
    /// The round whose stake counts; votes are taken in those after it.
    pub snapshot_round: u64,
    /// The last round in which votes are taken.
    pub deadline_round: u64,
    /// Stake that is for it, in units of 10^-18 LPT.
    pub for_lptu: Wei,
    /// Stake that is against it.
    pub against_lptu: Wei,
    /// Stake that abstains.
    pub abstain_lptu: Wei,
    /// Whether the own account has voted: there is one vote each.
    pub has_voted: bool,
}

/// How a poll stands, as of the newest block. Its votes are events, which others count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PollStanding {
    /// Its contract.
    #[serde(with = "text")]
    pub poll: Address,
    /// The last L1 block in which votes are taken.
    pub end_block: u64,
    /// L1 now.
    pub l1_block: u64,
}

/// What is voted on now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ballots {
    /// The first block whose events were searched, of the chain's own.
    pub searched_from_block: u64,
    /// The last one.
    pub searched_to_block: u64,
    /// Whether all blocks were searched that are to be, and all votes. If not, the next look goes on with it.
    pub is_whole: bool,
    /// Proposals for the treasury on which votes are taken, now or from the next round on; the oldest first.
    pub proposals: Vec<OpenProposal>,
    /// Polls that are not over; the oldest first.
    pub polls: Vec<OpenPoll>,
}

/// A proposal that is voted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenProposal {
    /// The governor's number.
    #[serde(with = "text")]
    pub proposal_id: U256,
    /// The first line of its description: a text that anybody may have written.
    pub title: String,
    /// How it stands.
    #[serde(flatten)]
    pub standing: ProposalStanding,
}

/// A poll that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenPoll {
    /// How it stands.
    #[serde(flatten)]
    pub standing: PollStanding,
    /// Stake that is for it now, in units of 10^-18 LPT: an orchestrator's with that of its delegators who do not vote
    /// themselves.
    pub yes_lptu: Wei,
    /// Stake that is against it.
    pub no_lptu: Wei,
    /// Accounts that voted.
    pub voters: u64,
    /// Whether all of their votes are counted.
    pub tally_is_whole: bool,
}

/// Numbers and addresses as text.
pub(crate) mod text {
    use core::{fmt::Display, str::FromStr};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<T: Display, S: Serializer>(it: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(it)
    }

    pub(crate) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(from: D) -> Result<T, D::Error>
    where
        T::Err: Display,
    {
        let text = String::deserialize(from)?;
        if text.is_empty() {
            return Err(D::Error::custom("an empty text"));
        }
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StakeAction;

    #[test]
    fn votes_are_read_as_they_are_written() {
        for action in [
            StakeAction::Vote { poll: Address::repeat_byte(0xab), choice: PollChoice::No },
            StakeAction::VoteOnProposal {
                proposal_id: U256::MAX,
                support: Support::Abstain,
                reason: None,
            },
        ] {
            let text = serde_json::to_string(&action).unwrap();
            assert_eq!(serde_json::from_str::<StakeAction>(&text).unwrap(), action, "{text}");
        }
        for bad in [
            r#"{"operation":"vote","poll":"0x12","choice":"no"}"#,
            r#"{"operation":"vote","poll":"0xabababababababababababababababababababab","choice":"maybe"}"#,
            r#"{"operation":"vote-on-proposal","proposal_id":"-1","support":"for"}"#,
            r#"{"operation":"vote-on-proposal","proposal_id":"","support":"for"}"#,
        ] {
            serde_json::from_str::<StakeAction>(bad).unwrap_err();
        }
    }

    #[test]
    fn states_are_in_the_governors_order() {
        // IGovernor of OpenZeppelin 4.9.
        let said: Vec<_> = (0..9).map(|n| ProposalState::of(n).map(|s| s.to_string())).collect();
        let want = [
            "pending",
            "active",
            "canceled",
            "defeated",
            "succeeded",
            "queued",
            "expired",
            "executed",
        ];
        let want: Vec<_> = want.into_iter().map(|s| Some(s.to_owned())).chain([None]).collect();
        assert_eq!(said, want);
    }
}
