//! Where live runners and workers of brought capabilities may be: whoever knows the workers' secret says where
//! we send requests. On this host and in its network is where most of them are, so that is allowed unless
//! `--runner-networks` says less. Places that hold no application and much that is worth stealing never are: link-local
//! addresses, which clouds answer their machines' credentials on, and the listeners of this process.
//!
//! An address in a URL's text is looked at when the URL is registered. A name is looked at whenever it is connected
//! to, by the addresses that are connected to: one that resolves differently the second time gains nothing.

use futures::future::BoxFuture;
use penstock_clients::{BuildError, HttpOptions, Lookup, Names, http, is_public};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    str::FromStr,
    sync::Arc,
};
use url::{Host, Url};

/// Addresses outside the link-local networks that clouds tell their machines secrets on: Azure, Alibaba, Oracle,
/// AWS and Google.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// A network of `--runner-networks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The public internet.
    Public,
    /// RFC 1918 and RFC 6598, and unique local addresses of IPv6.
    Private,
    /// This host.
    Loopback,
    /// Addresses that begin with so many bits of this one.
    Prefix(IpAddr, u8),
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let why = || "expected public, private, loopback or ADDRESS/BITS".to_owned();
        match text.trim() {
            "public" => Ok(Self::Public),
            "private" => Ok(Self::Private),
            "loopback" => Ok(Self::Loopback),
            text => {
                let (ip, bits) = text.split_once('/').ok_or_else(why)?;
                let ip: IpAddr = ip.parse().map_err(|_| why())?;
                let bits = bits.parse().map_err(|_| why())?;
                let most = if ip.is_ipv4() { 32 } else { 128 };
                if bits > most { Err(why()) } else { Ok(Self::Prefix(ip, bits)) }
            }
        }
    }
}

impl Network {
    fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::Public => is_public(ip),
            Self::Private => is_private(ip),
            Self::Loopback => ip.is_loopback(),
            Self::Prefix(IpAddr::V4(start), bits) => match ip {
                IpAddr::V4(ip) => {
                    let beyond = 32 - u32::from(bits);
                    ip.to_bits().checked_shr(beyond) == start.to_bits().checked_shr(beyond)
                }
                IpAddr::V6(_) => false,
            },
            Self::Prefix(IpAddr::V6(start), bits) => match ip {
                IpAddr::V6(ip) => {
                    let beyond = 128 - u32::from(bits);
                    ip.to_bits().checked_shr(beyond) == start.to_bits().checked_shr(beyond)
                }
                IpAddr::V4(_) => false,
            },
        }
    }
}

/// Whether a URL's text says that it is on the host of whoever reads it.
pub fn means_this_host(url: &Url) -> bool {
    let is_here = |ip: IpAddr| {
        let ip = plain(ip);
        ip.is_loopback() || ip.is_unspecified()
    };
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(ip)) => is_here(ip.into()),
        Some(Host::Ipv6(ip)) => is_here(ip.into()),
        None => false,
    }
}

/// Where runners and workers may be.
#[derive(Debug, Clone)]
pub struct RunnerNetworks {
    allowed: Vec<Network>,
    /// The listeners of this process.
    own: Vec<SocketAddr>,
    names: Names,
}

/// What is allowed unless an operator says otherwise, as `--runner-networks` has it.
pub const USUAL: &str = "public,private,loopback";

impl Default for RunnerNetworks {
    fn default() -> Self {
        let allowed = vec![Network::Public, Network::Private, Network::Loopback];
        Self { allowed, own: Vec::new(), names: Names::default() }
    }
}

impl RunnerNetworks {
    /// In these networks, and not at these listeners.
    pub fn new(allowed: Vec<Network>, own: Vec<SocketAddr>) -> Self {
        Self { allowed, own, names: Names::default() }
    }

    /// Whether a URL may be registered: its address, if its text has one. Names are looked at when they are
    /// connected to.
    pub fn allows(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        match url.host() {
            Some(Host::Domain(_)) => true,
            Some(Host::Ipv4(ip)) => self.has(ip.into(), port),
            Some(Host::Ipv6(ip)) => self.has(ip.into(), port),
            None => false,
        }
    }

    /// The addresses of a URL that may be connected to now.
    pub async fn addresses(&self, url: &Url) -> Vec<SocketAddr> {
        let Some(port) = url.port_or_known_default() else { return Vec::new() };
        let all = match url.host() {
            Some(Host::Domain(name)) => self.names.addresses(name).await.unwrap_or_default(),
            Some(Host::Ipv4(ip)) => vec![ip.into()],
            Some(Host::Ipv6(ip)) => vec![ip.into()],
            None => Vec::new(),
        };
        let here = all.into_iter().filter(|ip| self.has(*ip, Some(port)));
        here.map(|ip| SocketAddr::new(ip, port)).collect()
    }

    fn has(&self, ip: IpAddr, port: Option<u16>) -> bool {
        let ip = plain(ip);
        !is_never(ip)
            && self.allowed.iter().any(|network| network.has(ip))
            && !self.own.iter().any(|own| Some(own.port()) == port && is_at(*own, ip))
    }

    fn is_own_port(&self, url: &Url) -> bool {
        url.port_or_known_default().is_some_and(|port| self.own.iter().any(|o| o.port() == port))
    }
}

/// A client for URLs that were registered. It does not look at what their texts say: that was done then.
#[derive(Debug, Clone)]
pub struct RunnerHttp {
    usual: reqwest::Client,
    /// Whoever resolves names is not told the port. For those that we listen at ourselves.
    at_own_ports: reqwest::Client,
    networks: Arc<RunnerNetworks>,
}

impl RunnerHttp {
    /// A client that behaves so, in these networks.
    pub fn new(networks: &Arc<RunnerNetworks>, options: &HttpOptions) -> Result<Self, BuildError> {
        let client = |at_own_ports| {
            let names = Names::new(Filtered { networks: Arc::clone(networks), at_own_ports });
            http(&HttpOptions { names, ..options.clone() })
        };
        let (usual, at_own_ports) = (client(false)?, client(true)?);
        Ok(Self { usual, at_own_ports, networks: Arc::clone(networks) })
    }

    /// The one to call this URL with.
    pub fn to(&self, url: &Url) -> &reqwest::Client {
        if self.networks.is_own_port(url) { &self.at_own_ports } else { &self.usual }
    }

    /// Where it may connect to.
    pub fn networks(&self) -> &RunnerNetworks {
        &self.networks
    }
}

/// Finds only addresses where runners may be.
#[derive(Debug)]
struct Filtered {
    networks: Arc<RunnerNetworks>,
    at_own_ports: bool,
}

impl Lookup for Filtered {
    fn lookup(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let (networks, name) = (Arc::clone(&self.networks), name.to_owned());
        let at_own_ports = self.at_own_ports;
        Box::pin(async move {
            let all = networks.names.addresses(&name).await?;
            let is_own = |ip: &IpAddr| networks.own.iter().any(|own| is_at(*own, plain(*ip)));
            let found = all
                .into_iter()
                .filter(|ip| networks.has(*ip, None) && !(at_own_ports && is_own(ip)));
            let found: Vec<_> = found.collect();
            if found.is_empty() {
                return Err(io::Error::other(
                    "no address where runners may be (--runner-networks)",
                ));
            }
            Ok(found)
        })
    }
}

/// What is really called when this is.
fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => embedded(high, low),
        // Neither `::` nor `::1` is such an address.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => embedded(high, low),
        // NAT64 and 6to4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        _ => ip,
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// No application is there, whatever an operator allows.
fn is_never(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, ..] = v4.octets();
            a == 0 || a >= 224 || v4.is_link_local() || METADATA_V4.contains(&v4)
        }
        IpAddr::V6(v6) => {
            let [first, ..] = v6.segments();
            let is_site_local = first & 0xffc0 == 0xfec0;
            v6.is_unspecified()
                || v6.is_unicast_link_local()
                || is_site_local
                || v6.is_multicast()
                || METADATA_V6.contains(&v6)
        }
    }
}

/// Whether a listener answers at this address.
fn is_at(own: SocketAddr, ip: IpAddr) -> bool {
    let own = plain(own.ip());
    if own.is_unspecified() { is_this_host(ip) } else { own == ip }
}

/// Whether an address is one of this host's: then the system would speak to it from there. Nothing is sent.
fn is_this_host(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Who cannot tell says yes; what has no route is not here.
    let Ok(socket) = UdpSocket::bind((any, 0)) else { return true };
    let Ok(()) = socket.connect((ip, 9)) else { return false };
    socket.local_addr().is_ok_and(|from| from.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Mutex;

    fn networks(allowed: &str, own: &[&str]) -> RunnerNetworks {
        let allowed = allowed.split(',').map(|one| one.parse().unwrap()).collect();
        RunnerNetworks::new(allowed, own.iter().map(|own| own.parse().unwrap()).collect())
    }

    fn allows(networks: &RunnerNetworks, url: &str) -> bool {
        networks.allows(&Url::parse(url).unwrap())
    }

    #[test]
    fn urls_that_each_host_reads_as_itself() {
        let is = |url| means_this_host(&Url::parse(url).unwrap());
        for here in [
            "http://127.0.0.1:1",
            "http://127.9.9.9",
            "http://0.0.0.0:1",
            "http://[::1]:1",
            "http://[::]",
            "http://[::ffff:127.0.0.1]",
            "http://localhost:1",
            "http://LOCALHOST./a",
            "http://w.localhost",
        ] {
            assert!(is(here), "{here}");
        }
        for there in ["http://10.0.0.1", "http://localhost.example", "http://[fd00::1]"] {
            assert!(!is(there), "{there}");
        }
    }

    #[test]
    fn metadata_and_our_own_listeners_are_no_runners_whatever_is_allowed() {
        let own = ["127.0.0.1:7935", "0.0.0.0:8935"];
        for allowed in [USUAL, "0.0.0.0/0,::/0"] {
            let networks = networks(allowed, &own);
            for url in [
                "http://169.254.169.254/latest",
                "http://169.254.169.254:9000/",
                "http://2852039166/",
                "http://0xa9.0xfe.0xa9.0xfe/",
                "http://[::ffff:169.254.169.254]/",
                "http://[64:ff9b::a9fe:a9fe]/",
                "http://[2002:a9fe:a9fe::]/",
                "http://[fe80::1]:1/",
                "http://[fd00:ec2::254]/",
                "http://168.63.129.16/",
                "http://100.100.100.200/",
                "http://0.0.0.0:1/",
                "http://[::]:1/",
                "http://224.0.0.1/",
                "http://255.255.255.255/",
                "http://127.0.0.1:7935/",
                "http://127.1:7935/",
                "http://[::ffff:127.0.0.1]:7935/",
                "http://127.0.0.1:8935/",
                "http://127.9.9.9:8935/",
                "http://[::1]:8935/",
            ] {
                assert!(!allows(&networks, url), "{allowed}: {url}");
            }
            for url in ["http://127.0.0.1:9000/", "http://10.0.0.7:8935/", "http://192.168.1.2/"] {
                assert!(allows(&networks, url), "{allowed}: {url}");
            }
        }
    }

    #[test]
    fn networks_are_what_the_setting_says() {
        let only = |allowed: &str, url: &str| allows(&networks(allowed, &[]), url);
        assert!(only("loopback", "http://127.0.0.1:1") && only("loopback", "http://[::1]:1"));
        assert!(!only("loopback", "http://10.0.0.1") && !only("loopback", "http://1.1.1.1"));
        assert!(only("private", "http://[fd00::1]") && only("private", "http://100.64.0.1"));
        assert!(!only("public,private", "http://127.0.0.1:1"));
        assert!(
            only("10.1.0.0/16", "http://10.1.255.3") && !only("10.1.0.0/16", "http://10.2.0.1")
        );
        assert!(only("10.1.2.3/32", "http://10.1.2.3") && !only("10.1.2.3/32", "http://10.1.2.2"));
        assert!(only("fd12::/16", "http://[fd12::5]") && !only("fd12::/16", "http://[fd13::5]"));
        assert!(!only("::/0", "http://10.0.0.1") && !only("0.0.0.0/0", "http://[fd00::1]"));
        for bad in ["", "lan", "10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        let usual: Vec<Network> = USUAL.split(',').map(|one| one.parse().unwrap()).collect();
        assert_eq!(usual, RunnerNetworks::default().allowed);
    }

    /// A name that is somewhere else each time.
    #[derive(Debug)]
    struct Turning(Mutex<Vec<&'static str>>);

    impl Lookup for Turning {
        fn lookup(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let next = self.0.lock().unwrap().pop().unwrap();
            let all = next.split(' ').map(|ip| ip.parse().unwrap()).collect();
            Box::pin(async move { Ok(all) })
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_at_whenever_it_is_connected_to() {
        let turns = vec!["127.0.0.1 10.0.0.7", "169.254.169.254", "10.0.0.7 fe80::1"];
        let names = Names::new(Turning(Mutex::new(turns)));
        let networks = RunnerNetworks { names, ..networks(USUAL, &["127.0.0.1:7935"]) };
        let networks = Arc::new(networks);
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(networks.allows(&url("http://turning.example:7935")), "a name may be registered");
        let filtered = |at_own_ports| Filtered { networks: Arc::clone(&networks), at_own_ports };
        let found = async |at| filtered(at).lookup("turning.example").await;
        assert_eq!(found(false).await.unwrap(), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert!(found(false).await.is_err(), "it has moved to where nobody may be");
        assert_eq!(
            found(true).await.unwrap(),
            ["10.0.0.7".parse::<IpAddr>().unwrap()],
            "not our own"
        );

        penstock_http_kit::tls::install_crypto_provider();
        let http = RunnerHttp::new(&networks, &HttpOptions::default()).unwrap();
        let is_careful =
            |text: &str| std::ptr::eq(http.to(&url(text)), &raw const http.at_own_ports);
        assert!(
            is_careful("http://turning.example:7935/x") && !is_careful("http://turning.example/")
        );
    }

    proptest! {
        #[test]
        fn no_address_is_allowed_in_another_spelling(ip in any::<u32>(), port in 1..=u16::MAX) {
            let networks = networks("0.0.0.0/0,::/0", &["127.0.0.1:7935"]);
            let v4 = Ipv4Addr::from_bits(ip);
            let [high, low] = [(ip >> 16) as u16, (ip & 0xffff) as u16];
            let as_v4 = networks.has(v4.into(), Some(port));
            for v6 in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 0),
            ] {
                prop_assert_eq!(networks.has(v6.into(), Some(port)), as_v4, "{} {}", v4, v6);
            }
        }
    }
}
