//! An orchestrator with a real key and real checks: request signatures, tokens, credentials, tickets,
//! nonces, balances. It does not transcode: a rendition is bytes that name their source.

use super::{Script, account, server::Server};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use penstock_domain::{
    Address, Capabilities, Capability, CapabilitySet, ManifestId, ModelConstraint, PriceInfo,
    Rational, SessionId, U256, VideoProfile, Wei, keccak256,
};
use penstock_keys::TypedSigner;
use penstock_payments::{
    AuthTokenSecret, ExpirationParams, Signature, Ticket, fee, orchestrator_request_digest,
    segment_digest, ticket_ev, verify_bytes,
};
use penstock_wire::{
    AuthToken, ExpirationFields, OrchestratorOffer, PaymentFields, SegmentCredential,
    TicketParamsFields, header,
    net::{
        self, EndTranscodingSessionRequest, EndTranscodingSessionResponse, OrchestratorInfo,
        OrchestratorRequest, PingPong, TranscodeData, TranscodeResult, TranscodedSegmentData,
        orchestrator_server::{Orchestrator, OrchestratorServer},
        transcode_result,
    },
};
use prost::Message;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};
use tonic::{Response as GrpcResponse, Status, service::Routes};

/// What to do instead of the job.
#[derive(Debug, Clone)]
pub enum Order {
    /// Answer with this status and text, before anything is charged.
    Status(u16, &'static str),
    /// 200, and this error inside the result.
    JobError(&'static str),
    /// Never answer.
    Hang,
    /// Sign the result with another key.
    WrongSignature,
    /// Leave the last rendition out.
    FewerRenditions,
    /// An empty last rendition.
    EmptyRendition,
    /// Something that is not the expected answer.
    Garbage,
    /// Report the most pixels that can be reported.
    Pixels,
    /// Result URLs that lead to this origin.
    Elsewhere(String),
}

/// What to do with a payment.
#[derive(Debug, Clone, Copy)]
pub enum PaymentOrder {
    /// Refuse with this status and text.
    Status(u16, &'static str),
    /// Credit it and lose the answer.
    LoseAnswer,
}

/// An account.
#[derive(Debug, Clone, Default)]
pub struct Book {
    pub credited: Rational,
    pub debited: Rational,
}

impl Book {
    pub fn balance(&self) -> Rational {
        &self.credited - &self.debited
    }
}

/// Seen from outside.
#[derive(Debug, Default)]
pub struct Seen {
    pub offers: u32,
    pub payments: u32,
    pub segments: Vec<(String, i64)>,
    pub reinit: Vec<bool>,
    pub audio: Vec<AudioJob>,
    pub traces: Vec<String>,
}

/// An audio job as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioJob {
    pub bytes: usize,
    pub file_name: String,
    pub fields: Vec<(String, String)>,
}

pub struct SimOrchestrator {
    pub key: TypedSigner,
    pub price: Mutex<PriceInfo>,
    pub ev_wei: u64,
    pub model: String,
    pub segment_orders: Script<Order>,
    pub audio_orders: Script<Order>,
    pub payment_orders: Script<PaymentOrder>,
    /// Refuses offers with this text while it is set.
    pub refuse_offers: Mutex<Option<&'static str>>,
    pub seen: Mutex<Seen>,
    pub books: Mutex<HashMap<String, Book>>,
    uri: Mutex<String>,
    secret: AuthTokenSecret,
    nonces: Mutex<HashSet<(Address, u32)>>,
    files: Mutex<HashMap<String, Bytes>>,
}

#[derive(Clone)]
struct Node(Arc<SimOrchestrator>);

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

impl SimOrchestrator {
    /// A price of 3/2 wei a unit, and tickets worth 100,000,000 wei.
    pub async fn start() -> (Arc<Self>, Server) {
        let sim = Arc::new(Self {
            key: account(),
            price: Mutex::new(PriceInfo::new(3, 2).unwrap()),
            ev_wei: 100_000_000,
            model: "openai/whisper-tiny.en".to_owned(),
            segment_orders: Script::default(),
            audio_orders: Script::default(),
            payment_orders: Script::default(),
            refuse_offers: Mutex::default(),
            seen: Mutex::default(),
            books: Mutex::default(),
            uri: Mutex::default(),
            secret: AuthTokenSecret::new(rand::random()),
            nonces: Mutex::default(),
            files: Mutex::default(),
        });
        let node = Node(sim.clone());
        let grpc =
            Routes::new(OrchestratorServer::new(node.clone())).into_axum_router().reset_fallback();
        let http = Router::new()
            .route("/segment", post(segment))
            .route("/payment", post(payment))
            .route("/audio-to-text", post(audio))
            .route("/stream/{*path}", get(file))
            .layer(DefaultBodyLimit::disable())
            .with_state(node);
        let server = Server::tls(|uri| {
            *sim.uri.lock().unwrap() = uri.to_owned();
            http.merge(grpc)
        })
        .await;
        (sim, server)
    }

    /// One account's book.
    pub fn book(&self, session: &str) -> Book {
        self.books.lock().unwrap().get(session).cloned().unwrap_or_default()
    }

    /// Everything credited and debited.
    pub fn totals(&self) -> Book {
        let books = self.books.lock().unwrap();
        books.values().fold(Book::default(), |sum, book| Book {
            credited: &sum.credited + &book.credited,
            debited: &sum.debited + &book.debited,
        })
    }

    /// Segments it was asked for.
    pub fn segments(&self) -> usize {
        self.seen.lock().unwrap().segments.len()
    }

    /// Forgets all balances, as one that was restarted without its ledger would.
    pub fn forget_balances(&self) {
        self.books.lock().unwrap().clear();
    }

    fn offer(&self, token: AuthToken) -> OrchestratorOffer {
        let mut set = CapabilitySet::default_video();
        set.insert(Capability::AudioToText);
        let mut capabilities = Capabilities::of_set(set);
        let model = ModelConstraint { warm: true, capacity: 1, ..ModelConstraint::default() };
        capabilities
            .models
            .entry(Capability::AudioToText.number())
            .or_default()
            .insert(self.model.clone(), model);
        OrchestratorOffer {
            transcoder: Some(self.uri.lock().unwrap().clone()),
            address: Some(self.key.address()),
            price: Some(*self.price.lock().unwrap()),
            ticket_params: Some(self.ticket_params()),
            capabilities: Some(capabilities),
            auth_token: Some(token),
            storage: None,
            capabilities_prices: vec![],
            hardware: vec![],
            nodes: vec![],
        }
    }

    fn ticket_params(&self) -> TicketParamsFields {
        TicketParamsFields {
            recipient: self.key.address(),
            // Wins one time in a thousand.
            face_value: Wei::from_u64(self.ev_wei * 1_000),
            win_prob: U256::MAX / U256::from(1_000),
            recipient_rand_hash: keccak256(self.key.address()),
            seed: U256::from(1),
            expiration_block: U256::from(1_000_000),
            expiration_params: ExpirationFields {
                creation_round: 9,
                creation_round_block_hash: keccak256(b"round"),
            },
        }
    }

    fn ev(&self) -> Rational {
        let p = self.ticket_params();
        ticket_ev(p.face_value, p.win_prob)
    }

    fn credit(&self, payment: &PaymentFields, session: &ManifestId) -> Result<(), String> {
        let sender = payment.sender.ok_or("no sender")?;
        let Some(p) = &payment.ticket_params else { return Ok(()) };
        assert_eq!(*p.recipient_rand_hash, *keccak256(self.key.address()));
        let expiration = ExpirationParams {
            creation_round: payment.expiration_params.creation_round,
            creation_round_block_hash: payment.expiration_params.creation_round_block_hash,
        };
        for t in &payment.tickets {
            let ticket = Ticket {
                recipient: p.recipient,
                sender,
                face_value: p.face_value,
                win_prob: p.win_prob,
                sender_nonce: t.sender_nonce,
                recipient_rand_hash: p.recipient_rand_hash,
                expiration_params: expiration,
            };
            let sig = Signature::from_slice(&t.sig).map_err(|e| e.to_string())?;
            ticket.verify(&sig).map_err(|e| e.to_string())?;
            if !self.nonces.lock().unwrap().insert((sender, t.sender_nonce)) {
                return Err("invalid ticket senderNonce: already seen".to_owned());
            }
            let mut books = self.books.lock().unwrap();
            let book = books.entry(session.to_string()).or_default();
            book.credited = &book.credited + &self.ev();
        }
        Ok(())
    }

    fn debit(&self, session: &str, units: u64) {
        let mut books = self.books.lock().unwrap();
        let book = books.entry(session.to_owned()).or_default();
        book.debited = &book.debited + &fee(units, &self.price.lock().unwrap().rational());
    }

    /// Rows 1 to 7 of orchestrator-wire.md section 6.
    fn admit(
        &self,
        headers: &HeaderMap,
    ) -> Result<(PaymentFields, SegmentCredential), (StatusCode, String)> {
        let text = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
        self.seen.lock().unwrap().traces.push(text("traceparent"));
        let refuse = |s: u16, m: String| (StatusCode::from_u16(s).unwrap(), m);
        let payment = header::decode_payment(&text("livepeer-payment"))
            .map_err(|e| refuse(402, e.to_string()))?;
        let payment = PaymentFields::try_from(&payment).map_err(|e| refuse(402, e.to_string()))?;
        let credential = SegmentCredential::from_header(&text("livepeer-segment"))
            .map_err(|e| refuse(403, e.to_string()))?;
        let digest = segment_digest(
            credential.manifest_id.as_str().as_bytes(),
            credential.seq,
            &credential.hash,
            &credential.rendition_names(),
        );
        verify_bytes(&credential.sig, &digest, payment.sender.unwrap_or_default())
            .map_err(|_| refuse(403, "ErrSegSig".to_owned()))?;
        let token = credential.auth_token.clone().map_err(|e| refuse(403, e.to_string()))?;
        self.secret
            .check(&token.token, &token.session_id, token.expiration_s, now_s())
            .map_err(|e| refuse(403, e.to_string()))?;
        Ok((payment, credential))
    }

    fn has_balance(&self, session: &str) -> bool {
        self.book(session).balance() >= self.ev()
    }
}

#[tonic::async_trait]
impl Orchestrator for Node {
    async fn get_orchestrator(
        &self,
        request: tonic::Request<OrchestratorRequest>,
    ) -> Result<GrpcResponse<OrchestratorInfo>, Status> {
        let sim = &self.0;
        sim.seen.lock().unwrap().offers += 1;
        if let Some(text) = *sim.refuse_offers.lock().unwrap() {
            return Err(Status::unknown(text));
        }
        let request = request.into_inner();
        let sender = Address::from_slice(&request.address);
        verify_bytes(&request.sig, &orchestrator_request_digest(sender), sender)
            .map_err(|_| Status::unknown("orchestrator req sig check failed"))?;
        let session = SessionId::new(format!("{:08x}", rand::random::<u32>())).unwrap();
        let expiration_s = now_s() + 1_800;
        let token = AuthToken {
            token: sim.secret.issue(&session, expiration_s).to_vec(),
            session_id: session.to_string(),
            expiration_s,
        };
        Ok(GrpcResponse::new((&sim.offer(token)).into()))
    }

    async fn end_transcoding_session(
        &self,
        _: tonic::Request<EndTranscodingSessionRequest>,
    ) -> Result<GrpcResponse<EndTranscodingSessionResponse>, Status> {
        Ok(GrpcResponse::new(EndTranscodingSessionResponse {}))
    }

    async fn ping(&self, _: tonic::Request<PingPong>) -> Result<GrpcResponse<PingPong>, Status> {
        Err(Status::unimplemented("not simulated"))
    }
}

async fn payment(State(Node(sim)): State<Node>, headers: HeaderMap) -> Response {
    sim.seen.lock().unwrap().payments += 1;
    let order = sim.payment_orders.next();
    if let Some(PaymentOrder::Status(status, text)) = order {
        return (StatusCode::from_u16(status).unwrap(), text).into_response();
    }
    let (payment, credential) = match sim.admit(&headers) {
        Ok(admitted) => admitted,
        Err((status, text)) => return (status, text).into_response(),
    };
    if let Err(text) = sim.credit(&payment, &credential.manifest_id) {
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    if let Some(PaymentOrder::LoseAnswer) = order {
        return broken();
    }
    let info = (&sim.offer(credential.auth_token.unwrap())).into();
    net::PaymentResult { info: Some(info) }.encode_to_vec().into_response()
}

/// A 200 whose body ends early.
fn broken() -> Response {
    let chunks = [Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("cut"))];
    Body::from_stream(futures::stream::iter(chunks)).into_response()
}

async fn segment(State(Node(sim)): State<Node>, headers: HeaderMap, body: Bytes) -> Response {
    let (payment, credential) = match sim.admit(&headers) {
        Ok(admitted) => admitted,
        Err((status, text)) => return (status, text).into_response(),
    };
    let token = credential.auth_token.clone().unwrap();
    {
        let mut seen = sim.seen.lock().unwrap();
        seen.segments.push((token.session_id.clone(), credential.seq));
        seen.reinit.push(credential.force_session_reinit);
    }
    let order = sim.segment_orders.next();
    match &order {
        Some(Order::Status(status, text)) => {
            return (StatusCode::from_u16(*status).unwrap(), *text).into_response();
        }
        Some(Order::Hang) => std::future::pending().await,
        Some(Order::Garbage) => return "garbage".into_response(),
        _ => {}
    }
    let session = ManifestId::new(token.session_id.clone()).unwrap();
    if let Err(text) = sim.credit(&payment, &session) {
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    if !sim.has_balance(&token.session_id) {
        return (StatusCode::BAD_REQUEST, "Insufficient balance").into_response();
    }
    if keccak256(&body) != credential.hash {
        return (StatusCode::FORBIDDEN, "Forbidden").into_response();
    }
    let info = Some((&sim.offer(token.clone())).into());
    let result = match &order {
        Some(Order::JobError(text)) => transcode_result::Result::Error((*text).to_owned()),
        order => transcode_result::Result::Data(
            transcode(&sim, &credential, &body, &token, order.as_ref()).await,
        ),
    };
    TranscodeResult { seq: credential.seq, result: Some(result), info }
        .encode_to_vec()
        .into_response()
}

/// What a rendition of a segment looks like.
pub fn rendition(name: &str, seq: i64, source: &[u8]) -> Bytes {
    Bytes::from(format!("rendition {name} of segment {seq} with hash {}", keccak256(source)))
}

fn pixels(profile: &VideoProfile, duration_ms: u32) -> u64 {
    u64::from(profile.width) * u64::from(profile.height) * 30 * u64::from(duration_ms) / 1_000
}

async fn transcode(
    sim: &SimOrchestrator,
    credential: &SegmentCredential,
    source: &[u8],
    token: &AuthToken,
    order: Option<&Order>,
) -> TranscodeData {
    let mut renditions: Vec<_> = credential
        .profiles
        .iter()
        .map(|p| (p.clone(), rendition(&p.name, credential.seq, source)))
        .collect();
    let hashes: Vec<_> = renditions.iter().map(|(_, data)| keccak256(data)).collect();
    let key = if let Some(Order::WrongSignature) = order { account() } else { sim.key.clone() };
    let sig = key.sign_transcode_result(&hashes).await.unwrap();
    match order {
        Some(Order::FewerRenditions) => drop(renditions.pop()),
        Some(Order::EmptyRendition) => renditions.last_mut().unwrap().1 = Bytes::new(),
        _ => {}
    }
    let base = match order {
        Some(Order::Elsewhere(base)) => base.clone(),
        _ => sim.uri.lock().unwrap().clone(),
    };
    let mut total = 0;
    let mut segments = Vec::new();
    for (profile, data) in renditions {
        let pixels = pixels(&profile, credential.duration_ms);
        total += pixels;
        let path = format!("{}/{}/{}.ts", token.session_id, profile.name, credential.seq);
        let url = format!("{base}/stream/{path}");
        sim.files.lock().unwrap().insert(path, data);
        let lie = matches!(order, Some(Order::Pixels));
        let pixels = if lie { i64::MAX } else { pixels as i64 };
        segments.push(TranscodedSegmentData { url, pixels, ..Default::default() });
    }
    sim.debit(&token.session_id, total);
    TranscodeData { segments, sig: sig.as_bytes().to_vec() }
}

async fn file(State(Node(sim)): State<Node>, Path(path): Path<String>) -> Response {
    match sim.files.lock().unwrap().get(&path) {
        Some(data) => data.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Units that an audio job costs.
fn charged(job: &AudioJob) -> u64 {
    let metadata = &job.fields.iter().find(|(name, _)| name == "metadata").unwrap().1;
    let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
    metadata["duration"].as_str().unwrap().parse::<u64>().unwrap() * 1_000
}

async fn audio(State(Node(sim)): State<Node>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let (payment, credential) = match sim.admit(&head.headers) {
        Ok(admitted) => admitted,
        Err((status, text)) => return (status, text).into_response(),
    };
    assert_eq!(head.headers["authorization"], "Livepeer-AI-Worker-1.0");
    let boundary = multer::parse_boundary(head.headers["content-type"].to_str().unwrap()).unwrap();
    let mut parts = multer::Multipart::new(body.into_data_stream(), boundary);
    let mut job = AudioJob { bytes: 0, file_name: String::new(), fields: Vec::new() };
    let mut first = true;
    while let Some(part) = parts.next_field().await.unwrap() {
        let name = part.name().unwrap().to_owned();
        if name == "audio" {
            assert!(first, "the file comes first");
            job.file_name = part.file_name().unwrap().to_owned();
            job.bytes = part.bytes().await.unwrap().len();
        } else {
            job.fields.push((name, part.text().await.unwrap()));
        }
        first = false;
    }
    sim.seen.lock().unwrap().audio.push(job.clone());
    match sim.audio_orders.next() {
        Some(Order::Status(status, text)) => {
            return (StatusCode::from_u16(status).unwrap(), text).into_response();
        }
        Some(Order::Garbage) => {
            sim.debit(&format!("31_{}", sim.model), charged(&job));
            return "garbage".into_response();
        }
        Some(other) => panic!("{other:?} is no order for audio"),
        None => {}
    }
    let session = format!("31_{}", sim.model);
    assert_eq!(credential.manifest_id.as_str(), session);
    if let Err(text) = sim.credit(&payment, &credential.manifest_id) {
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    if !sim.has_balance(&session) {
        return (StatusCode::BAD_REQUEST, "Insufficient balance").into_response();
    }
    let seconds = charged(&job) / 1_000;
    sim.debit(&session, seconds * 1_000);
    let text = format!("{seconds} seconds of speech");
    let answer =
        serde_json::json!({ "text": text, "chunks": [{ "timestamp": [0.0, 1.0], "text": text }] });
    axum::Json(answer).into_response()
}
