//! The channels of a stream (byoc.md section 8.1). Whoever knows a channel's name may use it, so names
//! are random, and no part of the gateway's own id.

use crate::live::{self, with_host};
use penstock_trickle::{ChannelWatch, Refusal, TrickleServer};
use penstock_wire::json::ByocStreamOptions;
use serde_json::{Map, Value};
use tokio::time::Instant;

/// One kind of channel.
struct Kind {
    suffix: &'static str,
    mime: &'static str,
    /// What the gateway's header with its URL is called.
    header: &'static str,
    /// What the worker calls it.
    key: &'static str,
    /// Whether a stream has it.
    wanted: fn(&ByocStreamOptions) -> bool,
}

const KINDS: [Kind; 5] = [
    Kind {
        suffix: "-control",
        mime: "application/json",
        header: "x-control-url",
        key: "control_url",
        wanted: |_| true,
    },
    Kind {
        suffix: "-events",
        mime: "application/json",
        header: "x-events-url",
        key: "events_url",
        wanted: |_| true,
    },
    Kind {
        suffix: "",
        mime: "video/MP2T",
        header: "x-publish-url",
        key: "subscribe_url",
        wanted: |options| options.video_ingress,
    },
    Kind {
        suffix: "-out",
        mime: "video/MP2T",
        header: "x-subscribe-url",
        key: "publish_url",
        wanted: |options| options.video_egress,
    },
    Kind {
        suffix: "-data",
        mime: "application/jsonl",
        header: "x-data-url",
        key: "data_url",
        wanted: |options| options.data_output,
    },
];

/// Kinds that the gateway closes to end a stream, and those that the worker does.
const GATEWAYS: [&str; 2] = ["-control", ""];
const WORKERS: [&str; 2] = ["-events", "-out"];
/// Those that it writes into.
const WRITTEN: [&str; 3] = ["-events", "-out", "-data"];

/// The channels of one stream; closed when dropped.
pub struct Channels {
    trickle: TrickleServer,
    name: String,
    made: Vec<&'static Kind>,
    watches: Vec<(&'static str, ChannelWatch)>,
}

impl Channels {
    /// Makes those that are wanted, all or none.
    pub fn make(
        trickle: &TrickleServer,
        name: String,
        options: &ByocStreamOptions,
    ) -> Result<Self, Refusal> {
        let made = KINDS.iter().filter(|kind| (kind.wanted)(options)).collect();
        let group = trickle.group();
        // Dropped half-way, it closes what there is.
        let mut channels = Self { trickle: trickle.clone(), name, made, watches: Vec::new() };
        for kind in &channels.made {
            let name = format!("{}{}", channels.name, kind.suffix);
            trickle.create_in(&group, &name, kind.mime)?;
            let watch = trickle.watch(&name).ok_or(Refusal::NoChannel)?;
            channels.watches.push((kind.suffix, watch));
        }
        Ok(channels)
    }

    /// As the gateway is told: header and URL.
    pub fn for_gateway(&self, service_uri: &str) -> Vec<(&'static str, String)> {
        self.made.iter().map(|kind| (kind.header, self.at(service_uri, kind))).collect()
    }

    /// As the worker is told, maybe by another host.
    pub fn for_worker(&self, service_uri: &str, host: Option<&str>) -> Map<String, Value> {
        let base = host.map_or_else(|| service_uri.to_owned(), |host| with_host(service_uri, host));
        let url = |kind: &&'static Kind| (kind.key.to_owned(), self.at(&base, kind).into());
        self.made.iter().map(url).collect()
    }

    fn at(&self, base: &str, kind: &Kind) -> String {
        format!("{base}{}/{}{}", live::PATH, self.name, kind.suffix)
    }

    /// Waits for the end of a channel that is the gateway's to close.
    pub async fn gateway_gone(&self) {
        self.any_closed(&GATEWAYS).await;
    }

    /// The same of the worker's.
    pub async fn worker_done(&self) {
        self.any_closed(&WORKERS).await;
    }

    /// Whether it was not the worker, or whoever else knows their names, that closed one of these: nothing came for too
    /// long.
    pub fn has_worker_been_silent(&self) -> bool {
        self.watched(&WORKERS).any(ChannelWatch::was_idle)
    }

    /// When a byte of the worker's came last; `None` before the first.
    pub fn last_byte(&self) -> impl Fn() -> Option<Instant> + Send + Sync + 'static {
        let written: Vec<_> = self.watched(&WRITTEN).cloned().collect();
        move || written.iter().filter_map(ChannelWatch::received_at).max()
    }

    fn watched(&self, which: &'static [&str]) -> impl Iterator<Item = &ChannelWatch> {
        let those = self.watches.iter().filter(|(suffix, _)| which.contains(suffix));
        those.map(|(_, watch)| watch)
    }

    async fn any_closed(&self, which: &'static [&str]) {
        // One of each is always there.
        let closed: Vec<_> = self.watched(which).map(|watch| Box::pin(watch.closed())).collect();
        futures::future::select_all(closed).await;
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        for (suffix, _) in &self.watches {
            // One that a party has closed is closed.
            let _ = self.trickle.close(&format!("{}{suffix}", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use penstock_trickle::{Limits, Settings};

    fn options(all: bool) -> ByocStreamOptions {
        ByocStreamOptions { video_ingress: all, video_egress: all, data_output: all }
    }

    #[tokio::test]
    async fn as_many_as_wanted_and_all_or_none() {
        let limits = Limits { channels: 6, ..Limits::default() };
        let trickle = TrickleServer::new(Settings { limits, ..Settings::default() }).unwrap();
        let few = Channels::make(&trickle, "a".into(), &options(false)).unwrap();
        let told = few.for_gateway("https://o:1");
        assert_eq!(told[0], ("x-control-url", "https://o:1/ai/trickle/a-control".to_owned()));
        assert_eq!(told.len(), 2);
        let full = Channels::make(&trickle, "b".into(), &options(true));
        assert_eq!(full.err(), Some(Refusal::TooManyChannels));
        assert_eq!(trickle.usage().channels, 2);
        drop(few);
        let all = Channels::make(&trickle, "c".into(), &options(true)).unwrap();
        let worker = all.for_worker("https://o:1", Some("10.0.0.1:2"));
        assert_eq!(worker["subscribe_url"], "https://10.0.0.1:2/ai/trickle/c");
        assert_eq!(worker["publish_url"], "https://10.0.0.1:2/ai/trickle/c-out");
        assert_eq!((worker.len(), all.for_gateway("").len()), (5, 5));
        let last = all.last_byte();
        let mut gateway = trickle.publisher("c", "video/MP2T");
        gateway.write(Bytes::from_static(b"1")).unwrap();
        assert_eq!(last(), None, "that is not the worker's");
        let mut worker = trickle.publisher("c-data", "application/jsonl");
        worker.write(Bytes::from_static(b"1")).unwrap();
        let first = last().unwrap();
        assert!(first <= Instant::now());
        trickle.close("c").unwrap();
        all.gateway_gone().await;
        assert!(!all.has_worker_been_silent());
        drop(all);
        assert_eq!(last(), Some(first), "afterwards, too");
        assert_eq!(trickle.usage().channels, 0);
    }
}
