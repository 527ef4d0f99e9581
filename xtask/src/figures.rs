//! What tests measured: they add lines to a file (`penstock_testkit::figure`), and the run shows them
//! as a table at its end, so that a claim's number is read without rerunning anything.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    failure::{Doing as _, Result},
    places::Places,
    term,
};

/// The figures of one run.
pub struct Figures {
    file: PathBuf,
}

impl Figures {
    /// None yet.
    pub fn begin(places: &Places) -> Result<Self> {
        let file = places.target.join("figures");
        fs::create_dir_all(&places.target).doing("make the target folder")?;
        fs::write(&file, "").doing(format!("write {}", file.display()))?;
        Ok(Self { file })
    }

    /// Where tests write.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Prints them, if there are any.
    pub fn show(&self) {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        if text.is_empty() {
            return;
        }
        term::step("figures");
        for line in table(&text) {
            term::note(line);
        }
    }
}

/// Lines of two columns, sorted by name.
fn table(text: &str) -> Vec<String> {
    let mut rows: Vec<(&str, &str)> =
        text.lines().map(|line| line.split_once('\t').unwrap_or((line, ""))).collect();
    rows.sort_unstable();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, figure)| format!("{name:width$}  {figure}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn figures_stand_in_two_columns() {
        let lines = super::table("word error rate\t3 of 71\nkills\t20\n");
        assert_eq!(lines, ["kills            20", "word error rate  3 of 71"]);
    }
}
