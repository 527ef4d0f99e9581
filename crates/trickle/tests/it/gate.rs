//! Who may do what (trickle.md section 2.1, and beyond it).

use crate::harness::Server;
use async_trait::async_trait;
use http::Method;
use penstock_trickle::{Access, Action, Denied, Gate};
use std::sync::{Arc, Mutex};

/// Lets those in who show the token, and notes what was asked. Channel `boom` breaks it.
#[derive(Default)]
struct Token {
    asked: Mutex<Vec<(Action, String)>>,
}

#[async_trait]
impl Gate for Token {
    async fn admit(&self, access: Access<'_>) -> Result<(), Denied> {
        let expected = access.request.headers.get("expect-content");
        let note = expected.map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        self.asked.lock().unwrap().push((access.action, note));
        if access.channel == "boom" {
            return Err(Denied::Failed("boom".to_owned()));
        }
        match access.request.headers.get("authorization") {
            Some(token) if token == "let me" => Ok(()),
            Some(_) => Err(Denied::Refused { status: 403, message: "nope".to_owned() }),
            None => Err(Denied::Refused { status: 401, message: String::new() }),
        }
    }
}

const IN: (&str, &str) = ("Authorization", "let me");
const OUT: (&str, &str) = ("Authorization", "please");

async fn gated() -> (Server, Arc<Token>) {
    let gate = Arc::new(Token::default());
    let server = Server::gated(|s| s.autocreate = true, gate.clone()).await;
    (server, gate)
}

/// TestTrickle_BeforeCreate
#[tokio::test]
async fn nobody_creates_a_channel_past_the_gate() {
    let (server, gate) = gated().await;
    let create = [OUT, ("Expect-Content", "text/plain")];
    server.send(Method::POST, "c", &create).await.assert_error(403, "nope");
    server.send(Method::POST, "c", &[]).await.assert_error(401, "Unauthorized");
    server.send(Method::POST, "boom", &[IN]).await.assert_error(500, "boom");
    assert_eq!(server.trickle.usage().channels, 0);
    let first = gate.asked.lock().unwrap()[0].clone();
    assert_eq!(first, (Action::Create, "text/plain".to_owned()));
    server.send(Method::POST, "c", &[IN]).await.assert(200, "");
    assert!(server.trickle.exists("c"));
}

/// TestTrickle_BeforeDelete
#[tokio::test]
async fn nobody_deletes_a_channel_past_the_gate() {
    let (server, _) = gated().await;
    for name in ["c", "boom"] {
        server.trickle.create(name, "text/plain").unwrap();
    }
    server.delete("c").await.assert_error(401, "Unauthorized");
    server.delete("boom").await.assert_error(500, "boom");
    assert_eq!(server.trickle.usage().channels, 2);
    server.send(Method::DELETE, "c", &[IN]).await.assert(200, "");
}

#[tokio::test]
async fn publishing_reading_asking_and_closing_are_asked_for_too() {
    let (server, gate) = gated().await;
    let refused = server.post_with("c/0", &[OUT], "x").await;
    refused.assert_error(403, "nope");
    assert!(refused.closes_connection());
    // A preconnected body is not waited for.
    server.begin("c/0", &[OUT]).answer().await.assert_error(403, "nope");
    for (method, path) in [(Method::GET, "c/0"), (Method::GET, "c/next"), (Method::DELETE, "c/0")] {
        server.send(method, path, &[OUT]).await.assert_error(403, "nope");
    }
    assert!(!server.trickle.exists("c"));
    server.post_with("c/0", &[IN], "x").await.assert(200, "");
    server.send(Method::GET, "c/0", &[IN]).await.assert(200, "x");
    server.post_with("c/1", &[IN], "x").await.assert(200, "");
    let asked: Vec<_> = gate.asked.lock().unwrap().iter().map(|(action, _)| *action).collect();
    let publish = |creates| Action::Publish { creates };
    let expected = [
        publish(true),
        publish(true),
        Action::Subscribe,
        Action::Query,
        Action::CloseSegment,
        publish(true),
        Action::Subscribe,
        publish(false),
    ];
    assert_eq!(asked, expected);
}
