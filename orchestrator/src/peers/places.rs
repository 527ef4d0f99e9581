//! How many connections there are, in all and of each peer: one peer's are never all of them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Connections that there may be.
#[derive(Debug)]
pub struct Places {
    all: usize,
    /// Of one peer; `None`: as many as there are.
    each: Option<usize>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Of peers that have any.
    each: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All are taken.
    All,
    /// All that this peer may have are.
    Peer,
}

impl Full {
    /// In metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "full",
            Self::Peer => "peer_full",
        }
    }
}

/// One connection's place, free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

/// Whom an address belongs to: of IPv6 everybody has at least a /64.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

impl Places {
    /// So many, and so many of one peer.
    pub fn new(all: usize, each: Option<usize>) -> Arc<Self> {
        Arc::new(Self { all, each, taken: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from this address.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let peer = peer(address);
        let mut taken = self.lock();
        if taken.all >= self.all {
            return Err(Full::All);
        }
        let own = taken.each.get(&peer).copied().unwrap_or(0);
        if self.each.is_some_and(|each| own >= each) {
            return Err(Full::Peer);
        }
        taken.all += 1;
        taken.each.insert(peer, own + 1);
        gauge(taken.all);
        drop(taken);
        Ok(Place { places: Arc::clone(self), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        gauge(taken.all);
        if let Some(own) = taken.each.get_mut(&self.peer) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.each.remove(&self.peer);
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
fn gauge(connections: usize) {
    metrics::gauge!("orchestrator_connections").set(connections as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn nobody_has_all_places() {
        let places = Places::new(4, Some(2));
        let mut held: Vec<_> = ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::2"]
            .into_iter()
            .map(|text| places.take(at(text)).unwrap())
            .collect();
        assert_eq!(places.take(at("10.0.0.2")).unwrap_err(), Full::All);
        held.remove(0);
        assert_eq!(places.take(at("2001:db8::ffff:1")).unwrap_err(), Full::Peer, "one network");
        held.push(places.take(at("2001:db8:0:1::1")).unwrap());
        held.clear();
        assert!(places.lock().each.is_empty(), "who has gone is forgotten");
        assert_eq!(places.lock().all, 0);
        let wide = Places::new(3, None);
        let all: Vec<_> = (0..3).map(|_| wide.take(at("10.0.0.1")).unwrap()).collect();
        assert_eq!(wide.take(at("10.0.0.1")).unwrap_err(), Full::All);
        drop(all);
    }
}
