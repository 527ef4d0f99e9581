//! MP4 files whose samples are said to lie in another file (ISO 14496-12 section 8.7.2): by a `url ` entry, and
//! by a Macintosh alias (`alis`), which is the kind that ffmpeg follows if it may.

const PATH_TO_REFERENCES: [&[u8; 4]; 6] = [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"];

/// Where a box in `data[from..to]` begins and ends.
fn find(data: &[u8], kind: &[u8; 4], mut from: usize, to: usize) -> (usize, usize) {
    while from + 8 <= to {
        let size = u32::from_be_bytes(data[from..from + 4].try_into().expect("four bytes"));
        let end = from + usize::try_from(size).expect("small");
        if &data[from + 4..from + 8] == kind {
            return (from, end);
        }
        from = end;
    }
    panic!("the film has no {}", String::from_utf8_lossy(kind));
}

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).expect("small");
    [&size.to_be_bytes()[..], kind, body].concat()
}

/// `film` (one track) without its samples, and with this entry in its list of files.
fn referring(film: &[u8], entry: &[u8]) -> Vec<u8> {
    let mut ancestors = Vec::new();
    let (mut from, mut to) = (0, film.len());
    for kind in PATH_TO_REFERENCES {
        let (begin, end) = find(film, kind, from, to);
        ancestors.push(begin);
        (from, to) = (begin + 8, end);
    }
    let (begin, end) = (from - 8, to);
    let list = boxed(b"dref", &[&[0, 0, 0, 0, 0, 0, 0, 1], entry].concat());
    let mut new = [&film[..begin], &list, &film[end..]].concat();
    for at in &ancestors[..ancestors.len() - 1] {
        let size = u32::from_be_bytes(new[*at..at + 4].try_into().expect("four bytes"));
        let size = usize::try_from(size).expect("small") + list.len() - (end - begin);
        new[*at..at + 4].copy_from_slice(&u32::try_from(size).expect("small").to_be_bytes());
    }
    let (kind_from, kind_to) = find(&new, b"ftyp", 0, new.len());
    let (movie_from, movie_to) = find(&new, b"moov", 0, new.len());
    [&new[kind_from..kind_to], &new[movie_from..movie_to]].concat()
}

/// `film`, its samples to be read from the file at `path`.
pub fn by_alias(film: &[u8], path: &str) -> Vec<u8> {
    let mut path = path.as_bytes().to_vec();
    path.resize(path.len().next_multiple_of(2), 0);
    // Version and flags; then the record: no volume, no name, no levels to go up, one absolute path.
    let mut entry = vec![0; 4 + 10 + 1 + 27 + 12 + 1 + 63 + 16 + 4 + 16];
    entry.extend(2u16.to_be_bytes());
    entry.extend(u16::try_from(path.len()).expect("short").to_be_bytes());
    entry.extend(&path);
    entry.extend([0xff, 0xff, 0, 0]);
    referring(film, &boxed(b"alis", &entry))
}

/// The same by a URL.
pub fn by_url(film: &[u8], url: &str) -> Vec<u8> {
    referring(film, &boxed(b"url ", &[&[0, 0, 0, 0], url.as_bytes(), &[0]].concat()))
}

/// A Matroska file that says that what is before and after it are other files (by name), with `attached` among
/// its attachments and a chapter of another segment. Its one track is sound without data.
pub fn apart(neighbour: &str, attached: &[u8]) -> Vec<u8> {
    fn element(id: &[u8], body: &[u8]) -> Vec<u8> {
        let size = (0x0100_0000_0000_0000 | body.len() as u64).to_be_bytes();
        [id, &size, body].concat()
    }
    let head = [
        element(&[0x42, 0x82], b"matroska"),
        element(&[0x42, 0x87], &[4]),
        element(&[0x42, 0x85], &[2]),
    ];
    let uid = |n: u8| [n; 16];
    let info = [
        element(&[0x73, 0xa4], &uid(1)),
        element(&[0x3c, 0xb9, 0x23], &uid(2)),
        element(&[0x3c, 0x83, 0xab], neighbour.as_bytes()),
        element(&[0x3e, 0xb9, 0x23], &uid(3)),
        element(&[0x3e, 0x83, 0xbb], neighbour.as_bytes()),
        element(&[0x2a, 0xd7, 0xb1], &1_000_000u32.to_be_bytes()),
        element(&[0x44, 0x89], &2_000f64.to_be_bytes()),
    ];
    let audio = [element(&[0xb5], &8_000f64.to_be_bytes()), element(&[0x9f], &[1])];
    let track = [
        element(&[0xd7], &[1]),
        element(&[0x73, 0xc5], &[1]),
        element(&[0x83], &[2]),
        element(&[0x86], b"A_PCM/INT/LIT"),
        element(&[0xe1], &audio.concat()),
    ];
    let attachment = [
        element(&[0x46, 0x6e], neighbour.as_bytes()),
        element(&[0x46, 0x60], b"application/x-mpegURL"),
        element(&[0x46, 0x5c], attached),
        element(&[0x46, 0xae], &[9]),
    ];
    let chapter = [
        element(&[0x73, 0xc4], &[1]),
        element(&[0x91], &[0]),
        element(&[0x92], &1_000_000_000u32.to_be_bytes()),
        element(&[0x6e, 0x67], &uid(2)),
    ];
    // Ordered: what is played are the chapters, of whichever segment.
    let edition = [element(&[0x45, 0xdd], &[1]), element(&[0xb6], &chapter.concat())];
    let segment = [
        element(&[0x15, 0x49, 0xa9, 0x66], &info.concat()),
        element(&[0x16, 0x54, 0xae, 0x6b], &element(&[0xae], &track.concat())),
        element(&[0x19, 0x41, 0xa4, 0x69], &element(&[0x61, 0xa7], &attachment.concat())),
        element(&[0x10, 0x43, 0xa7, 0x70], &element(&[0x45, 0xb9], &edition.concat())),
        element(&[0x1f, 0x43, 0xb6, 0x75], &element(&[0xe7], &[0])),
    ];
    let head = element(&[0x1a, 0x45, 0xdf, 0xa3], &head.concat());
    [head, element(&[0x18, 0x53, 0x80, 0x67], &segment.concat())].concat()
}
