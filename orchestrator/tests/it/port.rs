//! One port, two protocols, and a certificate that stays.

use crate::{
    scripted_worker::Transcoder,
    world::{World, client},
};
use penstock_wire::net::{self, orchestrator_client::OrchestratorClient};
use reqwest::Version;

#[tokio::test]
async fn http1_http2_and_grpc_share_it() {
    let world = World::offchain(&[]).await;
    let old = client().http1_only().build().unwrap();
    for (client, version) in [(&old, Version::HTTP_11), (&world.http, Version::HTTP_2)] {
        let alive = client.get(format!("{}/healthz", world.service)).send().await.unwrap();
        assert_eq!((alive.status().as_u16(), alive.version()), (200, version));
        let ready = client.get(format!("{}/readyz", world.service)).send().await.unwrap();
        assert_eq!(ready.status(), 200);
        for unknown in ["/", "/no/such", "/stream", "/stream/a/b/c/d"] {
            let url = format!("{}{unknown}", world.service);
            let missing = client.get(url).send().await.unwrap();
            assert_eq!(missing.status(), 404, "{unknown}: gRPC's fallback would say 200");
        }
        let wrong = client.get(format!("{}/segment", world.service)).send().await.unwrap();
        assert_eq!(wrong.status(), 405);
    }
    let pong = OrchestratorClient::new(world.grpc().await)
        .ping(net::PingPong { value: vec![1; 32] })
        .await
        .unwrap();
    assert!(pong.into_inner().value.is_empty(), "nothing is signed off-chain");
    let unknown = tonic::client::Grpc::new(world.grpc().await);
    assert_eq!(unimplemented(unknown).await, tonic::Code::Unimplemented);
}

async fn unimplemented(mut grpc: tonic::client::Grpc<tonic::transport::Channel>) -> tonic::Code {
    grpc.ready().await.unwrap();
    let path = "/net.Orchestrator/NoSuchMethod".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<net::PingPong, net::PingPong>::default();
    let request = tonic::Request::new(net::PingPong::default());
    grpc.unary(request, path, codec).await.unwrap_err().code()
}

#[tokio::test]
async fn the_certificate_outlives_a_restart() {
    let mut world = World::offchain(&[]).await;
    let before = std::fs::read(world.data("cert.pem")).unwrap();
    world.restart().await;
    assert_eq!(std::fs::read(world.data("cert.pem")).unwrap(), before);
    // It is its own root for a client that knows nothing else.
    let _ = world.grpc().await;
}

#[tokio::test]
async fn a_client_that_never_shakes_hands_holds_nobody_up() {
    let world = World::offchain(&[]).await;
    let address = world.service.strip_prefix("https://").unwrap().to_owned();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    let alive = world.http.get(format!("{}/healthz", world.service)).send().await.unwrap();
    assert_eq!(alive.status(), 200);
}

#[tokio::test]
async fn cleartext_when_the_service_address_says_so() {
    let cleartext = World::cleartext().await;
    assert!(cleartext.service.starts_with("http://127.0.0.1:"));
    let alive = cleartext.http.get(format!("{}/healthz", cleartext.service)).send().await.unwrap();
    assert_eq!(alive.status(), 200);
    let mut grpc = OrchestratorClient::connect(cleartext.service.clone()).await.unwrap();
    let info = grpc.get_orchestrator(net::OrchestratorRequest::default()).await.unwrap();
    assert_eq!(info.into_inner().transcoder, cleartext.service);
}

#[tokio::test]
async fn stopping_lets_workers_go_and_refuses_new_work() {
    let mut world = World::offchain(&[]).await;
    let mut worker = Transcoder::register(&world, 1).await;
    let stopped = world.stop();
    assert!(worker.jobs.message().await.unwrap().is_none(), "the stream ends in order");
    stopped.await.unwrap();
}
