//! The client of orchestrators: gRPC for offers and pings, HTTP for paid work and its results.

mod ai;
mod ai_stream;
mod byoc;
mod download;
mod info;
mod segment;

pub use ai::{AiAnswer, AiBody, AiLimits};
pub use ai_stream::{AiStream, StreamLimits};
pub use byoc::ByocJob;
pub use info::{OfferRequest, Offered};
pub use segment::{Rendition, SegmentAnswer, SegmentBody, SegmentTimeouts};

use crate::{
    call::{Bounds, Call, origin},
    channel::Channels,
    error::{CallError, CallErrorKind, Operation},
    http::{HttpOptions, http},
    names::Names,
    pins::Pins,
    reach::Reach,
    trust::{BuildError, Trust},
};
use http::{HeaderMap, HeaderValue};
use penstock_wire::header;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use url::Url;

/// How orchestrators are called. The defaults are those of orchestrator-wire.md section 10.
#[derive(Debug, Clone)]
pub struct OrchestratorOptions {
    /// Whose certificates are accepted; the network's are self-signed.
    pub trust: Trust,
    /// Where orchestrators, and the results they point to, may be.
    pub reach: Reach,
    /// How their names become addresses.
    pub names: Names,
    /// The certificates seen; several clients may share them.
    pub pins: Arc<Pins>,
    /// HTTP connect, TLS included.
    pub connect_timeout: Duration,
    /// gRPC connect, TLS included.
    pub grpc_connect_timeout: Duration,
    /// `GetOrchestrator`, unless the call says otherwise.
    pub info_timeout: Duration,
    /// `Ping` and `EndTranscodingSession`.
    pub ping_timeout: Duration,
    /// `POST /payment`.
    pub payment_timeout: Duration,
    /// `GET /discovery`.
    pub discovery_timeout: Duration,
    /// After how much silence a connection with calls under way is pinged, and for how long as well the
    /// answer is awaited; `None`: never. Orchestrators that speak HTTP/1.1 only cannot be asked.
    pub ping_every: Option<Duration>,
}

impl Default for OrchestratorOptions {
    fn default() -> Self {
        Self {
            trust: Trust::AcceptAny,
            reach: Reach::Anywhere,
            names: Names::default(),
            pins: Arc::default(),
            connect_timeout: Duration::from_secs(2),
            grpc_connect_timeout: Duration::from_secs(3),
            info_timeout: Duration::from_millis(2500),
            ping_timeout: Duration::from_secs(8),
            payment_timeout: Duration::from_secs(60),
            discovery_timeout: Duration::from_secs(2),
            ping_every: Some(Duration::from_secs(4)),
        }
    }
}

/// What every paid call carries.
#[derive(Debug, Clone)]
pub struct PaidHeaders {
    /// Value of `Livepeer-Payment`: from the signer; empty without money.
    pub payment: String,
    /// Value of `Livepeer-Segment`: from the signer.
    pub segment: String,
    /// W3C `traceparent` of the job, if it has one.
    pub traceparent: Option<String>,
}

impl PaidHeaders {
    fn to_map(&self) -> Result<HeaderMap, CallErrorKind> {
        let value = |what: &str, text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| CallErrorKind::Request(format!("{what} cannot be a header")))
        };
        let mut map = HeaderMap::new();
        map.insert("livepeer-payment", value(header::PAYMENT, &self.payment)?);
        map.insert("livepeer-segment", value(header::SEGMENT, &self.segment)?);
        if let Some(trace) = &self.traceparent {
            map.insert("traceparent", value("traceparent", trace)?);
        }
        Ok(map)
    }
}

/// The client of all orchestrators. Clones share connections and pins.
#[derive(Debug, Clone)]
pub struct OrchestratorClient {
    http: reqwest::Client,
    channels: Arc<Channels>,
    pins: Arc<Pins>,
    options: Arc<OrchestratorOptions>,
    /// The same few are called again and again, and to read a URL takes as long as to write a request.
    routes: Arc<RwLock<HashMap<String, (Url, String)>>>,
}

/// So many at most: several of each of a thousand orchestrators.
const KNOWN_ROUTES: usize = 8_192;
/// And none that is longer.
const KNOWN_ROUTE_BYTES: usize = 256;

impl OrchestratorClient {
    /// With these options.
    pub fn new(options: OrchestratorOptions) -> Result<Self, BuildError> {
        let pins = Arc::clone(&options.pins);
        let http = http(&HttpOptions {
            trust: options.trust.clone(),
            reach: options.reach,
            names: options.names.clone(),
            pins: Some(Arc::clone(&pins)),
            connect_timeout: options.connect_timeout,
            // Each call has its own limits.
            total_timeout: None,
            read_timeout: Duration::from_secs(900),
            ping_every: options.ping_every,
            ..HttpOptions::default()
        })?;
        let channels = Channels::new(
            &options.trust,
            Arc::clone(&pins),
            (options.reach, options.names.clone()),
            options.grpc_connect_timeout,
        )?;
        Ok(Self {
            http,
            channels: Arc::new(channels),
            pins,
            options: Arc::new(options),
            routes: Arc::default(),
        })
    }

    /// The certificates seen.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// A call to a URL that came from a peer, checked for where it leads.
    fn target(&self, operation: Operation, text: &str) -> Result<(Url, String), CallError> {
        let refuse = |why: String| CallError {
            operation,
            peer: text.chars().take(256).collect(),
            kind: CallErrorKind::Url(why),
        };
        let url = Url::parse(text).map_err(|e| refuse(e.to_string()))?;
        let origin = origin(&url).ok_or_else(|| refuse("expected http or https".into()))?;
        if !self.options.reach.allows(&url) {
            return Err(refuse("the host is not a public address".into()));
        }
        Ok((url, origin))
    }

    /// `{base}/{path}`, whether or not the base ends with a slash.
    fn route(
        &self,
        operation: Operation,
        base: &str,
        path: &str,
    ) -> Result<(Url, String), CallError> {
        let text = format!("{}/{path}", base.trim_end_matches('/'));
        if let Some(known) = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(&text) {
            return Ok(known.clone());
        }
        // Whether it may be called does not change: the options are the client's for good.
        let target = self.target(operation, &text)?;
        if text.len() > KNOWN_ROUTE_BYTES {
            return Ok(target);
        }
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if routes.len() >= KNOWN_ROUTES {
            routes.clear();
        }
        routes.insert(text, target.clone());
        Ok(target)
    }

    async fn post_paid<F: Future<Output = reqwest::RequestBuilder>>(
        &self,
        operation: Operation,
        (url, origin): (Url, String),
        headers: &PaidHeaders,
        prepare: impl FnOnce(reqwest::RequestBuilder) -> F,
        bounds: Bounds,
    ) -> Result<crate::call::Answer, CallError> {
        let call = Call { operation, origin: &origin };
        let headers = headers.to_map().map_err(|kind| call.error(kind))?;
        let request = prepare(self.http.post(url).headers(headers)).await;
        call.send(request, bounds, Some(&self.pins)).await
    }
}
