//! MPEG transport streams with one H.264 and at most one AAC stream: written for RTMP publishers,
//! taken apart for players that want fragmented MP4.

pub mod demux;
pub mod mux;

/// Bytes of a packet.
pub const PACKET: usize = 188;
/// Ticks of a presentation time in a second.
pub const CLOCK: u64 = 90_000;
/// Presentation times have 33 bits and wrap.
pub const CLOCK_MASK: u64 = (1 << 33) - 1;
