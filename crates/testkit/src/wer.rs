//! Word error rate: how far a transcript is from what was said.

/// Edits (insert, delete, replace) that turn `heard` into `said`, and the number of words `said`.
/// Rates of several recordings are summed before they are divided: long ones weigh more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Errors {
    /// Wrong, missing and surplus words.
    pub edits: usize,
    /// Words of the reference.
    pub words: usize,
}

/// `9 of 100 words`.
impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} words", self.edits, self.words)
    }
}

impl Errors {
    /// Errors of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { edits: self.edits + other.edits, words: self.words + other.words }
    }

    /// True when the rate is at most `percent` of a hundred.
    pub fn at_most_percent(self, percent: usize) -> bool {
        self.words > 0 && self.edits * 100 <= percent * self.words
    }
}

/// Compares word by word, without case and punctuation.
pub fn errors(said: &str, heard: &str) -> Errors {
    let (said, heard) = (words(said), words(heard));
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, word) in said.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in heard.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    Errors { edits: row[heard.len()], words: said.len() }
}

/// Lower-case words. An abbreviation that a transcript may spell is written out.
fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(|word| if word == "mr" { "mister".to_owned() } else { word.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_per_word() {
        assert_eq!(errors("a b c d", "A, b. c d!"), Errors { edits: 0, words: 4 });
        assert_eq!(errors("a b c d", "a x c d"), Errors { edits: 1, words: 4 });
        assert_eq!(errors("a b c d", "a c d e"), Errors { edits: 2, words: 4 });
        assert_eq!(errors("a b c d", ""), Errors { edits: 4, words: 4 });
        assert_eq!(errors("mister smith", "Mr. Smith"), Errors { edits: 0, words: 2 });
    }

    #[test]
    fn nothing_said_is_no_success() {
        assert!(!Errors::default().at_most_percent(100));
        assert!(Errors { edits: 1, words: 10 }.at_most_percent(10));
        assert!(!Errors { edits: 2, words: 19 }.at_most_percent(10));
    }
}
