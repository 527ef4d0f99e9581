//! The plan: which failpoints are armed, with what action, at which pass.

use std::{collections::HashMap, fmt, str::FromStr};

/// What an armed failpoint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ends the process at once, with no destructors.
    Abort,
    /// Only records the pass.
    Log,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Abort => "abort",
            Self::Log => "log",
        })
    }
}

/// The text of a plan cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct BadPlan(String);

impl fmt::Display for BadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected name=abort[@N] or name=log, separated by commas, at {:?}", self.0)
    }
}

impl std::error::Error for BadPlan {}

#[derive(Debug)]
struct Armed {
    action: Action,
    /// Passes to let through before acting.
    skip: u64,
}

/// Armed failpoints by name.
#[derive(Debug, Default)]
pub struct Plan(HashMap<String, Armed>);

impl Plan {
    /// Counts a pass; says what to do now.
    pub fn pass(&mut self, name: &str) -> Option<Action> {
        let armed = self.0.get_mut(name)?;
        if armed.skip > 0 {
            armed.skip -= 1;
            return None;
        }
        Some(armed.action)
    }
}

impl FromStr for Plan {
    type Err = BadPlan;

    fn from_str(text: &str) -> Result<Self, BadPlan> {
        let mut plan = HashMap::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let bad = || BadPlan(part.to_owned());
            let (name, rest) = part.split_once('=').ok_or_else(bad)?;
            let (action, nth) = rest.split_once('@').unwrap_or((rest, "1"));
            let nth: u64 = nth.parse().ok().filter(|n| *n > 0).ok_or_else(bad)?;
            let action = match action {
                "abort" => Action::Abort,
                "log" => Action::Log,
                "off" => continue,
                _ => return Err(bad()),
            };
            plan.insert(name.to_owned(), Armed { action, skip: nth - 1 });
        }
        Ok(Self(plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_passes() {
        let mut plan: Plan = "a=abort@3, b=log,c=off".parse().unwrap();
        assert_eq!(plan.pass("a"), None);
        assert_eq!(plan.pass("a"), None);
        assert_eq!(plan.pass("a"), Some(Action::Abort));
        assert_eq!(plan.pass("b"), Some(Action::Log));
        assert_eq!(plan.pass("c"), None);
        assert_eq!(plan.pass("d"), None);
    }

    #[test]
    fn refuses_nonsense() {
        for bad in ["a", "a=explode", "a=abort@0", "a=abort@x"] {
            assert!(bad.parse::<Plan>().is_err(), "{bad}");
        }
        assert!("".parse::<Plan>().is_ok());
    }
}
