//! The four channels of a session, and where its two parties find them (live-video.md section 6).

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

/// The channels of one session; closed when dropped.
pub struct Channels {
    trickle: TrickleServer,
    name: String,
    /// From the gateway to the runner.
    pub ingest: ChannelWatch,
    /// From the runner to the gateway.
    pub output: ChannelWatch,
}

impl Channels {
    /// Makes them, all or none.
    pub fn make(trickle: &TrickleServer, name: &str) -> Result<Self, Refusal> {
        let made = CHANNELS.iter().try_for_each(|(suffix, mime)| {
            trickle.create(&format!("{name}{suffix}"), mime).map(drop)
        });
        let watch = |suffix| trickle.watch(&format!("{name}{suffix}")).ok_or(Refusal::NoChannel);
        match made.and_then(|()| Ok((watch("")?, watch("-out")?))) {
            Ok((ingest, output)) => {
                Ok(Self { trickle: trickle.clone(), name: name.to_owned(), ingest, output })
            }
            Err(refusal) => {
                close(trickle, name);
                Err(refusal)
            }
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

/// As the gateway sees them.
pub fn for_gateway(service_uri: &str, name: &str) -> LiveVideoUrls {
    let at = |suffix: &str| format!("{service_uri}{PATH}/{name}{suffix}");
    LiveVideoUrls {
        publish_url: at(""),
        subscribe_url: at("-out"),
        control_url: at("-control"),
        events_url: at("-events"),
    }
}

/// As the runner sees them: media the other way, and maybe by another host.
pub fn for_runner(service_uri: &str, name: &str, host: Option<&str>) -> LiveVideoUrls {
    let base = match host {
        Some(host) => with_host(service_uri, host),
        None => service_uri.to_owned(),
    };
    let urls = for_gateway(&base, name);
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
        let gateway = for_gateway("https://orch:8935", "m");
        assert_eq!(gateway.publish_url, "https://orch:8935/ai/trickle/m");
        assert_eq!(gateway.events_url, "https://orch:8935/ai/trickle/m-events");
        let runner = for_runner("https://orch:8935", "m", Some("10.0.0.1:1"));
        assert_eq!(runner.subscribe_url, "https://10.0.0.1:1/ai/trickle/m");
        assert_eq!(runner.publish_url, "https://10.0.0.1:1/ai/trickle/m-out");
        assert_eq!(runner.control_url, "https://10.0.0.1:1/ai/trickle/m-control");
        assert_eq!(for_runner("http://o", "m", None).publish_url, gateway_out("http://o"));
    }

    fn gateway_out(base: &str) -> String {
        for_gateway(base, "m").subscribe_url
    }

    #[test]
    fn all_or_none_and_none_afterwards() {
        let limits = Limits { channels: 6, ..Limits::default() };
        let trickle = TrickleServer::new(Settings { limits, ..Settings::default() }).unwrap();
        let first = Channels::make(&trickle, "a").unwrap();
        assert_eq!(Channels::make(&trickle, "b").err(), Some(Refusal::TooManyChannels));
        assert_eq!(trickle.usage().channels, 4);
        let watch = first.ingest.clone();
        drop(first);
        assert!(watch.is_closed());
        assert_eq!(trickle.usage().channels, 0);
    }
}
