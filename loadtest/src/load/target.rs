//! Whom to load: URLs of the network's own wire, and the rule that nobody loads what is not theirs. Pure.

use super::scenario::{Scenario, Work};
use reqwest::Url;
use std::collections::BTreeSet;
use thiserror::Error;

/// What a load needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes AI jobs and segments: `http://HOST:PORT`.
    Gateway,
    /// Takes publications: `rtmp://HOST:PORT/live`.
    Rtmp,
    /// Signs payments: `http://HOST:PORT`.
    Signer,
    /// Makes offers that are paid: `https://HOST:PORT`; there may be many.
    Orchestrator,
    /// Where sessions begin: `https://HOST:PORT/apps/NAME/session`.
    LiveRunner,
    /// A channel: `https://HOST:PORT/ai/trickle/NAME`; there may be many.
    Trickle,
}

impl Role {
    /// All.
    pub const ALL: [Self; 6] = [
        Self::Gateway,
        Self::Rtmp,
        Self::Signer,
        Self::Orchestrator,
        Self::LiveRunner,
        Self::Trickle,
    ];

    /// As in `--target NAME=URL`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Rtmp => "rtmp",
            Self::Signer => "signer",
            Self::Orchestrator => "orchestrator",
            Self::LiveRunner => "live-runner",
            Self::Trickle => "trickle",
        }
    }

    fn schemes(self) -> &'static [&'static str] {
        if self == Self::Rtmp { &["rtmp"] } else { &["http", "https"] }
    }

    fn is_many(self) -> bool {
        matches!(self, Self::Orchestrator | Self::Trickle)
    }
}

/// What each of a scenario's loads needs.
pub fn needs(scenario: &Scenario) -> BTreeSet<Role> {
    let of = |work: &Work| match work {
        Work::Ai(_) | Work::Push(_) => vec![Role::Gateway],
        Work::Rtmp(_) => vec![Role::Gateway, Role::Rtmp],
        // Whether a signer is needed is learned when a payment is asked for.
        Work::LiveRunner(_) => vec![Role::LiveRunner],
        Work::Payments(_) => vec![Role::Signer, Role::Orchestrator],
        Work::Trickle(_) => vec![Role::Trickle],
    };
    scenario.loads.iter().flat_map(|load| of(&load.work)).collect()
}

/// Whom to load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    places: Vec<(Role, Url)>,
    /// Sent to gateways and signers as `Authorization: Bearer …`.
    pub bearer: Option<String>,
    /// Whether any certificate is accepted of gateways and signers; those of orchestrators are self-signed, and
    /// are.
    pub any_certificate: bool,
    /// Pages of metrics whose counters go into the report.
    pub metrics: Vec<Url>,
}

/// Why a target is not loaded. All of them are the command line's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Not a URL of that role.
    #[error("--target {0}: it has to be [ROLE=]URL; {1}")]
    Unreadable(String, String),
    /// Two of a role of which there is one.
    #[error("--target {0}=…: one is enough")]
    Twice(&'static str),
    /// A load needs what was not named.
    #[error("a load needs --target {0}=URL")]
    Missing(&'static str),
    /// Somebody else's, as far as can be seen.
    #[error(
        "{0} is not on this machine. A load test is an attack on whoever did not ask for it: if it is yours, \
         or you were allowed to, say --i-own-this-target"
    )]
    NotOurs(String),
}

impl Target {
    /// Adds `ROLE=URL`; without a role it is a gateway's.
    pub fn add(&mut self, text: &str) -> Result<(), TargetError> {
        let bad = |why: &str| TargetError::Unreadable(text.to_owned(), why.to_owned());
        let named = text.split_once('=').filter(|(name, _)| !name.contains([':', '/']));
        let (role, url) = match named {
            None => (Role::Gateway, text),
            Some((name, url)) => {
                let role = Role::ALL.into_iter().find(|role| role.name() == name);
                let names: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
                let known = format!("roles are {}", names.join(", "));
                (role.ok_or_else(|| bad(&known))?, url)
            }
        };
        let url = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        let schemes = role.schemes();
        if !schemes.contains(&url.scheme()) || url.host().is_none() {
            return Err(bad(&format!("a {} is at {}://", role.name(), schemes.join(":// or "))));
        }
        self.put(role, url)
    }

    /// Adds a place.
    pub fn put(&mut self, role: Role, url: Url) -> Result<(), TargetError> {
        if !role.is_many() && self.one(role).is_some() {
            return Err(TargetError::Twice(role.name()));
        }
        self.places.push((role, url));
        Ok(())
    }

    /// The same with another signer.
    pub fn with_signer(&self, url: Url) -> Self {
        let mut target = self.clone();
        target.places.retain(|(role, _)| *role != Role::Signer);
        target.places.push((Role::Signer, url));
        target
    }

    /// Whether nothing was named.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether all that is needed is there, and is ours.
    pub fn check(&self, needs: &BTreeSet<Role>, owned: bool) -> Result<(), TargetError> {
        if let Some(missing) = needs.iter().find(|role| self.one(**role).is_none()) {
            return Err(TargetError::Missing(missing.name()));
        }
        let all = self.places.iter().map(|(_, url)| url).chain(&self.metrics);
        match all.into_iter().find(|url| !owned && !is_loopback(url)) {
            Some(url) => Err(TargetError::NotOurs(origin(url))),
            None => Ok(()),
        }
    }

    /// The place of a role of which there is one.
    pub fn one(&self, role: Role) -> Option<&Url> {
        self.all(role).next()
    }

    /// All places of a role.
    pub fn all(&self, role: Role) -> impl Iterator<Item = &Url> {
        self.places.iter().filter(move |(other, _)| *other == role).map(|(_, url)| url)
    }

    /// For reports: roles and places, without paths, which may be secrets.
    pub fn describe(&self) -> String {
        let mut told: Vec<String> = Vec::new();
        for role in Role::ALL {
            let places: Vec<String> = self.all(role).map(origin).collect();
            match places.as_slice() {
                [] => {}
                [one] => told.push(format!("{} {one}", role.name())),
                [one, ..] => told.push(format!("{} {}s, {one} …", places.len(), role.name())),
            }
        }
        told.join("; ")
    }
}

/// `scheme://host:port`.
pub fn origin(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", url.scheme())
}

/// On this machine, by its text: a name other than `localhost` may lead anywhere.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(texts: &[&str]) -> Result<Target, TargetError> {
        let mut target = Target::default();
        texts.iter().try_for_each(|text| target.add(text)).map(|()| target)
    }

    #[test]
    fn roles_are_named_and_gateways_need_not_be() {
        let all =
            ["http://127.0.0.1:1", "rtmp=rtmp://127.0.0.1:2/live", "signer=http://[::1]:3/?a=b"];
        let target = target(&all).unwrap();
        let place = |role| target.one(role).unwrap().as_str();
        assert_eq!(place(Role::Gateway), "http://127.0.0.1:1/");
        assert_eq!(place(Role::Rtmp), "rtmp://127.0.0.1:2/live");
        assert_eq!(place(Role::Signer), "http://[::1]:3/?a=b");
        assert_eq!(target.one(Role::Trickle), None);
        let told = "gateway http://127.0.0.1:1; rtmp rtmp://127.0.0.1:2; signer http://[::1]:3";
        assert_eq!(target.describe(), told);
        // A query is no role.
        assert!(super::Target::default().add("http://127.0.0.1:1/?a=b").is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("nobody=http://127.0.0.1:1", "roles are gateway, rtmp"),
            ("gateway=rtmp://127.0.0.1:1", "a gateway is at http:// or https://"),
            ("rtmp=http://127.0.0.1:1", "a rtmp is at rtmp://"),
            ("127.0.0.1:1", "[ROLE=]URL"),
        ] {
            let error = target(&[text]).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let twice = target(&["http://127.0.0.1:1", "gateway=http://127.0.0.1:2"]);
        assert_eq!(twice, Err(TargetError::Twice("gateway")));
        let many = ["trickle=http://127.0.0.1:1/a", "trickle=http://127.0.0.1:1/b"];
        assert_eq!(target(&many).unwrap().all(Role::Trickle).count(), 2);
    }

    #[test]
    fn only_loopback_is_ours_unless_it_is_said() {
        let needs = BTreeSet::from([Role::Gateway]);
        for ours in
            ["http://127.0.0.1:1", "http://127.8.9.10", "http://[::1]:1", "http://localhost:1"]
        {
            assert_eq!(target(&[ours]).unwrap().check(&needs, false), Ok(()), "{ours}");
        }
        for foreign in [
            "https://gateway.example",
            "http://10.0.0.1:1",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://2130706434.example",
            "http://[2001:db8::1]",
            "http://0.0.0.0:1",
        ] {
            let target = target(&[foreign]).unwrap();
            let refused = target.check(&needs, false);
            assert!(matches!(refused, Err(TargetError::NotOurs(_))), "{foreign}: {refused:?}");
            assert_eq!(target.check(&needs, true), Ok(()));
        }
        // One of many is enough.
        let mixed = ["http://127.0.0.1:1", "orchestrator=https://10.0.0.1:1"];
        assert!(target(&mixed).unwrap().check(&needs, false).is_err());
        let needs = BTreeSet::from([Role::Signer]);
        let none = target(&["http://127.0.0.1:1"]).unwrap().check(&needs, true);
        assert_eq!(none, Err(TargetError::Missing("signer")));
    }
}
