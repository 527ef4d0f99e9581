//! The whole tree of commands: each has an example that can be typed as it stands, and `--json`.

use clap::{Command, CommandFactory as _};
use penstock::cli::Cli;

/// Commands without `--json`, and why.
const NO_JSON: [(&str, &str); 1] = [(
    "penstock dev",
    "it runs until it is stopped, and what it prints is for people at a terminal",
)];

/// The commands that do something, with the words that name them.
fn leaves(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
    let below: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
    if below.is_empty() {
        found.push((words.to_owned(), command.clone()));
    }
    for command in below {
        leaves(command, &format!("{words} {}", command.get_name()), found);
    }
}

fn all() -> Vec<(String, Command)> {
    let mut found = Vec::new();
    leaves(&Cli::command(), "penstock", &mut found);
    found
}

/// The lines below `Examples:`.
fn examples(command: &Command) -> Vec<String> {
    let help = command.clone().render_long_help().to_string();
    let below = help.split_once("\nExamples:\n").map(|(_, below)| below.to_owned());
    below.unwrap_or_default().lines().map(|line| line.trim().to_owned()).collect()
}

/// The words of the command that an example comes down to, if it can be parsed.
fn parsed(example: &str) -> Result<String, String> {
    let words = shlex::split(example).ok_or("quotes without end")?;
    let matches = Cli::command().try_get_matches_from(words).map_err(|e| e.to_string())?;
    let mut name = "penstock".to_owned();
    let mut at = &matches;
    while let Some((word, below)) = at.subcommand() {
        name = format!("{name} {word}");
        at = below;
    }
    Ok(name)
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example_that_can_be_typed_as_it_stands() {
    let all = all();
    assert!(all.len() > 40, "{}", all.len());
    let mut wrong = Vec::new();
    for (name, command) in &all {
        let examples = examples(command);
        if examples.is_empty() {
            wrong.push(format!("{name} has no example: #[command(after_help = examples![…])]"));
        }
        for example in examples {
            match parsed(&example) {
                Ok(of) if of == *name => {}
                Ok(of) => wrong.push(format!("{name} has an example of {of}: {example}")),
                Err(error) => wrong.push(format!("{name} has an example that fails: {error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_command_prints_json_when_asked() {
    let has_json = |command: &Command| {
        command.get_arguments().any(|argument| argument.get_long() == Some("json"))
    };
    let without = all().into_iter().filter(|(_, command)| !has_json(command));
    let without: Vec<String> = without.map(|(name, _)| name).collect();
    let excepted: Vec<&str> = NO_JSON.iter().map(|(name, _)| *name).collect();
    assert_eq!(without, excepted, "give them --json, or say in NO_JSON why not");
}
