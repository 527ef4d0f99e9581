//! The orchestrator's tables.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{number, origin, whole};
use crate::report::WHOLE_PAYMENTS;

/// Tickets, segments, channels, each beside what is bare.
pub fn bench(figures: &Value) -> Option<String> {
    let mut lines = vec![origin(figures)?, String::new()];
    lines.extend(targets(figures)?);
    lines.extend(tickets(figures)?);
    lines.extend(segments(figures.get("segments")?)?);
    lines.extend(readers(figures)?);
    lines.extend(channels(figures.get("live")?)?);
    lines.push(String::new());
    Some(lines.join("\n"))
}

fn scaled(value: &Value, by: f64, digits: usize) -> Option<String> {
    number(&Value::from(value.as_f64()? / by), digits)
}

fn ms(us: &Value) -> Option<String> {
    scaled(us, 1e3, 2)
}

fn mib(kib: &Value) -> Option<String> {
    Some(format!("{} MiB", scaled(kib, 1024.0, 0)?))
}

/// p50, p99 and worst.
fn times(times: &Value) -> Option<String> {
    let at = |name: &str| Some(format!("{} ms", ms(times.get(name)?)?));
    Some(format!("{}, {}, {}", at("p50_us")?, at("p99_us")?, at("worst_us")?))
}

/// What was aimed at, beside what was measured.
fn targets(figures: &Value) -> Option<Vec<String>> {
    let mut lines = vec![
        "| what | target | measured | met |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    let mut row = |what: &str, target: &str, measured: String, met: bool| {
        let met = if met { "yes" } else { "**no**" };
        lines.push(format!("| {what} | {target} | {measured} | {met} |"));
    };
    let percent = |percent: f64| number(&Value::from(percent), 1);
    for validation in sizes(figures)? {
        let of_raw = validation.get("percent_of_raw")?.as_f64()?;
        row(
            &format!("tickets validated, payments of {}", validation.get("tickets_per_payment")?),
            &format!("≥ {TARGET_PERCENT} % of the faster bare operation"),
            format!("{} %", percent(of_raw)?),
            of_raw >= TARGET_PERCENT,
        );
    }
    for (tickets, least) in slowest(figures.get("tickets")?.as_array()?)? {
        row(
            &format!("tickets in whole payments of {tickets}, the slower ledger"),
            &format!("≥ {TARGET_PERCENT} % of the faster bare operation"),
            format!("{} %", percent(least)?),
            least >= TARGET_PERCENT,
        );
    }
    if let Some(ratio) = figures.get("segments")?.get("ratio") {
        row(
            "a segment through gateway, orchestrator and worker",
            "≤ 1.10 × a bare ffmpeg",
            format!("{} ×", number(ratio, 3)?),
            ratio.as_f64()? <= 1.10,
        );
    }
    let first = figures.get("first_byte")?;
    let (p50, p99) = (first.get("added_p50_us")?, first.get("added_p99_us")?);
    row(
        "first byte, more than through a bare copy",
        "< 1 ms",
        format!("{} ms at the median, {} ms at p99", ms(p50)?, ms(p99)?),
        p99.as_f64()? < 1e3,
    );
    let readers = figures.get("crowd")?.get("readers")?;
    row("readers of one channel", "≥ 5,000", whole(readers)?, readers.as_f64()? >= 5e3);
    let live = figures.get("live")?;
    let rounds = live.get("rounds")?.as_array()?;
    let after = |round: Option<&Value>| mib(round?.get("rss_after_kib")?);
    let before = mib(live.get("rss_before_kib")?)?;
    let memory = format!("{before} before, {} after", after(rounds.last())?);
    // Reports of before there was a verdict have none.
    if let Some(broken) = figures.get("broken").and_then(Value::as_array) {
        let what = format!("memory when {} channels were deleted", whole(live.get("channels")?)?);
        row(
            &what,
            "within a tenth and 32 MiB of before",
            memory,
            broken.is_empty() && comes_back(live)?,
        );
    }
    lines.push(String::new());
    Some(lines)
}

/// Whether memory was within a tenth and 32 MiB of what it was before, after every round.
fn comes_back(live: &Value) -> Option<bool> {
    let before = live.get("rss_before_kib")?.as_f64()?;
    let after = live.get("rounds")?.as_array()?.iter();
    let after =
        after.map(|round| round.get("rss_after_kib")?.as_f64()).collect::<Option<Vec<_>>>()?;
    Some(after.iter().all(|after| *after <= before * 1.1 + 32.0 * 1024.0))
}

/// Of each size of payments that is held to the target: the least percentage of the faster bare operation.
fn slowest(loads: &[Value]) -> Option<BTreeMap<u64, f64>> {
    let mut least = BTreeMap::<u64, f64>::new();
    for load in loads {
        let percent = load.get("percent_of_raw")?.as_f64()?;
        let known = least.entry(load.get("tickets_per_payment")?.as_u64()?).or_insert(percent);
        *known = known.min(percent);
    }
    least.retain(|tickets, _| *tickets >= WHOLE_PAYMENTS);
    Some(least)
}

/// What validating a ticket took, by the size of its payment. No figures at all make no table.
fn sizes(figures: &Value) -> Option<&Vec<Value>> {
    figures.get("validation")?.as_array().filter(|sizes| !sizes.is_empty())
}

/// Percent of the faster bare operation that a ticket may cost: the target is three fifths.
const TARGET_PERCENT: f64 = 60.0;

fn tickets(figures: &Value) -> Option<Vec<String>> {
    let curve = figures.get("curve")?;
    let us = |name: &str| scaled(curve.get(name)?, 1e3, 1);
    let mut lines = vec![
        format!(
            "A bare recovery: {} µs; a bare verification by a known key: {} µs. {} payments at once.",
            us("recovery_ns")?,
            us("verification_ns")?,
            figures.get("clients")?,
        ),
        String::new(),
    ];
    lines.extend(validation(figures)?);
    lines.extend([
        "| whole payments, ledger | tickets a payment | tickets per CPU-second | of the faster bare one | of bare recoveries | \
         payments/s | p50, p99, worst |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ]);
    for load in figures.get("tickets")?.as_array()? {
        let per_second = load.get("payments")?.as_f64()? / load.get("wall_s")?.as_f64()?;
        lines.push(format!(
            "| {} | {} | {} | {} % | {} % | {} | {} |",
            load.get("ledger")?.as_str()?,
            load.get("tickets_per_payment")?,
            whole(load.get("tickets_per_cpu_second")?)?,
            number(load.get("percent_of_raw")?, 1)?,
            number(load.get("percent_of_recovery")?, 1)?,
            whole(&Value::from(per_second))?,
            times(load.get("times")?)?,
        ));
    }
    Some(lines)
}

/// What validating a ticket takes, without sockets and ledger.
fn validation(figures: &Value) -> Option<Vec<String>> {
    let mut lines = vec![
        "| tickets validated, in payments of | a ticket | tickets per CPU-second | of the faster bare one |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    for size in sizes(figures)? {
        let ns = size.get("ticket_ns")?;
        lines.push(format!(
            "| {} | {} µs | {} | {} % |",
            size.get("tickets_per_payment")?,
            scaled(ns, 1e3, 1)?,
            whole(&Value::from(1e9 / ns.as_f64()?))?,
            number(size.get("percent_of_raw")?, 1)?,
        ));
    }
    lines.push(String::new());
    Some(lines)
}

fn segments(segments: &Value) -> Option<Vec<String>> {
    if segments.is_null() {
        return Some(Vec::new());
    }
    let ladder = segments.get("ladder")?.as_array()?.iter().map(Value::as_str);
    let cpu = segments.get("cpu_ms_each")?;
    Some(vec![
        String::new(),
        format!(
            "{} segments of two seconds to {}: {} ms through gateway, orchestrator and worker, {} ms by a bare \
             ffmpeg (medians), {} times as long. Processor time of a segment: gateway {} ms, orchestrator {} ms, \
             worker {} ms.",
            segments.get("through_ms")?.as_array()?.len(),
            ladder.collect::<Option<Vec<_>>>()?.join(", "),
            number(segments.get("through_p50_ms")?, 0)?,
            number(segments.get("bare_p50_ms")?, 0)?,
            number(segments.get("ratio")?, 3)?,
            number(cpu.get(0)?, 1)?,
            number(cpu.get(1)?, 1)?,
            number(cpu.get(2)?, 1)?,
        ),
    ])
}

fn readers(figures: &Value) -> Option<Vec<String>> {
    let (first, crowd) = (figures.get("first_byte")?, figures.get("crowd")?);
    let mut lines = vec![
        String::new(),
        "| from a write to a read | trickle: p50, p99, worst | a bare copy: p50, p99, worst |"
            .to_owned(),
        "| --- | --- | --- |".to_owned(),
    ];
    for (what, of) in [
        ("readers of one channel, 100 segments a second", first),
        ("readers of one channel", crowd),
    ] {
        lines.push(format!(
            "| {} {what} | {} | {} |",
            whole(of.get("readers")?)?,
            times(of.get("trickle")?)?,
            times(of.get("bare")?)?,
        ));
    }
    let rss = crowd.get("rss_kib")?;
    lines.extend([
        String::new(),
        format!(
            "The first byte to {} readers: {} ms more than through a bare copy at the median, {} ms at p99. {} readers that wait: {} KiB \
             each; the process had {} before, {} while they waited, {} at the end of the load, {} when they had gone.",
            first.get("readers")?,
            ms(first.get("added_p50_us")?)?,
            ms(first.get("added_p99_us")?)?,
            whole(crowd.get("readers")?)?,
            number(crowd.get("kib_each")?, 1)?,
            mib(rss.get(0)?)?,
            mib(rss.get(1)?)?,
            mib(rss.get(2)?)?,
            mib(rss.get(3)?)?,
        ),
        String::new(),
        "| readers of one channel | MB/s, trickle | MB/s, bare copy | MB per CPU-second, trickle | bare copy | of bare |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- |".to_owned(),
    ]);
    for load in figures.get("fan_out")?.as_array()? {
        let (trickle, bare) = (load.get("trickle")?, load.get("bare")?);
        let mb = |flow: &Value, name: &str| whole(&Value::from(flow.get(name)?.as_f64()? / 1e6));
        lines.push(format!(
            "| {} | {} | {} | {} | {} | {} % |",
            whole(load.get("readers")?)?,
            mb(trickle, "bytes_per_second")?,
            mb(bare, "bytes_per_second")?,
            mb(trickle, "bytes_per_cpu_second")?,
            mb(bare, "bytes_per_cpu_second")?,
            number(load.get("percent_of_bare")?, 0)?,
        ));
    }
    Some(lines)
}

fn channels(live: &Value) -> Option<Vec<String>> {
    let mut lines = vec![
        String::new(),
        format!(
            "{} live channels with {} readers each, {} seconds of media, again and again. Before: {}; with its writer \
             and readers a channel takes {} KiB.",
            whole(live.get("channels")?)?,
            live.get("readers")?,
            number(live.get("seconds")?, 0)?,
            mib(live.get("rss_before_kib")?)?,
            number(live.get("kib_each")?, 0)?,
        ),
        String::new(),
        "| round | from a write to a read: p50, p99, worst | reads | MB/s | processor | memory: most | payloads: most | memory when all were deleted |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    let seconds = live.get("seconds")?.as_f64()?;
    let added = |name: &str| ms(live.get("added")?.get(name)?);
    let last = live.get("bare").filter(|bare| !bare.is_null()).and_then(|bare| {
        Some(format!(
            "As many bare copies at the same pace, from a write to a read: {} (p50, p99, worst). The last round's \
             times are {} ms, {} ms and {} ms more.",
            times(bare)?,
            added("p50_us")?,
            added("p99_us")?,
            added("worst_us")?,
        ))
    });
    for (number_of, round) in live.get("rounds")?.as_array()?.iter().enumerate() {
        let percent = round.get("cpu_s")?.as_f64()? / seconds * 100.0;
        let payloads = Value::from(round.get("payload_most_bytes")?.as_f64()? / 1024.0);
        lines.push(format!(
            "| {} | {} | {} | {} | {} % of a core | {} | {} | {} |",
            number_of + 1,
            times(round.get("times")?)?,
            whole(round.get("times")?.get("count")?)?,
            scaled(round.get("bytes")?, 1e6 * seconds, 0)?,
            number(&Value::from(percent), 0)?,
            mib(round.get("rss_most_kib")?)?,
            mib(&payloads)?,
            mib(round.get("rss_after_kib")?)?,
        ));
    }
    if let Some(last) = last {
        lines.extend([String::new(), last]);
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn figures_that_are_missing_make_no_table() {
        assert_eq!(super::bench(&json!({})), None);
    }

    #[test]
    fn what_was_aimed_at_is_met_or_not() {
        let figures = |percent: f64, ratio: f64, added: i64, readers: u64, broken: &[&str]| {
            json!({
                "validation": [{ "tickets_per_payment": 1, "percent_of_raw": percent }],
                "tickets": [
                    { "tickets_per_payment": 1, "percent_of_raw": 50.0 },
                    { "tickets_per_payment": 100, "percent_of_raw": 61.0 },
                    { "tickets_per_payment": 100, "percent_of_raw": percent },
                ],
                "segments": { "ratio": ratio },
                "first_byte": { "added_p50_us": 100, "added_p99_us": added },
                "crowd": { "readers": readers },
                "live": {
                    "channels": 2000, "rss_before_kib": 60_000, "rounds": [{ "rss_after_kib": 80_000 }],
                },
                "broken": broken,
            })
        };
        let misses =
            |figures| super::targets(&figures).unwrap().join("\n").matches("**no**").count();
        assert_eq!(misses(figures(60.0, 1.1, 999, 5000, &[])), 0);
        assert_eq!(misses(figures(59.9, 1.11, 1000, 4999, &["memory"])), 6);
    }
}
