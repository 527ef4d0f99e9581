//! DNS rebinding: a name that leads to a public address when it is looked at, and into our own network
//! when it is connected to.

use crate::{
    orchestrator::{AMPLE, Fake, info},
    server,
};
use axum::routing::get;
use futures::future::BoxFuture;
use penstock_clients::{
    CallErrorKind, Lookup, Names, OfferRequest, OrchestratorClient, OrchestratorOptions, Paid,
    Reach,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};
use url::Url;

const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34));
const OURS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Answers the public address so many times, then ours; counts the times that it was ours.
#[derive(Debug, Clone)]
struct Changing(Arc<Mutex<(usize, usize)>>);

impl Changing {
    fn after(public: usize) -> Self {
        Self(Arc::new(Mutex::new((public, 0))))
    }

    fn ours(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

impl Lookup for Changing {
    fn lookup(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        assert_eq!(name, "rebind.example");
        let mut left = self.0.lock().unwrap();
        let address = match left.0 {
            0 => {
                left.1 += 1;
                OURS
            }
            _ => {
                left.0 -= 1;
                PUBLIC
            }
        };
        Box::pin(async move { Ok(vec![address]) })
    }
}

fn client(reach: Reach, names: &Changing) -> OrchestratorClient {
    let names = Names::new(names.clone());
    OrchestratorClient::new(OrchestratorOptions { reach, names, ..OrchestratorOptions::default() })
        .unwrap()
}

#[tokio::test]
async fn a_name_that_leads_into_our_network_the_second_time_is_not_connected_to() {
    let fake = Fake { info: info("https://o:8935"), ..Fake::default() };
    let server = server::clear(fake.router().route("/x", get(|| async { "secret" }))).await;
    let uri = format!("http://rebind.example:{}", server.addr.port());
    let url = Url::parse(&uri).unwrap();
    // Once for HTTP and once for gRPC, which have connectors of their own.
    for grpc in [false, true] {
        let names = Changing::after(1);
        // The check: all is well.
        assert!(Reach::PublicOnly.allows_now(&url, &Names::new(names.clone())).await);
        assert_eq!(names.ours(), 0);
        // The connection: the name leads elsewhere by now.
        let client = client(Reach::PublicOnly, &names);
        let error = match grpc {
            true => {
                client.get_orchestrator(&uri, &OfferRequest::default(), Some(AMPLE)).await.err()
            }
            false => client.download(&format!("{uri}/x"), 10, AMPLE).await.err(),
        };
        let error = error.expect("refused");
        assert!(matches!(error.kind, CallErrorKind::Connect(_)), "{error:?}");
        assert!(error.kind.to_string().contains("no public address"), "{error:?}");
        assert_eq!(error.paid(), Paid::No);
        assert!(names.ours() > 0, "it was looked up again to connect");
        // Who looks now sees it as well.
        assert!(!Reach::PublicOnly.allows_now(&url, &Names::new(names.clone())).await);
    }
    assert!(fake.asked.lock().unwrap().is_empty());
    // The same names lead a client that may go anywhere to the server: it was there to be had.
    let anywhere = client(Reach::Anywhere, &Changing::after(0));
    assert_eq!(anywhere.download(&format!("{uri}/x"), 10, AMPLE).await.unwrap(), "secret");
    anywhere.get_orchestrator(&uri, &OfferRequest::default(), Some(AMPLE)).await.unwrap();
}
