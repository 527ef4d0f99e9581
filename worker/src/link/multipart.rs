//! `multipart/mixed` bodies in the form that orchestrators read: parts with their own headers,
//! written in order, files streamed from disk.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::path::PathBuf;
use tokio_util::io::ReaderStream;

/// One part.
#[derive(Debug, Clone)]
pub struct Part {
    headers: Vec<(&'static str, String)>,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Bytes),
    File(PathBuf),
}

impl Part {
    /// A part from memory.
    pub fn bytes(content_type: &str, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Self::new(content_type, data.len() as u64, Content::Bytes(data))
    }

    /// A part from a file of `length` bytes.
    pub fn file(content_type: &str, path: PathBuf, length: u64) -> Self {
        Self::new(content_type, length, Content::File(path))
    }

    fn new(content_type: &str, length: u64, content: Content) -> Self {
        let headers =
            vec![("Content-Type", content_type.to_owned()), ("Content-Length", length.to_string())];
        Self { headers, content }
    }

    /// Adds a header; `value` must be a plain one-line text.
    pub fn with_header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// A body that can be sent more than once.
#[derive(Debug, Clone)]
pub struct Mixed {
    boundary: String,
    parts: Vec<Part>,
}

impl Mixed {
    /// `random` makes the boundary: 20 hex digits, as the reference's.
    pub fn new(random: [u8; 10], parts: Vec<Part>) -> Self {
        Self { boundary: hex::encode(random), parts }
    }

    /// Value of the Content-Type header.
    pub fn content_type(&self) -> String {
        format!("multipart/mixed; boundary={}", self.boundary)
    }

    /// The body as a stream of chunks.
    pub fn body(&self) -> reqwest::Body {
        let mut pieces = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            let mut head = if index == 0 { String::new() } else { "\r\n".to_owned() };
            head += &format!("--{}\r\n", self.boundary);
            for (name, value) in &part.headers {
                head += &format!("{name}: {value}\r\n");
            }
            head += "\r\n";
            pieces.push(Content::Bytes(head.into()));
            pieces.push(part.content.clone());
        }
        let lead = if self.parts.is_empty() { "" } else { "\r\n" };
        pieces.push(Content::Bytes(format!("{lead}--{}--\r\n", self.boundary).into()));
        reqwest::Body::wrap_stream(stream::iter(pieces).flat_map(|piece| {
            match piece {
                Content::Bytes(bytes) => stream::iter([Ok::<_, std::io::Error>(bytes)]).boxed(),
                Content::File(path) => stream::once(tokio::fs::File::open(path))
                    .map_ok(ReaderStream::new)
                    .try_flatten()
                    .boxed(),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(mixed: &Mixed) -> String {
        use http_body_util::BodyExt;
        let bytes = mixed.body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_exact_layout() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "media").unwrap();
        let parts = vec![
            Part::file("video/mp2t", file, 5).with_header("Pixels", 42),
            Part::bytes("application/json", "{}"),
        ];
        let mixed = Mixed::new([0xab; 10], parts);
        assert_eq!(mixed.content_type(), "multipart/mixed; boundary=abababababababababab");
        let expected = "--abababababababababab\r\nContent-Type: video/mp2t\r\nContent-Length: 5\r\nPixels: 42\r\n\r\n\
                        media\r\n--abababababababababab\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n\
                        {}\r\n--abababababababababab--\r\n";
        assert_eq!(text(&mixed).await, expected);
        // Again, for a retry.
        assert_eq!(text(&mixed).await, expected);
        assert_eq!(text(&Mixed::new([0; 10], vec![])).await, "--00000000000000000000--\r\n");
    }
}
