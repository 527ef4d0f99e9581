//! `penstock orchestrator vote` and `proposal`: votes of the orchestrator's stake, and how what is voted on stands.

use clap::{Args, ValueEnum};
use penstock_domain::{Address, Wei, parse_address};
use serde::Deserialize;
use serde_json::json;

use super::{
    CommandError, Report,
    api::Api,
    orchestrator::{ChangeArgs, lpt, make, pretty, step},
    places,
    table::{facts, plain},
};

/// Settings of `penstock orchestrator vote`.
#[derive(Debug, Args)]
pub struct PollArgs {
    /// The poll's contract.
    #[arg(value_name = "ADDRESS", value_parser = address)]
    poll: Address,

    /// What for.
    choice: Choice,

    #[command(flatten)]
    change: ChangeArgs,
}

/// Settings of `penstock orchestrator proposal`.
#[derive(Debug, Args)]
pub struct ProposalArgs {
    /// The governor's number, decimal or after 0x.
    #[arg(value_name = "NUMBER", value_parser = proposal)]
    proposal: String,

    /// Vote. Without it, it is only shown how the proposal stands.
    #[arg(long, value_name = "VOTE")]
    vote: Option<Vote>,

    /// Why, for everybody to read; at most 1024 bytes, which cost gas.
    #[arg(long, value_name = "TEXT", requires = "vote")]
    reason: Option<String>,

    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Choice {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Vote {
    For,
    Against,
    Abstain,
}

fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn address(text: &str) -> Result<Address, &'static str> {
    parse_address(text).ok_or("an address: 0x and 40 hexadecimal digits")
}

fn proposal(text: &str) -> Result<String, &'static str> {
    const BAD: &str = "a number of at most 256 bits, decimal or after 0x";
    let is_number = text.parse::<penstock_domain::U256>().is_ok();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !text.is_empty();
    if is_number && is_plain { Ok(text.to_owned()) } else { Err(BAD) }
}

pub(super) async fn in_poll(args: &PollArgs) -> Result<Report, CommandError> {
    let (poll, choice) = (args.poll.to_string(), name(args.choice));
    make(&args.change, |_| {
        let words = format!("{choice} in the poll {poll}");
        vec![step(words, "vote", json!({ "poll": poll, "choice": choice }))]
    })
    .await
}

/// What the orchestrator says of a proposal.
#[derive(Debug, Deserialize)]
struct Standing {
    state: String,
    snapshot_round: u64,
    deadline_round: u64,
    for_lptu: Wei,
    against_lptu: Wei,
    abstain_lptu: Wei,
    has_voted: bool,
}

pub(super) async fn on_proposal(args: &ProposalArgs) -> Result<Report, CommandError> {
    let Some(vote) = args.vote else { return show(args).await };
    let vote = name(vote);
    make(&args.change, |_| {
        let words = format!("{vote} proposal {}", args.proposal);
        let action = json!({
            "proposal_id": args.proposal, "support": vote, "reason": args.reason,
        });
        vec![step(words, "vote-on-proposal", action)]
    })
    .await
}

/// What the orchestrator says of all that is voted on.
#[derive(Debug, Deserialize)]
struct Ballots {
    searched_from_block: u64,
    searched_to_block: u64,
    is_whole: bool,
    proposals: Vec<Proposal>,
    polls: Vec<Poll>,
}

#[derive(Debug, Deserialize)]
struct Proposal {
    proposal_id: String,
    title: String,
    #[serde(flatten)]
    standing: Standing,
}

#[derive(Debug, Deserialize)]
struct Poll {
    poll: String,
    end_block: u64,
    l1_block: u64,
    yes_lptu: Wei,
    no_lptu: Wei,
    voters: u64,
}

pub(super) async fn list(api: &Api, json: bool) -> Result<Report, CommandError> {
    let path = "/v1/stake/ballots";
    let said = api.get(path).await?;
    Ok(Report::well(if json { pretty(&said) } else { render(&api.read(path, &said)?) }))
}

fn render(ballots: &Ballots) -> String {
    let mut out = String::new();
    for Proposal { proposal_id, title, standing } in &ballots.proposals {
        let from = standing.snapshot_round.saturating_add(1);
        out.push_str(&facts(&[
            ("proposal", proposal_id.clone()),
            ("title", title.clone()),
            ("state", standing.state.clone()),
            ("votes are taken", format!("from round {from} to {}", standing.deadline_round)),
            ("for", lpt(standing.for_lptu)),
            ("against", lpt(standing.against_lptu)),
            ("abstaining", lpt(standing.abstain_lptu)),
            ("own vote", if standing.has_voted { "given" } else { "not given" }.to_owned()),
        ]));
        out.push('\n');
    }
    for poll in &ballots.polls {
        out.push_str(&facts(&[
            ("poll", poll.poll.clone()),
            (
                "votes are taken",
                format!("to L1 block {}, and now is {}", poll.end_block, poll.l1_block),
            ),
            ("yes", lpt(poll.yes_lptu)),
            ("no", lpt(poll.no_lptu)),
            ("voters", poll.voters.to_string()),
        ]));
        out.push('\n');
    }
    if out.is_empty() {
        out.push_str("Nothing is voted on now.\n\n");
    }
    let (from, to) = (ballots.searched_from_block, ballots.searched_to_block);
    let rest = if ballots.is_whole { "" } else { "; more is searched the next time" };
    out.push_str(&format!("blocks {from} to {to} are searched{rest}\n"));
    out
}

async fn show(args: &ProposalArgs) -> Result<Report, CommandError> {
    let api = places::orchestrator_admin(&args.change.orchestrator, &args.change.data)?;
    let path = format!("/v1/stake/proposals/{}", args.proposal);
    let said = api.get(&path).await?;
    if args.change.output.json {
        return Ok(Report::well(pretty(&said)));
    }
    let now: Standing = api.read(&path, &said)?;
    let from = now.snapshot_round.saturating_add(1);
    Ok(Report::well(facts(&[
        ("proposal", args.proposal.clone()),
        ("state", plain(&now.state)),
        ("votes are taken", format!("from round {from} to {}", now.deadline_round)),
        ("for", lpt(now.for_lptu)),
        ("against", lpt(now.against_lptu)),
        ("abstaining", lpt(now.abstain_lptu)),
        ("own vote", if now.has_voted { "given" } else { "not given" }.to_owned()),
    ])))
}
