//! The books in PostgreSQL, shared by processes.
//!
//! Whoever changes an account holds its row; nonces of an offer are one row, whose length is its
//! version; unique keys decide who was first, and whoever was not rolls back, reads and plans again.
//! Nothing rests on the isolation level, which is READ COMMITTED. Order of locks, which keeps
//! transactions from deadlock: the horizon (an advisory lock), nonces, one account or several in the order of their
//! names, starts, leases.

mod accounts;
mod holds;
mod invoices;
mod journal;
mod keeper;
mod leases;
mod payment;
mod starts;
mod trainings;
mod winners;

use super::{
    Account, AccountKey, Booked, Debit, Fence, Held, HoldId, HoldRequest, Invoice, InvoiceQuery,
    LeaseTime, LedgerError, Mark, OrchestratorLedger, PaymentReceipt, PaymentTaken, QueueLimits,
    Queued, Start, StoredWinner, Totals, WinnerStatus, redemption::End,
};
use crate::{
    DatabaseError,
    postgres::{
        Fault as _,
        pools::{Pools, Sizes, takes_writes},
        silence::Limits,
        transaction::Tx,
    },
    sqlite::OpenError,
};
use async_trait::async_trait;
use holds::Us;
use keeper::Keeper;
use penstock_chain::Standing;
use penstock_domain::{Address, B256, Rational, Wei};
use penstock_payments::Winner;
use sqlx::Connection as _;
use std::sync::Arc;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Payments and fees at once, what they read beside that, and what operators read.
const SIZES: Sizes =
    Sizes { application: "penstock-orchestrator", writers: 8, readers: 4, reports: 2 };
/// How often something is planned again because others were faster. Each time one of them has got on.
const TRIES: u32 = 32;
/// A transaction whose loss does no harm: what it says lapses anyway, or is said again.
const LIGHT: &str = "BEGIN; SET LOCAL synchronous_commit = off";

type Answer<T> = Result<T, LedgerError>;

/// What a transaction came to: `None` means that others were faster.
type Step<T> = Result<Option<T>, LedgerError>;

/// The orchestrator's ledger in a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresOrchestratorLedger {
    pools: Pools,
    /// This opening of the books, among all.
    process: Uuid,
    lease: LeaseTime,
    keeper: Arc<Keeper>,
}

impl PostgresOrchestratorLedger {
    /// Connects to `postgres://…`, and migrates as needed. From then on this process is alive to the
    /// others, until it is closed or has not been heard of for `lease`.
    pub async fn open(url: &str, limits: Limits, lease: LeaseTime) -> Result<Self, OpenError> {
        let pools = Pools::open(url, &super::POSTGRES_MIGRATIONS, SIZES, limits).await?;
        let process = Uuid::new_v4();
        let keeper =
            Keeper::start(pools.clone(), process, lease).await.map_err(|error| match error {
                LedgerError::Unavailable(DatabaseError::Sqlx(error)) => OpenError::Database(error),
                other => OpenError::Books(other.to_string()),
            })?;
        Ok(Self { pools, process, lease, keeper: Arc::new(keeper) })
    }

    /// Does `work` in a transaction that begins with `begin`, until nobody was faster.
    async fn settle<T, F>(&self, begin: &'static str, work: impl Fn(Tx) -> F) -> Answer<T>
    where
        F: Future<Output = Step<(Tx, T)>> + Send,
    {
        for _ in 0..TRIES {
            let tx = self.pools.begin_with::<LedgerError>(begin).await?;
            let step = self.pools.watch.answer(work(tx)).await;
            if let Some((tx, done)) = step.or_else(or_again)? {
                self.pools.commit::<LedgerError>(tx).await?;
                return Ok(done);
            }
        }
        Err(away("others were faster each time"))
    }

    async fn take_hold(&self, ask: &HoldRequest) -> Answer<Held> {
        let gone = self.keeper.gone();
        let us = Us { process: self.process, gone: &gone };
        for _ in 0..2 {
            let step = |mut tx: Tx| async move {
                let step = holds::take(&mut tx, us, ask).await?;
                Ok(step.map(|done| (tx, done)))
            };
            if let Some(held) = self.settle(LIGHT, step).await? {
                if held == Held::Aside {
                    self.keeper.took(ask);
                }
                return Ok(held);
            }
            // To the others this process was dead, so that its row is gone.
            self.keeper.renew().await?;
        }
        Err(away("this process's lease does not hold"))
    }
}

/// The database is of no use now, for a reason that it does not say itself.
fn away(reason: &'static str) -> LedgerError {
    sqlx::Error::Io(std::io::Error::other(reason)).into()
}

/// A row that breaks a constraint, or a deadlock, shows that another process was faster.
fn or_again<T>(error: LedgerError) -> Step<T> {
    let code = error.database().and_then(|error| error.as_database_error()?.code());
    // unique_violation, foreign_key_violation, deadlock_detected, serialization_failure
    let faster = matches!(code.as_deref(), Some("23505" | "23503" | "40P01" | "40001"));
    if faster { Ok(None) } else { Err(error) }
}

#[async_trait]
impl OrchestratorLedger for PostgresOrchestratorLedger {
    async fn receive_payment(&self, receipt: &PaymentReceipt) -> Answer<PaymentTaken> {
        let process = self.process;
        let taken = self
            .settle(payment::BEGIN, |mut tx| async move {
                let step = payment::receive(&mut tx, receipt, process).await?;
                Ok(step.map(|done| (tx, done)))
            })
            .await?;
        if taken.credited_tickets > 0 {
            penstock_failpoint::hit("orchestrator.after_credit");
        }
        Ok(taken)
    }

    async fn account(&self, key: &AccountKey) -> Answer<Option<Account>> {
        self.pools.read(|mut reader| async move { accounts::find(&mut reader, key).await }).await
    }

    async fn adopt_start(
        &self,
        sender: Address,
        attempt: Uuid,
        spent_before_ms: i64,
    ) -> Answer<Option<AccountKey>> {
        let process = self.process;
        self.settle("BEGIN", |mut tx| async move {
            let done = starts::adopt(&mut tx, sender, process, attempt, spent_before_ms).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn carry_over(
        &self,
        to: &AccountKey,
        spent_before_ms: i64,
        now_ms: i64,
    ) -> Answer<Rational> {
        let gone = self.keeper.gone();
        let us = Us { process: self.process, gone: &gone };
        self.settle("BEGIN", |mut tx| async move {
            let carried = starts::carry(&mut tx, us, to, spent_before_ms, now_ms).await?;
            Ok(Some((tx, carried)))
        })
        .await
    }

    async fn end_start(&self, start: &Start) -> Answer<()> {
        let process = self.process;
        self.settle("BEGIN", |mut tx| async move {
            starts::end(&mut tx, start, process).await?;
            Ok(Some((tx, ())))
        })
        .await
    }

    async fn debit(&self, debit: &Debit) -> Answer<Booked> {
        let gone = self.keeper.gone();
        let us = Us { process: self.process, gone: &gone };
        let booked = self
            .settle("BEGIN", |mut tx| async move {
                let step = accounts::debit(&mut tx, us, debit).await?;
                Ok(step.map(|done| (tx, done)))
            })
            .await?;
        match (&debit.hold, &booked) {
            (Some(hold), Booked::Now(_)) => self.keeper.spent(hold, &debit.fee()),
            (Some(hold), Booked::Before) if hold.ends => self.let_go(hold.id),
            _ => {}
        }
        Ok(booked)
    }

    async fn hold(&self, ask: &HoldRequest) -> Answer<Held> {
        let (this, ask) = (self.clone(), ask.clone());
        let (tell, told) = oneshot::channel();
        // To its end, also when nobody waits for it any more: what is set aside then is let go.
        tokio::spawn(async move {
            let held = this.take_hold(&ask).await;
            if tell.send(held).is_err() {
                this.let_go(ask.id);
            }
        });
        told.await.unwrap_or_else(|_| Err(away("the ledger is closed")))
    }

    fn let_go(&self, hold: HoldId) {
        self.keeper.let_go(hold);
    }

    async fn redeemer(&self) -> Answer<Option<Fence>> {
        let (process, lease) = (self.process, self.lease);
        self.settle("BEGIN", |mut tx| async move {
            let done = leases::redeemer(&mut tx, process, lease).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn claim(&self, marks: &[Mark], replace: bool) -> Answer<Vec<&'static str>> {
        self.settle("BEGIN", |mut tx| async move {
            let done = leases::claim(&mut tx, marks, replace).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn fold(&self, before_ms: i64, limit: u32) -> Answer<u64> {
        // Lines and their sums are lost together, and folded again.
        self.settle(LIGHT, |mut tx| async move {
            let done = journal::fold(&mut tx, before_ms, limit).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn forget_nonces(&self, block: u64) -> Answer<u64> {
        self.settle(payment::BEGIN_FORGET, |mut tx| async move {
            let done = payment::forget(&mut tx, block).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn winners_due(&self, block: u64, limit: u32) -> Answer<Vec<StoredWinner>> {
        self.pools
            .read(|mut reader| async move { winners::due(&mut reader, block, limit).await })
            .await
    }

    async fn winners_with(&self, status: WinnerStatus, limit: u32) -> Answer<Vec<StoredWinner>> {
        self.pools
            .read(
                |mut reader| async move { winners::with_status(&mut reader, status, limit).await },
            )
            .await
    }

    async fn begin_redemption(&self, ticket: B256, fence: Fence, now_ms: i64) -> Answer<bool> {
        let process = self.process;
        self.settle("BEGIN", |mut tx| async move {
            let done = winners::begin(&mut tx, process, ticket, fence, now_ms).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn mark_redeemed(
        &self,
        ticket: B256,
        tx_hash: Option<B256>,
        block: Option<u64>,
        short: Option<&str>,
        now_ms: i64,
    ) -> Answer<()> {
        let end = End::Redeemed { tx_hash, block, short };
        self.settle("BEGIN", |mut tx| async move {
            let done = winners::settle(&mut tx, ticket, end, now_ms).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn unsettled_redemptions(&self, block: u64, limit: u32) -> Answer<Vec<StoredWinner>> {
        self.pools
            .read(|mut reader| async move { winners::unsettled(&mut reader, block, limit).await })
            .await
    }

    async fn settle_redemption(
        &self,
        ticket: B256,
        fence: Fence,
        standing: Standing,
        short: Option<&str>,
        now_ms: i64,
    ) -> Answer<bool> {
        self.settle("BEGIN", |mut tx| async move {
            let done = winners::look(&mut tx, ticket, fence, standing, short, now_ms).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn requeue(
        &self,
        ticket: B256,
        fence: Fence,
        reason: &str,
        retry_block: u64,
        now_ms: i64,
    ) -> Answer<()> {
        let end = End::Again { reason, retry_block, fence };
        self.settle("BEGIN", |mut tx| async move {
            let done = winners::settle(&mut tx, ticket, end, now_ms).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn mark_failed(
        &self,
        ticket: B256,
        fence: Fence,
        reason: &str,
        now_ms: i64,
    ) -> Answer<()> {
        let end = End::Failed { reason, fence };
        self.settle("BEGIN", |mut tx| async move {
            let done = winners::settle(&mut tx, ticket, end, now_ms).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn winners_to_hand_over(&self, block: u64, limit: u32) -> Answer<Vec<StoredWinner>> {
        self.pools
            .read(
                |mut reader| async move { winners::to_hand_over(&mut reader, block, limit).await },
            )
            .await
    }

    async fn mark_handed_over(&self, ticket: B256, now_ms: i64) -> Answer<()> {
        self.settle("BEGIN", |mut tx| async move {
            let done = winners::handed_over(&mut tx, ticket, now_ms).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn handed_over_before(&self, round: u64, limit: u32) -> Answer<Vec<StoredWinner>> {
        self.pools
            .read(|mut reader| async move {
                winners::handed_over_before(&mut reader, round, limit).await
            })
            .await
    }

    async fn take_back_winners(&self, before_ms: i64, now_ms: i64) -> Answer<u64> {
        self.settle("BEGIN", |mut tx| async move {
            let done = winners::take_back(&mut tx, before_ms, now_ms).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn queue_winner(
        &self,
        winner: &Winner,
        limits: QueueLimits,
        now_ms: i64,
    ) -> Answer<Queued> {
        self.settle("BEGIN", |mut tx| async move {
            let done = winners::queue(&mut tx, winner, limits, now_ms).await?;
            Ok(Some((tx, done)))
        })
        .await
    }

    async fn open_face_value(&self, sender: Address, round: u64) -> Answer<Wei> {
        self.pools
            .read(|mut reader| async move {
                winners::open_face_value(&mut reader, sender, round).await
            })
            .await
    }

    async fn pending_face_value(&self, sender: Address) -> Answer<Wei> {
        self.pools
            .read(|mut reader| async move { winners::pending(&mut reader, sender).await })
            .await
    }

    async fn accounts(&self, limit: u32) -> Answer<Vec<Account>> {
        self.pools
            .report(|mut reader| async move { accounts::list(&mut reader, limit).await })
            .await
    }

    async fn invoices(&self, query: &InvoiceQuery) -> Answer<Vec<Invoice>> {
        self.pools
            .report(|mut reader| async move {
                // One transaction: all of it as it was at one moment.
                let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                let mut tx = reader.begin_with(snapshot).await?;
                let invoices = invoices::of(&mut tx, query).await?;
                tx.commit().await?;
                Ok(invoices)
            })
            .await
    }

    async fn winners(&self, limit: u32) -> Answer<Vec<StoredWinner>> {
        self.pools.report(|mut reader| async move { winners::list(&mut reader, limit).await }).await
    }

    async fn totals(&self) -> Answer<Totals> {
        self.pools
            .report(|mut reader| async move {
                let mut totals = Totals::default();
                accounts::add_totals(&mut reader, &mut totals).await?;
                winners::add_totals(&mut reader, &mut totals).await?;
                Ok(totals)
            })
            .await
    }

    async fn ping(&self) -> Answer<()> {
        self.pools.read(takes_writes).await
    }

    async fn close(&self) {
        self.keeper.end().await;
        self.pools.close().await;
    }
}
