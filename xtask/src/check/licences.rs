//! Is a crate's licence expression satisfied by licences that we allow? Enough of SPDX for what
//! crates write: `OR`, `AND`, the old `/` for `OR`, parentheses, and `WITH` exceptions.

/// True when some choice within `expression` uses allowed licences only.
pub fn allowed(expression: &str, allow: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { tokens: &tokens, allow };
    parser.either().is_some_and(|verdict| verdict && parser.tokens.is_empty())
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    allow: &'a [String],
}

impl Parser<'_> {
    fn take(&mut self, wanted: &str) -> bool {
        match self.tokens.split_first() {
            Some((first, rest)) if *first == wanted => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    fn either(&mut self) -> Option<bool> {
        let mut verdict = self.both()?;
        while self.take("OR") {
            let other = self.both()?;
            verdict = verdict || other;
        }
        Some(verdict)
    }

    fn both(&mut self) -> Option<bool> {
        let mut verdict = self.one()?;
        while self.take("AND") {
            let other = self.one()?;
            verdict = verdict && other;
        }
        Some(verdict)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let verdict = self.either()?;
            return self.take(")").then_some(verdict);
        }
        let (name, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        let mut full = (*name).to_owned();
        if self.take("WITH") {
            let (exception, rest) = self.tokens.split_first()?;
            self.tokens = rest;
            full = format!("{full} WITH {exception}");
        }
        Some(self.allow.contains(&full))
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        let allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "GPL-3.0 OR (MIT AND Apache-2.0)",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(allowed(good, &allow), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT", "", "MIT MIT", "MIT OR", "MIT WITH x"] {
            assert!(!allowed(bad, &allow), "{bad}");
        }
    }
}
