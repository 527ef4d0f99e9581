//! What a tenant, a thief of states or a stranger would try, on both kinds of books. Each is
//! refused with its own status, leaves the books as they were and costs no key operation.

mod callers;
mod clock;
mod money;
mod shapes;
mod states;

use crate::world::{Reply, World};
use serde_json::Value;

/// Each attack on each kind of books, by name.
macro_rules! on_both_books {
    ($($attack:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $attack() {
                super::$attack(crate::world::Books::Sqlite).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $attack() {
                super::$attack(crate::world::Books::Postgres).await;
            })+
        }
    };
}
pub(crate) use on_both_books;

/// Asks, and checks that it was refused with this status and that nothing moved.
async fn refused(world: &World, ask: &Value, headers: &[(&str, &str)], status: u16) -> String {
    let before = world.books().await;
    let reply = world.pay_with(ask, headers).await;
    assert_eq!(reply.status, status, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(world.books().await, before, "no trace, no key operation: {}", reply.message());
    reply.message()
}

/// Whole wei of expected value in the books.
async fn spent(world: &World) -> u64 {
    world.books().await.summary.ticket_ev_total_wei.ceil_u64().unwrap()
}

/// Posts the same to one of several replicas.
pub async fn pay_at(world: &World, url: &str, ask: &Value, headers: &[(&str, &str)]) -> Reply {
    let mut post = world.client.post(format!("{url}/generate-live-payment")).body(ask.to_string());
    for (name, value) in headers {
        post = post.header(*name, *value);
    }
    crate::world::reply(post).await
}
