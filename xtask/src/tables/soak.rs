//! Memory of roles over hours, and what was lost meanwhile.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{faults::lines_of, number, origin, whole};

/// Each process's memory; what was done, broken and booked.
pub fn table(figures: &Value) -> Option<String> {
    let mut lines = vec![
        format!(
            "{} Seed {}, {} s under load, jobs could begin in {} s of them; slopes are of moments at rest after the first {} s, without what an orchestrator stores for gateways.",
            origin(figures)?,
            figures.get("seed")?,
            whole(figures.get("load_s")?)?,
            whole(figures.get("at_work_s")?)?,
            whole(figures.get("warm_up_s")?)?,
        ),
        String::new(),
    ];
    lines.extend([
        "| role | processes | allocated by one in the mean, slope, MiB/h (95 %) | that is | in RAM, slope, MiB/h (95 %) | that is |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- |".to_owned(),
    ]);
    for role in figures.get("roles")?.as_array()? {
        lines.push(role_row(role)?);
    }
    lines.extend([
        String::new(),
        "| process | allocated at rest after the warm-up, at the end | slope, MiB/h (95 %) | in RAM then | most at any time | slope, MiB/h (95 %) |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- |".to_owned(),
    ]);
    for memory in figures.get("memory")?.as_array()? {
        lines.push(memory_row(memory, figures.get("warm_up_s")?.as_f64()?)?);
    }
    lines.extend([String::new(), "| what | count |".to_owned(), "| --- | --- |".to_owned()]);
    let rows = counts(figures)?;
    lines.extend(rows.iter().map(|(what, count)| format!("| {what} | {count} |")));
    lines.push(String::new());
    let violations = lines_of(figures.get("violations")?)?;
    if !violations.is_empty() {
        lines.push("What was found wrong:\n".to_owned());
        lines.extend(violations.iter().map(|violation| format!("- {violation}")));
        lines.push(String::new());
    }
    Some(lines.join("\n"))
}

fn memory_row(memory: &Value, warm_up_s: f64) -> Option<String> {
    let mib = |sample: &Value| number(&Value::from(sample.get(1)?.as_f64()? / 1024.0), 1);
    let is_warm =
        |sample: &&Value| sample.get(0).and_then(Value::as_f64).is_some_and(|at| at >= warm_up_s);
    let first_and_last = |of: &str| {
        let samples = memory.get(of)?.as_array()?;
        let warm = samples.iter().find(is_warm)?;
        Some(format!("{} MiB, {} MiB", mib(warm)?, mib(samples.last()?)?))
    };
    let most = memory.get("samples")?.as_array()?.iter();
    let most = most.max_by_key(|sample| sample.get(1).and_then(Value::as_u64))?;
    let trend = |of: &str| {
        let trend = memory.get(of)?;
        let alone = if trend.get("verdict")? == "Grows" { " **more than 1**" } else { "" };
        Some(format!("{}{alone}", slope(trend.get("slope")?)?))
    };
    Some(format!(
        "| {} | {} | {} | {} | {} MiB | {} |",
        memory.get("process")?.as_str()?,
        first_and_last("heap_at_rest")?,
        trend("heap")?,
        first_and_last("at_rest")?,
        mib(most)?,
        trend("ram")?,
    ))
}

fn role_row(role: &Value) -> Option<String> {
    let trend = |of: &str| {
        let trend = role.get(of)?;
        let says = match trend.get("verdict")?.as_str()? {
            "Flat" => "no more than 1",
            "Within" => "no more than 1, within an interval that allows more",
            "Unclear" => "more than 1, within an interval that allows less",
            "Grows" => "**more than 1**",
            _ => "unknown",
        };
        Some(format!("{} | {says}", slope(trend.get("slope")?)?))
    };
    let (name, processes) = (role.get("role")?.as_str()?, role.get("processes")?);
    Some(format!("| {name} | {processes} | {} | {} |", trend("heap")?, trend("ram")?))
}

/// With its interval.
fn slope(slope: &Value) -> Option<String> {
    if slope.is_null() {
        return Some("–".to_owned());
    }
    let of = |name: &str| number(slope.get(name)?, 1);
    Some(format!("{} ({} to {})", of("mib_per_h")?, of("low")?, of("high")?))
}

fn counts(figures: &Value) -> Option<Vec<(String, String)>> {
    let (sums, channels) = (figures.get("sums")?, figures.get("channels")?);
    let exact = |name: &str| Some(sums.get(name)?.as_str()?.to_owned());
    let of_channels = |name: &str| whole(channels.get(name)?);
    let pair = |name: &str| {
        let both = figures.get(name)?.as_array()?;
        Some(format!("{}, {}", whole(both.first()?)?, whole(both.get(1)?)?))
    };
    let mut answered = Vec::new();
    for (kind, count) in figures.get("answered")?.as_object()? {
        let rate = |name: &str| number(figures.get(name)?.get(kind)?, 1);
        answered.push(format!(
            "{kind} {} ({} a second of {}, {} %)",
            whole(count)?,
            rate("per_second")?,
            rate("capacity")?,
            percent(figures.get("per_second")?.get(kind)?, figures.get("capacity")?.get(kind)?)?,
        ));
    }
    let winners = sums.get("winners")?.as_array()?.iter().map(whole);
    let rows = [
        (
            "jobs answered (a second in which they could begin, of what was possible)",
            answered.join(", "),
        ),
        ("answers that said to come again, answers that were lost", pair("in_vain")?),
        ("payments, tickets", pair("payments")?),
        ("faults", faults(figures)?),
        (
            "moments at which the books agreed and each stream was whole",
            whole(figures.get("agreed")?)?,
        ),
        (
            "of them after an interrupted purchase was finished",
            whole(figures.get("finished_first")?)?,
        ),
        (
            "streams, L1 blocks",
            format!("{}, {}", whole(figures.get("streams")?)?, whole(figures.get("blocks")?)?),
        ),
        (
            "live channels: acknowledged segments, deliveries to readers, told too late, of them on a good wire, lost",
            format!(
                "{}, {}, {}, {}, {}",
                of_channels("acknowledged")?,
                of_channels("read")?,
                of_channels("late")?,
                of_channels("late_in_calm")?,
                of_channels("missing")?
            ),
        ),
        (
            "jobs done and charged once more, because an answer was lost",
            whole(figures.get("charged_again")?)?,
        ),
        ("worth of the tickets signed, wei (exact)", exact("signed_wei")?),
        ("worth credited by orchestrators", exact("credited_wei")?),
        ("charged for work", exact("debited_wei")?),
        (
            "winners, handed over, redeemed, paid by the chain",
            winners.collect::<Option<Vec<_>>>()?.join(", "),
        ),
        ("violations", figures.get("violations")?.as_array()?.len().to_string()),
    ];
    Some(rows.map(|(what, count)| (what.to_owned(), count)).into())
}

fn percent(of: &Value, all: &Value) -> Option<String> {
    number(&Value::from(of.as_f64()? / all.as_f64()? * 100.0), 0)
}

/// How many, and of which kind.
fn faults(figures: &Value) -> Option<String> {
    let faults = figures.get("faults")?.as_array()?;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for fault in faults {
        *kinds.entry(fault.get("trouble")?.as_str()?).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    Some(format!("{}: {}", faults.len(), kinds.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::table;
    use serde_json::json;

    #[test]
    fn a_role_that_grows_is_seen() {
        let slope = json!({"mib_per_h": 2.04, "low": 1.5, "high": 3.0});
        let flat = json!({"mib_per_h": 0.1, "low": 0.0, "high": 0.2});
        let memory = json!({"process": "worker 1",
            "ram": {"slope": slope, "verdict": "Unclear"},
            "heap": {"slope": flat, "verdict": "Flat"},
            "at_rest": [[1.0, 1024], [11.0, 4096], [19.0, 3072]],
            "heap_at_rest": [[1.0, 512], [11.0, 1024], [19.0, 1024]],
            "samples": [[0.0, 1024], [10.0, 5120], [20.0, 1024]]});
        let role = json!({"role": "worker", "processes": 2,
            "ram": {"slope": slope, "verdict": "Grows"},
            "heap": {"slope": flat, "verdict": "Flat"}});
        let mut figures = json!({
            "origin": {"commit": "c", "cores": 2, "cpu": "x", "memory_mib": 1, "kernel": "k",
                "profile": "release"},
            "seed": 1, "load_s": 1_800.4, "at_work_s": 1_500.0, "warm_up_s": 10, "violations": [],
            "memory": [memory], "roles": [role],
            "answered": {"Words": 2_000}, "capacity": {"Words": 10.0}, "per_second": {"Words": 7.0},
            "in_vain": [3, 4], "payments": [5, 6], "agreed": 1, "finished_first": 0, "streams": 4,
            "blocks": 12, "charged_again": 2,
            "faults": [{"trouble": "silent"}, {"trouble": "silent"}, {"trouble": "damaged"}],
            "channels": {"acknowledged": 10, "read": 30, "late": 0, "late_in_calm": 0,
                "missing": 0},
            "sums": {"signed_wei": "7", "credited_wei": "7", "debited_wei": "6",
                "winners": [1, 1, 1, 1]},
        });
        let shown = table(&figures).unwrap();
        let row = "| worker | 2 | 0.1 (0.0 to 0.2) | no more than 1 | 2.0 (1.5 to 3.0) | **more than 1** |";
        assert!(shown.contains(row), "{shown}");
        let row = "| worker 1 | 1.0 MiB, 1.0 MiB | 0.1 (0.0 to 0.2) | 4.0 MiB, 3.0 MiB | 5.0 MiB | 2.0 (1.5 to 3.0) |";
        assert!(shown.contains(row), "{shown}");
        figures["memory"][0]["ram"]["verdict"] = json!("Grows");
        let judged = table(&figures).unwrap();
        assert!(judged.contains("| 5.0 MiB | 2.0 (1.5 to 3.0) **more than 1** |"), "{judged}");
        assert!(shown.contains("| faults | 3: damaged 1, silent 2 |"), "{shown}");
        figures["memory"][0]["ram"]["slope"] =
            json!({"mib_per_h": -0.03, "low": -0.3, "high": 0.2});
        let nothing = table(&figures).unwrap();
        assert!(nothing.contains("| 5.0 MiB | 0.0 (-0.3 to 0.2) **more than 1** |"), "{nothing}");
        assert!(shown.contains("Words 2,000 (7.0 a second of 10.0, 70 %)"), "{shown}");
        figures.as_object_mut().unwrap().remove("channels");
        assert_eq!(table(&figures), None);
    }
}
