//! An orchestrator that answers as it is told, on one TLS port with a self-signed certificate:
//! gRPC GetOrchestrator and `GET /discovery`.

use axum::{Router, routing::get};
use penstock_wire::net::{
    EndTranscodingSessionRequest, EndTranscodingSessionResponse, OrchestratorInfo,
    OrchestratorRequest, PingPong,
    orchestrator_server::{Orchestrator, OrchestratorServer},
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tonic::{Request, Response, Status};

/// What it says now, and what it was asked with.
#[derive(Default)]
pub struct Script {
    pub info: Option<OrchestratorInfo>,
    pub discovery: Option<String>,
    pub asked: Vec<OrchestratorRequest>,
    /// It answers when this lets it.
    pub gate: Option<Arc<tokio::sync::Semaphore>>,
}

type Shared = Arc<Mutex<Script>>;

struct Service(Shared);

#[tonic::async_trait]
impl Orchestrator for Service {
    async fn get_orchestrator(
        &self,
        request: Request<OrchestratorRequest>,
    ) -> Result<Response<OrchestratorInfo>, Status> {
        let gate = {
            let mut script = self.0.lock().unwrap();
            script.asked.push(request.into_inner());
            script.gate.clone()
        };
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        let script = self.0.lock().unwrap();
        script.info.clone().map(Response::new).ok_or_else(|| Status::unknown("OrchestratorCapped"))
    }

    async fn end_transcoding_session(
        &self,
        _: Request<EndTranscodingSessionRequest>,
    ) -> Result<Response<EndTranscodingSessionResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn ping(&self, _: Request<PingPong>) -> Result<Response<PingPong>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

/// A running one.
pub struct ScriptedOrchestrator {
    pub uri: String,
    pub script: Shared,
    handle: axum_server::Handle<SocketAddr>,
}

impl ScriptedOrchestrator {
    pub async fn start() -> Self {
        penstock_http_kit::tls::install_crypto_provider();
        let script = Shared::default();
        let names = vec!["127.0.0.1".to_owned()];
        let cert = rcgen::generate_simple_self_signed(names).unwrap();
        let tls = axum_server::tls_rustls::RustlsConfig::from_pem(
            cert.cert.pem().into_bytes(),
            cert.signing_key.serialize_pem().into_bytes(),
        )
        .await
        .unwrap();
        let runners = {
            let script = Arc::clone(&script);
            get(move || async move {
                let text = script.lock().unwrap().discovery.clone();
                text.ok_or(axum::http::StatusCode::NOT_FOUND)
            })
        };
        let grpc = tonic::service::Routes::new(OrchestratorServer::new(Service(script.clone())))
            .prepare()
            .into_axum_router()
            .reset_fallback();
        let app = Router::new().route("/discovery", runners).merge(grpc);
        let handle = axum_server::Handle::new();
        let server = axum_server::bind_rustls("127.0.0.1:0".parse().unwrap(), tls)
            .handle(handle.clone())
            .serve(app.into_make_service());
        tokio::spawn(server);
        let addr = handle.listening().await.expect("a listener");
        Self { uri: format!("https://{addr}"), script, handle }
    }

    /// How often it was asked for an offer.
    pub fn asked(&self) -> usize {
        self.script.lock().unwrap().asked.len()
    }

    pub fn says(&self, info: OrchestratorInfo) {
        self.script.lock().unwrap().info = Some(info);
    }
}

impl Drop for ScriptedOrchestrator {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}
