//! Offers, pings and the end of sessions over gRPC; discovery lists over HTTP.

use super::OrchestratorClient;
use crate::{
    call::{Bounds, Call, reason},
    error::{CallError, CallErrorKind, Operation},
    simulated,
};
use penstock_domain::{Address, B256, Capabilities};
use penstock_wire::{
    AuthToken, OrchestratorOffer, capabilities,
    json::{DiscoveryEntry, parse_discovery},
    limits,
    net::{self, orchestrator_client::OrchestratorClient as Grpc},
};
use std::{future::Future, time::Duration};
use tonic::{Code, Response, Status, transport::Channel};

/// Longest text of a gRPC error that is kept.
const MESSAGE_CHARS: usize = 1024;

/// What `GetOrchestrator` is asked with.
#[derive(Debug, Clone, Default)]
pub struct OfferRequest {
    /// Who pays; the zero address without money.
    pub address: Address,
    /// Its signature over its checksummed address; empty without money.
    pub sig: Vec<u8>,
    /// What the job needs; `None` asks for the full menu.
    pub capabilities: Option<Capabilities>,
    /// Answer even if full: for refreshing a session.
    pub ignore_capacity_check: bool,
    /// W3C `traceparent` of the job that asks, sent as metadata, which other nodes ignore.
    pub traceparent: Option<String>,
}

impl OfferRequest {
    fn to_message(&self) -> net::OrchestratorRequest {
        net::OrchestratorRequest {
            address: self.address.to_vec(),
            sig: self.sig.clone(),
            capabilities: self.capabilities.as_ref().map(capabilities::write),
            ignore_capacity_check: self.ignore_capacity_check,
        }
    }
}

/// An offer, both checked and as it was sent.
#[derive(Debug, Clone)]
pub struct Offered {
    /// The checked offer.
    pub offer: OrchestratorOffer,
    /// The message encoded, with fields we do not know left out: what a signer is given.
    pub encoded: Vec<u8>,
    /// From just before the call until its answer, connecting included (selection.md section 3).
    pub latency: Duration,
}

impl OrchestratorClient {
    /// Asks for an offer. `timeout` replaces the configured one (discovery has its own).
    pub async fn get_orchestrator(
        &self,
        service_uri: &str,
        request: &OfferRequest,
        timeout: Option<Duration>,
    ) -> Result<Offered, CallError> {
        let start = tokio::time::Instant::now();
        let timeout = timeout.unwrap_or(self.options.info_timeout);
        let message = request.to_message();
        let info = match simulated::network() {
            Some(network) => self.simulated(&network, service_uri, &message).await?,
            None => {
                let mut message = tonic::Request::new(message);
                let trace = request.traceparent.as_deref().and_then(|trace| trace.parse().ok());
                if let Some(trace) = trace {
                    message.metadata_mut().insert("traceparent", trace);
                }
                self.grpc(
                    Operation::GetOrchestrator,
                    service_uri,
                    timeout,
                    |mut client| async move { client.get_orchestrator(message).await },
                )
                .await?
            }
        };
        let latency = start.elapsed();
        let encoded = prost::Message::encode_to_vec(&info);
        let offer = OrchestratorOffer::try_from(&info).map_err(|e| CallError {
            operation: Operation::GetOrchestrator,
            peer: service_uri.to_owned(),
            kind: CallErrorKind::Answer(e),
        })?;
        Ok(Offered { offer, encoded, latency })
    }

    async fn simulated(
        &self,
        network: &simulated::Network,
        service_uri: &str,
        message: &net::OrchestratorRequest,
    ) -> Result<net::OrchestratorInfo, CallError> {
        let (_, origin) = self.target(Operation::GetOrchestrator, service_uri)?;
        let call = Call { operation: Operation::GetOrchestrator, origin: &origin };
        let message = prost::Message::encode_to_vec(message);
        let said = simulated::get_orchestrator(network, &origin, message).await;
        let said = said.map_err(|kind| call.error(kind))?;
        prost::Message::decode(said)
            .map_err(|e: prost::DecodeError| call.error(CallErrorKind::Request(e.to_string())))
    }

    /// Has the node sign 32 bytes with its key; the caller recovers who that is.
    pub async fn ping(&self, service_uri: &str, value: B256) -> Result<Vec<u8>, CallError> {
        let message = net::PingPong { value: value.to_vec() };
        let timeout = self.options.ping_timeout;
        let pong = self
            .grpc(Operation::Ping, service_uri, timeout, |mut client| async move {
                client.ping(message).await
            })
            .await?;
        Ok(pong.value)
    }

    /// Tells the node that a session is over.
    pub async fn end_session(&self, service_uri: &str, token: &AuthToken) -> Result<(), CallError> {
        let message = net::EndTranscodingSessionRequest { auth_token: Some(token.into()) };
        let timeout = self.options.ping_timeout;
        self.grpc(Operation::EndSession, service_uri, timeout, |mut client| async move {
            client.end_transcoding_session(message).await
        })
        .await?;
        Ok(())
    }

    /// The applications that run there (`GET {uri}/discovery`).
    pub async fn discovery(&self, service_uri: &str) -> Result<Vec<DiscoveryEntry>, CallError> {
        let operation = Operation::Discovery;
        let (url, origin) = self.route(operation, service_uri, "discovery")?;
        let call = Call { operation, origin: &origin };
        let limit = self.options.discovery_timeout;
        let bounds = Bounds { head: limit, whole: limit, max_bytes: 1024 * 1024 };
        let answer = call.send(self.http.get(url), bounds, Some(&self.pins)).await?;
        parse_discovery(&answer.body).map_err(|e| call.error(CallErrorKind::Answer(e)))
    }

    async fn grpc<T, F>(
        &self,
        operation: Operation,
        service_uri: &str,
        timeout: Duration,
        method: impl FnOnce(Grpc<Channel>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let (url, origin) = self.target(operation, service_uri)?;
        let call = Call { operation, origin: &origin };
        let channel = self.channels.get(&url).map_err(|kind| call.error(kind))?;
        let client = Grpc::new(channel).max_decoding_message_size(limits::GRPC_MESSAGE_BYTES);
        match tokio::time::timeout(timeout, method(client)).await {
            Err(_) => Err(call.error(CallErrorKind::HeaderTimeout)),
            Ok(Err(status)) => Err(call.error(grpc_error(&status))),
            Ok(Ok(response)) => Ok(response.into_inner()),
        }
    }
}

fn grpc_error(status: &Status) -> CallErrorKind {
    // A status without metadata from the peer and with a source was made on our side.
    match (status.code(), std::error::Error::source(status)) {
        (Code::Unavailable, Some(source)) => CallErrorKind::Connect(reason(source)),
        (code, _) => CallErrorKind::Grpc {
            code: code.into(),
            message: status.message().chars().take(MESSAGE_CHARS).collect(),
        },
    }
}
