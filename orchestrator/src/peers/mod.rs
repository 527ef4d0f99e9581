//! What the other end of a connection may do to us by doing nothing. Every wait for a peer has an end
//! that is a setting: for its first request (the TLS handshake included), for its next one, for the
//! rest of a body, for it to take what it asked for, over a whole connection or one stream of
//! HTTP/2; and what it takes has a least speed. And connections are counted, in all and of each peer.

pub mod args;
mod connection;
mod places;
mod service;
mod stream;
pub mod upload;

use args::PeerLimits;
use axum_server::accept::Accept;
use connection::Connection;
use penstock_http_kit::serve::{Lived, Paced};
use places::Places;
use service::Watched;
use std::{
    future::{Ready, ready},
    io,
    sync::Arc,
};
use stream::Patient;
use tokio::net::TcpStream;

/// Accepts connections, as many as there may be, with TCP_NODELAY and limited patience.
#[derive(Debug, Clone)]
pub struct Doorkeeper {
    limits: PeerLimits,
    places: Arc<Places>,
    clock: Arc<Lived>,
}

impl Doorkeeper {
    /// By these limits.
    pub fn new(limits: PeerLimits) -> Self {
        let places = Places::new(limits.connections, limits.connections_each);
        Self { limits, places, clock: Lived::start() }
    }
}

impl<S> Accept<TcpStream, S> for Doorkeeper {
    type Stream = Patient<Paced<TcpStream>>;
    type Service = Watched<S>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = match stream.peer_addr() {
            Ok(peer) => self.places.take(peer.ip()),
            Err(gone) => return ready(Err(gone)),
        };
        let place = match place {
            Ok(place) => place,
            Err(full) => {
                let why = full.name();
                metrics::counter!("orchestrator_peers_given_up_total", "why" => why).increment(1);
                // Dropped, and so closed: whoever is one too many learns it at once.
                return ready(Err(io::ErrorKind::ConnectionRefused.into()));
            }
        };
        let connection = Connection::new(self.limits, Arc::clone(&self.clock), place);
        ready(stream.set_nodelay(true).map(|()| {
            let paced = Paced::tcp(stream, self.limits.least_speed);
            let patient = Patient::new(paced, Arc::clone(&connection));
            (patient, Watched::new(service, connection))
        }))
    }
}
