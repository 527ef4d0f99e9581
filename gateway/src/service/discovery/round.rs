//! A round of questions: everybody on the list, then the nodes that they name.

use super::{
    super::{Gateway, error::JobError, identity::offer_request},
    ANSWER_TIME, MAX_SOURCE, POOL_TTL_MS, Patience,
    member::merge,
};
use crate::clock;
use futures::{StreamExt, stream};
use penstock_clients::{ListedOrchestrator, OfferRequest, Offered};
use penstock_domain::Capabilities;
use penstock_store::{PoolEntry, PoolKey};
use std::{collections::BTreeSet, time::Duration};

/// Questions at once.
const FAN_OUT: usize = 64;
/// A job that waits for a cold pool goes on with what there is at the first of the ticks T, 2T, 4T…
/// that finds anybody (selection.md section 3).
const FIRST_TICK: Duration = Duration::from_millis(500);

impl Gateway {
    pub(super) async fn ask_around(
        &self,
        key: &PoolKey,
        job: &Capabilities,
        patience: Patience,
    ) -> Result<(), JobError> {
        let payer = match self.identity.payer(&self.signer).await {
            Ok(payer) => payer,
            Err(error) => return Err(JobError::Signer(error.message())),
        };
        let request = offer_request(&payer, job);
        let listed = self.listed();
        let (mut fresh, nodes) = self.ask(key, job, &request, listed, patience).await;
        fresh.extend(self.ask_nodes(key, job, &request, nodes).await);
        let now = clock::now();
        let old = self.store.pool(key, now).await?;
        let warm = self.discovered.with(|seen| seen.pools.contains_key(key));
        if old.is_none() && fresh.is_empty() && !warm {
            // A name that a client made up leaves nothing behind.
            return Ok(());
        }
        let pool = merge(old.unwrap_or_default(), fresh, now);
        if warm {
            metrics::gauge!("penstock_gateway_pool_orchestrators", "pool" => key.0.clone())
                .set(pool.entries.len() as f64);
        }
        self.store.put_pool(key, &pool, POOL_TTL_MS, now).await?;
        Ok(())
    }

    /// Asks those of the list, all at once. Also the further nodes that they name, each with who named
    /// it and that one's score.
    async fn ask(
        &self,
        key: &PoolKey,
        job: &Capabilities,
        request: &OfferRequest,
        listed: Vec<ListedOrchestrator>,
        patience: Patience,
    ) -> (Vec<PoolEntry>, Vec<(String, f64, String)>) {
        let (mut fresh, mut nodes) = (Vec::new(), Vec::new());
        let mut known: BTreeSet<String> = listed.iter().map(|who| who.address.clone()).collect();
        let mut answers = stream::iter(listed)
            .map(|who| async move {
                let asking =
                    self.orchestrators.get_orchestrator(&who.address, request, Some(ANSWER_TIME));
                let answer = asking.await;
                (who, answer)
            })
            .buffer_unordered(FAN_OUT);
        let mut tick = FIRST_TICK;
        let mut next_tick = tokio::time::Instant::now() + tick;
        loop {
            let answer = tokio::select! {
                answer = answers.next() => answer,
                () = tokio::time::sleep_until(next_tick) => {
                    if patience == Patience::First && !fresh.is_empty() {
                        // A job is waiting: those who are slow are asked again without it.
                        self.discovered.wake.notify_one();
                        break;
                    }
                    tick = tick.saturating_mul(2);
                    next_tick += tick;
                    continue;
                }
            };
            let Some((who, answer)) = answer else { break };
            match answer {
                Ok(offered) => {
                    let further =
                        offered.offer.nodes.iter().take(self.settings.selection.extra_nodes);
                    for node in
                        further.filter(|n| known.len() < MAX_SOURCE && known.insert((*n).clone()))
                    {
                        nodes.push((who.address.clone(), who.score, node.clone()));
                    }
                    fresh.extend(
                        self.entry(key, job, (&who.address, &who.address), who.score, offered)
                            .await,
                    );
                }
                Err(error) => {
                    let (orchestrator, why) = (&who.address, error.message());
                    tracing::debug!(pool = %key.0, orchestrator, why, "no answer to discovery");
                }
            }
        }
        (fresh, nodes)
    }

    /// Asks nodes that others named (selection.md section 3 row 3): one level, and only at addresses
    /// that peers may send us to.
    async fn ask_nodes(
        &self,
        key: &PoolKey,
        job: &Capabilities,
        request: &OfferRequest,
        nodes: Vec<(String, f64, String)>,
    ) -> Vec<PoolEntry> {
        let answers: Vec<_> = stream::iter(nodes)
            .map(|(by, score, node)| async move {
                let answer =
                    self.elsewhere.get_orchestrator(&node, request, Some(ANSWER_TIME)).await;
                (by, score, node, answer)
            })
            .buffer_unordered(FAN_OUT)
            .collect()
            .await;
        let mut fresh = Vec::new();
        for (by, score, node, answer) in answers {
            match answer {
                Ok(offered) => {
                    fresh.extend(self.entry(key, job, (&by, &node), score, offered).await)
                }
                Err(error) => {
                    let why = error.message();
                    tracing::debug!(pool = %key.0, orchestrator = node, why, "no answer to discovery");
                }
            }
        }
        fresh
    }

    /// An answer as a member of a pool. `by` is who is on the list, `asked` who answered: the same, or
    /// a node that the first one named.
    async fn entry(
        &self,
        key: &PoolKey,
        job: &Capabilities,
        (by, asked): (&str, &str),
        score: f64,
        offered: Offered,
    ) -> Option<PoolEntry> {
        match self.usable(asked, &offered.offer, job).await {
            Ok(transcoder) => Some(PoolEntry {
                asked_uri: by.to_owned(),
                transcoder,
                score,
                latency_ms: u64::try_from(offered.latency.as_millis()).unwrap_or(u64::MAX),
                info: offered.encoded,
                last_seen: clock::now(),
            }),
            Err(why) => {
                tracing::debug!(pool = %key.0, orchestrator = asked, why, "not usable");
                None
            }
        }
    }
}
