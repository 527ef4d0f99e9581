//! How a server behaves, and every bound of what it holds.

use std::time::Duration;
use thiserror::Error;

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `POST {name}` and a publish create a channel that is missing. When off, only this process
    /// creates channels.
    pub autocreate: bool,
    /// Keep the channel `_changes`, which tells of every channel that comes and goes.
    pub changefeed: bool,
    /// A channel in which no segment has begun for so long is closed.
    pub idle_timeout: Duration,
    /// How often idle channels and forgotten segments are looked for.
    pub sweep_interval: Duration,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            autocreate: false,
            changefeed: false,
            idle_timeout: Duration::from_secs(300),
            sweep_interval: Duration::from_secs(60),
            limits: Limits::default(),
        }
    }
}

/// Bounds of what a server holds, whatever its peers do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Channels at once.
    pub channels: usize,
    /// Segments that a channel remembers; other implementations count on 5. At least 2: one that is
    /// written, one that waits for its first byte.
    pub segments_per_channel: usize,
    /// Memory of one segment's payload, rounded up to pages.
    pub segment_bytes: u64,
    /// Memory of one channel's payloads, those included that slow readers still hold.
    pub channel_bytes: u64,
    /// Memory of all payloads.
    pub total_bytes: u64,
    /// Readers of one channel at once.
    pub subscribers_per_channel: usize,
    /// Readers at once of the channels of one [`Group`](crate::Group). A channel without a group has
    /// one of its own.
    pub subscribers_per_group: usize,
    /// Writers of one channel at once, those included that wait for their first byte.
    pub publishers_per_channel: usize,
    /// Writers at once of the channels of one group.
    pub publishers_per_group: usize,
    /// So many of `requests`, at most half of them, are kept from readers: for writers.
    pub publisher_room: usize,
    /// Readers and writers at once, in all channels. Of a reader whose socket takes nothing the HTTP
    /// layer may keep some 400 KiB, which no other bound counts.
    pub requests: usize,
    /// Length of a channel's name.
    pub name_bytes: usize,
    /// Length of a channel's media type.
    pub mime_bytes: usize,
    /// A reader may take so long to fetch the rest of a segment that has left its channel.
    pub reader_grace: Duration,
    /// A reader may take so long to come back for the next chunk. Looked at with every sweep.
    pub reader_stall: Duration,
    /// A writer may go on for so long after its segment was closed under it.
    pub publisher_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            channels: 16_384,
            segments_per_channel: 5,
            segment_bytes: 64 << 20,
            channel_bytes: 256 << 20,
            total_bytes: 2 << 30,
            subscribers_per_channel: 64,
            subscribers_per_group: 128,
            publishers_per_channel: 32,
            publishers_per_group: 64,
            publisher_room: 2_048,
            requests: 16_384,
            name_bytes: 256,
            mime_bytes: 256,
            reader_grace: Duration::from_secs(30),
            reader_stall: Duration::from_secs(30),
            publisher_grace: Duration::from_secs(60),
        }
    }
}

/// A setting with which nothing would work: the operator's to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{setting}: must be at least {least}")]
pub struct SettingsError {
    /// Which one.
    pub setting: &'static str,
    /// Its smallest value.
    pub least: u64,
}

impl Settings {
    /// The first setting with which nothing would work.
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let l = &self.limits;
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let rows = [
            ("channels", count(l.channels), 1),
            ("segments_per_channel", count(l.segments_per_channel), 2),
            ("segment_bytes", l.segment_bytes, 64 << 10),
            ("channel_bytes", l.channel_bytes, 64 << 10),
            ("total_bytes", l.total_bytes, 64 << 10),
            ("subscribers_per_channel", count(l.subscribers_per_channel), 1),
            ("subscribers_per_group", count(l.subscribers_per_group), 1),
            ("publishers_per_channel", count(l.publishers_per_channel), 1),
            ("publishers_per_group", count(l.publishers_per_group), 1),
            ("requests", count(l.requests), 1),
            ("name_bytes", count(l.name_bytes), 1),
            ("sweep_interval", self.sweep_interval.as_millis().try_into().unwrap_or(u64::MAX), 1),
        ];
        match rows.into_iter().find(|(_, value, least)| value < least) {
            Some((setting, _, least)) => Err(SettingsError { setting, least }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_work_and_nonsense_is_named() {
        assert_eq!(Settings::default().check(), Ok(()));
        let mut settings = Settings::default();
        settings.limits.segments_per_channel = 1;
        let error = settings.check().unwrap_err();
        assert_eq!(error.to_string(), "segments_per_channel: must be at least 2");
    }
}
