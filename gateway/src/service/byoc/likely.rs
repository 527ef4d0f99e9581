//! Who is known to have what `/v1/embeddings` wants, before anybody is asked for a token: by the network's menu, which
//! is asked for once for many jobs. So a request does not go out to everybody whom the gateway knows.

use super::search::{Terms, member};
use crate::{
    clock,
    front::caller::Caller,
    service::{
        Gateway,
        choose::{Ask, Tried},
        error::JobError,
        pools::Snapshot,
    },
};
use penstock_clients::ListedOrchestrator;
use penstock_domain::{Capabilities, Rational};
use penstock_selection::Policy;
use penstock_store::PoolKey;
use std::sync::Arc;

/// Tokens that are asked for at a time.
const AT_ONCE: usize = 8;

impl Gateway {
    /// Of these, who is known to have the capability: first those to which the job would go, in that order, then
    /// the others. Where nobody is known to (nodes need not tell) it is all of these. And how many to ask at a time.
    pub(super) async fn likely(
        self: &Arc<Self>,
        caller: &Caller,
        pool: &PoolKey,
        job: &Capabilities,
        policy: &Policy,
        listed: Vec<ListedOrchestrator>,
    ) -> Result<(Vec<ListedOrchestrator>, usize), JobError> {
        let menus = self.menus_of_embeddings().await?;
        let price = |who: &ListedOrchestrator| -> Option<Rational> {
            menus.of_asked(&who.address)?.embeddings.clone()
        };
        if !listed.iter().any(|who| price(who).is_some()) {
            return Ok((listed, usize::MAX));
        }
        let now = clock::now();
        let (mut known, mut members) = (Vec::new(), Vec::new());
        for who in listed {
            let Some(price) = price(&who) else { continue };
            // Whether it has room, its token will tell.
            let terms = Terms { price, room: 1, recipient: String::new() };
            let facts = self.facts_of(job, &who, terms, menus.of_asked(&who.address), now);
            members.push(member(&who, facts, now));
            known.push(who);
        }
        let found = Arc::new(Snapshot { refreshed_at: now, members });
        let mut chosen = Tried::default();
        for place in 0..AT_ONCE.min(known.len()) {
            let ask = Ask { caller, pool, job, stream: None, sticky: None, tried: &chosen };
            let next = self.consider_among(Arc::clone(&found), &ask, policy).await?.chosen;
            let Some(next) = next else { break };
            let is_next = |who: &ListedOrchestrator| who.address.trim_end_matches('/') == next.uri;
            if let Some(at) = known.iter().position(is_next) {
                known.swap(place, at);
            }
            chosen.0.insert(next.uri);
        }
        Ok((known, AT_ONCE))
    }
}
