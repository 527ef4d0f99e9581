//! The table of orchestrators under chaos.

use serde_json::Value;

use super::{gateway::three, origin, text, whole};

/// What was broken, what clients saw of it, what the books say.
pub fn chaos(figures: &Value) -> Option<String> {
    let (broken, counts) = (figures.get("broken")?, figures.get("counts")?);
    let (waits, seen) = (figures.get("waits")?, figures.get("seen")?.as_object()?);
    let count = |name: &str| whole(counts.get(name)?);
    let died: u64 = broken.get("failpoints")?.as_object()?.values().filter_map(Value::as_u64).sum();
    let memory = figures.get("memory_mib")?.as_array()?.iter();
    let memory = memory.map(|of| Some(format!("{} → {}", whole(of.get(0)?)?, whole(of.get(1)?)?)));
    let memory = memory.collect::<Option<Vec<_>>>()?.join(", ");
    let violations = figures.get("violations")?.as_array()?.len();
    let mut lines = vec![
        format!(
            "{} Seed {}, {} s under load.",
            origin(figures)?,
            figures.get("seed")?,
            whole(figures.get("load_s")?)?
        ),
        String::new(),
        "| what was broken | times | a client's longest wait around it: p50, p99, worst |"
            .to_owned(),
        "| --- | --- | --- |".to_owned(),
    ];
    for (act, effect) in broken.get("acts")?.as_object()? {
        let (times, waits) = (whole(effect.get("times")?)?, three(effect.get("waits_ms")?)?);
        lines.push(format!("| {act} | {times} | {waits} |"));
    }
    lines.extend([String::new(), "| what | count |".to_owned(), "| --- | --- |".to_owned()]);
    let mut rows = vec![
        ("orchestrators, clients".to_owned(), {
            format!("{}, {}", figures.get("processes")?, figures.get("clients")?)
        }),
        ("orchestrators killed (`kill -9`), dead at failpoints, ended in order".to_owned(), {
            let (kills, ended) = (whole(broken.get("kills")?)?, whole(broken.get("ended")?)?);
            format!("{kills}, {}, {ended}", whole(&Value::from(died))?)
        }),
        ("database connections ended".to_owned(), whole(broken.get("connections")?)?),
        ("tickets that clients know to be taken, offers".to_owned(), {
            format!("{}, {}", count("tickets")?, count("offers")?)
        }),
        ("tickets credited in the ledger".to_owned(), count("ledger_tickets")?),
        ("nonces taken twice".to_owned(), count("nonces_twice")?),
        (
            "worth of the tickets at the clients, wei (exact)".to_owned(),
            text(counts, "credited_wei")?,
        ),
        ("worth credited in the ledger".to_owned(), text(counts, "ledger_credited_wei")?),
        ("charged for jobs".to_owned(), text(counts, "ledger_debited_wei")?),
        ("accounts, each equal to the wei".to_owned(), count("accounts")?),
        ("jobs answered, each charged once".to_owned(), count("jobs_answered")?),
        ("jobs without an answer, of them done and charged".to_owned(), {
            format!("{}, {}", count("jobs_unanswered")?, count("jobs_unanswered_charged")?)
        }),
    ];
    // Older figures have none.
    if let (Some(brought), Some(runner)) = (counts.get("brought"), counts.get("live_runner")) {
        let of = |from: &Value, names: [&str; 3]| -> Option<String> {
            let shown = names.iter().map(|name| whole(from.get(*name)?));
            Some(shown.collect::<Option<Vec<_>>>()?.join(", "))
        };
        rows.push((
            "jobs of a brought capability: answered, each charged once; without an answer; of them charged"
                .to_owned(),
            of(brought, ["answered", "unanswered", "unanswered_charged"])?,
        ));
        rows.push(("seconds charged for them".to_owned(), whole(brought.get("seconds")?)?));
        rows.push((
            "sessions of a live runner; times that one was moved; undisturbed ones, charged to the second"
                .to_owned(),
            of(runner, ["sessions", "moves", "undisturbed"])?,
        ));
        rows.push(("seconds charged for them, of at most".to_owned(), {
            format!("{}, {}", whole(runner.get("seconds")?)?, whole(runner.get("most_seconds")?)?)
        }));
    }
    rows.extend([
        ("winners at the clients, in the ledger, paid by the chain".to_owned(), {
            format!(
                "{}, {}, {}",
                count("winners")?,
                count("ledger_winners")?,
                count("redemptions")?
            )
        }),
        ("winners sent to the chain".to_owned(), count("redemptions_sent")?),
        ("payments sent to each process once more at the end, refused by each".to_owned(), {
            count("replays")?
        }),
        ("of each client, its longest time between two answers: p50, p99, worst".to_owned(), {
            let ms = |name: &str| whole(waits.get(name)?);
            format!("{} ms, {} ms, {} ms", ms("p50_ms")?, ms("p99_ms")?, ms("worst_ms")?)
        }),
        ("memory of each process before and after, MiB".to_owned(), memory),
    ]);
    for (what, times) in seen {
        rows.push((what.clone(), whole(times)?));
    }
    rows.push(("violations".to_owned(), violations.to_string()));
    lines.extend(rows.iter().map(|(what, count)| format!("| {what} | {count} |")));
    lines.push(String::new());
    Some(lines.join("\n"))
}
