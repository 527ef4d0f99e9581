//! `penstock mine`: lets time pass on a development chain.

use clap::Args;
use serde::Deserialize;

use super::{
    CommandError,
    args::{ChainArgs, DataDir, Output},
    places,
    table::facts,
};

/// Settings of `penstock mine`.
#[derive(Debug, Args)]
pub struct MineArgs {
    /// How many L1 blocks to mine.
    #[arg(long, value_name = "N", conflicts_with = "rounds", default_value_t = 1)]
    blocks: u64,

    /// Mine until this many rounds have begun.
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,

    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    output: Output,
}

/// As much of the chain's status as is shown.
#[derive(Debug, Deserialize)]
struct Status {
    l1_block: u64,
    current_round: u64,
    round_length: u64,
}

pub(super) async fn run(args: &MineArgs) -> Result<String, CommandError> {
    let chain = places::devnet(&args.chain, &args.data)?;
    let body = match args.rounds {
        Some(rounds) => serde_json::json!({ "rounds": rounds }),
        None => serde_json::json!({ "blocks": args.blocks }),
    };
    let status = chain.post("/mine", &body).await?;
    if args.output.json {
        return Ok(format!("{status:#}\n"));
    }
    Ok(render(&chain.read("/mine", &status)?))
}

fn render(status: &Status) -> String {
    let into = status.l1_block.checked_rem(status.round_length).unwrap_or_default();
    let round = format!("{}, {into} of {} blocks in", status.current_round, status.round_length);
    facts(&[("L1 block", status.l1_block.to_string()), ("round", round)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_the_chain_is() {
        let status = Status { l1_block: 125, current_round: 2, round_length: 50 };
        assert_eq!(render(&status), "L1 block  125\nround     2, 25 of 50 blocks in\n");
    }
}
