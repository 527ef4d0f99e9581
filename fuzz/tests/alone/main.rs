//! Memory. One test alone in its process: another one's memory would count as the target's. A target that wants more
//! than its part ends the process, and the last line says which it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use penstock_fuzz::{MAX_INPUT, TARGETS};
use std::{fs, path::Path};

/// Of what long inputs consist.
const BYTES: [u8; 6] = [b'[', b'{', b'A', b'0', 0, 0xff];
/// Long inputs that are accepted, and why that is right.
const ACCEPTED: [(&str, u8, &str); 3] = [
    ("payment_header", b'0', "a message of fields that nobody knows, which are passed over"),
    ("capabilities", b'0', "the same"),
    ("rtmp_chunks", 0, "a stream without end, of empty messages"),
];

#[test]
fn inputs_take_no_more_memory_than_their_part_and_long_ones_are_refused() {
    penstock_http_kit::tls::install_crypto_provider();
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut accepted = Vec::new();
    for target in TARGETS {
        for file in fs::read_dir(corpora.join(target.name)).unwrap() {
            let (path, data) =
                file.map(|file| (file.path(), fs::read(file.path()).unwrap())).unwrap();
            eprintln!("{}", path.display());
            target.run_alone(&data);
        }
        for byte in BYTES {
            eprintln!("{}: {byte:#x}, {MAX_INPUT} times", target.name);
            if target.run_alone(&vec![byte; MAX_INPUT]) {
                accepted.push((target.name, byte));
            }
        }
    }
    let right: Vec<_> = ACCEPTED.iter().map(|(name, byte, _)| (*name, *byte)).collect();
    assert_eq!(accepted, right, "accepted, and rightly so");
}
