//! One publisher's side of the conversation, without sockets: bytes in; answers and events out.
//! Handshake, `connect`, `createStream`, `publish`, then media. Playing is not offered.

use super::{
    amf::{self, Value},
    chunk::{self, BadChunk, Message, Reader},
};
use bytes::Bytes;
use thiserror::Error;

/// Bytes of a handshake packet.
const HANDSHAKE: usize = 1536;
/// Bytes after which we want to hear from a peer, and it from us.
const WINDOW: u32 = 2_500_000;
/// Longest application or stream name.
const MOST_NAME: usize = 1024;
/// Message types.
mod kind {
    pub(super) const CHUNK_SIZE: u8 = 1;
    pub(super) const ABORT: u8 = 2;
    pub(super) const ACK: u8 = 3;
    pub(super) const CONTROL: u8 = 4;
    pub(super) const WINDOW: u8 = 5;
    pub(super) const BANDWIDTH: u8 = 6;
    pub(super) const AUDIO: u8 = 8;
    pub(super) const VIDEO: u8 = 9;
    pub(super) const COMMAND3: u8 = 17;
    pub(super) const COMMAND: u8 = 20;
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants to publish: answer with [`Session::accept`] or [`Session::refuse`]. Until
    /// then nothing more is read.
    Publish {
        /// The application, as `live`, without slashes around it.
        app: String,
        /// The stream name, with its query if it has one.
        name: String,
        /// The address that it connected to, as it says.
        address: Option<String>,
    },
    /// A video message.
    Video(u32, Bytes),
    /// An audio message.
    Audio(u32, Bytes),
    /// The publisher is done.
    End,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Broken {
    /// The chunk layer.
    #[error(transparent)]
    Chunk(#[from] BadChunk),
    /// The first byte is no version of RTMP that is spoken here.
    #[error("not RTMP")]
    Version,
    /// A command that cannot be read, or comes at the wrong time.
    #[error("a command that cannot be understood")]
    Command,
    /// Players are served by HTTP.
    #[error("playing by RTMP is not offered: use HLS or DASH")]
    Play,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for C0 and C1.
    Hello,
    /// Waits for C2.
    Reply,
    /// Commands.
    Open,
    /// Waits for the caller's word.
    Asked,
    /// Media.
    Publishing,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    stage: Stage,
    greeting: Vec<u8>,
    reader: Reader,
    app: Option<String>,
    address: Option<String>,
    received: u32,
    acknowledged: u32,
    window: u32,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            stage: Stage::Hello,
            greeting: Vec::new(),
            reader: Reader::default(),
            app: None,
            address: None,
            received: 0,
            acknowledged: 0,
            window: WINDOW,
        }
    }
}

impl Session {
    /// Bytes from the peer; what is to be sent to it is appended to `out`.
    pub fn input(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        self.received = self.received.wrapping_add(u32::try_from(bytes.len()).unwrap_or(0));
        match self.stage {
            Stage::Hello | Stage::Reply => {
                self.greeting.extend_from_slice(bytes);
                self.greet(out)?;
            }
            _ => self.reader.add(bytes),
        }
        if self.received.wrapping_sub(self.acknowledged) >= self.window {
            self.acknowledged = self.received;
            control(out, kind::ACK, &self.received.to_be_bytes());
        }
        Ok(())
    }

    /// The next event that the bytes so far give.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Option<Event>, Broken> {
        while matches!(self.stage, Stage::Open | Stage::Publishing) {
            let Some(message) = self.reader.message()? else { return Ok(None) };
            if let Some(event) = self.message(message, out)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Bytes of memory for what has arrived and is no event yet.
    pub fn held(&self) -> usize {
        self.greeting.len() + self.reader.held()
    }

    /// The publication may begin.
    pub fn accept(&mut self, out: &mut Vec<u8>) {
        self.stage = Stage::Publishing;
        self.reader.trust();
        control(out, kind::CONTROL, &[0, 0, 0, 0, 0, 1]);
        status(out, "status", "NetStream.Publish.Start", "publishing");
    }

    /// It may not, or no longer: says why. The connection is to be closed then.
    pub fn refuse(&mut self, out: &mut Vec<u8>, code: &str, why: &str) {
        status(out, "error", code, why);
    }

    fn greet(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        // 3 is plain RTMP; 6 and above would be encrypted, which no encoder uses.
        if self.greeting.first().is_some_and(|version| *version != 3) {
            return Err(Broken::Version);
        }
        if self.stage == Stage::Hello
            && let Some(c1) = self.greeting.get(1..=HANDSHAKE)
        {
            // S0, S1 (time and version zero: no digests are spoken), S2 (an echo).
            out.push(3);
            out.extend([0; 8]);
            out.extend((0..HANDSHAKE - 8).map(|n| (n % 251) as u8));
            out.extend_from_slice(c1);
            self.greeting.drain(..=HANDSHAKE);
            // C2 is not compared, as nobody does; only its length counts. The version byte is
            // put back for the check above.
            self.greeting.insert(0, 3);
            self.stage = Stage::Reply;
        }
        if self.stage == Stage::Reply && self.greeting.len() > HANDSHAKE {
            let rest = self.greeting.split_off(HANDSHAKE + 1);
            self.greeting = Vec::new();
            self.reader.add(&rest);
            self.stage = Stage::Open;
        }
        Ok(())
    }

    fn message(&mut self, message: Message, out: &mut Vec<u8>) -> Result<Option<Event>, Broken> {
        let number = || message.data.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let publishing = self.stage == Stage::Publishing;
        match message.kind {
            kind::CHUNK_SIZE => self.reader.set_chunk_size(number().ok_or(Broken::Command)?)?,
            kind::ABORT => self.reader.abort(number().ok_or(Broken::Command)?),
            kind::WINDOW => {
                self.window = number().unwrap_or(WINDOW).clamp(4_096, WINDOW);
            }
            kind::AUDIO if publishing => {
                return Ok(Some(Event::Audio(message.timestamp, message.data)));
            }
            kind::VIDEO if publishing => {
                return Ok(Some(Event::Video(message.timestamp, message.data)));
            }
            kind::COMMAND => return self.command(&message.data, out),
            // The same with one byte in front, which says that AMF0 follows.
            kind::COMMAND3 => {
                return self.command(message.data.get(1..).unwrap_or_default(), out);
            }
            // Metadata, acknowledgements and what else encoders say: nothing depends on it.
            _ => {}
        }
        Ok(None)
    }

    fn command(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<Option<Event>, Broken> {
        let values = amf::read(body).ok_or(Broken::Command)?;
        let name = values.first().and_then(Value::text).ok_or(Broken::Command)?;
        let transaction = values.get(1).cloned().unwrap_or(Value::Number(0.0));
        match name {
            "connect" => {
                let app = values.get(2).and_then(|o| o.property("app")).unwrap_or_default();
                if app.len() > MOST_NAME {
                    return Err(Broken::Command);
                }
                self.app = Some(app.trim_matches('/').to_owned());
                let address = values.get(2).and_then(|o| o.property("tcUrl"));
                let address = address.filter(|a| a.starts_with("rtmp") && a.len() <= MOST_NAME);
                self.address = address.map(str::to_owned);
                control(out, kind::WINDOW, &WINDOW.to_be_bytes());
                // 2: the peer may adapt.
                let [a, b, c, d] = WINDOW.to_be_bytes();
                control(out, kind::BANDWIDTH, &[a, b, c, d, 2]);
                let server = object(&[("fmsVer", "FMS/3,0,1,123")]);
                let info = object(&[
                    ("level", "status"),
                    ("code", "NetConnection.Connect.Success"),
                    ("description", "connected"),
                ]);
                command(out, 0, &[text("_result"), transaction, server, info]);
            }
            "createStream" => {
                command(out, 0, &[text("_result"), transaction, Value::Null, Value::Number(1.0)]);
            }
            "releaseStream" | "FCPublish" => {
                command(out, 0, &[text("_result"), transaction, Value::Null, Value::Other]);
            }
            "publish" if self.stage == Stage::Open => {
                let app = self.app.clone().ok_or(Broken::Command)?;
                let name = values.get(3).and_then(Value::text).unwrap_or_default();
                if name.len() > MOST_NAME {
                    return Err(Broken::Command);
                }
                self.stage = Stage::Asked;
                let address = self.address.clone();
                return Ok(Some(Event::Publish { app, name: name.to_owned(), address }));
            }
            "publish" => return Err(Broken::Command),
            "play" | "play2" => return Err(Broken::Play),
            "deleteStream" | "closeStream" | "FCUnpublish" => return Ok(Some(Event::End)),
            _ => {}
        }
        Ok(None)
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn object(list: &[(&str, &str)]) -> Value {
    Value::Object(list.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect())
}

fn control(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let data = Bytes::copy_from_slice(body);
    chunk::write(out, 2, &Message { kind, stream: 0, timestamp: 0, data });
}

fn command(out: &mut Vec<u8>, stream: u32, values: &[Value]) {
    let data = amf::write(values).into();
    chunk::write(out, 3, &Message { kind: kind::COMMAND, stream, timestamp: 0, data });
}

fn status(out: &mut Vec<u8>, level: &str, code: &str, description: &str) {
    let info = object(&[("level", level), ("code", code), ("description", description)]);
    command(out, 1, &[text("onStatus"), Value::Number(0.0), Value::Null, info]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;

    fn greeting() -> Vec<u8> {
        let mut bytes = vec![3];
        bytes.extend([7; HANDSHAKE * 2]);
        bytes
    }

    fn said(values: &[Value]) -> Vec<u8> {
        let mut out = Vec::new();
        command(&mut out, 0, values);
        out
    }

    fn conversation() -> Vec<u8> {
        let app = object(&[("app", "live/"), ("tcUrl", "rtmp://h/live")]);
        let mut bytes = said(&[text("connect"), Value::Number(1.0), app]);
        bytes.extend(said(&[text("createStream"), Value::Number(2.0), Value::Null]));
        let name = text("show?key=1");
        bytes.extend(said(&[text("publish"), Value::Number(3.0), Value::Null, name, text("live")]));
        for (kind, body) in [(9, &b"video"[..]), (8, b"audio"), (18, b"meta")] {
            let data = Bytes::from_static(body);
            chunk::write(&mut bytes, 4, &Message { kind, stream: 1, timestamp: 0, data });
        }
        bytes.extend(said(&[text("deleteStream"), Value::Number(4.0), Value::Null]));
        bytes
    }

    #[test]
    fn a_publisher() {
        for step in [1, 100, 100_000] {
            let (mut session, mut out, mut events) = (Session::default(), Vec::new(), Vec::new());
            for part in [greeting(), conversation()].concat().chunks(step) {
                session.input(part, &mut out).unwrap();
                while let Some(event) = session.next(&mut out).unwrap() {
                    if matches!(event, Event::Publish { .. }) {
                        session.accept(&mut out);
                    }
                    events.push(event);
                }
            }
            let publish = Event::Publish {
                app: "live".into(),
                name: "show?key=1".into(),
                address: Some("rtmp://h/live".into()),
            };
            let media = [Event::Video(0, "video".into()), Event::Audio(0, "audio".into())];
            assert_eq!(events, [&[publish][..], &media, &[Event::End]].concat());
            // The answers are messages themselves.
            let mut reader = Reader::default();
            reader.add(&out[1 + HANDSHAKE * 2..]);
            let mut names = Vec::new();
            while let Some(message) = reader.message().unwrap() {
                if message.kind == kind::COMMAND {
                    names.push(amf::read(&message.data).unwrap()[0].text().unwrap().to_owned());
                }
            }
            assert_eq!(names, ["_result", "_result", "onStatus"]);
        }
    }

    #[test]
    fn only_a_publisher_may_say_much() {
        let long = |kind| {
            let data = Bytes::from(vec![b'x'; 100_000]);
            let mut bytes = Vec::new();
            chunk::write(&mut bytes, 4, &Message { kind, stream: 1, timestamp: 0, data });
            bytes
        };
        let commands = conversation();
        let mut out = Vec::new();
        let mut session = Session { stage: Stage::Open, ..Session::default() };
        session.input(&long(18), &mut out).unwrap();
        assert!(matches!(session.next(&mut out), Err(Broken::Chunk(BadChunk::TooLong(_)))));
        let mut session = Session { stage: Stage::Open, ..Session::default() };
        session.input(&commands, &mut out).unwrap();
        assert!(matches!(session.next(&mut out), Ok(Some(Event::Publish { .. }))));
        session.accept(&mut out);
        session.input(&long(9), &mut out).unwrap();
        let events = std::iter::from_fn(|| session.next(&mut out).unwrap());
        assert!(
            events.into_iter().any(|e| matches!(e, Event::Video(_, data) if data.len() == 100_000))
        );
    }

    #[test]
    fn refusals() {
        let mut session = Session::default();
        assert_eq!(session.input(b"GET / HTTP/1.1", &mut vec![]), Err(Broken::Version));
        let mut session = Session::default();
        session.input(&greeting(), &mut vec![]).unwrap();
        session.input(&said(&[text("play"), Value::Number(1.0)]), &mut vec![]).unwrap();
        assert_eq!(session.next(&mut vec![]), Err(Broken::Play));
        let mut session = Session::default();
        session.input(&greeting(), &mut vec![]).unwrap();
        session.input(&said(&[text("publish"), Value::Number(1.0)]), &mut vec![]).unwrap();
        assert_eq!(session.next(&mut vec![]), Err(Broken::Command), "before connect");
    }

    #[test]
    fn whatever_arrives() {
        let valid = conversation();
        cases(100_000, |rng| {
            let mut session = Session { stage: Stage::Open, ..Session::default() };
            let mut out = Vec::new();
            if session.input(&damaged(rng, &valid, 5), &mut out).is_err() {
                return;
            }
            while let Ok(Some(event)) = session.next(&mut out) {
                if matches!(event, Event::Publish { .. }) {
                    session.accept(&mut out);
                }
            }
            assert!(out.len() < 20_000);
        });
    }
}
