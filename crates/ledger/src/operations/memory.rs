//! Operations in memory, for tests: like the databases, but for what outlives the machine.

use super::{
    Begun, Counted, Ended, OperationFence, OperationLedger, Spend, SpendLimits, Terms, Wanted,
    plan::{self, Change, Lease, Row, State},
};
use crate::signer::LedgerError;
use async_trait::async_trait;
use penstock_domain::Wei;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The rows; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct OperationsInMemory {
    rows: Arc<Mutex<Rows>>,
}

#[derive(Debug, Default)]
struct Rows {
    lease: Lease,
    operations: BTreeMap<String, Operation>,
}

#[derive(Debug)]
struct Operation {
    content: String,
    state: State,
    note: Option<Vec<u8>>,
    spend: Option<Spend>,
    begun_at_ms: i64,
    ended_at_ms: Option<i64>,
}

impl Operation {
    fn row(&self) -> Row {
        Row {
            content: self.content.clone(),
            state: self.state.clone(),
            has_note: self.note.is_some(),
        }
    }
}

fn sum(
    operations: &BTreeMap<String, Operation>,
    day: i64,
    but: Option<&str>,
) -> Result<Wei, LedgerError> {
    let of_day = operations.iter().filter(|(key, _)| but != Some(key.as_str()));
    let mut spends = of_day.filter_map(|(_, row)| row.spend).filter(|spend| spend.day == day);
    let sum = spends.try_fold(Wei::ZERO, |sum, spend| sum.checked_add(spend.most));
    sum.ok_or(LedgerError::Corrupt("spend_wei"))
}

impl OperationsInMemory {
    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl OperationLedger for OperationsInMemory {
    async fn begin(&self, wanted: &Wanted, terms: &Terms) -> Result<Begun, LedgerError> {
        let mut rows = self.lock();
        let oldest = terms.now_ms.saturating_sub(super::KEPT_MS);
        rows.operations.retain(|_, row| {
            row.note.is_some() || row.ended_at_ms.unwrap_or(row.begun_at_ms) >= oldest
        });
        let left = rows
            .operations
            .iter()
            .filter(|(_, row)| row.state == State::Begun && row.note.is_some());
        let left = left
            .min_by_key(|(_, row)| row.begun_at_ms)
            .map(|(key, row)| Wanted { key: key.clone(), content: row.content.clone() });
        let row = rows.operations.get(&wanted.key).map(Operation::row);
        let plan = plan::begin(wanted, terms, row.as_ref(), &rows.lease, left);
        if let Some(lease) = plan.lease {
            rows.lease = lease;
        }
        if plan.makes_row {
            let operation = Operation {
                content: wanted.content.clone(),
                state: State::Begun,
                note: None,
                spend: None,
                begun_at_ms: terms.now_ms,
                ended_at_ms: None,
            };
            rows.operations.insert(wanted.key.clone(), operation);
        }
        Ok(plan.answer)
    }

    async fn renew(&self, fence: OperationFence, until_ms: i64) -> Result<bool, LedgerError> {
        let mut rows = self.lock();
        let is_ours = rows.lease.fence == fence.0;
        if is_ours {
            rows.lease.until_ms = until_ms;
        }
        Ok(is_ours)
    }

    async fn note(&self, key: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.lock().operations.get(key).and_then(|row| row.note.clone()))
    }

    async fn set_note(
        &self,
        key: &str,
        fence: OperationFence,
        note: Option<Vec<u8>>,
    ) -> Result<bool, LedgerError> {
        let mut rows = self.lock();
        let is_ours = rows.lease.fence == fence.0 && rows.lease.key == key;
        let Some(row) = rows.operations.get_mut(key).filter(|_| is_ours) else { return Ok(false) };
        row.note = note;
        Ok(true)
    }

    async fn count(
        &self,
        key: &str,
        fence: OperationFence,
        spend: Spend,
        limits: &SpendLimits,
    ) -> Result<Counted, LedgerError> {
        let mut rows = self.lock();
        if rows.lease.fence != fence.0 || rows.lease.key != key {
            return Ok(Counted::Lost);
        }
        let others = sum(&rows.operations, spend.day, Some(key))?;
        let Some(row) = rows.operations.get_mut(key) else { return Ok(Counted::Lost) };
        let before = row.spend.map(|spend| spend.most);
        let counted = plan::count(limits, before, spend.most, others);
        if counted == Counted::Yes && before.is_none_or(|before| before < spend.most) {
            row.spend = Some(spend);
        }
        Ok(counted)
    }

    async fn counted(&self, day: i64) -> Result<Wei, LedgerError> {
        sum(&self.lock().operations, day, None)
    }

    async fn end(
        &self,
        key: &str,
        fence: OperationFence,
        ended: &Ended,
        now_ms: i64,
    ) -> Result<bool, LedgerError> {
        let mut rows = self.lock();
        if rows.lease.fence != fence.0 || rows.lease.key != key {
            return Ok(false);
        }
        rows.lease.until_ms = 0;
        let Some(row) = rows.operations.get_mut(key) else { return Ok(false) };
        match plan::end(&row.row(), ended) {
            Change::Keep => {}
            Change::Set(state) => {
                (row.state, row.note, row.ended_at_ms) = (state, None, Some(now_ms));
            }
            Change::Remove => drop(rows.operations.remove(key)),
        }
        Ok(true)
    }

    async fn close(&self) {}
}
