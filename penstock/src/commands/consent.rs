//! What costs something is done when it was agreed to: with `--yes`, or with the word at a terminal.

use std::io::{BufRead, IsTerminal as _, Write as _};

use clap::Args;

/// Longest answer read.
const MAX_ANSWER: u64 = 1_024;

/// Whether it is to be done.
#[derive(Debug, Clone, Copy, Args)]
pub struct Consent {
    /// Do it without asking. Without it, what would be done is shown; at a terminal, and without --json, it is done when
    /// you then type yes.
    #[arg(long)]
    pub yes: bool,
}

/// Asks whoever sits at the terminal; without one, `None`.
pub(super) fn asked_at_terminal() -> Option<bool> {
    let (input, mut screen) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() || !screen.is_terminal() {
        return None;
    }
    write!(screen, "Type yes to do it: ").and_then(|()| screen.flush()).ok()?;
    Some(is_yes(input.lock()))
}

/// Only the whole word counts: an Enter too many is no consent.
fn is_yes(input: impl BufRead) -> bool {
    let mut line = String::new();
    input.take(MAX_ANSWER).read_line(&mut line).is_ok() && line.trim() == "yes"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_word_is_a_yes() {
        for yes in [&b"yes"[..], b"yes\n", b" yes \r\nno\n"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for other in [&b""[..], b"\n", b"y\n", b"yes please\n", b"no\nyes\n", b"\xff\n"] {
            assert!(!is_yes(other), "{other:?}");
        }
        let late = [&[b' '; 4_096][..], b"yes\n"].concat();
        assert!(!is_yes(&late[..]));
    }
}
