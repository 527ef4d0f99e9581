//! GetOrchestrator, Ping, EndTranscodingSession (orchestrator-wire.md sections 3 and 10).

use super::unknown;
use crate::{node::Node, release::Reason, service::offers::OfferFor};
use penstock_domain::{Address, Capabilities, Capability};
use penstock_payments::{Signature, orchestrator_request_digest};
use penstock_wire::{capabilities, net};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub struct Service(pub Arc<Node>);

#[tonic::async_trait]
impl net::orchestrator_server::Orchestrator for Service {
    async fn get_orchestrator(
        &self,
        request: Request<net::OrchestratorRequest>,
    ) -> Result<Response<net::OrchestratorInfo>, Status> {
        let request = request.into_inner();
        let sender = self.requester(&request)?;
        if self.0.is_draining() {
            return Err(refused("OrchestratorCapped"));
        }
        let told = match &self.0.auth_webhook {
            Some(webhook) => webhook
                .ask(sender)
                .await
                .map_err(|denied| unknown(format!("authentication failed: {denied}")))?,
            None => None,
        };
        let job = request
            .capabilities
            .as_ref()
            .map(capabilities::read)
            .transpose()
            .map_err(|error| refused(error.to_string()))?;
        let wants_ai = job.as_ref().is_some_and(|job| job.models.keys().any(|n| is_ai(*n)));
        let sessions = &self.0.sessions;
        if (sessions.bounds_all_work() || !wants_ai) && !sessions.has_room() {
            return Err(refused("OrchestratorCapped"));
        }
        if let Some(job) = &job
            && !request.ignore_capacity_check
            && !self.has_live_room(job)
        {
            return Err(refused("OrchestratorCapped"));
        }
        let to = OfferFor { sender, account: None, job: job.as_ref(), token: None };
        let offer = self.0.info_at(&to, told.as_ref()).await.map_err(|error| {
            tracing::debug!(%sender, %error, "no offer");
            unknown(error)
        })?;
        Ok(Response::new((&offer).into()))
    }

    async fn end_transcoding_session(
        &self,
        request: Request<net::EndTranscodingSessionRequest>,
    ) -> Result<Response<net::EndTranscodingSessionResponse>, Status> {
        // The reference crashes on an absent token; here it is as invalid as a wrong one.
        let token = request.into_inner().auth_token.unwrap_or_default();
        self.0
            .tokens
            .check_origin(&token.token, &token.session_id, token.expiration)
            .map_err(|_| unknown("Invalid auth token"))?;
        self.0.end_session(&token.session_id, Reason::ClientStopped);
        Ok(Response::new(net::EndTranscodingSessionResponse {}))
    }

    async fn ping(
        &self,
        request: Request<net::PingPong>,
    ) -> Result<Response<net::PingPong>, Status> {
        let value = request.into_inner().value;
        let Some(signer) = &self.0.signer else {
            return Ok(Response::new(net::PingPong::default()));
        };
        // Anyone may ask. The signer refuses all but 32 bytes: the reference signs any value, even
        // one that is a ticket.
        let signature = signer.sign_ping(&value).await.map_err(unknown)?;
        Ok(Response::new(net::PingPong { value: signature.as_bytes().to_vec() }))
    }
}

impl Service {
    /// Check 1: who asks.
    fn requester(&self, request: &net::OrchestratorRequest) -> Result<Address, Status> {
        if self.0.cashier.is_none() {
            return Ok(Address::try_from(request.address.as_slice()).unwrap_or(Address::ZERO));
        }
        let failed = || refused("orchestrator req sig check failed");
        let address = Address::try_from(request.address.as_slice()).map_err(|_| failed())?;
        Signature::from_slice(&request.sig)
            .and_then(|signature| signature.verify(&orchestrator_request_digest(address), address))
            .map_err(|_| failed())?;
        Ok(address)
    }

    /// Check 4: a job that names live models needs one with room.
    fn has_live_room(&self, job: &Capabilities) -> bool {
        let live = Capability::LiveVideoToVideo;
        let Some(wanted) = job.models.get(&live.number()) else { return true };
        let own = self.0.capabilities();
        wanted
            .keys()
            .any(|model| own.model(live, model).is_some_and(|m| m.capacity > m.capacity_in_use))
    }
}

fn is_ai(capability: u32) -> bool {
    Capability::from_number(capability).is_some_and(Capability::is_ai)
}

fn refused(why: impl std::fmt::Display) -> Status {
    unknown(format!("Invalid orchestrator request: {why}"))
}
