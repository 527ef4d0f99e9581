//! Calls that are answered in this thread and leave it by no socket: how a simulation stands between
//! roles. Only where simulations are compiled in (`penstock_failpoint`).

use crate::error::CallErrorKind;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use std::{cell::RefCell, sync::Arc};

/// What became of a call.
pub type Heard = Result<Response<Bytes>, Trouble>;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody is there: nothing was sent.
    Connect,
    /// It was sent, and the answer is lost.
    Broken,
}

impl From<Trouble> for CallErrorKind {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Connect => Self::Connect("nobody is there".to_owned()),
            Trouble::Broken => Self::Broken("the connection was lost".to_owned()),
        }
    }
}

/// Takes every request of a thread.
pub type Network = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Heard> + Send + Sync>;

thread_local! {
    static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
}

/// Whatever this thread calls goes there from now on; `None`: to the network again.
pub fn set_network(network: Option<Network>) {
    NETWORK.with_borrow_mut(|now| *now = network);
}

pub(crate) fn network() -> Option<Network> {
    if !penstock_failpoint::simulated::COMPILED_IN {
        return None;
    }
    NETWORK.with_borrow(Clone::clone)
}

/// The same call over a simulated network.
pub(crate) async fn send(
    network: &Network,
    request: reqwest::RequestBuilder,
) -> Result<reqwest::Response, CallErrorKind> {
    let request = request.build().map_err(|e| CallErrorKind::Request(e.to_string()))?;
    let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
    let body = Bytes::copy_from_slice(body);
    let mut sent = Request::new(body);
    *sent.method_mut() = request.method().clone();
    *sent.headers_mut() = request.headers().clone();
    *sent.uri_mut() = request
        .url()
        .as_str()
        .parse()
        .map_err(|e: http::uri::InvalidUri| CallErrorKind::Request(e.to_string()))?;
    Ok(reqwest::Response::from(network(sent).await?))
}

/// `GetOrchestrator`: `POST {origin}/net.Orchestrator/GetOrchestrator` with the message as it is. A status
/// other than 200 is a gRPC status `Unavailable` with the body's words.
pub(crate) async fn get_orchestrator(
    network: &Network,
    origin: &str,
    message: Vec<u8>,
) -> Result<Bytes, CallErrorKind> {
    let request = Request::post(format!("{origin}/net.Orchestrator/GetOrchestrator"));
    let request = request.body(Bytes::from(message));
    let request = request.map_err(|e| CallErrorKind::Request(e.to_string()))?;
    let answer = network(request).await?;
    if answer.status().is_success() {
        return Ok(answer.into_body());
    }
    let message = String::from_utf8_lossy(answer.body()).into_owned();
    Err(CallErrorKind::Grpc { code: tonic::Code::Unavailable.into(), message })
}
