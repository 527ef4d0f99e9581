//! A small orchestrator: the real gRPC service beside HTTP routes.

use axum::Router;
use penstock_clients::{OrchestratorClient, OrchestratorOptions, PaidHeaders};
use penstock_wire::net::{
    self, EndTranscodingSessionRequest, EndTranscodingSessionResponse, OrchestratorInfo,
    OrchestratorRequest, PingPong,
    orchestrator_server::{Orchestrator, OrchestratorServer},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tonic::{Request, Response, Status, service::Routes};

/// What it answers, and what it was asked.
#[derive(Clone, Default)]
pub struct Fake {
    pub info: OrchestratorInfo,
    pub refuse: Option<Status>,
    pub asked: Arc<Mutex<Vec<OrchestratorRequest>>>,
    pub ended: Arc<Mutex<Vec<EndTranscodingSessionRequest>>>,
}

#[tonic::async_trait]
impl Orchestrator for Fake {
    async fn get_orchestrator(
        &self,
        request: Request<OrchestratorRequest>,
    ) -> Result<Response<OrchestratorInfo>, Status> {
        self.asked.lock().unwrap().push(request.into_inner());
        match &self.refuse {
            Some(status) => Err(status.clone()),
            None => Ok(Response::new(self.info.clone())),
        }
    }

    async fn end_transcoding_session(
        &self,
        request: Request<EndTranscodingSessionRequest>,
    ) -> Result<Response<EndTranscodingSessionResponse>, Status> {
        self.ended.lock().unwrap().push(request.into_inner());
        Ok(Response::new(EndTranscodingSessionResponse {}))
    }

    async fn ping(&self, request: Request<PingPong>) -> Result<Response<PingPong>, Status> {
        let mut value = request.into_inner().value;
        value.reverse();
        Ok(Response::new(PingPong { value }))
    }
}

impl Fake {
    pub fn router(&self) -> Router {
        Routes::new(OrchestratorServer::new(self.clone())).into_axum_router().reset_fallback()
    }
}

pub fn info(transcoder: &str) -> OrchestratorInfo {
    OrchestratorInfo {
        transcoder: transcoder.to_owned(),
        address: vec![2; 20],
        price_info: Some(net::PriceInfo {
            price_per_unit: 3,
            pixels_per_unit: 2,
            ..Default::default()
        }),
        auth_token: Some(net::AuthToken {
            token: vec![1; 32],
            session_id: "a1b2c3d4".into(),
            expiration: 1_800_000_000,
        }),
        ..Default::default()
    }
}

pub fn client() -> OrchestratorClient {
    OrchestratorClient::new(OrchestratorOptions::default()).unwrap()
}

pub fn headers() -> PaidHeaders {
    PaidHeaders {
        payment: "cGF5".into(),
        segment: "c2Vn".into(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    }
}

/// Long enough never to end a healthy call.
pub const AMPLE: Duration = Duration::from_secs(60);
