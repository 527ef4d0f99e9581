//! The corpora, replayed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod seeds;

use penstock_fuzz::TARGETS;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Inputs of each corpus at least, and at least so many that its decoder accepts.
const FILES: usize = 3;
const ACCEPTED: usize = 2;
/// Largest file, and all of them together, so that the repository stays small.
const MAX_FILE_BYTES: usize = 16 << 10;
const MAX_ALL_BYTES: usize = 2 << 20;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn inputs(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = corpora().join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn every_input_of_every_corpus_is_read() {
    penstock_http_kit::tls::install_crypto_provider();
    let mut all = 0;
    for target in TARGETS {
        let (inputs, mut accepted) = (inputs(target.name), 0);
        assert!(inputs.len() >= FILES, "{} has {} inputs", target.name, inputs.len());
        for (path, data) in &inputs {
            assert!(data.len() <= MAX_FILE_BYTES, "{} is too long", path.display());
            all += data.len();
            // Shows which one it was, should it panic.
            eprintln!("{}", path.display());
            accepted += usize::from(target.run(data));
        }
        assert!(
            accepted >= ACCEPTED,
            "{}: {accepted} inputs get past the first check",
            target.name
        );
        // What the corpus is for: a little away from what is valid.
        for (_, data) in inputs.iter().take(32) {
            for at in (0..data.len()).step_by(1 + data.len() / 64) {
                let mut damaged = data.clone();
                damaged[at] = damaged[at].wrapping_add(1);
                target.run(&damaged);
                target.run(&data[..at]);
            }
        }
    }
    assert!(all <= MAX_ALL_BYTES, "the corpora have {all} bytes");
}

#[test]
fn corpora_and_targets_are_the_same() {
    let folders = fs::read_dir(corpora()).unwrap();
    let folders: BTreeSet<_> =
        folders.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    let targets: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(folders, targets);
    assert_eq!(targets.len(), TARGETS.len(), "names are different");
}

/// Valid inputs are made by the encoders of now. One that is missing is written, and has to be committed.
#[test]
fn what_is_valid_today_is_in_the_corpora() {
    for (name, number, data) in seeds::all() {
        let path = corpora().join(name).join(format!("valid-{number}"));
        let target = penstock_fuzz::named(name).expect(name);
        assert!(target.run(&data), "{name} {number} is not accepted: {data:?}");
        match fs::read(&path) {
            Ok(there) => assert!(target.run(&there), "{} is not accepted any more", path.display()),
            Err(_) => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, data).unwrap();
                panic!("{} was missing and is written: commit it", path.display());
            }
        }
    }
}
