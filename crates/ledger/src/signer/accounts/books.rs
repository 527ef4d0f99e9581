//! The records in SQLite and in PostgreSQL: the same statements, which both understand.
//!
//! A write begins by taking the next change numbers from the one row that gives them. That row
//! stays locked until the end, so writes happen one after the other, what one reads is what it
//! writes over, and their numbers become visible in order: a reader that has seen number n has
//! seen all below. Each record is written with its version as a condition all the same.

use super::{
    AccountLedger, AccountRecord, Applied, Changes, CredentialKind, CredentialRecord, Expect,
    MAX_RECORDS, Put, Record, Refusal, Stamp, SubjectRecord, TierRecord,
};
use crate::{
    postgres::{bounded_pool::Pool, silence::Watch},
    signer::LedgerError,
    sqlite::Sqlite,
};
use async_trait::async_trait;
use penstock_domain::AuthId;
use sqlx::{
    Connection as _, PgConnection, Row, SqliteConnection, postgres::PgRow, sqlite::SqliteRow,
};

const NEXT: &str = "UPDATE account_changes SET seq = seq + $1 WHERE id = 1 RETURNING seq";
const LATEST: &str = "SELECT seq FROM account_changes WHERE id = 1";

const TIERS: &str = "SELECT name, policy, state, version, changed, created_at_ms, updated_at_ms \
    FROM tiers WHERE changed > $1 AND changed <= $2 ORDER BY changed LIMIT $3";
const ACCOUNTS: &str = "SELECT name, tier, policy, note, state, version, changed, created_at_ms, updated_at_ms \
    FROM accounts WHERE changed > $1 AND changed <= $2 ORDER BY changed LIMIT $3";
const CREDENTIALS: &str = "SELECT id, account, kind, hash, note, state, expires_at_ms, version, changed, created_at_ms, updated_at_ms \
    FROM credentials WHERE changed > $1 AND changed <= $2 ORDER BY changed LIMIT $3";
const SUBJECTS: &str = "SELECT account, auth_id, policy, state, version, changed, created_at_ms, updated_at_ms \
    FROM subjects WHERE changed > $1 AND changed <= $2 ORDER BY changed LIMIT $3";

const TIER_NOW: &str = "SELECT version, state, created_at_ms FROM tiers WHERE name = $1";
const ACCOUNT_NOW: &str = "SELECT version, state, created_at_ms FROM accounts WHERE name = $1";
const CREDENTIAL_NOW: &str = "SELECT version, state, created_at_ms FROM credentials WHERE id = $1";
const SUBJECT_NOW: &str =
    "SELECT version, state, created_at_ms FROM subjects WHERE account = $1 AND auth_id = $2";

const COUNT_TIERS: &str = "SELECT count(*) FROM tiers";
const COUNT_ACCOUNTS: &str = "SELECT count(*) FROM accounts";
const COUNT_CREDENTIALS: &str = "SELECT count(*) FROM credentials";
const COUNT_SUBJECTS: &str = "SELECT count(*) FROM subjects";

const TIER_USED: &str = "SELECT count(*) FROM accounts WHERE tier = $1";
const TIER_LIVES: &str = "SELECT count(*) FROM tiers WHERE name = $1 AND state = 'active'";
const ACCOUNT_LIVES: &str = "SELECT count(*) FROM accounts WHERE name = $1";
const HASH_USED: &str = "SELECT count(*) FROM credentials WHERE hash = $1 AND id <> $2";
const SAME_CREDENTIAL: &str =
    "SELECT count(*) FROM credentials WHERE id = $1 AND account = $2 AND kind = $3 AND hash = $4";

const PUT_TIER: &str = "INSERT INTO tiers (name, policy, state, version, changed, created_at_ms, updated_at_ms) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE SET policy = excluded.policy, \
    state = excluded.state, version = excluded.version, changed = excluded.changed, \
    updated_at_ms = excluded.updated_at_ms WHERE tiers.version = excluded.version - 1";
const PUT_ACCOUNT: &str = "INSERT INTO accounts (name, tier, policy, note, state, version, changed, created_at_ms, updated_at_ms) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO UPDATE SET tier = excluded.tier, \
    policy = excluded.policy, note = excluded.note, state = excluded.state, version = excluded.version, \
    changed = excluded.changed, updated_at_ms = excluded.updated_at_ms \
    WHERE accounts.version = excluded.version - 1";
const PUT_CREDENTIAL: &str = "INSERT INTO credentials (id, account, kind, hash, note, state, expires_at_ms, version, changed, created_at_ms, updated_at_ms) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO UPDATE SET note = excluded.note, \
    state = excluded.state, expires_at_ms = excluded.expires_at_ms, version = excluded.version, \
    changed = excluded.changed, updated_at_ms = excluded.updated_at_ms \
    WHERE credentials.version = excluded.version - 1";
const PUT_SUBJECT: &str = "INSERT INTO subjects (account, auth_id, policy, state, version, changed, created_at_ms, updated_at_ms) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account, auth_id) DO UPDATE SET policy = excluded.policy, \
    state = excluded.state, version = excluded.version, changed = excluded.changed, \
    updated_at_ms = excluded.updated_at_ms WHERE subjects.version = excluded.version - 1";

/// A row as it is before a write.
struct Now {
    version: u64,
    deleted: bool,
    created_at_ms: i64,
}

/// Whether the write may happen, and the new stamp if so. A deleted record is absent, but keeps
/// counting its versions.
fn decide(now: Option<&Now>, expect: Expect, changed: u64, now_ms: i64) -> Result<Stamp, Refusal> {
    let live = now.filter(|n| !n.deleted);
    match (expect, live) {
        (Expect::Absent, Some(n)) => return Err(Refusal::Exists(n.version)),
        (Expect::Version(_), None) => return Err(Refusal::Absent),
        (Expect::Version(v), Some(n)) if n.version != v => return Err(Refusal::Version(n.version)),
        _ => {}
    }
    Ok(Stamp {
        version: now.map_or(0, |n| n.version).saturating_add(1),
        changed,
        created_at_ms: live.map_or(now_ms, |n| n.created_at_ms),
        updated_at_ms: now_ms,
    })
}

fn signed(n: u64) -> Result<i64, LedgerError> {
    i64::try_from(n).map_err(|_| LedgerError::Misuse("a number above 2^63"))
}

fn unsigned(n: i64, column: &'static str) -> Result<u64, LedgerError> {
    u64::try_from(n).map_err(|_| LedgerError::Corrupt(column))
}

fn kind_text(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::ApiKey => "api_key",
        CredentialKind::Certificate => "certificate",
    }
}

/// Merges what the four tables gave: the first `limit` by change number have no gaps.
fn merged(mut records: Vec<Record>, limit: u32, latest: u64) -> Changes {
    records.sort_by_key(|r| r.stamp().changed);
    records.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let more = records.last().is_some_and(|r| r.stamp().changed < latest)
        && records.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    Changes { records, more }
}

macro_rules! books {
    ($module:ident, $connection:ty, $row:ty) => {
        mod $module {
            use super::*;

            pub(super) async fn changes(
                db: &mut $connection,
                after: u64,
                limit: u32,
            ) -> Result<Changes, LedgerError> {
                // First: what commits after this is left to the next time, wherever it is read.
                let latest: i64 = sqlx::query_scalar(LATEST).fetch_one(&mut *db).await?;
                let from = signed(after)?;
                let mut records = Vec::new();
                for (sql, read) in [
                    (TIERS, tier as fn(&$row) -> Result<Record, LedgerError>),
                    (ACCOUNTS, account),
                    (CREDENTIALS, credential),
                    (SUBJECTS, subject),
                ] {
                    let query = sqlx::query(sql).bind(from).bind(latest).bind(i64::from(limit));
                    for row in query.fetch_all(&mut *db).await? {
                        records.push(read(&row)?);
                    }
                }
                Ok(merged(records, limit, unsigned(latest, "seq")?))
            }

            /// Inside a transaction. A refusal means that it has to be rolled back.
            pub(super) async fn apply(
                db: &mut $connection,
                puts: Vec<Put>,
                now_ms: i64,
            ) -> Result<Applied, LedgerError> {
                let count = signed(puts.len() as u64)?;
                let last: i64 = sqlx::query_scalar(NEXT).bind(count).fetch_one(&mut *db).await?;
                let first = unsigned(last.saturating_sub(count), "seq")?;
                let mut done = Vec::with_capacity(puts.len());
                for (place, put) in puts.into_iter().enumerate() {
                    let changed = first.saturating_add(place as u64).saturating_add(1);
                    match write(db, put, changed, now_ms).await? {
                        Ok(record) => done.push(record),
                        Err(refusal) => return Ok(Applied::Refused(place, refusal)),
                    }
                }
                Ok(Applied::Done(done))
            }

            async fn write(
                db: &mut $connection,
                put: Put,
                changed: u64,
                now_ms: i64,
            ) -> Result<Result<Record, Refusal>, LedgerError> {
                let Put { mut record, expect } = put;
                let now = match &record {
                    Record::Tier(r) => one(db, sqlx::query(TIER_NOW).bind(&r.name)).await?,
                    Record::Account(r) => one(db, sqlx::query(ACCOUNT_NOW).bind(&r.name)).await?,
                    Record::Credential(r) => {
                        one(db, sqlx::query(CREDENTIAL_NOW).bind(&r.id)).await?
                    }
                    Record::Subject(r) => {
                        one(db, sqlx::query(SUBJECT_NOW).bind(&r.account).bind(r.auth_id.as_str()))
                            .await?
                    }
                };
                let stamp = match decide(now.as_ref(), expect, changed, now_ms) {
                    Ok(stamp) => stamp,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                if now.is_none()
                    && count(db, sqlx::query_scalar(count_of(&record))).await? >= MAX_RECORDS
                {
                    return Ok(Err(Refusal::Full));
                }
                if let Some(refusal) = in_the_way(db, &record, now.is_some()).await? {
                    return Ok(Err(refusal));
                }
                *record.stamp_mut() = stamp;
                let written = put_sql(db, &record).await?;
                // Nobody can have come between; if somebody did, nothing was written.
                Ok(if written == 1 { Ok(record) } else { Err(Refusal::Version(stamp.version)) })
            }

            async fn in_the_way(
                db: &mut $connection,
                record: &Record,
                known: bool,
            ) -> Result<Option<Refusal>, LedgerError> {
                Ok(match record {
                    Record::Tier(r) if r.deleted => {
                        let used = count(db, sqlx::query_scalar(TIER_USED).bind(&r.name)).await?;
                        (used > 0).then_some(Refusal::InUse)
                    }
                    Record::Tier(_) => None,
                    Record::Account(r) => match &r.tier {
                        None => None,
                        Some(tier) => {
                            let there =
                                count(db, sqlx::query_scalar(TIER_LIVES).bind(tier)).await?;
                            (there == 0).then_some(Refusal::NoParent)
                        }
                    },
                    Record::Credential(r) => {
                        let hash = hex::encode(r.hash);
                        if known {
                            let same = sqlx::query_scalar(SAME_CREDENTIAL).bind(&r.id);
                            let same = same.bind(&r.account).bind(kind_text(r.kind)).bind(&hash);
                            if count(db, same).await? == 0 {
                                return Err(LedgerError::Misuse("a credential changed hands"));
                            }
                        }
                        let taken = sqlx::query_scalar(HASH_USED).bind(&hash).bind(&r.id);
                        if count(db, taken).await? > 0 {
                            return Ok(Some(Refusal::HashTaken));
                        }
                        let there = sqlx::query_scalar(ACCOUNT_LIVES).bind(&r.account);
                        (count(db, there).await? == 0).then_some(Refusal::NoParent)
                    }
                    Record::Subject(r) => {
                        let there = sqlx::query_scalar(ACCOUNT_LIVES).bind(&r.account);
                        (count(db, there).await? == 0).then_some(Refusal::NoParent)
                    }
                })
            }

            async fn put_sql(db: &mut $connection, record: &Record) -> Result<u64, LedgerError> {
                let stamp = record.stamp();
                let (version, changed) = (signed(stamp.version)?, signed(stamp.changed)?);
                let query = match record {
                    Record::Tier(r) => sqlx::query(PUT_TIER)
                        .bind(&r.name)
                        .bind(&r.policy)
                        .bind(if r.deleted { "deleted" } else { "active" }),
                    Record::Account(r) => sqlx::query(PUT_ACCOUNT)
                        .bind(&r.name)
                        .bind(&r.tier)
                        .bind(&r.policy)
                        .bind(&r.note)
                        .bind(if r.blocked { "blocked" } else { "active" }),
                    Record::Credential(r) => sqlx::query(PUT_CREDENTIAL)
                        .bind(&r.id)
                        .bind(&r.account)
                        .bind(kind_text(r.kind))
                        .bind(hex::encode(r.hash))
                        .bind(&r.note)
                        .bind(if r.revoked { "revoked" } else { "active" })
                        .bind(r.expires_at_ms),
                    Record::Subject(r) => sqlx::query(PUT_SUBJECT)
                        .bind(&r.account)
                        .bind(r.auth_id.as_str())
                        .bind(&r.policy)
                        .bind(match (r.deleted, r.blocked) {
                            (true, _) => "deleted",
                            (false, true) => "blocked",
                            (false, false) => "active",
                        }),
                };
                let query = query
                    .bind(version)
                    .bind(changed)
                    .bind(stamp.created_at_ms)
                    .bind(stamp.updated_at_ms);
                Ok(query.execute(db).await?.rows_affected())
            }

            type Query<'q> = sqlx::query::Query<
                'q,
                <$row as Row>::Database,
                <<$row as Row>::Database as sqlx::Database>::Arguments,
            >;
            type Count<'q> = sqlx::query::QueryScalar<
                'q,
                <$row as Row>::Database,
                i64,
                <<$row as Row>::Database as sqlx::Database>::Arguments,
            >;

            async fn one(
                db: &mut $connection,
                query: Query<'_>,
            ) -> Result<Option<Now>, LedgerError> {
                let Some(row) = query.fetch_optional(db).await? else { return Ok(None) };
                Ok(Some(Now {
                    version: number(&row, "version")?,
                    deleted: text(&row, "state")? == "deleted",
                    created_at_ms: integer(&row, "created_at_ms")?,
                }))
            }

            async fn count(db: &mut $connection, query: Count<'_>) -> Result<u64, LedgerError> {
                unsigned(query.fetch_one(db).await?, "count")
            }

            fn tier(row: &$row) -> Result<Record, LedgerError> {
                Ok(Record::Tier(TierRecord {
                    name: text(row, "name")?,
                    policy: text(row, "policy")?,
                    deleted: text(row, "state")? == "deleted",
                    stamp: stamp(row)?,
                }))
            }

            fn account(row: &$row) -> Result<Record, LedgerError> {
                Ok(Record::Account(AccountRecord {
                    name: text(row, "name")?,
                    tier: row.try_get("tier").map_err(|_| LedgerError::Corrupt("tier"))?,
                    policy: text(row, "policy")?,
                    note: text(row, "note")?,
                    blocked: text(row, "state")? == "blocked",
                    stamp: stamp(row)?,
                }))
            }

            fn credential(row: &$row) -> Result<Record, LedgerError> {
                let mut hash = [0; 32];
                hex::decode_to_slice(text(row, "hash")?, &mut hash)
                    .map_err(|_| LedgerError::Corrupt("hash"))?;
                let expires = row.try_get("expires_at_ms");
                Ok(Record::Credential(CredentialRecord {
                    id: text(row, "id")?,
                    account: text(row, "account")?,
                    kind: match text(row, "kind")?.as_str() {
                        "api_key" => CredentialKind::ApiKey,
                        "certificate" => CredentialKind::Certificate,
                        _ => return Err(LedgerError::Corrupt("kind")),
                    },
                    hash,
                    note: text(row, "note")?,
                    revoked: text(row, "state")? == "revoked",
                    expires_at_ms: expires.map_err(|_| LedgerError::Corrupt("expires_at_ms"))?,
                    stamp: stamp(row)?,
                }))
            }

            fn subject(row: &$row) -> Result<Record, LedgerError> {
                let auth_id = AuthId::new(text(row, "auth_id")?);
                let state = text(row, "state")?;
                Ok(Record::Subject(SubjectRecord {
                    account: text(row, "account")?,
                    auth_id: auth_id.map_err(|_| LedgerError::Corrupt("auth_id"))?,
                    policy: text(row, "policy")?,
                    blocked: state == "blocked",
                    deleted: state == "deleted",
                    stamp: stamp(row)?,
                }))
            }

            fn stamp(row: &$row) -> Result<Stamp, LedgerError> {
                Ok(Stamp {
                    version: number(row, "version")?,
                    changed: number(row, "changed")?,
                    created_at_ms: integer(row, "created_at_ms")?,
                    updated_at_ms: integer(row, "updated_at_ms")?,
                })
            }

            fn text(row: &$row, column: &'static str) -> Result<String, LedgerError> {
                row.try_get(column).map_err(|_| LedgerError::Corrupt(column))
            }

            fn integer(row: &$row, column: &'static str) -> Result<i64, LedgerError> {
                row.try_get(column).map_err(|_| LedgerError::Corrupt(column))
            }

            fn number(row: &$row, column: &'static str) -> Result<u64, LedgerError> {
                unsigned(integer(row, column)?, column)
            }
        }
    };
}

books!(in_sqlite, SqliteConnection, SqliteRow);
books!(in_postgres, PgConnection, PgRow);

fn count_of(record: &Record) -> &'static str {
    match record {
        Record::Tier(_) => COUNT_TIERS,
        Record::Account(_) => COUNT_ACCOUNTS,
        Record::Credential(_) => COUNT_CREDENTIALS,
        Record::Subject(_) => COUNT_SUBJECTS,
    }
}

/// In the signer's SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteAccounts(Sqlite);

impl SqliteAccounts {
    /// In a file whose schema is up to date.
    pub fn new(db: Sqlite) -> Self {
        Self(db)
    }
}

#[async_trait]
impl AccountLedger for SqliteAccounts {
    async fn changes(&self, after: u64, limit: u32) -> Result<Changes, LedgerError> {
        let mut reader = self.0.readers().begin().await?;
        in_sqlite::changes(&mut reader, after, limit).await
    }

    async fn apply(&self, puts: Vec<Put>, now_ms: i64) -> Result<Applied, LedgerError> {
        let mut tx = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        let applied = in_sqlite::apply(&mut tx, puts, now_ms).await?;
        match applied {
            Applied::Done(_) => tx.commit().await?,
            Applied::Refused(..) => tx.rollback().await?,
        }
        Ok(applied)
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

/// In the replicas' common PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresAccounts {
    pool: Pool,
    watch: Watch,
}

impl PostgresAccounts {
    /// In a database whose schema is up to date; the pool is one of `watch`'s.
    pub fn new(pool: Pool, watch: Watch) -> Self {
        Self { pool, watch }
    }
}

#[async_trait]
impl AccountLedger for PostgresAccounts {
    async fn changes(&self, after: u64, limit: u32) -> Result<Changes, LedgerError> {
        let read = async {
            let mut connection = self.pool.lend().await?;
            in_postgres::changes(&mut connection, after, limit).await
        };
        self.watch.answer(read).await
    }

    async fn apply(&self, puts: Vec<Put>, now_ms: i64) -> Result<Applied, LedgerError> {
        let write = async {
            let mut connection = self.pool.lend().await?;
            let mut tx = connection.begin().await?;
            let applied = in_postgres::apply(&mut tx, puts, now_ms).await?;
            match applied {
                Applied::Done(_) => tx.commit().await?,
                Applied::Refused(..) => tx.rollback().await?,
            }
            Ok(applied)
        };
        self.watch.answer(write).await
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}
