//! A round of questions: everybody on the list at once, then the nodes that they name.

use super::{
    super::{Gateway, error::JobError, identity::offer_request},
    MAX_SOURCE, POOL_TTL_MS, Patience, Question,
    member::merge,
};
use crate::clock;
use futures::{Stream, StreamExt, stream::FuturesUnordered};
use penstock_clients::{ListedOrchestrator, OfferRequest, Offered};
use penstock_store::{PoolEntry, PoolKey};
use std::{collections::BTreeSet, time::Instant};
use tokio::sync::Semaphore;

/// Questions under way. Everybody on a list is asked at once; this bounds what several lists, or very
/// long ones, have in the air together. Jobs that wait have places of their own.
#[derive(Debug)]
pub(super) struct Places {
    background: Semaphore,
    waiting: Semaphore,
}

impl Default for Places {
    fn default() -> Self {
        Self { background: Semaphore::new(2_048), waiting: Semaphore::new(1_024) }
    }
}

impl Places {
    fn of(&self, patience: Patience) -> &Semaphore {
        match patience {
            Patience::All => &self.background,
            Patience::First => &self.waiting,
        }
    }
}

/// Who answered, and the further nodes that they name, each with who named it and that one's score.
type Heard = (Vec<PoolEntry>, Vec<(String, f64, String)>);

/// Asks all of them at once, as far as there are places; answers as they come.
fn at_once<'a, T: 'a, A: 'a, F: Future<Output = A> + 'a>(
    who: Vec<T>,
    places: &'a Semaphore,
    ask: impl Fn(T) -> F + 'a,
) -> impl Stream<Item = A> + 'a {
    let asked = who.into_iter().map(|one| {
        let answer = ask(one);
        async move {
            // Never closed.
            let _place = places.acquire().await;
            answer.await
        }
    });
    asked.collect::<FuturesUnordered<_>>()
}

impl Gateway {
    pub(super) async fn ask_around(
        &self,
        key: &PoolKey,
        question: &Question,
        patience: Patience,
    ) -> Result<(), JobError> {
        let began = Instant::now();
        let payer = match self.identity.payer(&self.signer).await {
            Ok(payer) => payer,
            Err(error) => return Err(JobError::Signer(error.message())),
        };
        let request = match question {
            Question::Job(job) => offer_request(&payer, job),
            Question::Menu => OfferRequest {
                address: payer.address,
                sig: payer.signature.clone(),
                capabilities: None,
                ignore_capacity_check: true,
                traceparent: None,
            },
        };
        let mut listed = self.listed();
        rand::seq::SliceRandom::shuffle(listed.as_mut_slice(), &mut rand::rng());
        let nobody = listed.is_empty();
        let ((mut fresh, nodes), whole) = self.ask(key, question, &request, listed, patience).await;
        fresh.extend(self.ask_nodes(key, question, &request, nodes, patience).await);
        let now = clock::now();
        let old = self.store.pool(key, now).await?;
        let warm = match question {
            Question::Job(_) => self.discovered.with(|seen| seen.pools.contains_key(key)),
            Question::Menu => true,
        };
        if old.is_none() && fresh.is_empty() && !warm {
            // A name that a client made up leaves nothing behind.
            return Ok(());
        }
        let old = old.unwrap_or_default();
        let refreshed_at = old.refreshed_at;
        let mut pool = merge(old, fresh, now);
        if !whole || nobody {
            // Some were not asked: the next whole round is as near as it was.
            pool.refreshed_at = refreshed_at;
        }
        if warm {
            metrics::gauge!("penstock_gateway_pool_orchestrators", "pool" => key.0.clone())
                .set(pool.entries.len() as f64);
        }
        self.store.put_pool(key, &pool, POOL_TTL_MS, now).await?;
        if warm && whole {
            metrics::histogram!("penstock_gateway_discovery_round_seconds", "pool" => key.0.clone())
                .record(began.elapsed().as_secs_f64());
        }
        if !whole {
            // Those who were not waited for are asked again soon, without a job that waits.
            if let Question::Job(job) = question {
                self.keep_warm(key.clone(), job.clone());
            }
            self.discovered.wake.notify_one();
        }
        Ok(())
    }

    /// Asks those of the list, all at once; whether all of them were waited for.
    async fn ask(
        &self,
        key: &PoolKey,
        question: &Question,
        request: &OfferRequest,
        listed: Vec<ListedOrchestrator>,
        patience: Patience,
    ) -> (Heard, bool) {
        let (mut fresh, mut nodes) = (Vec::new(), Vec::new());
        let mut known: BTreeSet<String> = listed.iter().map(|who| who.address.clone()).collect();
        let ask = |who: ListedOrchestrator| async move {
            let uri = &who.address;
            let time = Some(self.settings.discovery.answer);
            let answer = self.orchestrators.get_orchestrator(uri, request, time).await;
            let offered = match answer {
                Ok(offered) => offered,
                Err(error) => {
                    let why = error.message();
                    tracing::debug!(pool = %key.0, orchestrator = uri, why, "no answer to discovery");
                    return None;
                }
            };
            let further = offered.offer.nodes.iter().take(self.settings.selection.extra_nodes);
            let further: Vec<_> = further.cloned().collect();
            let entry = self.entry(key, question, (uri, uri), who.score, offered).await;
            Some((who, further, entry))
        };
        let mut answers = std::pin::pin!(at_once(listed, self.discovered.places.of(patience), ask));
        let mut tick = self.settings.discovery.first_tick;
        let mut next_tick = tokio::time::Instant::now() + tick;
        loop {
            let answer = tokio::select! {
                answer = answers.next() => answer,
                () = tokio::time::sleep_until(next_tick) => {
                    if patience == Patience::First && !fresh.is_empty() {
                        // A job is waiting: those who are slow are asked again without it.
                        return ((fresh, nodes), false);
                    }
                    tick = tick.saturating_mul(2);
                    next_tick += tick;
                    continue;
                }
            };
            let Some(answer) = answer else { return ((fresh, nodes), true) };
            if let Some((who, further, entry)) = answer {
                for node in further {
                    if known.len() < MAX_SOURCE && known.insert(node.clone()) {
                        nodes.push((who.address.clone(), who.score, node));
                    }
                }
                fresh.extend(entry);
            }
        }
    }

    /// Asks nodes that others named (selection.md section 3 row 3): one level, and only at addresses
    /// that peers may send us to.
    async fn ask_nodes(
        &self,
        key: &PoolKey,
        question: &Question,
        request: &OfferRequest,
        nodes: Vec<(String, f64, String)>,
        patience: Patience,
    ) -> Vec<PoolEntry> {
        let ask = |(by, score, node): (String, f64, String)| async move {
            let time = Some(self.settings.discovery.answer);
            match self.elsewhere.get_orchestrator(&node, request, time).await {
                Ok(offered) => self.entry(key, question, (&by, &node), score, offered).await,
                Err(error) => {
                    let why = error.message();
                    tracing::debug!(pool = %key.0, orchestrator = node, why, "no answer to discovery");
                    None
                }
            }
        };
        let answers = at_once(nodes, self.discovered.places.of(patience), ask);
        answers.filter_map(std::future::ready).collect().await
    }

    /// An answer as a member of a pool. `by` is who is on the list, `asked` who answered: the same, or
    /// a node that the first one named.
    async fn entry(
        &self,
        key: &PoolKey,
        question: &Question,
        (by, asked): (&str, &str),
        score: f64,
        offered: Offered,
    ) -> Option<PoolEntry> {
        let transcoder = match question {
            Question::Job(job) => self.usable(asked, &offered.offer, job).await,
            // Nobody goes there.
            Question::Menu => {
                Ok(offered.offer.transcoder.clone().unwrap_or_else(|| asked.to_owned()))
            }
        };
        if let (Ok(uri), Question::Job(_), Some(address)) =
            (&transcoder, question, offered.offer.address)
        {
            self.discovered.with(|seen| seen.keys.heard(uri, address));
        }
        match transcoder {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, time::Duration};
    use tokio::sync::Barrier;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// Nobody answers before everybody was asked.
    #[tokio::test]
    async fn a_thousand_are_asked_at_once() {
        let (places, all) = (Places::default(), Arc::new(Barrier::new(1_000)));
        let ask = |n: u32| {
            let all = Arc::clone(&all);
            async move {
                all.wait().await;
                n
            }
        };
        for patience in [Patience::All, Patience::First] {
            let answers = at_once((0..1_000).collect(), places.of(patience), ask);
            let answers = tokio::time::timeout(DEADLINE, answers.collect::<Vec<_>>()).await;
            assert_eq!(answers.unwrap().len(), 1_000);
        }
    }

    /// A quarter that is silent, in two pools at once, keeps nobody else from being heard.
    #[tokio::test]
    async fn a_silent_quarter_stops_nobody() {
        let (places, gate) = (Places::default(), Semaphore::new(0));
        let gate = &gate;
        let ask = |n: u32| async move {
            if n.is_multiple_of(4) {
                let _open = gate.acquire().await;
            }
            n
        };
        let round = || at_once((0..1_000).collect(), places.of(Patience::All), ask);
        let (one, other) = (round().boxed_local(), round().boxed_local());
        let mut both = futures::stream::select(one, other);
        for _ in 0..1_500 {
            let heard = tokio::time::timeout(DEADLINE, both.next()).await.unwrap();
            assert_ne!(heard.unwrap() % 4, 0);
        }
        gate.close();
        assert_eq!(both.count().await, 500, "and the rest when they speak");
    }
}
