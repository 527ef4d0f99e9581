//! The client of a separate redeemer, ours or the Go node's: hands winning tickets over, and asks for and
//! follows max floats.

use crate::{
    call::{Call, origin, reason},
    channel::quiet_channel,
    error::{CallError, CallErrorKind, Operation},
    trust::{BuildError, Trust},
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::HeaderValue;
use penstock_domain::{Address, Wei};
use penstock_wire::{
    net::{self, ticket_redeemer_client::TicketRedeemerClient as Grpc},
    redeemer::{WinnerFields, read_max_float},
};
use std::{future::Future, time::Duration};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use url::Url;

/// Answers are a number or nothing.
const ANSWER_BYTES: usize = 4 * 1024;
/// Longest text of a gRPC error that is kept.
const MESSAGE_CHARS: usize = 1024;
/// What the Go node's redeemer answers a ticket with that it has stored before: its database's words.
const STORED_BEFORE: &str = "UNIQUE constraint failed: ticketQueue.sig";

/// How a redeemer is called. The defaults are those of payments.md section 14.
#[derive(Debug, Clone)]
pub struct RedeemerOptions {
    /// Whose certificates are accepted; the Go node's is self-signed.
    pub trust: Trust,
    /// Connecting, TLS included.
    pub connect_timeout: Duration,
    /// One call.
    pub call_timeout: Duration,
    /// Sent as `authorization: Bearer …`, which the Go node does not look at.
    pub secret: Option<HeaderValue>,
}

impl Default for RedeemerOptions {
    fn default() -> Self {
        Self {
            trust: Trust::AcceptAny,
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(8),
            secret: None,
        }
    }
}

/// A redeemer. Connects when first used and again when broken.
#[derive(Debug, Clone)]
pub struct RedeemerClient {
    origin: String,
    channel: Channel,
    call_timeout: Duration,
    authorization: Option<MetadataValue<Ascii>>,
}

impl RedeemerClient {
    /// The redeemer at `url`: TLS for `https`, cleartext for `http`.
    pub fn new(url: &Url, options: RedeemerOptions) -> Result<Self, BuildError> {
        let setting = |reason: String| BuildError::Setting { setting: "redeemer URL", reason };
        let origin = origin(url).ok_or_else(|| setting("expected http or https".to_owned()))?;
        let channel = quiet_channel(url, &options.trust, options.connect_timeout)?;
        let bearer = |secret: HeaderValue| {
            let text = [b"Bearer ", secret.as_bytes()].concat();
            let mut value = MetadataValue::try_from(text.as_slice())
                .map_err(|_| setting("the secret cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            Ok::<_, BuildError>(value)
        };
        let authorization = options.secret.map(bearer).transpose()?;
        Ok(Self { origin, channel, call_timeout: options.call_timeout, authorization })
    }

    /// Where it is, `https://host:port`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Hands a winner over. `Ok`: it is on the redeemer's disk, from now or from before. May be repeated.
    pub async fn queue_ticket(&self, winner: &WinnerFields) -> Result<(), CallError> {
        let message = winner.to_message();
        let sent = self
            .call(Operation::QueueTicket, |mut client, request| async move {
                client.queue_ticket(request.map(|()| message)).await
            })
            .await;
        match sent {
            Ok(net::QueueTicketRes {}) => Ok(()),
            Err(error) if error.message().contains(STORED_BEFORE) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The largest face value that the redeemer stands for, wei.
    pub async fn max_float(&self, sender: Address) -> Result<Wei, CallError> {
        let message = net::MaxFloatReq { sender: sender.to_vec() };
        let told = self
            .call(Operation::MaxFloat, |mut client, request| async move {
                client.max_float(request.map(|()| message)).await
            })
            .await?;
        self.read(Operation::MaxFloat, &told)
    }

    /// The same after each change, until the stream breaks. What it was before the first change, the Go
    /// node does not say, nor does it answer at all before then.
    pub fn monitor_max_float(
        &self,
        sender: Address,
    ) -> impl Stream<Item = Result<Wei, CallError>> + Send + 'static {
        let this = self.clone();
        let message = net::MaxFloatReq { sender: sender.to_vec() };
        let mut client = self.client();
        let request = self.request().map(|()| message);
        let begun = async move { client.monitor_max_float(request).await };
        stream::once(begun).map_ok(Response::into_inner).try_flatten().map(move |told| {
            let operation = Operation::MonitorMaxFloat;
            let told = told.map_err(|status| this.error(operation, kind(&status)))?;
            this.read(operation, &told)
        })
    }

    async fn call<T, F>(
        &self,
        operation: Operation,
        method: impl FnOnce(Grpc<Channel>, Request<()>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        match tokio::time::timeout(self.call_timeout, method(self.client(), self.request())).await {
            Err(_) => Err(self.error(operation, CallErrorKind::HeaderTimeout)),
            Ok(Err(status)) => Err(self.error(operation, kind(&status))),
            Ok(Ok(response)) => Ok(response.into_inner()),
        }
    }

    fn client(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES)
    }

    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }

    fn read(&self, operation: Operation, told: &net::MaxFloatUpdate) -> Result<Wei, CallError> {
        read_max_float(told).map_err(|error| self.error(operation, CallErrorKind::Answer(error)))
    }

    fn error(&self, operation: Operation, kind: CallErrorKind) -> CallError {
        Call { operation, origin: &self.origin }.error(kind)
    }
}

/// A status with a source was made on our side.
fn kind(status: &Status) -> CallErrorKind {
    match (status.code(), std::error::Error::source(status)) {
        (Code::Unavailable, Some(source)) => CallErrorKind::Connect(reason(source)),
        (_, Some(source)) => CallErrorKind::Broken(reason(source)),
        (code, None) => CallErrorKind::Grpc {
            code: code.into(),
            message: status.message().chars().take(MESSAGE_CHARS).collect(),
        },
    }
}
