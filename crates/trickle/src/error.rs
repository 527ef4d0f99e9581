//! Why the server did not do what was asked, and the one table of what HTTP calls that.

use http::StatusCode;
use thiserror::Error;

/// What the server does not do. The first four are the protocol's own (trickle.md section 2), with
/// its words; the others are bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No such channel, and it may not be created here. The peer's end, or its mistake.
    #[error("Stream not found")]
    NoChannel,
    /// The path's index is no number that a segment can have. The peer's mistake.
    #[error("Invalid idx")]
    InvalidIndex,
    /// A channel that is not there cannot be deleted. The peer's mistake.
    #[error("Invalid stream")]
    NothingToDelete,
    /// A segment that is not there cannot be closed. The peer's mistake.
    #[error("Nonexistent segment")]
    NoSegment,
    /// In this process: the segment was written by somebody else already.
    #[error("Entry already exists for this sequence")]
    Taken,
    /// In this process: the one after it was.
    #[error("Next entry already exists in this sequence")]
    NextTaken,
    /// The name belongs to the server, which alone writes there.
    #[error("the channel is the server's own")]
    Reserved,
    /// The name is empty or too long.
    #[error("a channel's name has 1 to {max_bytes} bytes")]
    Name {
        /// The bound.
        max_bytes: usize,
    },
    /// The media type is too long, or not one that a header can carry.
    #[error("not a media type of at most {max_bytes} bytes")]
    Mime {
        /// The bound.
        max_bytes: usize,
    },
    /// The segment is too large. The rest of it is lost; a smaller one will do.
    #[error("the segment is larger than the limit of {max_bytes} bytes")]
    SegmentFull {
        /// The bound, of memory.
        max_bytes: u64,
    },
    /// The channel's segments together are too large.
    #[error("the channel holds too many bytes")]
    ChannelFull,
    /// All segments together are too large. Later it may do.
    #[error("the server holds too many bytes")]
    ServerFull,
    /// Too many channels. Later it may do.
    #[error("too many channels")]
    TooManyChannels,
    /// Too many readers of this channel, or of its group. Later it may do.
    #[error("too many subscribers")]
    TooManySubscribers,
    /// Too many writers of this channel, or of its group. Later it may do.
    #[error("too many publishers")]
    TooManyPublishers,
    /// Too many readers and writers, or of readers too many to leave room for writers. Later it may do.
    #[error("too many requests")]
    TooManyRequests,
    /// The server is stopping. Elsewhere it may do.
    #[error("the server is stopping")]
    Stopped,
}

impl Refusal {
    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoChannel => StatusCode::NOT_FOUND,
            Self::InvalidIndex
            | Self::NothingToDelete
            | Self::NoSegment
            | Self::Name { .. }
            | Self::Mime { .. } => StatusCode::BAD_REQUEST,
            Self::Taken | Self::NextTaken => StatusCode::CONFLICT,
            Self::Reserved => StatusCode::FORBIDDEN,
            Self::SegmentFull { .. } | Self::ChannelFull => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ServerFull
            | Self::TooManyChannels
            | Self::TooManySubscribers
            | Self::TooManyPublishers
            | Self::TooManyRequests
            | Self::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn may_pass(&self) -> bool {
        self.status() == StatusCode::SERVICE_UNAVAILABLE
    }

    /// A word for metrics.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoChannel => "no_channel",
            Self::InvalidIndex => "invalid_index",
            Self::NothingToDelete => "nothing_to_delete",
            Self::NoSegment => "no_segment",
            Self::Taken | Self::NextTaken => "taken",
            Self::Reserved => "reserved",
            Self::Name { .. } => "name",
            Self::Mime { .. } => "mime",
            Self::SegmentFull { .. } => "segment_full",
            Self::ChannelFull => "channel_full",
            Self::ServerFull => "server_full",
            Self::TooManyChannels => "channels",
            Self::TooManySubscribers => "subscribers",
            Self::TooManyPublishers => "publishers",
            Self::TooManyRequests => "requests",
            Self::Stopped => "stopped",
        }
    }
}
