//! What this process remembers of senders, and how many strangers it asks the chain about at once. An address
//! costs nothing, and offers and challenges are made for whoever says one; so those that have no money here wait
//! for each other, and never for, or instead of, those that have some.

use crate::chain_view::SenderSnapshot;
use penstock_chain::ChainError;
use penstock_domain::Address;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// How long a question after a stranger waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bounds of what is asked and remembered.
#[derive(Debug, Clone, Copy)]
pub struct SenderBounds {
    /// Strangers asked about at once.
    pub lookups: usize,
    /// Remembered of each kind: those with money, those without.
    pub known: usize,
}

/// The senders.
#[derive(Debug)]
pub struct Senders {
    known: Mutex<Known>,
    turns: Semaphore,
    lookups: usize,
}

#[derive(Debug)]
struct Known {
    most: usize,
    /// Which poll of the chain it is.
    poll: u64,
    /// With the poll of what is known. Kept over polls: these ask without waiting.
    funded: HashMap<Address, (SenderSnapshot, u64)>,
    /// Of this poll.
    others: HashMap<Address, SenderSnapshot>,
}

impl Senders {
    /// Knows nobody.
    pub fn new(bounds: SenderBounds) -> Self {
        let SenderBounds { lookups, known: most } = bounds;
        let known = Known { most, poll: 0, funded: HashMap::default(), others: HashMap::default() };
        Self { known: Mutex::new(known), turns: Semaphore::new(lookups), lookups }
    }

    /// The chain was polled: what is known of senders is old.
    pub fn polled(&self) {
        let mut known = self.known();
        known.poll += 1;
        known.others.clear();
    }

    /// How a sender stands, as known, or as `ask` says.
    pub async fn of(
        &self,
        sender: Address,
        ask: impl AsyncFnOnce() -> Result<SenderSnapshot, ChainError>,
    ) -> Result<SenderSnapshot, ChainError> {
        let (is_funded, poll) = {
            let known = self.known();
            if let Some(now) = known.now(&sender) {
                return Ok(now);
            }
            (known.funded.contains_key(&sender), known.poll)
        };
        let turn = if is_funded { None } else { Some(self.turn().await?) };
        if turn.is_some()
            && let Some(now) = self.known().now(&sender)
        {
            return Ok(now);
        }
        let said = ask().await?;
        self.known().learn(sender, said, poll);
        Ok(said)
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, ChainError> {
        let waited = timeout(PATIENCE, self.turns.acquire()).await;
        waited.ok().and_then(Result::ok).ok_or_else(|| ChainError::Unavailable {
            reason: format!(
                "{} questions after senders that are not known take longer than {} ms \
                 (--max-sender-lookups)",
                self.lookups,
                PATIENCE.as_millis()
            ),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic cannot leave maps of plain values in a bad state.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn now(&self, sender: &Address) -> Option<SenderSnapshot> {
        let funded = self.funded.get(sender).filter(|(_, poll)| *poll == self.poll);
        funded.map(|(known, _)| *known).or_else(|| self.others.get(sender).copied())
    }

    /// As of that poll.
    fn learn(&mut self, sender: Address, said: SenderSnapshot, poll: u64) {
        let is_funded =
            !said.info.deposit.is_zero() || !said.info.reserve.funds_remaining.is_zero();
        if !is_funded {
            self.funded.remove(&sender);
            if poll == self.poll {
                if self.others.len() >= self.most {
                    self.others.clear();
                }
                self.others.insert(sender, said);
            }
            return;
        }
        if self.funded.len() >= self.most && !self.funded.contains_key(&sender) {
            // Money has to be there for this, so it is rare.
            let oldest = self.funded.iter().min_by_key(|(_, (_, poll))| *poll);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.funded.remove(&oldest);
            }
        }
        self.funded.insert(sender, (said, poll));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_chain::SenderInfo;
    use penstock_domain::Wei;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };
    use tokio::sync::Notify;

    const MOST: usize = 200;

    fn with(deposit: u64) -> SenderSnapshot {
        let info = SenderInfo { deposit: Wei::from_u64(deposit), ..SenderInfo::default() };
        SenderSnapshot { info, claimed_by_me: Wei::ZERO }
    }

    fn address(n: usize) -> Address {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Address::from(bytes)
    }

    async fn deposit(senders: &Senders, sender: Address, says: u64) -> u64 {
        let said = senders.of(sender, async || Ok(with(says))).await.unwrap();
        said.info.deposit.to_string().parse().unwrap()
    }

    #[tokio::test]
    async fn strangers_push_out_nobody_who_has_money() {
        let senders = Senders::new(SenderBounds { lookups: 4, known: MOST });
        let payer = address(usize::MAX);
        assert_eq!(deposit(&senders, payer, 7).await, 7);
        let mut bytes = [0; 20];
        for _ in 0..3 * MOST {
            rand::fill(&mut bytes);
            assert_eq!(deposit(&senders, Address::from(bytes), 0).await, 0);
        }
        assert!(senders.known().others.len() <= MOST);
        assert_eq!(deposit(&senders, payer, 8).await, 7, "remembered all the while");
        senders.polled();
        assert_eq!(senders.known().others.len(), 0);
        assert_eq!(deposit(&senders, payer, 8).await, 8, "asked anew after a poll");
        // Those with money are bounded as well: who was asked about last stays.
        for n in 0..MOST {
            deposit(&senders, address(n), 1).await;
        }
        senders.polled();
        assert_eq!(deposit(&senders, payer, 9).await, 9);
        assert_eq!(deposit(&senders, address(MOST + 1), 1).await, 1);
        assert_eq!(senders.known().funded.len(), MOST);
        assert_eq!(deposit(&senders, payer, 10).await, 9);
        // Who has nothing any more is a stranger again.
        senders.polled();
        assert_eq!(deposit(&senders, payer, 0).await, 0);
        assert!(!senders.known().funded.contains_key(&payer));
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_wait_for_each_other_and_those_with_money_for_nobody() {
        let (senders, gate) = (
            Arc::new(Senders::new(SenderBounds { lookups: 3, known: MOST })),
            Arc::new(Notify::new()),
        );
        let (asking, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let payer = address(usize::MAX);
        assert_eq!(deposit(&senders, payer, 7).await, 7);
        senders.polled();
        let strangers: Vec<_> = (0..100)
            .map(|n| {
                let (senders, gate) = (Arc::clone(&senders), Arc::clone(&gate));
                let (asking, most) = (Arc::clone(&asking), Arc::clone(&most));
                tokio::spawn(async move {
                    let ask = async || {
                        most.fetch_max(asking.fetch_add(1, SeqCst) + 1, SeqCst);
                        gate.notified().await;
                        asking.fetch_sub(1, SeqCst);
                        Ok(with(0))
                    };
                    senders.of(address(n), ask).await
                })
            })
            .collect();
        while asking.load(SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(deposit(&senders, payer, 8).await, 8, "at once");
        let mut refused = 0;
        // The clock goes on when nobody has anything else to do: all but three have waited long enough.
        for stranger in strangers.into_iter().rev().take(97) {
            let error = stranger.await.unwrap().unwrap_err();
            assert!(error.to_string().contains("--max-sender-lookups"), "{error}");
            refused += 1;
        }
        gate.notify_waiters();
        assert_eq!((refused, most.load(SeqCst)), (97, 3));
    }
}
