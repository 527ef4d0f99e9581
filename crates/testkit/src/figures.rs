//! Figures that a claim rests on: what a test measured, kept where the run that started it can show
//! it, also when the test passed.

use std::{fs::OpenOptions, io::Write as _};

/// The file that figures are added to, one a line: name, tab, text. `cargo xtask test` sets it and
/// shows the figures at its end.
pub const FILE_VARIABLE: &str = "PENSTOCK_FIGURES_FILE";

/// Notes a figure, for example `figure("word error rate", "3 of 71 words")`. Does nothing where
/// nobody collects them.
pub fn figure(name: &str, text: impl std::fmt::Display) {
    if let Some(file) = std::env::var_os(FILE_VARIABLE).filter(|file| !file.is_empty()) {
        append(std::path::Path::new(&file), name, &text.to_string());
    }
}

fn append(file: &std::path::Path, name: &str, text: &str) {
    let one_line = |text: &str| text.replace(['\t', '\n', '\r'], " ");
    let line = format!("{}\t{}\n", one_line(name), one_line(text));
    let file = OpenOptions::new().create(true).append(true).open(file);
    // One write: tests of several processes add to the same file.
    file.expect("the file of figures").write_all(line.as_bytes()).expect("a figure is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_lines_of_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("figures");
        append(&file, "kills", "20");
        append(&file, "two\tparts", "of\none line");
        assert_eq!(std::fs::read_to_string(file).unwrap(), "kills\t20\ntwo parts\tof one line\n");
    }
}
