//! Connections: to one server, to the primary that sentinels name, to a cluster.

use super::{
    options::{RedisOptions, Topology},
    sentinel,
};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo as _,
    Pipeline, RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsCertificates,
    TlsMode, Value,
    aio::{ConnectionLike as _, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    cluster_routing::{
        MultipleNodeRoutingInfo, ResponsePolicy, Route, RoutingInfo, SingleNodeRoutingInfo,
        SlotAddr,
    },
};
use std::{fmt, time::Duration};

/// A host that is gone says nothing: the system asks for it on an idle connection, and ends one on which what was
/// sent is not taken, so that what hangs on it fails and is made anew.
const IDLE: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_secs(5);
const ASKED: u32 = 3;
#[cfg(target_os = "linux")]
const NOT_TAKEN: Duration = Duration::from_secs(25);

fn tcp() -> TcpSettings {
    let alive = TcpKeepalive::new().with_time(IDLE).with_interval(ASK_AGAIN).with_retries(ASKED);
    let settings = TcpSettings::default().set_keepalive(alive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(NOT_TAKEN);
    settings
}

/// Cheap to clone; the clones share a socket.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(_) => "One",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Connection {
    pub async fn command(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Self::One(c) => c.req_packed_command(cmd).await,
            Self::Cluster(c) => c.req_packed_command(cmd).await,
        }?
        .extract_error()
    }

    /// Commands one behind the other at the server of `key`, and their answers, each of which may be an
    /// error of its own.
    pub async fn pipeline(
        &mut self,
        pipe: Pipeline,
        count: usize,
        key: &str,
    ) -> RedisResult<Vec<Value>> {
        match self {
            Self::One(c) => c.req_packed_commands(&pipe, 0, count).await,
            Self::Cluster(c) => {
                let route = Route::with_key(key, SlotAddr::Master);
                c.route_pipeline(pipe, 0, count, SingleNodeRoutingInfo::SpecificNode(route)).await
            }
        }
    }

    /// What such an error says of the way to the servers.
    pub fn after(&self, error: &RedisError) -> After {
        let lost = error.is_io_error() || error.is_timeout() || error.is_unrecoverable_error();
        match self {
            Self::Cluster(_) if lost || error.kind() == ErrorKind::ClusterConnectionNotFound => {
                After::Doubtful
            }
            Self::One(_) if lost => After::Away,
            Self::One(_) => match error.kind() {
                // No longer the primary, or not ready to be one.
                ErrorKind::Server(
                    ServerErrorKind::ReadOnly
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::BusyLoading,
                )
                | ErrorKind::AuthenticationFailed
                | ErrorKind::Parse => After::Away,
                _ => After::Up,
            },
            Self::Cluster(_) => After::Up,
        }
    }

    /// Whether any of the servers says something.
    pub async fn anybody(&mut self) -> RedisResult<()> {
        let ping = redis::cmd("PING");
        match self {
            Self::One(c) => c.req_packed_command(&ping).await,
            Self::Cluster(c) => {
                let first = Some(ResponsePolicy::OneSucceeded);
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, first));
                c.route_command(ping, all).await
            }
        }?
        .extract_error()
        .map(drop)
    }
}

/// How it stands with the servers after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// They answer.
    Up,
    /// Connect anew.
    Away,
    /// One of a cluster does not answer. Its client mends its connections itself, one server at a time; whether
    /// any other is there has to be asked.
    Doubtful,
}

/// How to reach the servers that were found, as often as one likes.
#[derive(Clone)]
pub(super) enum Way {
    One(Client, AsyncConnectionConfig),
    Cluster(RedisOptions),
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(..) => "One",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Way {
    /// One more connection, on which an answer may take so long.
    pub async fn go(&self, answer: Duration) -> RedisResult<Connection> {
        match self {
            Self::One(client, config) => {
                let config = config.clone().set_response_timeout(Some(answer));
                let made = client.get_multiplexed_async_connection_with_config(&config).await;
                made.map(Connection::One)
            }
            Self::Cluster(options) => {
                let made = cluster(options, answer)?.get_async_connection().await;
                made.map(Connection::Cluster)
            }
        }
    }

    /// To one server.
    pub fn to(
        options: &RedisOptions,
        addr: ConnectionAddr,
        settings: RedisConnectionInfo,
    ) -> RedisResult<Self> {
        let info = addr.into_connection_info()?.set_redis_settings(settings);
        let info = info.set_tcp_settings(tcp());
        let client = match options.url.tls {
            true => Client::build_with_tls(info, certs(options))?,
            false => Client::open(info)?,
        };
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(options.timeout));
        Ok(Self::One(client, config))
    }
}

/// The way to the servers, and a first connection, on which they have said something: one that is stopped
/// still takes connections. With sentinels to whoever is the primary now.
pub(super) async fn connect(options: &RedisOptions) -> RedisResult<(Way, Connection)> {
    let url = &options.url;
    let way = match &url.topology {
        Topology::Cluster => Way::Cluster(options.clone()),
        Topology::One => {
            let addr = match url.nodes.first() {
                Some(path) if url.unix => ConnectionAddr::Unix(path.into()),
                Some(node) => address(node, url.tls)?,
                None => return Err(no_address()),
            };
            Way::to(options, addr, credentials(options))?
        }
        Topology::Sentinel { master } => return sentinel::primary(options, master).await,
    };
    let mut connection = way.go(options.timeout).await?;
    connection.anybody().await?;
    Ok((way, connection))
}

/// Who the gateway is to the servers, and which database it wants.
pub(super) fn credentials(options: &RedisOptions) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default().set_db(options.url.db);
    if let Some(user) = &options.url.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &options.password {
        settings = settings.set_password(password);
    }
    settings
}

fn certs(options: &RedisOptions) -> TlsCertificates {
    TlsCertificates { client_tls: None, root_cert: options.root_cert.clone() }
}

fn cluster(options: &RedisOptions, answer: Duration) -> RedisResult<ClusterClient> {
    let url = &options.url;
    let nodes = url.nodes.iter().map(|n| address(n, url.tls));
    let infos = nodes.map(|addr| addr?.into_connection_info()).collect::<RedisResult<Vec<_>>>()?;
    let mut builder = ClusterClientBuilder::new(infos)
        .connection_timeout(options.timeout)
        .tcp_settings(tcp())
        .response_timeout(answer)
        .overall_response_timeout(Some(answer * 2))
        .retries(2)
        .min_retry_wait(20)
        .max_retry_wait(200);
    if let Some(user) = &url.user {
        builder = builder.username(user);
    }
    if let Some(password) = &options.password {
        builder = builder.password(password);
    }
    if url.tls {
        builder = builder.tls(TlsMode::Secure).certs(certs(options));
    }
    builder.build()
}

/// `host:port` as the client wants it.
pub(super) fn address(node: &str, tls: bool) -> RedisResult<ConnectionAddr> {
    let (host, port) = node.rsplit_once(':').ok_or_else(no_address)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = port.parse().map_err(|_| no_address())?;
    Ok(match tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    })
}

pub(super) fn no_address() -> RedisError {
    (ErrorKind::InvalidClientConfig, "no address").into()
}
