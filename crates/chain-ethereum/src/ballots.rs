//! What is voted on now: proposals for the treasury, and polls, found by the events of their creation.
//!
//! Only a bounded stretch of the chain is searched, backwards from its newest block, and with a bounded number of
//! questions for each look. What was searched is remembered, so that the next look goes on where this one stopped. Where an
//! endpoint refuses a stretch as too long, a shorter one is tried. A poll's votes are events too: of each voter the last
//! one counts, with its stake of now, and an orchestrator's without that of delegators who voted themselves.

use crate::{
    EthereumChain,
    contracts::{IBondingManager, ILivepeerGovernor, IPoll, IPollCreator},
    reader::{Reader, Search, height},
    rpc::{RpcError, wire::Event},
};
use alloy_sol_types::SolEvent;
use penstock_chain::{Ballots, ChainError, OpenPoll, OpenProposal, ProposalState};
use penstock_domain::{Address, B256, U256, Wei};
use std::collections::BTreeMap;
use tokio::sync::Mutex;

/// Searches for events in one look, at most.
const MOST_SEARCHES: u32 = 64;
/// The longest stretch that is tried: endpoints that take it answer in time.
const LONGEST: u64 = 100_000;
/// The shortest one.
const SHORTEST: u64 = 500;
/// Blocks that are searched again, since they may be others now.
const AGAIN: u64 = 256;
/// Ballots that are remembered, of each kind, the newest ones.
const MOST_BALLOTS: usize = 200;
/// Voters whose stake is asked for in one poll.
const MOST_VOTERS: usize = 200;
/// Characters of a proposal's title.
const TITLE: usize = 200;

/// What was searched, and found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    known: Mutex<Known>,
}

#[derive(Debug, Default, Clone)]
struct Known {
    /// The first block that was searched, and the last one.
    searched: Option<(u64, u64)>,
    /// The longest stretch that endpoints took.
    longest: Option<u64>,
    /// By number, with a title.
    proposals: BTreeMap<U256, Proposal>,
    /// By contract: the block that it was made in.
    polls: BTreeMap<Address, u64>,
}

#[derive(Debug, Clone)]
struct Proposal {
    made_in: u64,
    title: String,
}

/// The searches of one look: shorter ones after a refusal, and not more than so many.
struct Searches<'a> {
    reader: &'a Reader,
    left: u32,
    longest: u64,
}

impl Searches<'_> {
    /// The newest part of a stretch that could be searched, as its first block and its events; `None` = none of it.
    async fn newest_of(
        &mut self,
        contracts: &[Address],
        topics: &[Vec<B256>],
        (from, to): (u64, u64),
    ) -> Result<Option<(u64, Vec<Event>)>, ChainError> {
        while self.left > 0 && from <= to {
            self.left -= 1;
            let first = from.max(to.saturating_sub(self.longest.saturating_sub(1)));
            let search = Search { contracts, topics, from: first, to };
            match self.reader.events(&search).await {
                Ok(events) => return Ok(Some((first, events))),
                Err(RpcError::Refused { .. }) if to - first >= SHORTEST => {
                    self.longest = (to - first).div_ceil(2).max(SHORTEST);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The whole stretch, from its end; how far back it went, and the events, the oldest first.
    async fn back(
        &mut self,
        contracts: &[Address],
        topics: &[Vec<B256>],
        (from, to): (u64, u64),
    ) -> Result<(u64, Vec<Event>), ChainError> {
        let (mut first, mut stretches) = (to.saturating_add(1), Vec::new());
        while first > from {
            let rest = (from, first - 1);
            let Some((reached, events)) = self.newest_of(contracts, topics, rest).await? else {
                break;
            };
            first = reached;
            stretches.push(events);
        }
        Ok((first, stretches.into_iter().rev().flatten().collect()))
    }
}

impl Known {
    fn note(&mut self, event: &Event, governor: Option<Address>, creator: Option<Address>) {
        let made_in = event.block_number.and_then(|number| number.to_u64()).unwrap_or_default();
        if let Some(made) = of::<ILivepeerGovernor::ProposalCreated>(event, governor) {
            let title = title(&made.description);
            self.proposals.insert(made.proposalId, Proposal { made_in, title });
        } else if let Some(made) = of::<IPollCreator::PollCreated>(event, creator) {
            self.polls.insert(made.poll, made_in);
        }
        // Strangers make them: the oldest ones go first.
        while self.proposals.len() > MOST_BALLOTS {
            let oldest = self.proposals.iter().min_by_key(|(_, made)| made.made_in);
            let Some(id) = oldest.map(|(id, _)| *id) else { break };
            self.proposals.remove(&id);
        }
        while self.polls.len() > MOST_BALLOTS {
            let oldest = self.polls.iter().min_by_key(|(_, made_in)| **made_in);
            let Some(poll) = oldest.map(|(poll, _)| *poll) else { break };
            self.polls.remove(&poll);
        }
    }
}

fn of<E: SolEvent>(event: &Event, contract: Option<Address>) -> Option<E> {
    if Some(event.address.0) != contract || event.topics.first()?.0 != E::SIGNATURE_HASH {
        return None;
    }
    E::decode_raw_log(event.topics.iter().map(|topic| topic.0), &event.data.0).ok()
}

/// The first line of a stranger's text.
fn title(description: &str) -> String {
    let line = description.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line = line.trim_start_matches(['#', ' ']);
    line.chars().filter(|c| !c.is_control()).take(TITLE).collect()
}

impl EthereumChain {
    pub(crate) async fn open_ballots(&self) -> Result<Ballots, ChainError> {
        let governor = self.book().await?.governor;
        let creator = self.settings.poll_creator;
        let head = height(self.reader.head().await?.number)?;
        let oldest = head.saturating_sub(self.settings.ballot_search_blocks);
        // One look at a time: whoever comes meanwhile finds what it found.
        let mut known = self.ballots.known.lock().await;
        let contracts: Vec<Address> = governor.into_iter().chain(creator).collect();
        let topics = [vec![
            ILivepeerGovernor::ProposalCreated::SIGNATURE_HASH,
            IPollCreator::PollCreated::SIGNATURE_HASH,
        ]];
        let longest = known.longest.unwrap_or(LONGEST);
        let mut searches = Searches { reader: &self.reader, left: MOST_SEARCHES, longest };
        let (first, last) =
            match known.searched.filter(|(_, last)| last.saturating_sub(AGAIN) <= head) {
                _ if contracts.is_empty() => (oldest, head),
                None => {
                    let (first, events) =
                        searches.back(&contracts, &topics, (oldest, head)).await?;
                    *known = Known::default();
                    events.iter().for_each(|event| known.note(event, governor, creator));
                    (first, head)
                }
                Some((first, last)) => {
                    // What is new, before what is old.
                    let from = first.max(last.saturating_sub(AGAIN));
                    let (reached, news) = searches.back(&contracts, &topics, (from, head)).await?;
                    news.iter().for_each(|event| known.note(event, governor, creator));
                    if reached > from {
                        // There is a hole: what is before it is searched again.
                        (reached, head)
                    } else if first <= oldest {
                        (first, head)
                    } else {
                        let before = (oldest, first - 1);
                        let (first, old) = searches.back(&contracts, &topics, before).await?;
                        old.iter().for_each(|event| known.note(event, governor, creator));
                        (first, head)
                    }
                }
            };
        (known.searched, known.longest) = (Some((first, last)), Some(searches.longest));
        let found = known.clone();
        drop(known);
        let proposals = self.open_proposals(&found).await?;
        let (polls, polls_are_whole) = self.open_polls(&found, &mut searches, head).await?;
        Ok(Ballots {
            searched_from_block: first,
            searched_to_block: last,
            is_whole: first <= oldest && polls_are_whole,
            proposals,
            polls,
        })
    }

    async fn open_proposals(&self, found: &Known) -> Result<Vec<OpenProposal>, ChainError> {
        let mut open = Vec::new();
        for (id, Proposal { made_in, title }) in &found.proposals {
            match self.proposal_standing(*id).await {
                Ok(standing) => {
                    use ProposalState as S;
                    if matches!(standing.state, S::Pending | S::Active) {
                        let title = title.clone();
                        open.push((*made_in, OpenProposal { proposal_id: *id, title, standing }));
                    }
                }
                // Its block was taken back.
                Err(error) if error.revert().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        open.sort_by_key(|(made_in, proposal)| (*made_in, proposal.proposal_id));
        Ok(open.into_iter().map(|(_, proposal)| proposal).collect())
    }

    async fn open_polls(
        &self,
        found: &Known,
        searches: &mut Searches<'_>,
        head: u64,
    ) -> Result<(Vec<OpenPoll>, bool), ChainError> {
        let (mut open, mut all) = (Vec::new(), true);
        for (poll, made_in) in &found.polls {
            let standing = match self.poll_standing(*poll).await {
                Ok(standing) => standing,
                Err(ChainError::Refused { .. }) => continue,
                Err(error) => return Err(error),
            };
            if standing.l1_block > standing.end_block {
                continue;
            }
            let topics = [vec![IPoll::Vote::SIGNATURE_HASH]];
            let (first, events) = searches.back(&[*poll], &topics, (*made_in, head)).await?;
            let votes = events.iter().filter_map(|event| of::<IPoll::Vote>(event, Some(*poll)));
            // Of each voter the last one, as the oldest come first.
            let votes: BTreeMap<_, _> = votes.map(|vote| (vote.voter, vote.choiceID)).collect();
            let is_whole = first <= *made_in && votes.len() <= MOST_VOTERS;
            all &= is_whole;
            let voters = u64::try_from(votes.len()).unwrap_or(u64::MAX);
            let stakes = self.stakes(votes.keys().take(MOST_VOTERS)).await?;
            let [yes_lptu, no_lptu] = tally(&votes, &stakes);
            open.push((
                *made_in,
                OpenPoll { standing, yes_lptu, no_lptu, voters, tally_is_whole: is_whole },
            ));
        }
        open.sort_by_key(|(made_in, poll)| (*made_in, poll.standing.poll));
        Ok((open.into_iter().map(|(_, poll)| poll).collect(), all))
    }

    /// Of each account to whom it is bonded, and what.
    async fn stakes(
        &self,
        voters: impl Iterator<Item = &Address>,
    ) -> Result<BTreeMap<Address, Stake>, ChainError> {
        let bonding = self.book().await?.bonding_manager;
        let mut stakes = BTreeMap::new();
        for voter in voters {
            let delegator = IBondingManager::getDelegatorCall { d: *voter };
            let own = IBondingManager::pendingStakeCall { d: *voter, endRound: U256::ZERO };
            let whole = IBondingManager::transcoderTotalStakeCall { t: *voter };
            let (delegator, own, whole) = tokio::try_join!(
                self.reader.newest(bonding, &delegator),
                self.reader.newest(bonding, &own),
                self.reader.newest(bonding, &whole),
            )?;
            let to = delegator.delegateAddress;
            stakes.insert(*voter, Stake { to, own, whole: (to == *voter).then_some(whole) });
        }
        Ok(stakes)
    }
}

/// What an account votes with.
#[derive(Debug, Clone, Copy)]
struct Stake {
    /// To whom it is bonded.
    to: Address,
    /// Its own.
    own: U256,
    /// With that of its delegators, if it is an orchestrator's.
    whole: Option<U256>,
}

/// Stake for each choice: an orchestrator's vote is its delegators' too, but of those who voted themselves.
fn tally(votes: &BTreeMap<Address, U256>, stakes: &BTreeMap<Address, Stake>) -> [Wei; 2] {
    let mut sums = [U256::ZERO; 2];
    for (voter, choice) in votes {
        let Some(stake) = stakes.get(voter) else { continue };
        let weight = match stake.whole {
            None => stake.own,
            Some(whole) => {
                let voted = stakes.iter().filter(|(who, its)| *who != voter && its.to == *voter);
                voted.fold(whole, |rest, (_, its)| rest.saturating_sub(its.own))
            }
        };
        let sum = usize::try_from(*choice).ok().and_then(|choice| sums.get_mut(choice));
        // Others vote for whatever they like.
        if let Some(sum) = sum {
            *sum = sum.saturating_add(weight);
        }
    }
    sums.map(Wei)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orchestrator_votes_for_delegators_who_do_not() {
        let who = |n: u8| Address::repeat_byte(n);
        let number = |n: u64| U256::from(n);
        let of = |to: u8, own: u64, whole: Option<u64>| Stake {
            to: who(to),
            own: number(own),
            whole: whole.map(number),
        };
        // 1 is an orchestrator with 100, 30 of them its own; 2 has 20 of them and 3 has 10; 4 is bonded elsewhere.
        let stakes = BTreeMap::from([
            (who(1), of(1, 30, Some(100))),
            (who(2), of(1, 20, None)),
            (who(4), of(9, 7, None)),
        ]);
        let votes = |list: &[(u8, u64)]| -> BTreeMap<Address, U256> {
            list.iter().map(|(voter, choice)| (who(*voter), number(*choice))).collect()
        };
        let sums = |list: &[(u8, u64)]| tally(&votes(list), &stakes).map(|wei| wei.to_string());
        assert_eq!(sums(&[(1, 0), (2, 1), (4, 1)]), ["80", "27"]);
        assert_eq!(sums(&[(1, 0), (2, 0), (4, 5)]), ["100", "0"], "there is no fifth choice");
        assert_eq!(sums(&[]), ["0", "0"]);
    }

    #[test]
    fn a_title_is_a_line_without_tricks() {
        assert_eq!(title("\n\n# Fund it\nbecause"), "Fund it");
        assert_eq!(title("a\u{1b}[2Jb"), "a[2Jb");
        assert_eq!(title(&"x".repeat(9_999)).len(), TITLE);
        assert_eq!(title(""), "");
    }
}
