//! Tables of text: columns as wide as they must be, numbers to the right.

/// On which side a column's cells stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Lays out rows below their headings. A row that is too short is filled with nothing.
pub(super) fn table(columns: &[(&str, Side)], rows: &[Vec<String>]) -> String {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize, heading: &str| {
        let cells = cells.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).chain([heading.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> =
        columns.iter().enumerate().map(|(i, (heading, _))| width(i, heading)).collect();
    let headings: Vec<String> = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let mut out = String::new();
    for row in core::iter::once(&headings).chain(&cells) {
        let mut line = String::new();
        for (index, ((_, side), width)) in columns.iter().zip(&widths).enumerate() {
            let cell = row.get(index).map(String::as_str).unwrap_or_default();
            let gap = if index == 0 { "" } else { "  " };
            line.push_str(gap);
            match side {
                Side::Left => line.push_str(&format!("{cell:<width$}")),
                Side::Right => line.push_str(&format!("{cell:>width$}")),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Lays out names and values below each other.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    facts.iter().map(|(name, value)| format!("{name:<width$}  {}\n", plain(value))).collect()
}

/// Without control characters: names come from strangers, and a terminal obeys escape sequences.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The first characters of an identifier that is too long for a column.
pub(super) fn short(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let columns = [("who", Side::Left), ("wei", Side::Right)];
        let rows =
            [vec!["a".to_owned(), "1,000".to_owned()], vec!["é…longer".to_owned(), "7".to_owned()]];
        let want = "who         wei\na         1,000\né…longer      7\n";
        assert_eq!(table(&columns, &rows), want);
        assert_eq!(table(&columns, &[]), "who  wei\n");
    }

    #[test]
    fn a_stranger_cannot_write_to_the_terminal() {
        let rows = [vec!["\u{1b}[2J\n".to_owned()]];
        assert!(!table(&[("id", Side::Left)], &rows).contains('\u{1b}'));
        assert_eq!(plain("a\u{9b}b"), "a\u{fffd}b");
    }

    #[test]
    fn long_identifiers_are_cut() {
        assert_eq!(short("0123456789", 10), "0123456789");
        assert_eq!(short("0123456789a", 10), "012345678…");
    }
}
