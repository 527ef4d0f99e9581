//! RTMP's chunk layer: messages out of bytes and back (Adobe's RTMP 1.0, section 5.3).
//!
//! Written here because the untrusted side needs bounds that the known library does not have (it
//! mixes messages of interleaved chunk streams, and its sums can overflow): most chunk streams, most
//! bytes of a message, most bytes of all unfinished messages together.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::HashMap;
use thiserror::Error;

/// Chunk streams of a connection; encoders use five.
const MOST_STREAMS: usize = 64;
/// Bytes of one message: a key frame at the highest rates is below this.
pub const MOST_MESSAGE: usize = 8 << 20;
/// Bytes of unfinished messages together.
const MOST_UNFINISHED: usize = 16 << 20;
/// Both, of a peer that has not shown yet that it may publish: commands are short.
const MOST_ASKING: usize = 64 << 10;
/// A buffer that has grown above this is not kept when it is empty again.
const ROOMY: usize = 64 << 10;
/// Chunk size before anybody says another.
const FIRST_CHUNK: usize = 128;
/// Marks a timestamp that stands in the extended field.
const EXTENDED: u32 = 0x00ff_ffff;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type: 8 audio, 9 video, 20 command, …
    pub kind: u8,
    /// Which message stream; 0 is the connection itself.
    pub stream: u32,
    /// Milliseconds, wrapping.
    pub timestamp: u32,
    /// The body.
    pub data: Bytes,
}

/// Bytes that are no chunks, or too many. The connection is beyond saving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadChunk {
    /// A short header on a chunk stream that had no long one.
    #[error("a chunk continues nothing")]
    NoHeader,
    /// See the limits above.
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
    /// See the limits above.
    #[error("too many chunk streams or unfinished messages")]
    TooMany,
    /// A chunk size of nothing.
    #[error("a chunk size of 0")]
    Size,
}

#[derive(Debug, Default)]
struct Stream {
    timestamp: u32,
    /// The last header's field: added again by a header without one.
    delta: u32,
    extended: bool,
    length: usize,
    kind: u8,
    stream: u32,
    partial: BytesMut,
}

/// Reads messages.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    chunk: usize,
    streams: HashMap<u32, Stream>,
    unfinished: usize,
    most_message: usize,
    most_unfinished: usize,
    /// Longest that this buffer was.
    grown: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            chunk: FIRST_CHUNK,
            streams: HashMap::new(),
            unfinished: 0,
            most_message: MOST_ASKING,
            most_unfinished: MOST_ASKING,
            grown: 0,
        }
    }
}

impl Reader {
    /// More bytes from the peer.
    pub fn add(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.grown = self.grown.max(self.buffer.len());
    }

    /// The peer may send media.
    pub fn trust(&mut self) {
        (self.most_message, self.most_unfinished) = (MOST_MESSAGE, MOST_UNFINISHED);
    }

    /// Bytes of memory for what is not a message yet.
    pub fn held(&self) -> usize {
        self.grown + self.unfinished
    }

    /// The peer says how long its chunks are from now on.
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), BadChunk> {
        // The high bit is reserved.
        let size = (size & 0x7fff_ffff) as usize;
        self.chunk = if size == 0 { return Err(BadChunk::Size) } else { size };
        Ok(())
    }

    /// The peer gives up the unfinished message of a chunk stream.
    pub fn abort(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.unfinished -= stream.partial.len();
            stream.partial.clear();
        }
    }

    /// The next message, or `None` when bytes are missing.
    pub fn message(&mut self) -> Result<Option<Message>, BadChunk> {
        loop {
            match self.chunk()? {
                Step::Starved => return Ok(None),
                Step::More => {}
                Step::Done(message) => return Ok(Some(message)),
            }
        }
    }

    /// Takes one whole chunk out of the buffer.
    fn chunk(&mut self) -> Result<Step, BadChunk> {
        let mut rest: &[u8] = &self.buffer;
        let Some((format, id)) = basic_header(&mut rest) else { return Ok(Step::Starved) };
        if rest.len() < header_length(format) {
            return Ok(Step::Starved);
        }
        if !self.streams.contains_key(&id) {
            if format != 0 {
                return Err(BadChunk::NoHeader);
            }
            if self.streams.len() >= MOST_STREAMS {
                return Err(BadChunk::TooMany);
            }
        }
        // Nothing is changed before the whole chunk is there.
        let known = self.streams.get(&id);
        let mut field = known.map_or(0, |s| s.delta);
        let mut length = known.map_or(0, |s| s.length);
        let mut kind = known.map_or(0, |s| s.kind);
        let mut stream = known.map_or(0, |s| s.stream);
        let mut extended = known.is_some_and(|s| s.extended);
        let begun = known.is_some_and(|s| !s.partial.is_empty());
        if format <= 2 {
            field = u24(&mut rest);
            extended = field == EXTENDED;
        }
        if format <= 1 {
            length = u24(&mut rest) as usize;
            kind = rest.get_u8();
        }
        if format == 0 {
            stream = rest.get_u32_le();
        }
        if extended {
            if rest.len() < 4 {
                return Ok(Step::Starved);
            }
            field = rest.get_u32();
        }
        if length > self.most_message {
            return Err(BadChunk::TooLong(self.most_message));
        }
        let have = known.map_or(0, |s| s.partial.len());
        // A header in full in the midst of a message begins another one.
        let have = if format <= 1 { 0 } else { have };
        let take = length.saturating_sub(have).min(self.chunk);
        if rest.len() < take {
            return Ok(Step::Starved);
        }
        let used = self.buffer.len() - rest.len();
        let state = self.streams.entry(id).or_default();
        if format <= 1 {
            self.unfinished -= state.partial.len();
            state.partial.clear();
        }
        let begins = !begun || format <= 1;
        if begins {
            state.timestamp = if format == 0 { field } else { state.timestamp.wrapping_add(field) };
            state.delta = field;
        }
        (state.length, state.kind, state.stream, state.extended) = (length, kind, stream, extended);
        self.buffer.advance(used);
        state.partial.extend_from_slice(&self.buffer.split_to(take));
        self.unfinished += take;
        if self.grown > ROOMY && self.buffer.len() <= ROOMY {
            self.buffer = BytesMut::from(&*self.buffer);
            self.grown = self.buffer.len();
        }
        if state.partial.len() < length {
            return if self.unfinished > self.most_unfinished {
                Err(BadChunk::TooMany)
            } else {
                Ok(Step::More)
            };
        }
        let data = std::mem::take(&mut state.partial).freeze();
        self.unfinished -= data.len();
        Ok(Step::Done(Message { kind, stream, timestamp: state.timestamp, data }))
    }
}

enum Step {
    Starved,
    More,
    Done(Message),
}

/// Format and chunk stream id.
fn basic_header(rest: &mut &[u8]) -> Option<(u8, u32)> {
    let (first, after) = rest.split_first()?;
    let (id, after) = match (first & 0x3f, after) {
        (0, [a, after @ ..]) => (64 + u32::from(*a), after),
        (1, [a, b, after @ ..]) => (64 + u32::from(*a) + u32::from(*b) * 256, after),
        (0 | 1, _) => return None,
        (id, after) => (u32::from(id), after),
    };
    *rest = after;
    Some((first >> 6, id))
}

fn header_length(format: u8) -> usize {
    match format {
        0 => 11,
        1 => 7,
        2 => 3,
        _ => 0,
    }
}

/// The caller has seen that three bytes are there.
fn u24(rest: &mut &[u8]) -> u32 {
    u32::from(rest.get_u8()) << 16 | u32::from(rest.get_u16())
}

/// Writes a message in chunks of the size that a connection begins with.
pub fn write(out: &mut Vec<u8>, id: u8, message: &Message) {
    let length = u32::try_from(message.data.len()).unwrap_or(0).to_be_bytes();
    out.push(id & 0x3f);
    // Timestamps of ours are small.
    out.extend([0, 0, 0]);
    out.extend(length.iter().skip(1));
    out.push(message.kind);
    out.extend(message.stream.to_le_bytes());
    for (n, chunk) in message.data.chunks(FIRST_CHUNK).enumerate() {
        if n > 0 {
            out.push(0xc0 | id & 0x3f);
        }
        out.extend_from_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;
    use rand::Rng;

    fn message(kind: u8, length: usize) -> Message {
        let data: Vec<u8> = (0..length).map(|n| n as u8).collect();
        Message { kind, stream: 1, timestamp: 0, data: data.into() }
    }

    #[test]
    fn messages_come_back_however_they_are_cut() {
        let all = [message(20, 0), message(9, 1), message(8, 128), message(9, 1_000)];
        let mut bytes = Vec::new();
        all.iter().for_each(|m| write(&mut bytes, 5, m));
        for step in [1, 3, 100, 5_000] {
            let mut reader = Reader::default();
            let mut found = Vec::new();
            for part in bytes.chunks(step) {
                reader.add(part);
                while let Some(message) = reader.message().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, all, "{step}");
            assert_eq!(reader.unfinished, 0);
        }
    }

    #[test]
    fn interleaved_chunk_streams_do_not_mix() {
        let mut reader = Reader::default();
        reader.set_chunk_size(2).unwrap();
        reader.add(&[4, 0, 0, 5, 0, 0, 3, 9, 1, 0, 0, 0, b'v', b'v']);
        reader.add(&[6, 0, 0, 7, 0, 0, 1, 8, 1, 0, 0, 0, b'a']);
        let audio = reader.message().unwrap().unwrap();
        assert_eq!((audio.kind, &audio.data[..], audio.timestamp), (8, &b"a"[..], 7));
        reader.add(&[0xc4, b'w']);
        let video = reader.message().unwrap().unwrap();
        assert_eq!((video.kind, &video.data[..], video.timestamp), (9, &b"vvw"[..], 5));
        // A delta, and the same delta again; then one that needs the extended field.
        reader.add(&[0x44, 0, 0, 40, 0, 0, 1, 9, b'x', 0xc4, b'y']);
        assert_eq!(reader.message().unwrap().unwrap().timestamp, 45);
        assert_eq!(reader.message().unwrap().unwrap().timestamp, 85);
        reader.add(&[4, 0xff, 0xff, 0xff, 0, 0, 1, 9, 1, 0, 0, 0, 1, 0, 0, 0, b'z']);
        assert_eq!(reader.message().unwrap().unwrap().timestamp, 0x0100_0000);
    }

    #[test]
    fn limits() {
        let mut reader = Reader::default();
        reader.add(&[0xc4, 1]);
        assert_eq!(reader.message(), Err(BadChunk::NoHeader));
        let mut reader = Reader::default();
        reader.add(&[4, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0]);
        assert_eq!(reader.message(), Err(BadChunk::TooLong(MOST_ASKING)));
        // Who may publish may say more; that counts until it is taken.
        let mut reader = Reader::default();
        reader.trust();
        reader.set_chunk_size(1 << 30).unwrap();
        let film = message(9, 1 << 20);
        reader.add(&[4, 0, 0, 0, 0x10, 0, 0, 9, 1, 0, 0, 0]);
        reader.add(&film.data);
        assert!(reader.held() > 1 << 20);
        assert_eq!(reader.message().unwrap().unwrap().data, film.data);
        assert_eq!(reader.held(), 0, "nor is the buffer kept");
        let mut reader = Reader::default();
        reader.trust();
        reader.add(&[4, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0]);
        assert_eq!(reader.message(), Err(BadChunk::TooLong(MOST_MESSAGE)));
        assert_eq!(reader.set_chunk_size(0), Err(BadChunk::Size));
        let mut reader = Reader::default();
        let refused = (2..=66).find_map(|id| {
            let head = if id < 64 { vec![id] } else { vec![0, id - 64] };
            reader.add(&head);
            reader.add(&[0, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0]);
            reader.message().err()
        });
        assert_eq!(refused, Some(BadChunk::TooMany));
        // Unfinished messages together.
        let mut reader = Reader::default();
        reader.set_chunk_size(1 << 14).unwrap();
        let refused = (2..40).find_map(|id| {
            reader.add(&[id, 0, 0, 0, 0, 0x7f, 0xff, 20, 1, 0, 0, 0]);
            reader.add(&vec![0; 1 << 14]);
            reader.message().err()
        });
        assert_eq!(refused, Some(BadChunk::TooMany));
        assert!(reader.held() <= 2 * MOST_ASKING, "{}", reader.held());
        let mut reader = Reader::default();
        reader.trust();
        reader.set_chunk_size(1 << 20).unwrap();
        let refused = (2..40).find_map(|id| {
            reader.add(&[id, 0, 0, 0, 0x7f, 0xff, 0xff, 9, 1, 0, 0, 0]);
            reader.add(&vec![0; 1 << 20]);
            reader.message().err()
        });
        assert_eq!(refused, Some(BadChunk::TooMany));
    }

    #[test]
    fn whatever_arrives() {
        let mut valid = Vec::new();
        [message(1, 4), message(9, 200), message(8, 3)]
            .iter()
            .for_each(|m| write(&mut valid, 4, m));
        cases(100_000, |rng| {
            let bytes = damaged(rng, &valid, 6);
            let mut reader = Reader::default();
            if rng.random() {
                reader.trust();
            }
            let (one, two) = bytes.split_at(rng.random_range(0..=bytes.len()));
            for part in [one, two] {
                reader.add(part);
                loop {
                    match reader.message() {
                        Ok(Some(message)) => {
                            assert!(message.data.len() <= bytes.len());
                            if message.kind == 1 {
                                let _ = reader.set_chunk_size(rng.random());
                            }
                            reader.abort(4);
                        }
                        Ok(None) => break,
                        Err(_) => return,
                    }
                }
            }
        });
    }
}
