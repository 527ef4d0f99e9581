//! The server: a table of channels, who comes in and what goes.

mod feed;

use crate::{
    budget::Budget,
    channel::Channel,
    error::Refusal,
    gate::{Gate, Open},
    group::{Group, Requests},
    leftovers::{ChannelId, Leftovers},
    local::{ChannelWatch, LocalPublisher, LocalSubscriber},
    routes,
    settings::{Settings, SettingsError},
    stalls::Stalls,
};
use feed::Feed;
use http::HeaderValue;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Whoever looks at the gauges sees what was held so long ago.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// Channels of this process that begin so are never idle.
const INTERNAL: char = '_';

/// Channels in memory, reached over HTTP through [`TrickleServer::router`] and from inside the
/// process. Clones are the same server.
#[derive(Clone)]
pub struct TrickleServer {
    shared: Arc<Shared>,
    table: Arc<Mutex<Table>>,
    gate: Arc<dyn Gate>,
}

/// What channels share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub settings: Settings,
    pub budget: Arc<Budget>,
    pub leftovers: Leftovers,
    pub stalls: Stalls,
    pub requests: Requests,
    pub waiting: AtomicUsize,
}

/// Who makes a channel that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// Nobody: it has to be there.
    Nobody,
    /// Somebody who sent a request.
    Peer,
    /// This process.
    Process,
}

#[derive(Debug, Default)]
struct Table {
    channels: HashMap<String, Arc<Channel>>,
    feed: Option<Feed>,
    ids: ChannelId,
    stopped: bool,
}

/// What a server holds at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Channels.
    pub channels: usize,
    /// Writers, those included that wait for their first byte.
    pub publishers: usize,
    /// Readers over HTTP, those included that wait for their segment to begin.
    pub subscribers: usize,
    /// Those of the readers over HTTP whose segment has not begun.
    pub waiting: usize,
    /// Memory of payloads.
    pub bytes: u64,
}

impl TrickleServer {
    /// A server without channels, open to everybody as far as the settings go.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        Self::with_gate(settings, Arc::new(Open))
    }

    /// The same, with the caller's word on who may do what.
    pub fn with_gate(settings: Settings, gate: Arc<dyn Gate>) -> Result<Self, SettingsError> {
        settings.check()?;
        let changefeed = settings.changefeed;
        let shared = Arc::new(Shared {
            budget: Arc::new(Budget::new(settings.limits.total_bytes)),
            leftovers: Leftovers::default(),
            stalls: Stalls::default(),
            requests: Requests::new(&settings.limits),
            waiting: AtomicUsize::new(0),
            settings,
        });
        let server = Self { shared, table: Arc::default(), gate };
        if changefeed {
            let mut table = server.table();
            let mime = HeaderValue::from_static(feed::MIME);
            let channel = server.insert(&mut table, feed::NAME, Some(mime), true, server.group());
            table.feed = Some(Feed::new(channel));
            table.announce(|feed| feed.added(feed::NAME));
        }
        Ok(server)
    }

    /// The routes, to be nested under any prefix. Around them there may be no limit on the time or
    /// size of bodies: a publish lasts as long as its segment.
    pub fn router(&self) -> axum::Router {
        routes::router(self.clone())
    }

    /// Closes channels that are idle, lets go readers that take nothing, and gives up segments that
    /// are read too slowly, every `sweep_interval`, until `shutdown`; then [stops](Self::stop).
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut ticks = interval(self.shared.settings.sweep_interval);
        let mut gauges = interval(GAUGES_EVERY);
        for timer in [&mut ticks, &mut gauges] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                now = ticks.tick() => self.sweep(now),
                _ = gauges.tick() => self.show_usage(),
            }
        }
        self.stop();
    }

    /// Closes every channel; no other will be made.
    pub fn stop(&self) {
        let channels = {
            let mut table = self.table();
            table.stopped = true;
            table.feed = None;
            std::mem::take(&mut table.channels)
        };
        let now = Instant::now();
        channels.values().for_each(|channel| channel.close(now));
    }

    /// Makes a channel, whatever `autocreate` says. False: there is one, and its media type stays.
    pub fn create(&self, name: &str, mime: &str) -> Result<bool, Refusal> {
        self.create_in(&self.group(), name, mime)
    }

    /// A group without channels.
    pub fn group(&self) -> Group {
        self.shared.requests.group(&self.shared.settings.limits)
    }

    /// Makes a channel that belongs to a group. False: there is one, and it stays where it belongs.
    pub fn create_in(&self, group: &Group, name: &str, mime: &str) -> Result<bool, Refusal> {
        let refused = Refusal::Mime { max_bytes: self.shared.settings.limits.mime_bytes };
        let mime = HeaderValue::from_str(mime).map_err(|_| refused)?;
        let (_, created) = self.get_or_make(name, Some(&mime), Maker::Process, || group.clone())?;
        Ok(created)
    }

    /// Closes a channel: readers end, publishers learn of it, the name is free again.
    pub fn close(&self, name: &str) -> Result<(), Refusal> {
        self.remove_if(name, |_| true)
    }

    /// Whether there is such a channel.
    pub fn exists(&self, name: &str) -> bool {
        self.table().channels.contains_key(name)
    }

    /// Watches a channel; `None` if there is none.
    pub fn watch(&self, name: &str) -> Option<ChannelWatch> {
        self.get(name).ok().map(ChannelWatch::new)
    }

    /// A publisher inside this process. It counts from 0; `mime` is for channels that it makes.
    pub fn publisher(&self, name: &str, mime: &str) -> LocalPublisher {
        LocalPublisher::new(self.clone(), name.to_owned(), mime.to_owned())
    }

    /// A subscriber inside this process. It begins with the next segment.
    pub fn subscriber(&self, name: &str) -> LocalSubscriber {
        LocalSubscriber::new(self.clone(), name.to_owned())
    }

    /// What is held now.
    pub fn usage(&self) -> Usage {
        Usage {
            channels: self.table().channels.len(),
            publishers: self.shared.requests.publishers(),
            subscribers: self.shared.requests.subscribers(),
            waiting: self.shared.waiting.load(Relaxed),
            bytes: self.shared.budget.held(),
        }
    }

    /// Whether nobody can read or write any more.
    pub(crate) fn is_full(&self) -> bool {
        self.shared.requests.is_full()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(crate) fn stalls(&self) -> &Stalls {
        &self.shared.stalls
    }

    pub(crate) fn gate(&self) -> &dyn Gate {
        &*self.gate
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<Channel>, Refusal> {
        self.table().channels.get(name).cloned().ok_or(Refusal::NoChannel)
    }

    /// The channel, made by `maker` if it is missing; and whether it was made.
    pub(crate) fn get_or_create(
        &self,
        name: &str,
        mime: Option<&HeaderValue>,
        maker: Maker,
    ) -> Result<(Arc<Channel>, bool), Refusal> {
        self.get_or_make(name, mime, maker, || self.group())
    }

    fn get_or_make(
        &self,
        name: &str,
        mime: Option<&HeaderValue>,
        maker: Maker,
        group: impl FnOnce() -> Group,
    ) -> Result<(Arc<Channel>, bool), Refusal> {
        let limits = &self.shared.settings.limits;
        let mut table = self.table();
        if let Some(channel) = table.channels.get(name) {
            return Ok((Arc::clone(channel), false));
        }
        if maker == Maker::Nobody {
            return Err(Refusal::NoChannel);
        }
        if table.stopped {
            return Err(Refusal::Stopped);
        }
        if name.is_empty() || name.len() > limits.name_bytes {
            return Err(Refusal::Name { max_bytes: limits.name_bytes });
        }
        let mime = mime.filter(|mime| !mime.is_empty());
        if mime.is_some_and(|mime| mime.len() > limits.mime_bytes) {
            return Err(Refusal::Mime { max_bytes: limits.mime_bytes });
        }
        if table.channels.len() >= limits.channels {
            return Err(Refusal::TooManyChannels);
        }
        let internal = maker == Maker::Process && name.starts_with(INTERNAL);
        let channel = self.insert(&mut table, name, mime.cloned(), internal, group());
        table.announce(|feed| feed.added(name));
        tracing::debug!(channel = name, "channel created");
        Ok((channel, true))
    }

    fn insert(
        &self,
        table: &mut Table,
        name: &str,
        mime: Option<HeaderValue>,
        internal: bool,
        group: Group,
    ) -> Arc<Channel> {
        table.ids += 1;
        let shared = Arc::clone(&self.shared);
        let channel = Channel::new(table.ids, mime, internal, shared, group, Instant::now());
        table.channels.insert(name.to_owned(), Arc::clone(&channel));
        channel
    }

    /// Whether only the server itself writes there.
    pub(crate) fn is_reserved(&self, name: &str) -> bool {
        self.shared.settings.changefeed && name == feed::NAME
    }

    /// Closed and removed in one step: nobody finds a channel that is closed, or closes the one
    /// that came after it.
    fn remove_if(&self, name: &str, wanted: impl Fn(&Channel) -> bool) -> Result<(), Refusal> {
        let mut table = self.table();
        if !table.channels.get(name).is_some_and(|channel| wanted(channel)) {
            return Err(Refusal::NothingToDelete);
        }
        if let Some(channel) = table.channels.remove(name) {
            channel.close(Instant::now());
        }
        table.announce(|feed| feed.removed(name));
        tracing::debug!(channel = name, "channel closed");
        Ok(())
    }

    pub(crate) fn sweep(&self, now: Instant) {
        let timeout = self.shared.settings.idle_timeout;
        let idle: Vec<String> = {
            let table = self.table();
            let idle = table.channels.iter().filter(|(_, c)| c.is_idle(now, timeout));
            idle.map(|(name, _)| name.clone()).collect()
        };
        for name in idle {
            if self.remove_if(&name, |channel| channel.ends_idle(now, timeout)).is_ok() {
                metrics::counter!("trickle_channels_idle_total").increment(1);
                tracing::info!(channel = name, "idle channel closed");
            }
        }
        let limits = &self.shared.settings.limits;
        self.shared.leftovers.expire(now, limits.reader_grace);
        let stalled = self.shared.stalls.expire(now, limits.reader_stall);
        if stalled > 0 {
            metrics::counter!("trickle_readers_stalled_total").increment(stalled as u64);
            tracing::info!(stalled, "readers that took nothing were let go");
        }
    }

    /// What is held, as gauges.
    fn show_usage(&self) {
        let usage = self.usage();
        #[allow(clippy::cast_precision_loss, reason = "a gauge")]
        {
            metrics::gauge!("trickle_channels").set(usage.channels as f64);
            metrics::gauge!("trickle_publishers").set(usage.publishers as f64);
            metrics::gauge!("trickle_subscribers").set(usage.subscribers as f64);
            metrics::gauge!("trickle_bytes_held").set(usage.bytes as f64);
        }
    }
}

impl Table {
    /// Under the table's lock: events come in the order of what they tell.
    fn announce(&mut self, event: impl FnOnce(&mut Feed)) {
        if let Some(feed) = &mut self.feed {
            event(feed);
        }
    }
}

impl std::fmt::Debug for TrickleServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrickleServer").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
