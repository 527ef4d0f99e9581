//! The multipart/mixed answer to a push, byte for byte as ingest-playback.md section 3.5 has it.

use bytes::Bytes;
use penstock_domain::SegmentFormat;

/// One rendition to answer with.
#[derive(Debug, Clone)]
pub struct Part {
    /// Rendition name.
    pub name: String,
    /// Container.
    pub format: SegmentFormat,
    /// The segment.
    pub data: Bytes,
}

/// The content type and the body's chunks. Segments are passed on as they are, not copied.
/// `boundary` is 20 hex characters.
pub fn answer(boundary: &str, seq: u64, parts: Vec<Part>) -> (String, Vec<Bytes>) {
    let mut chunks = Vec::with_capacity(parts.len() * 2 + 1);
    for (n, part) in parts.into_iter().enumerate() {
        let before = if n == 0 { "" } else { "\r\n" };
        // Quotes are the one character of a rendition name that would end a parameter.
        let name = part.name.replace('"', "%22");
        let file = format!("{name}_{seq}.{}", part.format.extension());
        let head = format!(
            "{before}--{boundary}\r\n\
             Content-Disposition: attachment; filename=\"{file}\"\r\n\
             Content-Length: {}\r\n\
             Content-Type: {}; name=\"{file}\"\r\n\
             Rendition-Name: {}\r\n\r\n",
            part.data.len(),
            part.format.content_type(),
            part.name,
        );
        chunks.push(Bytes::from(head));
        chunks.push(part.data);
    }
    let before = if chunks.is_empty() { "" } else { "\r\n" };
    chunks.push(Bytes::from(format!("{before}--{boundary}--\r\n")));
    (format!("multipart/mixed; boundary={boundary}"), chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_multipart_reader_reads_it() {
        let part = |name: &str, data: &'static [u8]| Part {
            name: name.into(),
            format: SegmentFormat::MpegTs,
            data: Bytes::from_static(data),
        };
        let boundary = "0123456789abcdef0123";
        let (kind, chunks) =
            answer(boundary, 7, vec![part("a", b"one"), part("b\"c", b"--two\r\n")]);
        assert_eq!(kind, "multipart/mixed; boundary=0123456789abcdef0123");
        let body = chunks.concat();
        let text = String::from_utf8(body.clone()).unwrap();
        assert!(text.starts_with(
            "--0123456789abcdef0123\r\nContent-Disposition: attachment; filename=\"a_7.ts\"\r\n\
             Content-Length: 3\r\nContent-Type: video/mp2t; name=\"a_7.ts\"\r\nRendition-Name: a\r\n\r\none\r\n--"
        ));
        assert!(text.contains("filename=\"b%22c_7.ts\"") && text.contains("Rendition-Name: b\"c"));
        assert!(text.ends_with("--two\r\n\r\n--0123456789abcdef0123--\r\n"));
    }

    #[test]
    fn no_parts() {
        assert_eq!(answer("b", 0, vec![]).1.concat(), b"--b--\r\n");
    }
}
