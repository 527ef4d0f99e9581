//! A PostgreSQL database of a test's own, on the server that `cargo xtask test` starts.
//!
//! Real databases and nothing else: without a server the test fails and says how to get one.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::sync::atomic::{AtomicU32, Ordering};

/// Names the server, with a user who may make databases.
pub const SERVER_URL: &str = "PENSTOCK_TEST_POSTGRES_URL";

/// A fresh, empty database; it is dropped with this value, whoever is still connected.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
    url: String,
}

impl Database {
    /// `postgres://…`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The one text that a question of a test's own is answered with.
    pub async fn text(&self, sql: &'static str) -> String {
        let mut connection = PgConnection::connect(&self.url).await.expect("PostgreSQL answers");
        let text = sqlx::query_scalar(sql).fetch_one(&mut connection).await;
        let _ = connection.close().await;
        text.expect("the question has an answer")
    }

    /// Ends every connection to this database but the asking one, as a failing server would.
    /// Says how many.
    pub async fn kill_connections(&self) -> u64 {
        let mut server = PgConnection::connect(&self.server).await.expect("PostgreSQL answers");
        let ended = sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = $1 AND pid <> pg_backend_pid()",
        )
        .bind(&self.name)
        .execute(&mut server)
        .await
        .expect("connections can be ended");
        let _ = server.close().await;
        ended.rows_affected()
    }
}

/// Makes a database that no other test uses.
pub async fn database() -> Database {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = std::env::var(SERVER_URL).unwrap_or_else(|_| {
        panic!("{SERVER_URL} is not set: run `cargo xtask test`, which starts PostgreSQL")
    });
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("test_{}_{nanos}_{count}", std::process::id());
    let (base, query) = match server.split_once('?') {
        Some((base, query)) => (base, format!("?{query}")),
        None => (server.as_str(), String::new()),
    };
    let base = base.trim_end_matches('/');
    let host = match base.split_once("://").map(|(_, rest)| rest.rfind('/')) {
        Some(Some(_)) => base.rsplit_once('/').map_or(base, |(host, _)| host),
        _ => base,
    };
    let url = format!("{host}/{name}{query}");
    let mut connection = PgConnection::connect(&server).await.expect("PostgreSQL answers");
    let make = format!("CREATE DATABASE {name}");
    connection.execute(AssertSqlSafe(make)).await.expect("a database can be made");
    let _ = connection.close().await;
    Database { server, name, url }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // Dropping is not async and may happen inside a runtime: a thread has one of its own.
        let drop = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build()
            else {
                return;
            };
            runtime.block_on(async {
                let gone = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                match PgConnection::connect(&server).await {
                    Ok(mut connection) => {
                        if let Err(error) = connection.execute(AssertSqlSafe(gone)).await {
                            eprintln!("database {name} was left behind: {error}");
                        }
                    }
                    Err(error) => eprintln!("database {name} was left behind: {error}"),
                }
            });
        };
        let _ = std::thread::spawn(drop).join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_test_has_its_own_and_it_goes_away() {
        let (one, two) = (database().await, database().await);
        let mut a = PgConnection::connect(one.url()).await.unwrap();
        let mut b = PgConnection::connect(two.url()).await.unwrap();
        a.execute("CREATE TABLE t (n int)").await.unwrap();
        b.execute("CREATE TABLE t (n int)").await.unwrap();
        assert_eq!(one.kill_connections().await, 1);
        assert!(a.execute("SELECT 1").await.is_err());
        b.execute("SELECT 1").await.unwrap();
        let gone = one.url().to_owned();
        drop(one);
        assert!(PgConnection::connect(&gone).await.is_err());
    }
}
