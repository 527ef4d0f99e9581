//! What a session has paid. Its account is in the hands of its start, and of the session, until that ends; the
//! sender's next session begins on the same account, with what is left. So no money moves, and nothing is
//! credited or given back twice, whenever this process, the session or its runner dies.

use super::{channels::Shape, error::LiveError};
use crate::{error::JobError, node::Node, secrets};
use penstock_domain::Address;
use penstock_ledger::orchestrator::{AccountKey, Start};
use uuid::Uuid;

/// What a session begins with.
#[derive(Debug, Clone)]
pub enum Means {
    /// What is paid for a start, and what is left of it is another start's once it is over: live video.
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
    /// The account on which a session begins: one with something left of before, or a new one; and a name
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
            tracing::info!(session, %sender, "a session begins with what is left of an earlier one");
            return Ok((start, name));
        }
        let account = AccountKey::new(sender, name.as_str());
        let account = account.map_err(|error| JobError::BadRequest(error.to_string()))?;
        Ok((Start { account, attempt: Uuid::new_v4() }, name))
    }
}
