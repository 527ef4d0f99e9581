//! The operations in SQLite and in PostgreSQL: the same statements, which both understand. A write begins by locking
//! the lease's one row, so that writes happen one after the other.

use super::{
    Begun, Counted, Ended, KEPT_MS, OperationFence, OperationLedger, Spend, SpendLimits, Terms,
    Wanted,
    plan::{self, Change, Lease, Row, State},
};
use crate::{
    postgres::{bounded_pool::Pool, silence::Watch},
    signer::LedgerError,
    sqlite::Sqlite,
};
use async_trait::async_trait;
use penstock_chain::Receipt;
use penstock_domain::{Wei, parse_b256};
use sqlx::{
    Connection as _, PgConnection, Row as _, SqliteConnection, postgres::PgRow, sqlite::SqliteRow,
};

const LOCK: &str = "UPDATE operations_lease SET fence = fence WHERE one = 1 \
    RETURNING holder, key, fence, until_ms";
const SET_LEASE: &str =
    "UPDATE operations_lease SET holder = $1, key = $2, fence = $3, until_ms = $4 WHERE one = 1";
const RENEW: &str = "UPDATE operations_lease SET until_ms = $1 WHERE one = 1 AND fence = $2";
const PRUNE: &str =
    "DELETE FROM operations WHERE note IS NULL AND coalesce(ended_at_ms, begun_at_ms) < $1";
const FIND: &str = "SELECT content, state, tx_hash, l1_block, reason, note IS NOT NULL AS has_note \
    FROM operations WHERE key = $1";
const LEFT: &str = "SELECT key, content FROM operations WHERE ended_at_ms IS NULL AND note IS NOT NULL \
    ORDER BY begun_at_ms, key LIMIT 1";
const MAKE: &str =
    "INSERT INTO operations (key, content, state, begun_at_ms) VALUES ($1, $2, 'begun', $3)";
const NOTE: &str = "SELECT note FROM operations WHERE key = $1";
const SET_NOTE: &str = "UPDATE operations SET note = $1 WHERE key = $2";
const END: &str = "UPDATE operations SET state = $1, tx_hash = $2, l1_block = $3, reason = $4, ended_at_ms = $5, \
    note = NULL WHERE key = $6";
const SPENDS: &str = "SELECT key, spend_wei FROM operations WHERE spend_day = $1";
const SPEND_OF: &str = "SELECT spend_wei FROM operations WHERE key = $1";
const SET_SPEND: &str = "UPDATE operations SET spend_wei = $1, spend_day = $2 WHERE key = $3";
const REMOVE: &str = "DELETE FROM operations WHERE key = $1";

type Answer<T> = Result<T, LedgerError>;

fn signed(n: u64) -> Answer<i64> {
    i64::try_from(n).map_err(|_| LedgerError::Misuse("a number above 2^63"))
}

fn unsigned(n: i64, column: &'static str) -> Answer<u64> {
    u64::try_from(n).map_err(|_| LedgerError::Corrupt(column))
}

fn receipt(tx_hash: Option<&str>, l1_block: Option<i64>) -> Answer<Receipt> {
    let tx_hash = tx_hash.and_then(parse_b256).ok_or(LedgerError::Corrupt("tx_hash"))?;
    let l1_block = unsigned(l1_block.ok_or(LedgerError::Corrupt("l1_block"))?, "l1_block")?;
    Ok(Receipt { tx_hash, l1_block })
}

fn wei(text: &str) -> Answer<Wei> {
    text.parse().map(Wei).map_err(|_| LedgerError::Corrupt("spend_wei"))
}

macro_rules! books {
    ($module:ident, $connection:ty, $row:ty) => {
        mod $module {
            use super::*;

            fn get<'r, T>(row: &'r $row, column: &'static str) -> Answer<T>
            where
                T: sqlx::Decode<'r, <$row as sqlx::Row>::Database>
                    + sqlx::Type<<$row as sqlx::Row>::Database>,
            {
                row.try_get(column).map_err(|_| LedgerError::Corrupt(column))
            }

            async fn lock(db: &mut $connection) -> Answer<Lease> {
                let row = sqlx::query(LOCK).fetch_one(db).await?;
                Ok(Lease {
                    holder: get(&row, "holder")?,
                    key: get(&row, "key")?,
                    fence: unsigned(get(&row, "fence")?, "fence")?,
                    until_ms: get(&row, "until_ms")?,
                })
            }

            async fn find(db: &mut $connection, key: &str) -> Answer<Option<Row>> {
                let Some(row) = sqlx::query(FIND).bind(key).fetch_optional(db).await? else {
                    return Ok(None);
                };
                let state: String = get(&row, "state")?;
                let state = match state.as_str() {
                    "begun" => State::Begun,
                    "done" => {
                        let tx_hash: Option<String> = get(&row, "tx_hash")?;
                        State::Done(receipt(tx_hash.as_deref(), get(&row, "l1_block")?)?)
                    }
                    "failed" => State::Failed(get(&row, "reason")?),
                    _ => return Err(LedgerError::Corrupt("state")),
                };
                let (content, has_note) = (get(&row, "content")?, get(&row, "has_note")?);
                Ok(Some(Row { content, state, has_note }))
            }

            pub(super) async fn begin(
                db: &mut $connection,
                wanted: &Wanted,
                terms: &Terms,
            ) -> Answer<Begun> {
                let lease = lock(db).await?;
                let oldest = terms.now_ms.saturating_sub(KEPT_MS);
                sqlx::query(PRUNE).bind(oldest).execute(&mut *db).await?;
                let row = find(db, &wanted.key).await?;
                let left = match sqlx::query(LEFT).fetch_optional(&mut *db).await? {
                    Some(row) => {
                        Some(Wanted { key: get(&row, "key")?, content: get(&row, "content")? })
                    }
                    None => None,
                };
                let plan = plan::begin(wanted, terms, row.as_ref(), &lease, left);
                if let Some(lease) = &plan.lease {
                    let query = sqlx::query(SET_LEASE).bind(&lease.holder).bind(&lease.key);
                    let query = query.bind(signed(lease.fence)?).bind(lease.until_ms);
                    query.execute(&mut *db).await?;
                }
                if plan.makes_row {
                    let query = sqlx::query(MAKE).bind(&wanted.key).bind(&wanted.content);
                    query.bind(terms.now_ms).execute(&mut *db).await?;
                }
                Ok(plan.answer)
            }

            pub(super) async fn renew(
                db: &mut $connection,
                fence: OperationFence,
                until_ms: i64,
            ) -> Answer<bool> {
                let query = sqlx::query(RENEW).bind(until_ms).bind(signed(fence.0)?);
                Ok(query.execute(db).await?.rows_affected() == 1)
            }

            pub(super) async fn note(db: &mut $connection, key: &str) -> Answer<Option<Vec<u8>>> {
                match sqlx::query(NOTE).bind(key).fetch_optional(db).await? {
                    Some(row) => get(&row, "note"),
                    None => Ok(None),
                }
            }

            pub(super) async fn set_note(
                db: &mut $connection,
                key: &str,
                fence: OperationFence,
                note: Option<Vec<u8>>,
            ) -> Answer<bool> {
                let lease = lock(db).await?;
                if lease.fence != fence.0 || lease.key != key {
                    return Ok(false);
                }
                let query = sqlx::query(SET_NOTE).bind(note).bind(key);
                Ok(query.execute(db).await?.rows_affected() == 1)
            }

            /// What the day's operations count, but for one.
            pub(super) async fn counted(
                db: &mut $connection,
                day: i64,
                but: Option<&str>,
            ) -> Answer<Wei> {
                let mut sum = Wei::ZERO;
                for row in sqlx::query(SPENDS).bind(day).fetch_all(db).await? {
                    let (key, spend): (String, String) =
                        (get(&row, "key")?, get(&row, "spend_wei")?);
                    if but != Some(key.as_str()) {
                        let more = sum.checked_add(wei(&spend)?);
                        sum = more.ok_or(LedgerError::Corrupt("spend_wei"))?;
                    }
                }
                Ok(sum)
            }

            pub(super) async fn count(
                db: &mut $connection,
                key: &str,
                fence: OperationFence,
                spend: Spend,
                limits: &SpendLimits,
            ) -> Answer<Counted> {
                let lease = lock(db).await?;
                if lease.fence != fence.0 || lease.key != key {
                    return Ok(Counted::Lost);
                }
                let Some(row) = sqlx::query(SPEND_OF).bind(key).fetch_optional(&mut *db).await?
                else {
                    return Ok(Counted::Lost);
                };
                let before: Option<String> = get(&row, "spend_wei")?;
                let before = before.as_deref().map(wei).transpose()?;
                let others = counted(db, spend.day, Some(key)).await?;
                let answer = plan::count(limits, before, spend.most, others);
                if answer == Counted::Yes && before.is_none_or(|before| before < spend.most) {
                    let query = sqlx::query(SET_SPEND).bind(spend.most.to_string());
                    query.bind(spend.day).bind(key).execute(&mut *db).await?;
                }
                Ok(answer)
            }

            pub(super) async fn end(
                db: &mut $connection,
                key: &str,
                fence: OperationFence,
                ended: &Ended,
                now_ms: i64,
            ) -> Answer<bool> {
                let lease = lock(db).await?;
                if lease.fence != fence.0 || lease.key != key {
                    return Ok(false);
                }
                let Some(row) = find(db, key).await? else { return Ok(false) };
                match plan::end(&row, ended) {
                    Change::Keep => {}
                    Change::Remove => {
                        sqlx::query(REMOVE).bind(key).execute(&mut *db).await?;
                    }
                    Change::Set(state) => {
                        let (word, receipt, reason) = match state {
                            State::Begun => ("begun", None, None),
                            State::Done(receipt) => ("done", Some(receipt), None),
                            State::Failed(reason) => ("failed", None, Some(reason)),
                        };
                        let tx_hash = receipt.map(|receipt| format!("{:#x}", receipt.tx_hash));
                        let l1_block =
                            receipt.map(|receipt| signed(receipt.l1_block)).transpose()?;
                        let query = sqlx::query(END).bind(word).bind(tx_hash).bind(l1_block);
                        let query = query.bind(reason).bind(now_ms).bind(key);
                        query.execute(&mut *db).await?;
                    }
                }
                renew(db, fence, 0).await
            }
        }
    };
}

books!(in_sqlite, SqliteConnection, SqliteRow);
books!(in_postgres, PgConnection, PgRow);

/// In the role's SQLite file.
#[derive(Debug)]
pub(super) struct SqliteOperations(Sqlite);

impl SqliteOperations {
    /// In a file whose schema is up to date.
    pub(super) fn new(db: Sqlite) -> Self {
        Self(db)
    }
}

/// In the common PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresOperations {
    pool: Pool,
    watch: Watch,
}

impl PostgresOperations {
    /// In a database whose schema is up to date; the pool is one of `watch`'s.
    pub(super) fn new(pool: Pool, watch: Watch) -> Self {
        Self { pool, watch }
    }
}

macro_rules! in_a_transaction {
    ($self:ident, sqlite, $db:ident, $work:expr) => {{
        let mut $db = $self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        let done = $work.await?;
        $db.commit().await?;
        Ok(done)
    }};
    ($self:ident, postgres, $db:ident, $work:expr) => {{
        let write = async {
            let mut connection = $self.pool.lend().await?;
            let mut $db = connection.begin().await?;
            let done = $work.await?;
            $db.commit().await?;
            Ok(done)
        };
        $self.watch.answer(write).await
    }};
}

macro_rules! ledger {
    ($books:ty, $module:ident, $kind:ident, $close:expr) => {
        #[async_trait]
        impl OperationLedger for $books {
            async fn begin(&self, wanted: &Wanted, terms: &Terms) -> Answer<Begun> {
                in_a_transaction!(self, $kind, db, $module::begin(&mut db, wanted, terms))
            }

            async fn renew(&self, fence: OperationFence, until_ms: i64) -> Answer<bool> {
                in_a_transaction!(self, $kind, db, $module::renew(&mut db, fence, until_ms))
            }

            async fn note(&self, key: &str) -> Answer<Option<Vec<u8>>> {
                in_a_transaction!(self, $kind, db, $module::note(&mut db, key))
            }

            async fn set_note(
                &self,
                key: &str,
                fence: OperationFence,
                note: Option<Vec<u8>>,
            ) -> Answer<bool> {
                in_a_transaction!(self, $kind, db, $module::set_note(&mut db, key, fence, note))
            }

            async fn count(
                &self,
                key: &str,
                fence: OperationFence,
                spend: Spend,
                limits: &SpendLimits,
            ) -> Answer<Counted> {
                in_a_transaction!(
                    self,
                    $kind,
                    db,
                    $module::count(&mut db, key, fence, spend, limits)
                )
            }

            async fn counted(&self, day: i64) -> Answer<Wei> {
                in_a_transaction!(self, $kind, db, $module::counted(&mut db, day, None))
            }

            async fn end(
                &self,
                key: &str,
                fence: OperationFence,
                ended: &Ended,
                now_ms: i64,
            ) -> Answer<bool> {
                in_a_transaction!(self, $kind, db, $module::end(&mut db, key, fence, ended, now_ms))
            }

            async fn close(&self) {
                let close: fn(&Self) -> futures::future::BoxFuture<'_, ()> = $close;
                close(self).await;
            }
        }
    };
}

ledger!(SqliteOperations, in_sqlite, sqlite, |books| Box::pin(books.0.close()));
ledger!(PostgresOperations, in_postgres, postgres, |books| Box::pin(books.pool.close()));
