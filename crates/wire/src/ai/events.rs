//! Server-sent events, read from bytes as they come: the text after `data: `, lines of one event put
//! together. Other fields and comments are left out.

/// An event is longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// A reader of one stream.
#[derive(Debug)]
pub struct EventReader {
    max_bytes: usize,
    buffer: Vec<u8>,
    /// Lines of the event that is being read.
    data: Vec<u8>,
    has_data: bool,
}

impl EventReader {
    /// Of events of at most so many bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, buffer: Vec::new(), data: Vec::new(), has_data: false }
    }

    /// More bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event, if it is there.
    pub fn next_event(&mut self) -> Result<Option<String>, TooLong> {
        while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
            let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if let Some(event) = self.line(&line)? {
                return Ok(Some(event));
            }
        }
        let waiting = self.buffer.len().saturating_add(self.data.len());
        if waiting > self.max_bytes { Err(TooLong) } else { Ok(None) }
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<String>, TooLong> {
        if line.is_empty() {
            let had = std::mem::take(&mut self.has_data);
            let data = std::mem::take(&mut self.data);
            return Ok(had.then(|| String::from_utf8_lossy(&data).into_owned()));
        }
        let Some(data) = line.strip_prefix(b"data:") else { return Ok(None) };
        let data = data.strip_prefix(b" ").unwrap_or(data);
        if self.data.len().saturating_add(data.len()) > self.max_bytes {
            return Err(TooLong);
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(data);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::generated::cases;
    use rand::Rng;

    fn all(reader: &mut EventReader) -> Vec<String> {
        std::iter::from_fn(|| reader.next_event().unwrap()).collect()
    }

    #[test]
    fn events_are_put_together_from_any_pieces() {
        let text = ": hello\n\nevent: x\ndata: one\n\ndata:two\r\ndata: three\r\n\r\nid: 7\n\ndata: \n\ndata: cut";
        for size in 1..text.len() {
            let mut reader = EventReader::new(100);
            let mut found = Vec::new();
            for bytes in text.as_bytes().chunks(size) {
                reader.push(bytes);
                found.extend(all(&mut reader));
            }
            assert_eq!(found, ["one", "two\nthree", ""], "{size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut reader = EventReader::new(10);
        reader.push(b"data: 12345678901");
        assert_eq!(reader.next_event(), Err(TooLong));
        let mut reader = EventReader::new(10);
        reader.push(b"data: 123456\ndata: 123456\n");
        assert_eq!(reader.next_event(), Err(TooLong));
    }

    #[test]
    fn noise_is_harmless() {
        cases(100_000, |rng| {
            let mut reader = EventReader::new(64);
            for _ in 0..3 {
                let noise: [u8; 24] = std::array::from_fn(|_| {
                    *b"data: \n\rx\xff".get(rng.random_range(0..10)).unwrap()
                });
                reader.push(&noise);
                while let Ok(Some(event)) = reader.next_event() {
                    assert!(event.len() <= 64 * 3);
                }
            }
        });
    }
}
