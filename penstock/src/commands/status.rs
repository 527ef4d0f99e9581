//! `penstock status`: whether each role is ready, and what it waits for.

use std::time::Duration;

use clap::Args;
use penstock_clients::{HttpOptions, http};
use serde::{Deserialize, Serialize};

use super::{
    CommandError, Report,
    api::root_cause,
    args::{DataDir, Output},
    places,
    table::{Side, table},
};

/// The roles of a network, and the address that answers `/readyz`.
const ROLES: [&str; 5] = ["gateway", "signer", "orchestrator", "worker", "devnet"];
/// A role answers from what it knows; one that takes longer is not ready.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer read.
const MAX_ANSWER: usize = 64 * 1024;

/// Settings of `penstock status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Ask this role too, or instead of where --data-dir says it is, for example
    /// gateway=http://127.0.0.1:9935. May be repeated.
    #[arg(
        long = "role",
        env = "PENSTOCK_STATUS_ROLES",
        value_name = "NAME=URL",
        value_delimiter = ','
    )]
    roles: Vec<String>,

    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    output: Output,
}

/// How a role is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    Ready,
    NotReady { missing: Vec<Missing> },
    Down { reason: String },
}

/// What a role waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Missing {
    dependency: String,
    reason: String,
}

/// A role's line.
#[derive(Debug, Serialize)]
struct Line {
    role: String,
    url: String,
    #[serde(flatten)]
    state: State,
}

pub(super) async fn run(args: &StatusArgs) -> Result<Report, CommandError> {
    let targets = targets(args)?;
    let options = HttpOptions { total_timeout: Some(TIMEOUT), ..HttpOptions::default() };
    let client = http(&options)
        .map_err(|error| CommandError::Setting { setting: "--role", reason: error.to_string() })?;
    let mut lines = Vec::new();
    for (role, url) in targets {
        let state = match &url {
            Some(url) => ask(&client, url).await,
            None => State::Down { reason: "it has announced no address".to_owned() },
        };
        lines.push(Line { role, url: url.unwrap_or_default(), state });
    }
    let well = lines.iter().all(|line| line.state == State::Ready);
    let text = if args.output.json {
        serde_json::to_string_pretty(&lines).unwrap_or_default() + "\n"
    } else {
        render(&lines)
    };
    Ok(Report { text, well, offers: false })
}

/// The roles to ask: all five when the data folder is one of `penstock dev`, and over them those
/// that a flag names. A role without an address has not announced itself.
fn targets(args: &StatusArgs) -> Result<Vec<(String, Option<String>)>, CommandError> {
    let mut targets = Vec::new();
    if places::addr_file(&args.data, "gateway").parent().is_some_and(|folder| folder.is_dir()) {
        targets.extend(ROLES.iter().map(|role| {
            let address = places::addresses(&args.data, role)
                .and_then(|mut all| all.remove("metrics").or_else(|| all.remove("http")));
            ((*role).to_owned(), address.map(|address| format!("http://{address}")))
        }));
    }
    for given in &args.roles {
        let (name, url) = given
            .split_once('=')
            .filter(|(name, url)| !name.is_empty() && url.starts_with("http"))
            .ok_or_else(|| CommandError::Setting {
                setting: "--role",
                reason: "expected NAME=URL, for example gateway=http://127.0.0.1:9935".to_owned(),
            })?;
        let (name, url) = (name.to_owned(), url.trim_end_matches('/').to_owned());
        match targets.iter_mut().find(|(role, _)| *role == name) {
            Some(target) => target.1 = Some(url),
            None => targets.push((name, Some(url))),
        }
    }
    if targets.is_empty() {
        return Err(CommandError::NoAddress {
            role: "network",
            setting: "--role NAME=URL",
            looked_for: places::addr_file(&args.data, "gateway"),
        });
    }
    Ok(targets)
}

async fn ask(client: &reqwest::Client, url: &str) -> State {
    let mut response = match client.get(format!("{url}/readyz")).send().await {
        Ok(response) => response,
        Err(error) => return State::Down { reason: root_cause(&error) },
    };
    let status = response.status().as_u16();
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => return State::Down { reason: "its answer is too long".to_owned() },
            Ok(None) => return read(status, &body),
            Err(error) => return State::Down { reason: root_cause(&error) },
        }
    }
}

/// What an answer of `/readyz` means.
fn read(status: u16, body: &[u8]) -> State {
    #[derive(Deserialize)]
    struct Answer {
        missing: Vec<Missing>,
    }
    match status {
        200 => State::Ready,
        503 => match serde_json::from_slice::<Answer>(body) {
            Ok(answer) => State::NotReady { missing: answer.missing },
            Err(_) => State::NotReady { missing: Vec::new() },
        },
        other => State::Down { reason: format!("answers /readyz with status {other}") },
    }
}

fn render(lines: &[Line]) -> String {
    let columns =
        [("role", Side::Left), ("state", Side::Left), ("asked", Side::Left), ("why", Side::Left)];
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let (state, why) = match &line.state {
                State::Ready => ("ready", String::new()),
                State::NotReady { missing } => ("not ready", reasons(missing)),
                State::Down { reason } => ("down", reason.clone()),
            };
            vec![line.role.clone(), state.to_owned(), line.url.clone(), why]
        })
        .collect();
    table(&columns, &rows)
}

fn reasons(missing: &[Missing]) -> String {
    let each: Vec<String> =
        missing.iter().map(|m| format!("{}: {}", m.dependency, m.reason)).collect();
    each.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_in_words() {
        let missing = br#"{"ready":false,"missing":[{"dependency":"signer","reason":"refused"}]}"#;
        let line = |role: &str, state| Line { role: role.into(), url: "http://h".into(), state };
        let lines = [
            line("gateway", read(503, missing)),
            line("signer", read(200, b"")),
            line("worker", read(404, b"")),
        ];
        let want = "\
role     state      asked     why
gateway  not ready  http://h  signer: refused
signer   ready      http://h
worker   down       http://h  answers /readyz with status 404
";
        assert_eq!(render(&lines), want);
        assert_eq!(read(503, b"<html>"), State::NotReady { missing: vec![] });
    }
}
