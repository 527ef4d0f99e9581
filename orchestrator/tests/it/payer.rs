//! A sender with a key: asks for offers, signs tickets and credentials.

use crate::world::World;
use penstock_domain::{B256, Capabilities, ManifestId, VideoProfile, keccak256};
use penstock_keys::{LocalKey, SegmentCredential, TypedSigner};
use penstock_payments::{ExpirationParams, Ticket, TicketParams};
use penstock_wire::{
    AuthToken, ExpirationFields, PaymentFields, SegmentSpec, SenderFields, TicketParamsFields,
    capabilities, header, net, net::orchestrator_client::OrchestratorClient,
};
use std::sync::Arc;

pub struct Payer {
    pub signer: TypedSigner,
}

/// A paid request's headers.
pub struct Headers {
    pub payment: String,
    pub segment: String,
}

impl Payer {
    /// With a new key.
    pub fn new(_: &World) -> Self {
        Self { signer: TypedSigner::new(Arc::new(LocalKey::random().unwrap())) }
    }

    pub async fn funded(world: &World) -> Self {
        let payer = Self::new(world);
        payer.fund(world).await;
        payer
    }

    pub async fn fund(&self, world: &World) {
        world.fund(self.signer.address()).await;
    }

    pub async fn request(&self, job: Option<&Capabilities>) -> net::OrchestratorRequest {
        net::OrchestratorRequest {
            address: self.signer.address().to_vec(),
            sig: self.signer.sign_orchestrator_request().await.unwrap().as_bytes().to_vec(),
            capabilities: job.map(capabilities::write),
            ignore_capacity_check: false,
        }
    }

    pub async fn info(
        &self,
        world: &World,
        job: Option<&Capabilities>,
    ) -> Result<net::OrchestratorInfo, tonic::Status> {
        let mut client = OrchestratorClient::new(world.grpc().await);
        Ok(client.get_orchestrator(self.request(job).await).await?.into_inner())
    }

    /// A payment with tickets of these nonces, for an offer.
    pub async fn payment(&self, info: &net::OrchestratorInfo, nonces: &[u32]) -> PaymentFields {
        let params = TicketParamsFields::try_from(info.ticket_params.as_ref().unwrap()).unwrap();
        let round = ExpirationParams {
            creation_round: params.expiration_params.creation_round,
            creation_round_block_hash: params.expiration_params.creation_round_block_hash,
        };
        let offer = TicketParams {
            recipient: params.recipient,
            face_value: params.face_value,
            win_prob: params.win_prob,
            recipient_rand_hash: params.recipient_rand_hash,
            seed: params.seed,
            expiration_block: params.expiration_block,
            expiration_params: round,
        };
        let mut tickets = Vec::new();
        for nonce in nonces {
            let ticket = Ticket::from_params(&offer, round, self.signer.address(), *nonce);
            let sig = self.signer.sign_ticket(&ticket).await.unwrap().as_bytes().to_vec();
            tickets.push(SenderFields { sender_nonce: *nonce, sig });
        }
        PaymentFields {
            sender: Some(self.signer.address()),
            ticket_params: Some(params),
            expiration_params: ExpirationFields {
                creation_round: round.creation_round,
                creation_round_block_hash: round.creation_round_block_hash,
            },
            tickets,
            expected_price: info
                .price_info
                .as_ref()
                .map(|p| penstock_wire::price::read(p).unwrap()),
        }
    }

    /// A payment of nothing: sender and price alone.
    pub fn nothing(&self, info: &net::OrchestratorInfo) -> PaymentFields {
        PaymentFields {
            sender: Some(self.signer.address()),
            expected_price: info
                .price_info
                .as_ref()
                .map(|p| penstock_wire::price::read(p).unwrap()),
            ..PaymentFields::default()
        }
    }

    pub async fn sign(&self, spec: &SegmentSpec) -> net::SegData {
        let names = spec.rendition_names();
        let credential = SegmentCredential {
            manifest_id: spec.manifest_id.as_str().as_bytes(),
            sequence: spec.seq,
            data_hash: spec.hash.as_slice(),
            rendition_names: &names,
        };
        let sig = self.signer.sign_segment(&credential).await.unwrap();
        spec.to_message(sig.as_bytes().to_vec())
    }

    pub async fn headers(&self, payment: &PaymentFields, spec: &SegmentSpec) -> Headers {
        Headers {
            payment: header::encode_payment(&payment.to_message()),
            segment: header::encode_segment(&self.sign(spec).await),
        }
    }
}

pub fn token(info: &net::OrchestratorInfo) -> AuthToken {
    AuthToken::try_from(info.auth_token.as_ref().unwrap()).unwrap()
}

/// A credential without data, as payments and AI jobs carry it.
pub fn empty(info: &net::OrchestratorInfo, manifest: &str) -> SegmentSpec {
    SegmentSpec::empty(ManifestId::new(manifest).unwrap(), None, token(info))
}

/// A credential for two renditions of `data`.
pub fn segment(info: &net::OrchestratorInfo, seq: i64, data: &[u8]) -> SegmentSpec {
    SegmentSpec {
        seq,
        hash: B256::from(keccak256(data)),
        duration_ms: 2000,
        profiles: VideoProfile::defaults(),
        ..empty(info, "manifest")
    }
}

pub fn post(world: &World, path: &str, headers: &Headers) -> reqwest::RequestBuilder {
    world
        .http
        .post(format!("{}{path}", world.service))
        .header(header::PAYMENT, &headers.payment)
        .header(header::SEGMENT, &headers.segment)
}

/// Status and text of an answer.
pub async fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, String::from_utf8_lossy(&response.bytes().await.unwrap()).trim().to_owned())
}

/// What an answer says that has too small a balance: both numbers, and the setting.
pub fn short(free: &str) -> (u16, String) {
    let needed = crate::world::TICKET_EV;
    let said = format!(
        "Insufficient balance: {free} wei of {needed} wei are free in this account, which a job needs to begin \
         (a ticket's worth, --ticket-ev); pay more"
    );
    (400, said)
}

/// The same of live video, which needs so many wei.
pub fn short_live(free: &str, needed: i128) -> (u16, String) {
    let said = format!(
        "Insufficient balance: {free} wei of {needed} wei are free in this account, which live video needs to begin \
         (--live-payment-interval-ms of it, a ticket's worth at least, --ticket-ev); pay more"
    );
    (400, said)
}
