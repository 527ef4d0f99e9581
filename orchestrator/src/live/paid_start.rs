//! What a session that has yet to begin has paid. Its account is the sender's start until a runner has begun
//! it; if none does, the sender's next session begins on the same account. So no money moves, and nothing is
//! credited or given back twice, whenever this process dies.

use super::{channels::Shape, error::LiveError};
use crate::{error::JobError, node::Node, secrets};
use penstock_domain::Address;
use penstock_ledger::orchestrator::{AccountKey, Start, StartEnd};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Pauses after tries to write what became of a start. What is never written is known by the death of
/// this process.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// What a session begins with.
#[derive(Debug, Clone)]
pub enum Means {
    /// What is paid for a start, and is another start's if nobody begins it: live video.
    Start(Start),
    /// An account that its client names, and may go on with: `/scope`.
    Own(AccountKey),
}

impl Means {
    /// The account.
    pub fn account(&self) -> &AccountKey {
        match self {
            Self::Start(start) => &start.account,
            Self::Own(account) => account,
        }
    }

    /// The channels of such a session.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Start(_) => Shape::Video,
            Self::Own(_) => Shape::Scope,
        }
    }
}

/// 128 bits: whoever knows a channel's name may use it.
pub(super) fn random_name() -> Result<String, LiveError> {
    Ok(hex::encode(secrets::random::<16>().map_err(|_| LiveError::Random)?))
}

impl Node {
    /// The account on which a session begins: one that was paid before and never begun, or a new one; and a name
    /// for its channels. Only who `pays` now gets the earlier one: a credential that another orchestrator
    /// was shown says who signed it, and not to whom; tickets do. Those of a new one have its own name, as in the reference; where another runner may
    /// have heard that, they have another.
    pub(super) async fn start_with(
        &self,
        sender: Address,
        pays: bool,
    ) -> Result<(Start, String), JobError> {
        let name = random_name()?;
        if let Some(cashier) = &self.cashier
            && pays
            && let Some(start) = cashier.adopt_start(sender).await.map_err(JobError::Payment)?
        {
            let session = super::shown(start.account.session());
            tracing::info!(session, %sender, "a session begins with what an earlier start has paid");
            return Ok((start, name));
        }
        let account = AccountKey::new(sender, name.as_str());
        let account = account.map_err(|error| JobError::BadRequest(error.to_string()))?;
        Ok((Start { account, attempt: Uuid::new_v4() }, name))
    }

    /// Writes what became of a start, once its gateway has heard of it or nobody will. One that is void is tried
    /// again behind the caller's back, which is of no effect once a later start has its account; one that has
    /// begun only seems void once this process is dead, to its sender's advantage.
    pub(super) async fn end_start(self: &Arc<Self>, start: Start, end: StartEnd) {
        if self.try_end_start(&start, end).await || end == StartEnd::Begun {
            return;
        }
        let node = Arc::clone(self);
        self.jobs.spawn(async move {
            for pause in PAUSES {
                tokio::time::sleep(pause).await;
                if node.live_stop.is_cancelled() || node.try_end_start(&start, end).await {
                    return;
                }
            }
        });
    }

    async fn try_end_start(&self, start: &Start, end: StartEnd) -> bool {
        let Some(cashier) = &self.cashier else { return true };
        match cashier.ledger.end_start(start, end).await {
            Ok(()) => true,
            Err(error) => {
                let session = super::shown(start.account.session());
                tracing::warn!(session, %error, ?end, "what became of a start could not be written");
                false
            }
        }
    }
}
