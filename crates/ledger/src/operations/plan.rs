//! What follows from the rows: whether an operation may begin, and how it ends.

use super::{Begun, Counted, Ended, OperationFence, SpendLimits, Terms, Wanted};
use penstock_chain::Receipt;
use penstock_domain::Wei;

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

/// Whether a transaction that may cost `most` may be signed. `before`: what the operation counted so far; `others`: what
/// all others of the day did.
pub(super) fn count(limits: &SpendLimits, before: Option<Wei>, most: Wei, others: Wei) -> Counted {
    // What was counted may be out: its end is brought about whatever the limits are now.
    if before.is_some_and(|before| before >= most) {
        return Counted::Yes;
    }
    if let Some(limit) = limits.per_transaction.filter(|limit| most > *limit) {
        return Counted::AboveTransaction { limit };
    }
    let of_day = others.checked_add(most);
    if let Some(limit) = limits.per_day
        && of_day.is_none_or(|of_day| of_day > limit)
    {
        return Counted::AboveDay { limit, others };
    }
    Counted::Yes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_to_the_wei_and_what_was_counted_is_not_asked_about_again() {
        let wei = Wei::from_u64;
        let limits = SpendLimits { per_transaction: Some(wei(10)), per_day: Some(wei(25)) };
        let of = |before: Option<u64>, most, others| {
            count(&limits, before.map(wei), wei(most), wei(others))
        };
        assert_eq!(of(None, 10, 15), Counted::Yes);
        assert_eq!(of(None, 11, 0), Counted::AboveTransaction { limit: wei(10) });
        assert_eq!(of(None, 10, 16), Counted::AboveDay { limit: wei(25), others: wei(16) });
        // A replacement counts as a whole; what may be out already is let through.
        assert_eq!(of(Some(9), 10, 16), Counted::AboveDay { limit: wei(25), others: wei(16) });
        assert_eq!(of(Some(11), 11, 99), Counted::Yes);
        let huge = count(&limits, None, wei(1), Wei(penstock_domain::U256::MAX));
        assert!(matches!(huge, Counted::AboveDay { .. }), "{huge:?}");
        let none = SpendLimits::default();
        assert_eq!(count(&none, None, Wei(penstock_domain::U256::MAX), wei(1)), Counted::Yes);
    }
}
