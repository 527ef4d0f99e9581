//! `net.Orchestrator`: offers to whoever proves to be the sender that it names.

use super::{Node, is_free, pass};
use penstock_domain::Address;
use penstock_payments::{orchestrator_request_digest, verify_bytes};
use penstock_wire::capabilities;
use penstock_wire::net::{
    EndTranscodingSessionRequest, EndTranscodingSessionResponse, OrchestratorInfo,
    OrchestratorRequest, PingPong, orchestrator_server::Orchestrator,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Orchestrator for Node {
    async fn get_orchestrator(
        &self,
        request: Request<OrchestratorRequest>,
    ) -> Result<Response<OrchestratorInfo>, Status> {
        let sim = &self.0;
        let request = request.into_inner();
        {
            let mut seen = sim.seen.lock().unwrap();
            seen.offers += 1;
            seen.asked.push(request.clone());
        }
        pass(&sim.gate).await;
        if let Some(text) = *sim.refuse_offers.lock().unwrap() {
            return Err(Status::unknown(text));
        }
        if is_free(sim) {
            return Ok(Response::new((&sim.offer(Address::ZERO, sim.token())).into()));
        }
        if request.address.len() != 20 {
            return Err(Status::unknown("orchestrator req sig check failed"));
        }
        let sender = Address::from_slice(&request.address);
        verify_bytes(&request.sig, &orchestrator_request_digest(sender), sender)
            .map_err(|_| Status::unknown("orchestrator req sig check failed"))?;
        let full = sim.sessions.lock().unwrap().len() >= sim.terms.lock().unwrap().capacity;
        if full && !request.ignore_capacity_check {
            return Err(Status::unknown("OrchestratorCapped"));
        }
        if let Some(info) = sim.says.lock().unwrap().clone() {
            return Ok(Response::new(info));
        }
        let wanted = request.capabilities.as_ref().and_then(|c| capabilities::read(c).ok());
        Ok(Response::new((&sim.offer_for(sender, sim.token(), wanted.as_ref())).into()))
    }

    async fn end_transcoding_session(
        &self,
        request: Request<EndTranscodingSessionRequest>,
    ) -> Result<Response<EndTranscodingSessionResponse>, Status> {
        if let Some(token) = request.into_inner().auth_token {
            self.0.sessions.lock().unwrap().remove(&token.session_id);
        }
        Ok(Response::new(EndTranscodingSessionResponse {}))
    }

    async fn ping(&self, request: Request<PingPong>) -> Result<Response<PingPong>, Status> {
        let sim = &self.0;
        sim.seen.lock().unwrap().pings += 1;
        let other = sim.pings_with.lock().unwrap().clone();
        let value = request.into_inner().value;
        let signed = other.as_ref().unwrap_or(&sim.key).sign_ping(&value).await;
        let signed = signed.map_err(|e| Status::unknown(e.to_string()))?;
        Ok(Response::new(PingPong { value: signed.as_bytes().to_vec() }))
    }
}
