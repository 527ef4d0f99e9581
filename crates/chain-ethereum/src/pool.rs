//! The orchestrators that are active this round, kept until something says that they changed.
//!
//! Reading them takes a question for each place of the pool, three or four for each orchestrator. So they are read when a
//! round begins, when an event of the contracts tells of a change, and when the chain is not the one any more that they
//! were read from; otherwise a look takes three questions.
//!
//! An endpoint that is behind tells of no events of blocks that it does not have, without saying so. So each search goes
//! back over blocks that were searched before, for longer than an endpoint may be behind, though never before the block
//! that all was read at; and after a while all is read anew whatever events say.

use crate::{
    address_book::AddressBook,
    contracts::{IBondingManager, IRoundsManager, IServiceRegistry},
    reader::{At, Reader, Search, height, to_u64},
    rpc::{
        RpcError,
        wire::{Event, Head, Word},
    },
    settings::Settings,
};
use alloy_sol_types::SolEvent as _;
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use penstock_chain::{ActiveOrchestrator, ChainError, NEVER};
use penstock_domain::{Address, B256};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// Longest pool that is walked; the contract's is 100.
const MAX_POOL: usize = 1_000;
/// Orchestrators asked about at once.
const AT_ONCE: usize = 8;
/// After more blocks than this nobody looks for events any more: the pool is read anew.
const MAX_SEARCH_BLOCKS: u64 = 5_000;
/// Blocks that a chain makes in a second, at most.
const BLOCKS_A_SECOND: u64 = 10;
/// How old a newest block may be where that is not looked at.
const USUAL_HEAD_AGE: Duration = Duration::from_secs(60);
/// Longest service URI that is kept.
const MAX_URI_BYTES: usize = 512;

/// The pool as read last.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    known: Mutex<Option<Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    /// The block that all of it was read at, and when.
    read_of: u64,
    read_at: Instant,
    /// The block up to which no event told of a change.
    as_of: u64,
    hash: B256,
    round: u64,
    active: Vec<ActiveOrchestrator>,
}

impl Pool {
    /// Those active as of the newest block.
    pub(crate) async fn active(
        &self,
        reader: &Reader,
        book: &AddressBook,
        settings: &Settings,
    ) -> Result<Vec<ActiveOrchestrator>, ChainError> {
        // One reading at a time: whoever comes meanwhile waits for it and finds it done.
        let mut known = self.known.lock().await;
        let head = reader.head().await?;
        let number = height(head.number)?;
        if let Some(known) = known.as_mut()
            && known.read_at.elapsed() < settings.pool_reread
        {
            if known.as_of == number && known.hash == head.hash.0 {
                return Ok(known.active.clone());
            }
            let round = round_at(reader, book, number).await?;
            if round == known.round
                && is_unchanged(reader, book, known, number, overlap(settings)).await?
            {
                (known.as_of, known.hash) = (number, head.hash.0);
                return Ok(known.active.clone());
            }
        }
        let before: Vec<Address> = known
            .as_ref()
            .map(|known| known.active.iter().map(|orchestrator| orchestrator.address).collect())
            .unwrap_or_default();
        let read = read(reader, book, &head, number, &before).await?;
        let active = read.active.clone();
        *known = Some(read);
        Ok(active)
    }
}

async fn round_at(reader: &Reader, book: &AddressBook, number: u64) -> Result<u64, ChainError> {
    let call = IRoundsManager::currentRoundCall {};
    to_u64(reader.at(At::Block(number), book.rounds_manager, &call).await?, "the round")
}

/// Whether nothing happened to the pool since it was read, on the same chain.
async fn is_unchanged(
    reader: &Reader,
    book: &AddressBook,
    known: &Known,
    number: u64,
    overlap: u64,
) -> Result<bool, ChainError> {
    if number <= known.as_of || number - known.as_of > MAX_SEARCH_BLOCKS {
        return Ok(false);
    }
    let then = reader.block_at(known.as_of).await?;
    if then.is_none_or(|then| then.hash.0 != known.hash) {
        return Ok(false);
    }
    let mut contracts = vec![book.bonding_manager];
    contracts.extend(&book.service_registries);
    let topics = [vec![
        IBondingManager::TranscoderActivated::SIGNATURE_HASH,
        IBondingManager::TranscoderDeactivated::SIGNATURE_HASH,
        IServiceRegistry::ServiceURIUpdate::SIGNATURE_HASH,
    ]];
    let next = known.as_of + 1;
    // What was in the block that all was read at, or before, is known: an event that is found is news, however old.
    let mut froms = vec![next.saturating_sub(overlap).max(known.read_of + 1), next];
    froms.dedup();
    for from in froms {
        let search = Search { contracts: &contracts, topics: &topics, from, to: number };
        match reader.events(&search).await {
            Ok(events) => return Ok(!events.iter().any(|event| is_news(known, event))),
            // Too many blocks for this endpoint.
            Err(RpcError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // However few: then all is read anew.
    Ok(false)
}

/// Anyone may write to a registry, and whoever is not active changes nothing before the next round.
fn is_news(known: &Known, event: &Event) -> bool {
    let about = |who: &Word| Address::from_word(who.0);
    match event.topics.as_slice() {
        [kind, who, ..] if kind.0 == IServiceRegistry::ServiceURIUpdate::SIGNATURE_HASH => {
            known.active.iter().any(|active| active.address == about(who))
        }
        _ => true,
    }
}

/// Blocks that an endpoint may be behind another one without counting as failing.
fn overlap(settings: &Settings) -> u64 {
    let age = settings.max_head_age.unwrap_or(USUAL_HEAD_AGE).as_secs();
    // Its newest block is looked at every quarter of that.
    let seconds = age.saturating_add(age / 4);
    seconds.saturating_mul(BLOCKS_A_SECOND).min(MAX_SEARCH_BLOCKS)
}

/// Walks the pool and asks about each, all as of one block. Those `before` are asked about too: whoever leaves the pool is
/// active until the round ends.
async fn read(
    reader: &Reader,
    book: &AddressBook,
    head: &Head,
    number: u64,
    before: &[Address],
) -> Result<Known, ChainError> {
    let (at, pool) = (At::Block(number), book.bonding_manager);
    let round = round_at(reader, book, number).await?;
    let mut seen = HashSet::new();
    let mut addresses = Vec::new();
    let mut next = reader.at(at, pool, &IBondingManager::getFirstTranscoderInPoolCall {}).await?;
    while !next.is_zero() {
        if addresses.len() >= MAX_POOL || !seen.insert(next) {
            return Err(ChainError::BadAnswer { reason: "the pool has no end".to_owned() });
        }
        addresses.push(next);
        next =
            reader.at(at, pool, &IBondingManager::getNextTranscoderInPoolCall { t: next }).await?;
    }
    addresses.extend(before.iter().copied().filter(|address| !seen.contains(address)));
    let registries = registries(reader, book, at).await?;
    let member = |address| member(reader, book, &registries, at, address);
    let members = addresses.into_iter().map(member);
    let members: Vec<ActiveOrchestrator> =
        stream::iter(members).buffered(AT_ONCE).try_collect().await?;
    let is_active =
        |o: &ActiveOrchestrator| (o.activation_round..o.deactivation_round).contains(&round);
    let active = members.into_iter().filter(is_active).collect();
    let (read_of, read_at) = (number, Instant::now());
    Ok(Known { read_of, read_at, as_of: number, hash: head.hash.0, round, active })
}

/// Those of the registries that answer as one does. Where another than the first does not, what is in the first is as good
/// as before.
async fn registries(
    reader: &Reader,
    book: &AddressBook,
    at: At,
) -> Result<Vec<Address>, ChainError> {
    let mut answering = Vec::with_capacity(book.service_registries.len());
    let nobody = IServiceRegistry::getServiceURICall { addr: Address::ZERO };
    for (place, registry) in book.service_registries.iter().enumerate() {
        match reader.at(at, *registry, &nobody).await {
            Err(error @ (ChainError::BadAnswer { .. } | ChainError::Reverted(_))) if place > 0 => {
                tracing::warn!(%registry, %error,
                    "no service registry is there, so it is not read: see --eth-ai-service-registry");
            }
            Err(error) => return Err(error),
            Ok(_) => answering.push(*registry),
        }
    }
    Ok(answering)
}

async fn member(
    reader: &Reader,
    book: &AddressBook,
    registries: &[Address],
    at: At,
    address: Address,
) -> Result<ActiveOrchestrator, ChainError> {
    let terms = IBondingManager::getTranscoderCall { t: address };
    let uri = IServiceRegistry::getServiceURICall { addr: address };
    let stake = IBondingManager::transcoderTotalStakeCall { t: address };
    let uris = try_join_all(registries.iter().map(|registry| reader.at(at, *registry, &uri)));
    let (terms, uris, stake_lptu) = tokio::try_join!(
        reader.at(at, book.bonding_manager, &terms),
        uris,
        reader.at(at, book.bonding_manager, &stake),
    )?;
    let mut known = HashSet::new();
    let mut uris = uris.into_iter().filter(|uri| {
        // A stranger's text: one that is too long for an address is none.
        !uri.is_empty() && uri.len() <= MAX_URI_BYTES && known.insert(uri.clone())
    });
    let round = |number| u64::try_from(number).unwrap_or(NEVER).min(NEVER);
    Ok(ActiveOrchestrator {
        address,
        service_uri: uris.next().unwrap_or_default(),
        more_service_uris: uris.collect(),
        activation_round: round(terms.activationRound),
        deactivation_round: round(terms.deactivationRound),
        stake_lptu,
    })
}
