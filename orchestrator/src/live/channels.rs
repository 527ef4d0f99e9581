//! The channels of a session, and where its two parties find them (live-video.md sections 6 and 13).

use super::flow::Passed;
use penstock_trickle::{ChannelWatch, Refusal, TrickleServer};
use penstock_wire::json::LiveVideoUrls;
use url::Url;

/// Where channels are served.
pub const PATH: &str = "/ai/trickle";

const MEDIA: &str = "video/MP2T";
const MESSAGES: &str = "application/json";

/// What follows the session's name, and what the channel carries.
const CHANNELS: [(&str, &str); 4] =
    [("", MEDIA), ("-out", MEDIA), ("-control", MESSAGES), ("-events", MESSAGES)];

/// What a session has channels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Live video: media both ways, and messages.
    Video,
    /// `/scope`: messages only.
    Scope,
}

impl Shape {
    /// Those that are made.
    fn channels(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let wanted = move |mime: &str| self == Self::Video || mime == MESSAGES;
        CHANNELS.into_iter().filter(move |(_, mime)| wanted(mime))
    }

    /// That by which the gateway is heard, and that of the runner: what comes there is charged, and who
    /// closes his is gone.
    fn ends(self) -> (&'static str, &'static str) {
        match self {
            Self::Video => ("", "-out"),
            Self::Scope => ("-control", "-events"),
        }
    }
}

/// The channels of one session; closed when dropped.
pub struct Channels {
    trickle: TrickleServer,
    name: String,
    /// What they carry.
    pub shape: Shape,
    /// From the gateway to the runner.
    pub ingest: ChannelWatch,
    /// From the runner to the gateway.
    pub output: ChannelWatch,
}

impl Channels {
    /// Makes them, all or none.
    pub fn make(trickle: &TrickleServer, name: &str, shape: Shape) -> Result<Self, Refusal> {
        let group = trickle.group();
        let made = shape.channels().try_for_each(|(suffix, mime)| {
            trickle.create_in(&group, &format!("{name}{suffix}"), mime).map(drop)
        });
        let watch = |suffix| trickle.watch(&format!("{name}{suffix}")).ok_or(Refusal::NoChannel);
        let (from_gateway, from_runner) = shape.ends();
        match made.and_then(|()| Ok((watch(from_gateway)?, watch(from_runner)?))) {
            Ok((ingest, output)) => {
                Ok(Self { trickle: trickle.clone(), name: name.to_owned(), shape, ingest, output })
            }
            Err(refusal) => {
                close(trickle, name);
                Err(refusal)
            }
        }
    }

    /// What has come by them so far.
    pub fn passed(&self) -> Passed {
        Passed {
            segments: self.ingest.segments_begun(),
            input_bytes: self.ingest.received_bytes(),
            output_bytes: self.output.received_bytes(),
        }
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        close(&self.trickle, &self.name);
    }
}

fn close(trickle: &TrickleServer, name: &str) {
    for (suffix, _) in CHANNELS {
        // One that a party has closed is closed.
        let _ = trickle.close(&format!("{name}{suffix}"));
    }
}

/// As the gateway sees them. What there is not has no URL.
pub fn for_gateway(service_uri: &str, name: &str, shape: Shape) -> LiveVideoUrls {
    let at = |wanted: &str| match shape.channels().any(|(suffix, _)| suffix == wanted) {
        true => format!("{service_uri}{PATH}/{name}{wanted}"),
        false => String::new(),
    };
    LiveVideoUrls {
        publish_url: at(""),
        subscribe_url: at("-out"),
        control_url: at("-control"),
        events_url: at("-events"),
    }
}

/// As the runner sees them: media the other way, and maybe by another host.
pub fn for_runner(
    service_uri: &str,
    name: &str,
    shape: Shape,
    host: Option<&str>,
) -> LiveVideoUrls {
    let base = match host {
        Some(host) => with_host(service_uri, host),
        None => service_uri.to_owned(),
    };
    let urls = for_gateway(&base, name, shape);
    LiveVideoUrls { publish_url: urls.subscribe_url, subscribe_url: urls.publish_url, ..urls }
}

/// The same place by another host.
pub fn with_host(service_uri: &str, host: &str) -> String {
    let scheme = Url::parse(service_uri).map_or_else(|_| "https".to_owned(), |u| u.scheme().into());
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_trickle::{Limits, Settings};

    #[test]
    fn where_they_are() {
        let gateway = for_gateway("https://orch:8935", "m", Shape::Video);
        assert_eq!(gateway.publish_url, "https://orch:8935/ai/trickle/m");
        assert_eq!(gateway.events_url, "https://orch:8935/ai/trickle/m-events");
        let runner = for_runner("https://orch:8935", "m", Shape::Video, Some("10.0.0.1:1"));
        assert_eq!(runner.subscribe_url, "https://10.0.0.1:1/ai/trickle/m");
        assert_eq!(runner.publish_url, "https://10.0.0.1:1/ai/trickle/m-out");
        assert_eq!(runner.control_url, "https://10.0.0.1:1/ai/trickle/m-control");
        assert_eq!(
            for_runner("http://o", "m", Shape::Video, None).publish_url,
            gateway_out("http://o")
        );
    }

    fn gateway_out(base: &str) -> String {
        for_gateway(base, "m", Shape::Video).subscribe_url
    }

    #[test]
    fn scope_has_messages_only() {
        let urls = for_runner("https://orch:8935", "m", Shape::Scope, None);
        assert_eq!((urls.publish_url.as_str(), urls.subscribe_url.as_str()), ("", ""));
        assert_eq!(urls.control_url, "https://orch:8935/ai/trickle/m-control");
        let trickle = TrickleServer::new(Settings::default()).unwrap();
        let channels = Channels::make(&trickle, "m", Shape::Scope).unwrap();
        assert_eq!(trickle.usage().channels, 2);
        drop(channels);
        assert_eq!(trickle.usage().channels, 0);
    }

    #[test]
    fn all_or_none_and_none_afterwards() {
        let limits = Limits { channels: 6, ..Limits::default() };
        let trickle = TrickleServer::new(Settings { limits, ..Settings::default() }).unwrap();
        let first = Channels::make(&trickle, "a", Shape::Video).unwrap();
        let second = Channels::make(&trickle, "b", Shape::Video);
        assert_eq!(second.err(), Some(Refusal::TooManyChannels));
        assert_eq!(trickle.usage().channels, 4);
        let watch = first.ingest.clone();
        drop(first);
        assert!(watch.is_closed());
        assert_eq!(trickle.usage().channels, 0);
    }
}
