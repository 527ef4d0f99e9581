//! Which Redis, and how: the URL and what goes with it.
//!
//! `redis://HOST:PORT[/DB]`, `rediss://…` (TLS), `redis+unix:///PATH`,
//! `redis+sentinel://HOST:PORT,…?master=NAME[&db=N]`, `redis+cluster://HOST:PORT,…`; the last two
//! with TLS as `rediss+sentinel`, `rediss+cluster`. A user name may stand before `@`, a password not.

use std::{fmt, time::Duration};
use thiserror::Error;

/// The text names no Redis.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadRedisUrl(&'static str);

/// How the servers stand together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topology {
    /// One server, or one name behind which it is found.
    One,
    /// The primary of that name, as sentinels say.
    Sentinel {
        /// The name.
        master: String,
    },
    /// Slots over several.
    Cluster,
}

/// What was parsed of a URL.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) topology: Topology,
    /// `host:port`, or a path for a socket.
    pub(super) nodes: Vec<String>,
    pub(super) unix: bool,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) db: i64,
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RedisUrl {
    /// For logs and readiness; there is nothing secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.tls { "s" } else { "" };
        let kind = match &self.topology {
            Topology::One if self.unix => "+unix",
            Topology::One => "",
            Topology::Sentinel { .. } => "+sentinel",
            Topology::Cluster => "+cluster",
        };
        write!(f, "redis{s}{kind}://{}", self.nodes.join(","))?;
        match &self.topology {
            Topology::Sentinel { master } => write!(f, "?master={master}"),
            _ => Ok(()),
        }
    }
}

impl RedisUrl {
    pub(super) fn is_cluster(&self) -> bool {
        self.topology == Topology::Cluster
    }

    pub(super) fn is_sentinel(&self) -> bool {
        matches!(self.topology, Topology::Sentinel { .. })
    }

    /// Whether a setting's value is meant for Redis at all.
    pub fn looks_like_one(text: &str) -> bool {
        text.starts_with("redis")
    }

    /// Parses; see the module for the forms.
    pub fn parse(text: &str) -> Result<Self, BadRedisUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(BadRedisUrl("has no scheme"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut master, mut db) = (None, 0);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "master" if !value.is_empty() => master = Some(value.into_owned()),
                "db" => {
                    db = value.parse().map_err(|_| BadRedisUrl("has a db that is no number"))?
                }
                _ => return Err(BadRedisUrl("has an unknown parameter")),
            }
        }
        let tls = scheme.starts_with("rediss");
        if scheme == "redis+unix" {
            if !rest.starts_with('/') || master.is_some() {
                return Err(BadRedisUrl("must be redis+unix:///PATH"));
            }
            let nodes = vec![rest.to_owned()];
            return Ok(Self { topology: Topology::One, nodes, unix: true, tls, user: None, db });
        }
        let topology =
            match (scheme.trim_start_matches("rediss").trim_start_matches("redis"), master) {
                ("", None) => Topology::One,
                ("+cluster", None) => Topology::Cluster,
                ("+sentinel", Some(master)) => Topology::Sentinel { master },
                ("+sentinel", None) => return Err(BadRedisUrl("needs ?master=NAME")),
                ("" | "+cluster", Some(_)) => {
                    return Err(BadRedisUrl("has a master without being redis+sentinel"));
                }
                _ => return Err(BadRedisUrl("has an unknown scheme")),
            };
        let (user, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((user, _)) if user.contains(':') => {
                return Err(BadRedisUrl("must not hold a password; put it into a file"));
            }
            Some((user, rest)) => (Some(user.to_owned()), rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !path.is_empty() {
            db = path.parse().map_err(|_| BadRedisUrl("has a path that is no database number"))?;
        }
        if db < 0 || (db != 0 && topology == Topology::Cluster) {
            return Err(BadRedisUrl("has no such database"));
        }
        let port = match topology {
            Topology::Sentinel { .. } => 26379,
            _ => 6379,
        };
        let nodes = hosts.split(',').map(|host| node(host, port)).collect::<Result<Vec<_>, _>>()?;
        if topology == Topology::One && nodes.len() != 1 {
            return Err(BadRedisUrl("names several hosts; use redis+cluster or redis+sentinel"));
        }
        Ok(Self { topology, nodes, unix: false, tls, user, db })
    }
}

/// `host:port`, with the default port if it names none.
fn node(text: &str, default: u16) -> Result<String, BadRedisUrl> {
    let bad = BadRedisUrl("names no host");
    let full = url::Url::parse(&format!("redis://{text}")).map_err(|_| bad.clone())?;
    let host = full.host_str().filter(|h| !h.is_empty()).ok_or(bad)?;
    Ok(format!("{host}:{}", full.port().unwrap_or(default)))
}

/// Everything a [`super::RedisStore`] is made of.
#[derive(Clone)]
pub struct RedisOptions {
    /// Which.
    pub url: RedisUrl,
    /// Password of the user, or of the servers.
    pub password: Option<String>,
    /// Password of the sentinels, for those that ask for one; that of the servers if `None`.
    pub sentinel_password: Option<String>,
    /// Authorities, PEM, that vouch for the servers; the system's if `None`.
    pub root_cert: Option<Vec<u8>>,
    /// Begins every key.
    pub prefix: String,
    /// For making a connection, and for one answer.
    pub timeout: Duration,
    /// Replicas that have to have a write before it counts, for what must not be lost
    /// (finished segments, records of [`crate::DocStore`]). 0: none.
    pub replicas: u32,
}

impl RedisOptions {
    /// The defaults for a URL.
    pub fn new(url: RedisUrl) -> Self {
        Self {
            url,
            password: None,
            sentinel_password: None,
            root_cert: None,
            prefix: "penstock".to_owned(),
            timeout: Duration::from_secs(1),
            replicas: 0,
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, prefix, timeout, replicas, .. } = self;
        f.debug_struct("RedisOptions")
            .field("url", url)
            .field("prefix", prefix)
            .field("timeout", timeout)
            .field("replicas", replicas)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        for (text, shown) in [
            ("redis://h", "redis://h:6379"),
            ("redis://user@h:1/3", "redis://h:1"),
            ("rediss://h:1", "rediss://h:1"),
            ("redis+unix:///run/r.sock", "redis+unix:///run/r.sock"),
            ("redis+cluster://a,b:2,[::1]:3", "redis+cluster://a:6379,b:2,[::1]:3"),
            ("redis+sentinel://a,b:2?master=m", "redis+sentinel://a:26379,b:2?master=m"),
            ("rediss+sentinel://a?master=m&db=2", "rediss+sentinel://a:26379?master=m"),
        ] {
            let url = RedisUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
        }
        let url = RedisUrl::parse("redis://user@h:1/3").unwrap();
        assert_eq!((url.user.as_deref(), url.db), (Some("user"), 3));
        assert_eq!(RedisUrl::parse("rediss+sentinel://a?master=m&db=2").unwrap().db, 2);
    }

    #[test]
    fn mistakes() {
        for text in [
            "redis",
            "redis://",
            "redis://,",
            "redis://a,b",
            "redis://:secret@h",
            "redis://user:secret@h",
            "redis://h/x",
            "redis://h?x=1",
            "redis://h?master=m",
            "redis+sentinel://h",
            "redis+cluster://h/1",
            "redis+unix://relative",
            "redis+other://h",
            "redisss://h",
        ] {
            let error = RedisUrl::parse(text).expect_err(text).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
