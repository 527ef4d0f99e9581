//! RTMP: chunks into messages, and what messages carry.

use penstock_gateway::{
    media::flv,
    rtmp::{
        amf,
        chunk::{MOST_MESSAGE, Message, Reader, write},
    },
};

/// Messages of a peer that may publish, read in one piece; how it ended.
fn messages(pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> (Vec<Message>, bool) {
    let mut reader = Reader::default();
    reader.trust();
    let mut all = Vec::new();
    for piece in pieces {
        reader.add(piece.as_ref());
        loop {
            match reader.message() {
                Ok(Some(message)) => {
                    // As the connection does.
                    if let (1, Ok(size)) = (message.kind, message.data.as_ref().try_into())
                        && reader.set_chunk_size(u32::from_be_bytes(size)).is_err()
                    {
                        return (all, false);
                    }
                    all.push(message);
                }
                Ok(None) => break,
                Err(_) => return (all, false),
            }
        }
    }
    (all, true)
}

pub fn chunks(data: &[u8]) -> bool {
    let whole = messages(std::iter::once(data));
    assert_eq!(whole, messages(data.chunks(7)), "pieces make a difference");
    for message in &whole.0 {
        assert!(message.data.len() <= MOST_MESSAGE);
        let _ = (flv::video(&message.data), flv::audio(&message.data));
        let _ = amf::read(&message.data);
    }
    let _ = amf::read(data);
    for message in whole.0.iter().take(16) {
        let mut written = Vec::new();
        write(&mut written, 3, message);
        let again = messages(std::iter::once(written));
        // What is written has no time of its own.
        let timeless = Message { timestamp: 0, ..message.clone() };
        assert_eq!(again.0.first(), Some(&timeless), "a message is read as another one");
    }
    !whole.0.is_empty()
}
