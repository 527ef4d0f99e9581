//! Whether there are books at a URL already, of this program's own schema. For whoever must not
//! make any: an empty database has no fault, and that is not what an auditor asked about.

use super::{Limits, MIGRATIONS, POSTGRES_MIGRATIONS};
use crate::postgres::silence::timed_out;
use crate::sqlite::{OpenError, path_of};
use sqlx::{Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::time::timeout;

const VERSION: &str = "SELECT max(version) FROM _sqlx_migrations WHERE success";

/// Changes nothing.
pub async fn check(url: &str) -> Result<(), OpenError> {
    let (found, migrations) = if url.starts_with("postgres") {
        let ask = async {
            let mut database = PgConnection::connect(url).await.map_err(OpenError::Database)?;
            let found = sqlx::query_scalar(VERSION).fetch_one(&mut database).await;
            database.close().await.map_err(OpenError::Database)?;
            Ok(found)
        };
        let asked = timeout(Limits::default().answer, ask).await;
        let found = asked.unwrap_or_else(|_| Err(OpenError::Database(timed_out())))?;
        (found, &POSTGRES_MIGRATIONS)
    } else {
        let path = path_of(url)?;
        if !path.is_file() {
            return Err(OpenError::Absent);
        }
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(false);
        let connected = SqliteConnection::connect_with(&options).await;
        let mut database = connected.map_err(OpenError::Database)?;
        let found = sqlx::query_scalar(VERSION).fetch_one(&mut database).await;
        database.close().await.map_err(OpenError::Database)?;
        (found, &MIGRATIONS)
    };
    let found: Option<i64> = match found {
        Ok(found) => found,
        // There is no such table.
        Err(sqlx::Error::Database(_)) => return Err(OpenError::Absent),
        Err(error) => return Err(OpenError::Database(error)),
    };
    let need = migrations.iter().map(|migration| migration.version).max();
    match (found, need) {
        (None, _) => Err(OpenError::Absent),
        (found, need) if found == need => Ok(()),
        (found, need) => Err(OpenError::Schema {
            found: found.unwrap_or_default(),
            need: need.unwrap_or_default(),
        }),
    }
}
