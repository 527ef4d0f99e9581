//! The channels of a stream (byoc.md section 8.1). Whoever knows a channel's name may use it, so names
//! are random, and no part of the gateway's own id.

use crate::live::{self, with_host};
use penstock_trickle::{Attendance, ChannelWatch, Refusal, TrickleServer};
use penstock_wire::json::ByocStreamOptions;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::time::Instant;

/// Whose requests to its channels have broken off has died, if none comes for so long: who lives tries again sooner.
const BACK_WITHIN: Duration = Duration::from_secs(3);

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

/// Kinds that the gateway closes to end a stream, which the worker reads, and those that the worker closes.
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

    /// What shows that the worker is there; also when they are closed.
    pub fn signs(&self) -> Signs {
        let those = |which| self.watched(which).cloned().collect();
        Signs { read: those(&GATEWAYS), written: those(&WRITTEN) }
    }

    /// Whether the worker, or whoever else knows their names, has closed one of its own: that nothing came for too long is
    /// no closing.
    fn has_worker_closed(&self) -> bool {
        self.watched(&WORKERS).any(|watch| watch.is_closed() && !watch.was_idle())
    }

    /// What there is to be seen of the worker at this moment, before anything is closed on our side.
    pub fn look(&self, now: Instant) -> Seen {
        let signs = self.signs();
        Seen {
            has_closed: self.has_worker_closed(),
            was_there: signs.was_there(now),
            is_cut_off: signs.is_cut_off(now),
        }
    }

    /// Closes all of them: input ends, output ends. One that a party has closed is closed.
    pub fn close(&self) {
        for (suffix, _) in &self.watches {
            let _ = self.trickle.close(&format!("{}{suffix}", self.name));
        }
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
        self.close();
    }
}

/// What was seen of a worker when its stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// It has ended the stream itself.
    pub has_closed: bool,
    /// It was at its channels.
    pub was_there: bool,
    /// It has died without ending anything.
    pub is_cut_off: bool,
}

/// A worker's traces in its channels.
#[derive(Clone)]
pub struct Signs {
    read: Vec<ChannelWatch>,
    written: Vec<ChannelWatch>,
}

impl Signs {
    /// When a byte of it came last; `None` before the first.
    pub fn last_byte(&self) -> Option<Instant> {
        self.written.iter().filter_map(ChannelWatch::received_at).max()
    }

    fn attendance(&self) -> Attendance {
        let read = self.read.iter().map(ChannelWatch::reading);
        let all = read.chain(self.written.iter().map(ChannelWatch::writing));
        all.fold(Attendance::Never, Attendance::or)
    }

    /// Whether its requests have all broken off a while ago, as those of a process that has died: what answers for it since
    /// then is another one, which need not know the stream to say yes.
    pub fn is_cut_off(&self, now: Instant) -> bool {
        match self.attendance() {
            Attendance::Gone { at, broke } => {
                broke && now.saturating_duration_since(at) > BACK_WITHIN
            }
            Attendance::Never | Attendance::Here => false,
        }
    }

    /// Whether it has a request there, or had one a moment ago that came to its end.
    pub fn was_there(&self, now: Instant) -> bool {
        match self.attendance() {
            Attendance::Here => true,
            Attendance::Gone { at, broke } => {
                !broke && now.saturating_duration_since(at) <= BACK_WITHIN
            }
            Attendance::Never => false,
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
        let signs = all.signs();
        let last = || signs.last_byte();
        let mut gateway = trickle.publisher("c", "video/MP2T");
        gateway.write(Bytes::from_static(b"1")).unwrap();
        assert_eq!(last(), None, "that is not the worker's");
        let mut worker = trickle.publisher("c-data", "application/jsonl");
        worker.write(Bytes::from_static(b"1")).unwrap();
        let first = last().unwrap();
        assert!(first <= Instant::now());
        trickle.close("c").unwrap();
        all.gateway_gone().await;
        let now = Instant::now();
        assert!(!all.look(now).has_closed, "it was the gateway");
        all.close();
        assert_eq!(all.look(now), Seen { has_closed: true, was_there: true, is_cut_off: false });
        drop(all);
        assert_eq!(last(), Some(first), "afterwards, too");
        assert_eq!(trickle.usage().channels, 0);
    }
}
