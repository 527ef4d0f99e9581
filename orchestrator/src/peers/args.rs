//! Settings of what peers may do.

use crate::limits::Limits;
use clap::Args;
use penstock_config::ReaderArgs;
use penstock_http_kit::serve::LeastSpeed;
use std::time::Duration;

/// Settings of what peers may do.
#[derive(Debug, Clone, Args)]
pub struct PeerArgs {
    /// Connections on the service port at once. One more is closed at once.
    #[arg(long, env = "PENSTOCK_MAX_CONNECTIONS", default_value_t = 20_000,
          value_parser = penstock_config::within::<usize>(1, 10_000_000))]
    pub max_connections: usize,

    /// Of those, connections of one peer at once: of an IPv4 address, or of the /64 of an IPv6 address. 0:
    /// as many as there are, as behind a load balancer that does not pass on addresses.
    #[arg(long, env = "PENSTOCK_MAX_PEER_CONNECTIONS", default_value_t = 2_000,
          value_parser = penstock_config::within::<usize>(0, 10_000_000))]
    pub max_peer_connections: usize,

    /// A new connection's first request (its TLS handshake and its head included) has to come
    /// within so many milliseconds.
    #[arg(long, env = "PENSTOCK_PEER_GREETING_MS", default_value_t = 30_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    pub peer_greeting_ms: u64,

    /// A connection on which no request is under way has so many milliseconds for the head of
    /// the next one.
    #[arg(long, env = "PENSTOCK_PEER_IDLE_MS", default_value_t = 600_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    pub peer_idle_ms: u64,

    /// A peer that takes nothing of an answer, on a connection or on a stream of HTTP/2, for so many
    /// milliseconds loses the connection.
    #[arg(long, env = "PENSTOCK_PEER_STALL_MS", default_value_t = 60_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    pub peer_stall_ms: u64,

    /// Longest pause in a body that has to be there as a whole, in milliseconds. The body as a whole
    /// has so long, too, and a second more for every 16 KiB that have come.
    #[arg(long, env = "PENSTOCK_PEER_PAUSE_MS", default_value_t = 30_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    pub peer_pause_ms: u64,
}

/// The same, ready for use.
#[derive(Debug, Clone, Copy)]
pub struct PeerLimits {
    /// At once.
    pub connections: usize,
    /// Of one peer at once, if that is bounded.
    pub connections_each: Option<usize>,
    /// To the first request.
    pub greeting: Duration,
    /// To the next one.
    pub idle: Duration,
    /// Without taking anything.
    pub stall: Duration,
    /// What is taken at least of an answer, by a connection and by one stream of HTTP/2.
    pub least_speed: LeastSpeed,
    /// Streams of HTTP/2 at once on one connection.
    pub streams: u32,
    /// What waits in one of them. When an answer has been handed over whole, nothing else bounds what is left of it.
    pub stream_bytes: usize,
    /// Headers of one request, all together.
    pub header_bytes: u32,
}

impl PeerArgs {
    /// Of connections.
    pub fn limits(&self, limits: &Limits, readers: &ReaderArgs) -> PeerLimits {
        let ms = Duration::from_millis;
        PeerLimits {
            connections: self.max_connections,
            connections_each: Some(self.max_peer_connections).filter(|each| *each > 0),
            greeting: ms(self.peer_greeting_ms),
            idle: ms(self.peer_idle_ms),
            stall: ms(self.peer_stall_ms),
            least_speed: LeastSpeed::new(readers.min_read_bytes_per_second, readers.window()),
            streams: limits.http2_streams,
            stream_bytes: limits.http2_buffer_bytes,
            header_bytes: limits.header_bytes,
        }
    }

    /// Of bodies.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(self.peer_pause_ms)
    }
}
