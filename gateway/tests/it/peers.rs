//! Orchestrators that name another address than their own, whose name leads elsewhere later.

use crate::world::{SOURCE, World, error};
use futures::future::BoxFuture;
use penstock_clients::{Lookup, Names};
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

/// Answers public addresses as long as it is told to, then our own.
#[derive(Debug, Clone, Default)]
struct Rebinding(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    rebound: bool,
    public: usize,
    ours: usize,
}

impl Lookup for Rebinding {
    fn lookup(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut heard = self.0.lock().unwrap();
        let address = match heard.rebound {
            false => {
                heard.public += 1;
                Ipv4Addr::new(93, 184, 216, 34)
            }
            true => {
                heard.ours += 1;
                Ipv4Addr::LOCALHOST
            }
        };
        Box::pin(async move { Ok(vec![address.into()]) })
    }
}

async fn world(names: &Rebinding, flags: &[&str]) -> World {
    World::arranged(1, flags, |settings, orchestrators| {
        settings.names = Names::new(names.clone());
        let named = orchestrators[0].uri().replace("127.0.0.1", "rebind.example");
        orchestrators[0].terms.lock().unwrap().service_uri = Some(named);
    })
    .await
}

#[tokio::test]
async fn a_service_uri_that_is_rebound_after_discovery_is_not_connected_to() {
    let names = Rebinding::default();
    let w = world(&names, &[]).await;
    assert!(names.0.lock().unwrap().public > 0, "discovery looked at the name");
    assert_eq!(w.get("/readyz").await.0, 200, "and found it good");
    names.0.lock().unwrap().rebound = true;
    let (status, code, text) = error(w.push("/live/show/0.ts", SOURCE).await).await;
    assert_eq!(status, 422, "{code}: {text}");
    assert!(text.contains("no public address"), "{text}");
    assert!(names.0.lock().unwrap().ours > 0, "the name was looked up to connect");
    assert_eq!(w.segments(), 0);
    assert!(w.orchestrator().books.lock().unwrap().is_empty(), "no payment went there either");
}

/// The same address is reached where the operator allows it, so that nothing else was in the way above.
#[tokio::test]
async fn a_rebound_service_uri_is_connected_to_where_private_peers_are_allowed() {
    let names = Rebinding::default();
    names.0.lock().unwrap().rebound = true;
    let w = world(&names, &["--allow-private-peers"]).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(w.segments(), 1);
}
