//! In whose hands the account of a session is, and what is left of it for its sender's next one. It is its session's
//! until that ends, whatever ends it; what it has then is free, and what a process that dies had is free by its death.
//! A name is one session's at a time: a later one could lose what it was paid to the end of the earlier.
//!
//! Live video goes on with the account itself. A session of a live runner has the account of its own name, which its client
//! knows from the challenge: there what is left is carried over, in one transaction of the books. Credits move and prices do
//! not, so that the next session is charged at the price that it was paid for, however much the earlier one cost.

use super::{
    cashier::{Cashier, MoneyError},
    holds::Hold,
    terms::{PRICE_STALE_AFTER_MS, shown},
};
use crate::{clock, node::Node};
use penstock_domain::{Address, Rational};
use penstock_ledger::orchestrator::{AccountKey, PaymentTaken, Start};
use penstock_payments::Payment;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use uuid::Uuid;

/// Pauses after tries to write that a start is over. What is never written is known by the death of
/// this process.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// Who comes under a name whose session has just ended waits so long for the end to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is paid late for a session that has ended comes sooner than that: Unix ms.
fn spent_before_ms(now_ms: i64) -> i64 {
    now_ms.saturating_sub(PRICE_STALE_AFTER_MS)
}

impl Cashier {
    /// The account of an earlier session of this sender's with something left on it that nobody runs, for the one
    /// that is to begin now.
    pub async fn adopt_start(&self, sender: Address) -> Result<Option<Start>, MoneyError> {
        let attempt = Uuid::new_v4();
        let spent_before_ms = spent_before_ms(clock::now_ms());
        let account = self.ledger.adopt_start(sender, attempt, spent_before_ms).await?;
        Ok(account.map(|account| Start { account, attempt }))
    }

    /// Takes the first payment of a session that costs `base` a unit; with it comes what is left of earlier sessions of the same
    /// sender's. Only who pays now gets that: a credential that another orchestrator was shown says who signed it,
    /// and not to whom; tickets do.
    pub async fn take_first(
        &self,
        start: &Start,
        base: Rational,
        payment: Payment,
    ) -> Result<PaymentTaken, MoneyError> {
        let taken = self.take_for_session(start, base, payment).await?;
        if taken.credited_tickets > 0 && taken.is_in_hand {
            let (to, now_ms) = (&start.account, clock::now_ms());
            let came = self.ledger.carry_over(to, spent_before_ms(now_ms), now_ms).await?;
            if came.is_positive() {
                let (session, sender) = (shown(to.session()), to.sender());
                tracing::info!(session, %sender, wei = %came, "a session begins with what is left of earlier ones");
            }
        }
        Ok(taken)
    }
}

impl Node {
    /// Gives the account of a start back, or of its session: what is left is the sender's. It is tried
    /// again behind the caller's back, which is of no effect once a later start has the account.
    pub async fn end_start(self: &Arc<Self>, start: Start) {
        if self.try_end_start(&start).await {
            return;
        }
        let node = Arc::clone(self);
        self.jobs.spawn(async move { node.try_end_start_again(&start).await });
    }

    async fn try_end_start_again(&self, start: &Start) {
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            if self.live_stop.is_cancelled() || self.try_end_start(start).await {
                return;
            }
        }
    }

    async fn try_end_start(&self, start: &Start) -> bool {
        let Some(cashier) = &self.cashier else { return true };
        match cashier.ledger.end_start(start).await {
            Ok(()) => true,
            Err(error) => {
                let session = shown(start.account.session());
                tracing::warn!(session, %error, "an account could not be given back for the next session");
                false
            }
        }
    }
}

/// Accounts in the hands of live runners' sessions of this process, from before they are paid until it is written that
/// they are over.
#[derive(Debug, Default)]
pub struct Hands {
    accounts: Mutex<HashSet<AccountKey>>,
    let_go: Notify,
}

impl Hands {
    /// Whether it is nobody's; then it is the caller's.
    fn take(&self, account: &AccountKey) -> bool {
        self.lock().insert(account.clone())
    }

    /// The same, with patience for an end that is being written.
    async fn take_soon(&self, account: &AccountKey) -> bool {
        let taken = async {
            loop {
                let let_go = self.let_go.notified();
                if self.take(account) {
                    return;
                }
                let_go.await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<AccountKey>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An account that is nobody else's meanwhile; let go when dropped.
struct Taken {
    hands: Arc<Hands>,
    account: AccountKey,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.hands.lock().remove(&self.account);
        self.hands.let_go.notify_waiters();
    }
}

/// An account in the hands of a live runner's session, or of a wish for one; given back when dropped.
pub struct Hand {
    node: Arc<Node>,
    start: Option<(Start, Taken)>,
}

impl Hand {
    /// From now on, once it is paid ([`Cashier::take_first`]). `None`: another session of this process has it.
    pub async fn new(node: &Arc<Node>, hands: &Arc<Hands>, start: Start) -> Option<Self> {
        let (hands, account) = (Arc::clone(hands), start.account.clone());
        if !hands.take_soon(&account).await {
            return None;
        }
        Some(Self { node: Arc::clone(node), start: Some((start, Taken { hands, account })) })
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        if let Some((start, taken)) = self.start.take() {
            let node = Arc::clone(&self.node);
            // In a task: the books take their time, and nobody waits for them but who comes under the same name.
            self.node.jobs.spawn(async move {
                if !node.try_end_start(&start).await {
                    node.try_end_start_again(&start).await;
                }
                drop(taken);
            });
        }
    }
}

/// What a session is paid from. When it is dropped, what is set aside is let go first, so that all that is left is there
/// for the next one.
pub struct Purse {
    /// What is set aside, and the price.
    pub hold: Hold,
    _hand: Hand,
}

impl Purse {
    /// Of an account in this hand.
    pub fn new(hold: Hold, hand: Hand) -> Self {
        Self { hold, _hand: hand }
    }
}
