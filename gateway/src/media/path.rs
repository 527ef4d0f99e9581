//! Where a push goes: `/live/{stream}/{sequence}.{ts|mp4}` (ingest-playback.md section 1).

use penstock_domain::{SegmentFormat, StreamId};
use thiserror::Error;

/// A push URL's path, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushPath {
    /// The stream.
    pub stream: StreamId,
    /// Its place in the stream; a file name that is no number counts as 0, as in the reference.
    pub seq: u64,
    /// By the file name's extension.
    pub format: SegmentFormat,
}

/// Why a path is none. The texts are the reference's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadPath {
    /// ffmpeg pushes its own playlist too; that one ends here.
    #[error("ignoring file extension: {0}")]
    Extension(String),
    /// No stream name, or one that is not safe as a path element and a store key.
    #[error("Bad URL url={0}")]
    Stream(String),
}

/// Splits a path into (stream, rest) as the reference does, except that only **one** leading
/// `live/` or `stream/` is removed (it removes `live/` anywhere, which damages names).
pub fn split(path: &str) -> (&str, &str) {
    let file_at = path.rfind('/').map_or(0, |slash| slash + 1);
    let file = path.get(file_at..).unwrap_or_default();
    let end = file.rfind('.').map_or(path.len(), |dot| file_at + dot);
    let path = path.get(..end).unwrap_or_default().trim_start_matches([' ', '/']);
    let path = ["stream/", "live/"].iter().find_map(|p| path.strip_prefix(p)).unwrap_or(path);
    // `stream` alone is what is left of `/stream/` without its slash in no table row; a bare
    // prefix names no stream.
    path.split_once('/').unwrap_or((path, ""))
}

/// The stream that an id names which is written like a path.
pub fn split_name(id: &str) -> &str {
    split(id).0
}

/// Reads a push path.
pub fn parse_push(path: &str) -> Result<PushPath, BadPath> {
    let file = path.rsplit('/').next().unwrap_or_default();
    let (name, extension) = match file.rfind('.') {
        Some(dot) => file.split_at(dot),
        None => (file, ""),
    };
    let format = match extension {
        ".ts" => SegmentFormat::MpegTs,
        ".mp4" => SegmentFormat::Mp4,
        other => return Err(BadPath::Extension(other.chars().take(32).collect())),
    };
    let (stream, rest) = split(path);
    let bad = || BadPath::Stream(path.chars().take(256).collect());
    // `/live/5.ts` names a file and no stream: the reference would take `5` for the stream.
    if rest.is_empty() {
        return Err(bad());
    }
    let stream = StreamId::new(stream).map_err(|_| bad())?;
    Ok(PushPath { stream, seq: name.parse().unwrap_or(0), format })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;

    #[test]
    fn the_table_of_section_1() {
        for empty in ["", "/", "///", "  /  ", "/stream/", " stream/", "stream/.m3u8"] {
            assert_eq!(split(empty).0, "", "{empty:?}");
        }
        for abc in ["/stream/abc.m3u8", "abc", "abc/", "  /abc", "//abc", "/abc.m3u8"] {
            assert_eq!(split(abc), ("abc", ""), "{abc:?}");
        }
        assert_eq!(split("abc//"), ("abc", "/"));
        for def in ["/stream/abc/def.m3u8", "abc/def", "abc/def.m3u8"] {
            assert_eq!(split(def), ("abc", "def"), "{def:?}");
        }
        assert_eq!(split("abc/def//ghi"), ("abc", "def//ghi"));
        assert_eq!(split("abc/def.m3u8/ghi.ts"), ("abc", "def.m3u8/ghi"));
        assert_eq!(split("stream/abc  .m3u8"), ("abc  ", ""));
        assert_eq!(split("/stream/stream/stream/stream"), ("stream", "stream/stream"));
        // Ours, not the reference's: a name with `live/` in it stays whole.
        assert_eq!(split("/live/mylive/1"), ("mylive", "1"));
    }

    #[test]
    fn pushes() {
        let ok = parse_push("/live/show/12.ts").unwrap();
        assert_eq!((ok.stream.as_str(), ok.seq, ok.format), ("show", 12, SegmentFormat::MpegTs));
        assert_eq!(parse_push("/live/show/x/7.mp4").unwrap().seq, 7);
        assert_eq!(parse_push("/live/show/first.ts").unwrap().seq, 0);
        assert_eq!(parse_push("/live/show/-1.ts").unwrap().seq, 0);
        let text = |p| parse_push(p).unwrap_err().to_string();
        assert_eq!(text("/live/show/index.m3u8"), "ignoring file extension: .m3u8");
        assert_eq!(text("/live/show/5"), "ignoring file extension: ");
        assert_eq!(text("/live/5.ts"), "Bad URL url=/live/5.ts");
        assert_eq!(text("/live//5.ts"), "Bad URL url=/live//5.ts");
        assert!(parse_push("/live/../5.ts").is_err());
        assert!(parse_push("/live/a%2fb/5.ts").is_err());
    }

    #[test]
    fn whatever_the_path_is() {
        let pieces = [
            "/", "live/", "stream/", ".ts", ".mp4", ".", "a", "0", "7", " ", "é", "%2f", "..",
            "\0", "\\",
        ];
        cases(100_000, |rng| {
            let path = pieced(rng, &pieces, 9);
            split(&path);
            if let Ok(push) = parse_push(&path) {
                assert!(path.contains(push.stream.as_str()), "{path:?}");
            }
        });
        cases(20_000, |rng| {
            let path = damaged(rng, "/live/some-stream/123.ts".as_bytes(), 4);
            let _ = parse_push(&String::from_utf8_lossy(&path));
        });
    }
}
