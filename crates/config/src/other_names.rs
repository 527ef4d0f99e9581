//! A flag with two names has two environment variables: clap knows of one. The other becomes a default,
//! as the TOML file does, so that it yields to the first and to the flag, and goes before the file.

use clap::Command;
use std::ffi::OsString;

/// Makes the variable of each further name, `PENSTOCK_<NAME>`, the default of its flag.
pub(crate) fn as_defaults(
    mut command: Command,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Command {
    let found: Vec<_> = command
        .get_arguments()
        .filter(|arg| arg.get_env().is_some())
        .filter_map(|arg| {
            let names = arg.get_visible_aliases().unwrap_or_default();
            let value = names.iter().find_map(|name| variable(&of(name)))?;
            Some((arg.get_id().clone(), value))
        })
        .collect();
    for (id, value) in found {
        command = command.mut_arg(id, |arg| arg.default_value(value).required(false));
    }
    command
}

fn of(name: &str) -> String {
    format!("PENSTOCK_{}", name.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, FromArgMatches as _, Parser};

    #[derive(Parser)]
    struct Args {
        #[arg(long, env = "PENSTOCK_OTHER_NAMES_TEST", visible_alias = "also-called")]
        first: Option<String>,
        #[arg(long, visible_alias = "not-there")]
        second: Option<String>,
    }

    fn parsed(argv: &[&str]) -> Args {
        let variable = |name: &str| (name == "PENSTOCK_ALSO_CALLED").then(|| "variable".into());
        let command = as_defaults(Args::command(), variable);
        let matches = command.get_matches_from(std::iter::once(&"p").chain(argv));
        Args::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn the_other_names_variable_counts() {
        let args = parsed(&[]);
        assert_eq!((args.first.as_deref(), args.second), (Some("variable"), None));
        assert_eq!(parsed(&["--also-called=flag"]).first.as_deref(), Some("flag"));
        assert_eq!(parsed(&["--first=flag"]).first.as_deref(), Some("flag"));
    }
}
