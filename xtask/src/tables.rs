//! Tables of the documents that are made from measured figures. The JSON in `docs/data` is what a
//! driver wrote; the part of a document between the marks is made from it and from nothing else.

mod all;
mod chain_chaos;
mod faults;
mod gateway;
mod instructions;
mod money;
mod orchestrator;
mod orchestrator_chaos;
mod soak;
pub mod trace;

use std::fs;

use serde_json::Value;

use crate::{
    failure::{Doing as _, Failure, Result},
    places::Places,
    term,
};

/// Where figures lie.
pub const FOLDER: &str = "docs/data";
/// Of `cargo xtask bench signer`.
pub const BENCH: &str = "signer-bench.json";
/// Of `cargo xtask bench signer --key-stores`.
pub const KEYS_BENCH: &str = "signer-keys-bench.json";
/// Of `cargo xtask chaos signer`.
pub const CHAOS: &str = "signer-chaos.json";

/// Of `cargo xtask bench`.
pub const ALL_BENCH: &str = "bench.json";
/// Of `cargo xtask bench gateway`.
pub const GATEWAY_BENCH: &str = "gateway-bench.json";
/// Of `cargo xtask bench orchestrator`.
pub const ORCHESTRATOR_BENCH: &str = "orchestrator-bench.json";
/// Of `cargo xtask instructions --record`.
pub const INSTRUCTIONS: &str = "instructions.json";
/// Of `cargo xtask chaos gateway`.
pub const GATEWAY_CHAOS: &str = "gateway-chaos.json";
/// Of `cargo xtask chaos orchestrator`.
pub const ORCHESTRATOR_CHAOS: &str = "orchestrator-chaos.json";
/// Of `cargo xtask chaos chain`.
pub const CHAIN_CHAOS: &str = "chain-chaos.json";
/// Of `cargo xtask chaos faults`.
pub const FAULTS: &str = "faults.json";
/// Of `cargo xtask soak`.
pub const SOAK: &str = "soak.json";
/// Of `cargo xtask chaos money`.
pub const MONEY: &str = "money.json";

/// One generated part of a document.
struct Part {
    document: &'static str,
    data: &'static str,
    command: &'static str,
    make: fn(&Value) -> Option<String>,
}

const PARTS: [Part; 13] = [
    Part {
        document: "docs/performance.md",
        data: INSTRUCTIONS,
        command: "cargo xtask instructions --record",
        make: instructions::table,
    },
    Part {
        document: "docs/performance.md",
        data: ALL_BENCH,
        command: "cargo xtask bench",
        make: all::bench,
    },
    Part {
        document: "docs/performance.md",
        data: BENCH,
        command: "cargo xtask bench signer",
        make: bench_table,
    },
    Part {
        document: "docs/keys.md",
        data: KEYS_BENCH,
        command: "cargo xtask bench signer --key-stores",
        make: keys_table,
    },
    Part {
        document: "docs/reliability.md",
        data: CHAOS,
        command: "cargo xtask chaos signer",
        make: chaos_table,
    },
    Part {
        document: "docs/reliability.md",
        data: GATEWAY_CHAOS,
        command: "cargo xtask chaos gateway",
        make: gateway::chaos,
    },
    Part {
        document: "docs/reliability.md",
        data: ORCHESTRATOR_CHAOS,
        command: "cargo xtask chaos orchestrator",
        make: orchestrator_chaos::chaos,
    },
    Part {
        document: "docs/reliability.md",
        data: CHAIN_CHAOS,
        command: "cargo xtask chaos chain",
        make: chain_chaos::chaos,
    },
    Part {
        document: "docs/reliability.md",
        data: FAULTS,
        command: "cargo xtask chaos faults",
        make: faults::table,
    },
    Part {
        document: "docs/reliability.md",
        data: SOAK,
        command: "cargo xtask soak",
        make: soak::table,
    },
    Part {
        document: "docs/reliability.md",
        data: MONEY,
        command: "cargo xtask chaos money",
        make: money::table,
    },
    Part {
        document: "docs/performance.md",
        data: GATEWAY_BENCH,
        command: "cargo xtask bench gateway",
        make: gateway::bench,
    },
    Part {
        document: "docs/performance.md",
        data: ORCHESTRATOR_BENCH,
        command: "cargo xtask bench orchestrator",
        make: orchestrator::bench,
    },
];

/// Writes every part anew.
pub fn write(places: &Places) -> Result<()> {
    for part in &PARTS {
        let (text, wanted) = part.look(places)?;
        if text != wanted {
            let path = places.root.join(part.document);
            fs::write(&path, wanted).doing(format!("write {}", part.document))?;
            term::note(format!("{} written", part.document));
        }
    }
    let path = places.root.join(trace::PICTURE);
    fs::write(&path, picture(places)?).doing(format!("write {}", trace::PICTURE))
}

/// Fails when a document shows something else than its figures.
pub fn check(places: &Places) -> Result<()> {
    term::step("comparing tables with docs/data");
    for part in &PARTS {
        part.is_measured(|data| places.root.join(FOLDER).join(data).exists())?;
        let (text, wanted) = part.look(places)?;
        if text != wanted {
            return Err(Failure::new(
                format!("{} does not show the figures of {FOLDER}/{}", part.document, part.data),
                "run `cargo xtask tables` and commit the result",
            ));
        }
    }
    let there = fs::read_to_string(places.root.join(trace::PICTURE))
        .doing(format!("read {}", trace::PICTURE))?;
    if there != picture(places)? {
        return Err(Failure::new(
            format!("{} does not show the trace of {FOLDER}/{}", trace::PICTURE, trace::DATA),
            "run `cargo xtask tables` and commit the result",
        ));
    }
    Ok(())
}

/// The picture of the recorded trace.
fn picture(places: &Places) -> Result<String> {
    let data = places.root.join(FOLDER).join(trace::DATA);
    let spans = fs::read_to_string(&data).doing(format!("read {}", data.display()))?;
    let drawn = serde_json::from_str(&spans).ok().and_then(|spans| trace::draw(&spans));
    drawn.ok_or_else(|| {
        Failure::new(
            format!("{FOLDER}/{} has no trace that can be drawn", trace::DATA),
            "record one again: `cargo xtask trace`",
        )
    })
}

impl Part {
    /// Fails where figures that were measured are not in the folder any more.
    fn is_measured(&self, is_there: impl Fn(&str) -> bool) -> Result<()> {
        if is_there(self.data) {
            return Ok(());
        }
        Err(Failure::new(
            format!("{FOLDER}/{} is missing, of which {} has a table", self.data, self.document),
            format!("measure it, `{}`, or take it back from the history", self.command),
        ))
    }

    /// The document as it is, and as it should be.
    fn look(&self, places: &Places) -> Result<(String, String)> {
        let document = places.root.join(self.document);
        let text = fs::read_to_string(&document).doing(format!("read {}", self.document))?;
        let table = self.table(places)?;
        match replace(&text, self.data, &table) {
            Some(wanted) => Ok((text, wanted)),
            None => Err(Failure::new(
                format!("{} has no marks for {}", self.document, self.data),
                format!("put {} and {END} where the table belongs", begin(self.data)),
            )),
        }
    }

    /// What stands between the marks.
    fn table(&self, places: &Places) -> Result<String> {
        let data = places.root.join(FOLDER).join(self.data);
        if !data.exists() {
            return Ok(format!("Not measured yet: `{}` does it.\n", self.command));
        }
        let figures = fs::read_to_string(&data).doing(format!("read {}", data.display()))?;
        let made = serde_json::from_str(&figures).ok().and_then(|figures| (self.make)(&figures));
        made.ok_or_else(|| {
            Failure::new(
                format!("{FOLDER}/{} has not the figures that its table needs", self.data),
                format!("measure again: `{}`", self.command),
            )
        })
    }
}

const END: &str = "<!-- end of generated part -->";

fn begin(data: &str) -> String {
    format!("<!-- generated from data/{data} by `cargo xtask tables` -->")
}

/// `text` with `table` between the marks.
fn replace(text: &str, data: &str, table: &str) -> Option<String> {
    let begin = begin(data);
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n\n{table}\n{END}{after}"))
}

fn number(value: &Value, digits: usize) -> Option<String> {
    let text = format!("{:.digits$}", value.as_f64()?);
    // What is nothing when it is rounded has no sign.
    let is_nothing = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    Some(if is_nothing { text.trim_start_matches('-').to_owned() } else { text })
}

/// `1234567` as `1,234,567`.
fn whole(value: &Value) -> Option<String> {
    let text = number(value, 0)?;
    let mut out = String::new();
    for (place, digit) in text.chars().enumerate() {
        if place > 0 && (text.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    Some(out)
}

/// Where figures come from, in words.
pub fn origin(figures: &Value) -> Option<String> {
    let origin = figures.get("origin")?;
    // Of what a chaos run breaks, the seed is said elsewhere.
    let seed = match origin.get("seed") {
        Some(seed) => format!(" Seed {seed}."),
        None => String::new(),
    };
    Some(format!(
        "Commit `{}`, {} cores of {}, {} MiB, Linux {}, {} build.{seed}",
        origin.get("commit")?.as_str()?,
        origin.get("cores")?,
        origin.get("cpu")?.as_str()?,
        origin.get("memory_mib")?,
        origin.get("kernel")?.as_str()?,
        origin.get("profile")?.as_str()?,
    ))
}

/// Percent of two bare signatures that a payment of one ticket may cost.
fn target_percent(ledger: &str) -> u64 {
    if ledger == "sqlite" { 50 } else { 40 }
}

fn bench_table(figures: &Value) -> Option<String> {
    let raw = figures.get("raw")?;
    let mut lines = vec![
        origin(figures)?,
        format!(
            "A bare signature: {} µs, so that two signatures alone would allow {} payments per \
             CPU-second. {} clients.",
            number(&Value::from(raw.get("signature_ns")?.as_f64()? / 1e3), 1)?,
            whole(raw.get("pairs_per_cpu_second")?)?,
            figures.get("clients")?,
        ),
        String::new(),
        "| ledger | key | payments per CPU-second | of raw | target | of target | at half load | \
         payments/s | key operations per payment | p50, p99 at half load | memory at start, end |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for run in figures.get("runs")?.as_array()? {
        let (full, half) = (run.get("full")?, run.get("half")?);
        let ledger = run.get("ledger")?.as_str()?;
        let (target, percent) = (target_percent(ledger), full.get("percent_of_raw")?.as_f64()?);
        let rss = run.get("rss")?.as_array()?;
        let mib = |sample: &Value| number(&Value::from(sample.get(1)?.as_f64()? / 1024.0), 0);
        let ms = |us: &Value| number(&Value::from(us.as_f64()? / 1e3), 1);
        lines.push(format!(
            "| {ledger} | {} | {} | {percent:.1} % | {target} % | {:.2} | {} % | {} | {} | {} ms, {} ms | {} MiB, {} MiB |",
            run.get("key")?.as_str()?,
            whole(full.get("per_cpu_second")?)?,
            percent / target as f64,
            number(half.get("percent_of_raw")?, 1)?,
            whole(full.get("per_second")?)?,
            number(full.get("key_operations_per_payment")?, 2)?,
            ms(half.get("p50_us")?)?,
            ms(half.get("p99_us")?)?,
            mib(rss.first()?)?,
            mib(rss.last()?)?,
        ));
    }
    lines.push(String::new());
    Some(lines.join("\n"))
}

fn keys_table(figures: &Value) -> Option<String> {
    let mut lines = vec![
        format!("{} {} requests at once.", origin(figures)?, figures.get("clients")?),
        String::new(),
        "| key store | signatures/s | payments/s of one ticket | payments per CPU-second of the \
         signer | p50, p99 at half load |"
            .to_owned(),
        "| --- | --- | --- | --- | --- |".to_owned(),
    ];
    for run in figures.get("runs")?.as_array()? {
        let (full, half) = (run.get("full")?, run.get("half")?);
        let payments = full.get("per_second")?;
        let operations = full.get("key_operations_per_payment")?.as_f64()?;
        let ms = |us: &Value| number(&Value::from(us.as_f64()? / 1e3), 1);
        lines.push(format!(
            "| {} | {} | {} | {} | {} ms, {} ms |",
            run.get("key")?.as_str()?,
            whole(&Value::from(payments.as_f64()? * operations))?,
            whole(payments)?,
            whole(full.get("per_cpu_second")?)?,
            ms(half.get("p50_us")?)?,
            ms(half.get("p99_us")?)?,
        ));
    }
    lines.push(String::new());
    Some(lines.join("\n"))
}

fn chaos_table(figures: &Value) -> Option<String> {
    let (counts, broken) = (figures.get("counts")?, figures.get("broken")?);
    let count = |name: &str| whole(counts.get(name)?);
    let failpoints = broken.get("failpoints")?.as_object()?;
    let deaths: u64 = failpoints.values().filter_map(Value::as_u64).sum();
    let violations = figures.get("violations")?.as_array()?.len();
    let rows = [
        ("replicas, clients", format!("{}, {}", figures.get("replicas")?, figures.get("clients")?)),
        ("payments, tickets", format!("{}, {}", count("payments")?, count("tickets")?)),
        ("sessions", count("sessions")?),
        ("`kill -9` of a replica", whole(broken.get("kills")?)?),
        ("deaths at failpoints", whole(&Value::from(deaths))?),
        ("database connections ended", whole(broken.get("connections")?)?),
        ("requests repeated for want of an answer", count("retries")?),
        ("answered requests repeated, all with the same answer", count("repeats")?),
        ("requests sent to two replicas at once", count("twins")?),
        ("duplicate nonces", count("duplicate_nonces")?),
        ("worth of the tickets at the clients, wei (exact)", text(counts, "ev_wei")?),
        ("worth in the ledger", text(counts, "ledger_ev_wei")?),
        ("worth credited by orchestrators", text(counts, "credited_ev_wei")?),
        ("payments in the ledger", count("ledger_payments")?),
        ("tickets in the audit", count("audit_tickets")?),
        ("of them of attempts that were never answered", count("audit_tickets_of_no_payment")?),
        (
            "events received, deliveries",
            format!("{}, {}", count("events")?, count("event_deliveries")?),
        ),
        ("violations", violations.to_string()),
    ];
    let mut lines = vec![
        format!("{} Seed {}.", origin(figures)?, figures.get("seed")?),
        String::new(),
        "| what | count |".to_owned(),
        "| --- | --- |".to_owned(),
    ];
    lines.extend(rows.iter().map(|(what, count)| format!("| {what} | {count} |")));
    lines.push(String::new());
    Some(lines.join("\n"))
}

/// An exact amount, `n` or `n/d`.
fn text(counts: &Value, name: &str) -> Option<String> {
    Some(counts.get(name)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_between_the_marks_is_replaced() {
        let text = format!("before\n{}\nold\n{END}\nafter", begin("x.json"));
        let new = replace(&text, "x.json", "new").unwrap();
        assert_eq!(new, format!("before\n{}\n\nnew\n{END}\nafter", begin("x.json")));
        assert_eq!(replace(&new, "x.json", "new"), Some(new.clone()));
        assert_eq!(replace("no marks", "x.json", "new"), None);
    }

    #[test]
    fn large_numbers_are_grouped() {
        let shown = |n: u64| whole(&Value::from(n)).unwrap();
        assert_eq!([shown(7), shown(1_234), shown(1_234_567)], ["7", "1,234", "1,234,567"]);
    }

    #[test]
    fn figures_that_were_measured_have_to_be_there() {
        let missing = |is_there: fn(&str) -> bool| -> Vec<&str> {
            let missing = PARTS.iter().filter(|part| part.is_measured(is_there).is_err());
            missing.map(|part| part.data).collect()
        };
        assert_eq!(missing(|_| true), Vec::<&str>::new());
        assert_eq!(missing(|data| data != SOAK), [SOAK]);
        assert_eq!(missing(|_| false).len(), PARTS.len());
    }

    #[test]
    fn figures_that_are_missing_make_no_table() {
        let empty = serde_json::json!({});
        assert_eq!((bench_table(&empty), chaos_table(&empty)), (None, None));
        assert_eq!(keys_table(&empty), None);
    }
}
