//! What follows from the rows: whether an operation may begin, and how it ends.

use super::{Begun, Ended, OperationFence, Terms, Wanted};
use penstock_chain::Receipt;

/// How one stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Begun,
    Done(Receipt),
    Failed(String),
}

/// An operation's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub content: String,
    pub state: State,
    pub has_note: bool,
}

/// The lease's row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lease {
    pub holder: String,
    pub key: String,
    pub fence: u64,
    pub until_ms: i64,
}

/// What is written when one is asked for, and what is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub lease: Option<Lease>,
    /// Whether the wanted one's row is made.
    pub makes_row: bool,
    pub answer: Begun,
}

/// `left`: the one that was sent and has no end, if there is one.
pub(super) fn begin(
    wanted: &Wanted,
    terms: &Terms,
    row: Option<&Row>,
    lease: &Lease,
    left: Option<Wanted>,
) -> Plan {
    let only = |answer| Plan { lease: None, makes_row: false, answer };
    match row {
        Some(row) if row.content != wanted.content => return only(Begun::OtherContent),
        Some(Row { state: State::Done(receipt), .. }) => return only(Begun::Done(*receipt)),
        Some(Row { state: State::Failed(reason), .. }) => {
            return only(Begun::Failed(reason.clone()));
        }
        _ => {}
    }
    // A name's earlier life is over: one process has it.
    if lease.until_ms > terms.now_ms && lease.holder != terms.holder {
        let (key, until_ms) = (lease.key.clone(), lease.until_ms);
        return only(Begun::UnderWay { key, until_ms });
    }
    let taken = lease.fence.saturating_add(1);
    let fence = OperationFence(taken);
    let lease_for = |key: &str| Lease {
        holder: terms.holder.clone(),
        key: key.to_owned(),
        fence: taken,
        until_ms: terms.now_ms.saturating_add(terms.lease_ms),
    };
    match left {
        Some(left) if left.key != wanted.key => Plan {
            lease: Some(lease_for(&left.key)),
            makes_row: false,
            answer: Begun::First { fence, left },
        },
        _ => Plan {
            lease: Some(lease_for(&wanted.key)),
            makes_row: row.is_none(),
            answer: Begun::Yours { fence, is_new: row.is_none() },
        },
    }
}

/// What becomes of the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Set(State),
    /// The key is free again.
    Remove,
    Keep,
}

pub(super) fn end(row: &Row, ended: &Ended) -> Change {
    match ended {
        Ended::Done(receipt) => Change::Set(State::Done(*receipt)),
        Ended::Refused(reason) if row.has_note => Change::Set(State::Failed(reason.clone())),
        Ended::Refused(_) => Change::Remove,
        Ended::Open if row.has_note => Change::Keep,
        Ended::Open => Change::Remove,
    }
}
