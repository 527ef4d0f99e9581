//! The one way to make an HTTP client: explicit timeouts, bounded pools, no redirects, no proxy
//! from the environment, TCP_NODELAY, and peers that have gone away are found.

use crate::{
    names::Names,
    pins::Pins,
    reach::{Reach, Resolver},
    trust::{BuildError, Identity, Trust},
};
use std::{sync::Arc, time::Duration};

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Whose certificates are accepted.
    pub trust: Trust,
    /// Certificates seen; strict ones refuse others.
    pub pins: Option<Arc<Pins>>,
    /// The certificate shown to servers that ask for one.
    pub identity: Option<Identity>,
    /// Where it may connect to.
    pub reach: Reach,
    /// How names become addresses.
    pub names: Names,
    /// To connect, TLS included (orchestrator-wire.md section 10: 2 s).
    pub connect_timeout: Duration,
    /// Longest silence while an answer is read.
    pub read_timeout: Duration,
    /// Whole call, unless the call says otherwise; `None` for streams without an end.
    pub total_timeout: Option<Duration>,
    /// Speak HTTP/1.1 only: for requests that are open for long, of which one connection holds many
    /// over HTTP/2, but not as many as one likes, and all behind one window.
    pub http1_only: bool,
    /// While an answer is awaited on an HTTP/2 connection on which nothing has come for so long, the peer is
    /// pinged; without an answer for as long again the connection is given up, and all calls on it have
    /// failed. A process that stands still does not answer, one that works for long does. `None`: never.
    pub ping_every: Option<Duration>,
    /// How long what was sent may wait until the peer's kernel takes it: also of a peer that is there, and
    /// reads nothing for that long. `None`: for as long as the kernel likes.
    pub unacknowledged: Option<Duration>,
    /// Idle connections kept per host.
    pub idle_per_host: usize,
    /// How long an idle connection is kept. Below the 10 min after which orchestrators close.
    pub idle_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            trust: Trust::System,
            pins: None,
            identity: None,
            reach: Reach::Anywhere,
            names: Names::default(),
            connect_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(60),
            total_timeout: Some(Duration::from_secs(60)),
            http1_only: false,
            ping_every: None,
            unacknowledged: Some(TCP_UNACKNOWLEDGED),
            idle_per_host: 32,
            idle_timeout: Duration::from_secs(90),
        }
    }
}

/// A host that is gone is found by its kernel's silence: on a connection where nothing happens after the
/// first plus this many of the second, on one that has something to say after the last.
const TCP_QUIET: Duration = Duration::from_secs(5);
const TCP_PROBE_EVERY: Duration = Duration::from_secs(5);
const TCP_PROBES: u32 = 3;
const TCP_UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// A client that behaves so. Clone it freely: clones share the pool.
pub fn http(options: &HttpOptions) -> Result<reqwest::Client, BuildError> {
    let mut tls = options.trust.http_config(options.identity.as_ref(), options.pins.as_ref())?;
    if options.http1_only {
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .tls_info(true)
        .user_agent(concat!("penstock/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.read_timeout)
        .tcp_keepalive(TCP_QUIET)
        .tcp_keepalive_interval(TCP_PROBE_EVERY)
        .tcp_keepalive_retries(TCP_PROBES)
        .pool_max_idle_per_host(options.idle_per_host)
        .pool_idle_timeout(options.idle_timeout);
    if let Some(total) = options.total_timeout {
        builder = builder.timeout(total);
    }
    #[cfg(target_os = "linux")]
    if let Some(time) = options.unacknowledged {
        builder = builder.tcp_user_timeout(time);
    }
    if let Some(every) = options.ping_every {
        // Of connections with something under way only: an idle one costs nothing.
        builder = builder.http2_keep_alive_interval(every).http2_keep_alive_timeout(every);
    }
    let resolver = Arc::new(Resolver { reach: options.reach, names: options.names.clone() });
    Ok(builder.dns_resolver(resolver).build()?)
}
