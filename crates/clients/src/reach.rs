//! Where a client may connect to. URLs that peers supply must not lead into our own network
//! (architecture.md, "Peers are not trusted").

use crate::names::Names;
use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll},
    vec,
};
use url::{Host, Url};

/// Which addresses may be connected to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// Any: for URLs that an operator configured, and for networks on one machine.
    #[default]
    Anywhere,
    /// Only addresses of the public internet: for URLs that peers supply.
    PublicOnly,
}

impl Reach {
    /// Whether the URL's host may be called as far as its text tells; names are looked at again
    /// when they are resolved.
    pub fn allows(self, url: &Url) -> bool {
        match (self, url.host()) {
            (_, None) => false,
            (Self::Anywhere, Some(_)) => true,
            (Self::PublicOnly, Some(Host::Ipv4(ip))) => is_public(ip.into()),
            (Self::PublicOnly, Some(Host::Ipv6(ip))) => is_public(ip.into()),
            (Self::PublicOnly, Some(Host::Domain(_))) => true,
        }
    }

    /// Whether the URL leads where this allows, by its text and by all addresses that its name has
    /// now. A connection looks again: this only saves an attempt, and says early what is wrong.
    pub async fn allows_now(self, url: &Url, names: &Names) -> bool {
        match url.host() {
            _ if !self.allows(url) => false,
            Some(Host::Domain(name)) if self == Self::PublicOnly => {
                let found = names.addresses(name).await.unwrap_or_default();
                !found.is_empty() && found.into_iter().all(is_public)
            }
            _ => true,
        }
    }
}

/// Resolves names for both kinds of clients. It runs at connection time, so a name that resolves
/// differently the second time gains nothing.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub reach: Reach,
    pub names: Names,
}

impl Resolver {
    async fn lookup(self, name: String) -> io::Result<vec::IntoIter<SocketAddr>> {
        let all = self.names.addresses(&name).await?;
        let allowed = |ip: &IpAddr| self.reach == Reach::Anywhere || is_public(*ip);
        // The port is put in by whoever connects.
        let found: Vec<_> = all.into_iter().filter(allowed).map(|ip| (ip, 0).into()).collect();
        if found.is_empty() {
            return Err(io::Error::other("the name has no public address"));
        }
        Ok(found.into_iter())
    }
}

/// For HTTP clients.
impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = self.clone().lookup(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(lookup.await?) as Addrs) })
    }
}

/// For gRPC channels.
impl tower::Service<dns::Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        Box::pin(self.clone().lookup(name.as_str().to_owned()))
    }
}

/// Whether an address is neither private, loopback, link-local, shared, documentation, multicast
/// nor reserved, also when it is an IPv4 address inside an IPv6 one.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let benchmark = a == 198 && (b & 0xfe) == 18;
    let relay = a == 192 && b == 88 && c == 99;
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || protocol
        || benchmark
        || relay)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    if let Some(v4) = ip.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    match (s0, s1) {
        // NAT64 and 6to4 carry an IPv4 address that is what is really called.
        (0x64, 0xff9b) => (s2, s3, s4, s5) == (0, 0, 0, 0) && embedded(s6, s7),
        (0x2002, _) => embedded(s1, s2),
        // Teredo, documentation.
        (0x2001, 0) | (0x2001, 0xdb8) => false,
        // Everything routed today lies in 2000::/3.
        _ => (0x2000..0x4000).contains(&s0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_networks_are_not_public() {
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn literal_addresses_in_urls() {
        let allows = |u: &str| Reach::PublicOnly.allows(&Url::parse(u).unwrap());
        // The URL parser normalises the spellings that hide an address.
        for hidden in ["http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://[::1]/"] {
            assert!(!allows(hidden), "{hidden}");
        }
        assert!(allows("https://example.com/"));
        assert!(Reach::Anywhere.allows(&Url::parse("http://127.0.0.1:1/").unwrap()));
    }

    #[derive(Debug)]
    struct Both;

    impl crate::names::Lookup for Both {
        fn lookup(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let all = ["10.0.0.1", "1.1.1.1", "::1"].map(|ip| ip.parse().unwrap());
            Box::pin(async move { Ok(all.to_vec()) })
        }
    }

    #[tokio::test]
    async fn of_a_names_addresses_only_public_ones_are_connected_to() {
        let names = Names::new(Both);
        let url = Url::parse("https://both.example/").unwrap();
        assert!(!Reach::PublicOnly.allows_now(&url, &names).await, "one of them is ours");
        let found = async |reach| {
            let resolver = Resolver { reach, names: names.clone() };
            let found = resolver.lookup("both.example".to_owned()).await.unwrap();
            found.map(|a| a.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(Reach::PublicOnly).await, ["1.1.1.1"]);
        assert_eq!(found(Reach::Anywhere).await.len(), 3);
    }
}
