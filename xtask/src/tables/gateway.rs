//! The gateway's tables.

use serde_json::Value;

use super::{number, origin, text, whole};

/// What was broken, what callers saw of it, what the books say.
pub fn chaos(figures: &Value) -> Option<String> {
    let (books, rolling) = (figures.get("books")?, figures.get("rolling")?);
    let times = |name: &str| -> Option<String> {
        let times = figures.get(name)?;
        let ms = |key: &str| whole(times.get(key)?);
        Some(format!("{} ms, {} ms, {} ms", ms("p50_ms")?, ms("p99_ms")?, ms("worst_ms")?))
    };
    let violations = figures.get("violations")?.as_array()?.len();
    let mut rows = vec![
        ("segments pushed, each shown once".to_owned(), whole(figures.get("segments")?)?),
        ("AI clients, jobs answered".to_owned(), {
            format!("{}, {}", figures.get("clients")?, whole(figures.get("jobs")?)?)
        }),
        ("from push to viewer: p50, p99, worst".to_owned(), times("viewer_gaps")?),
        ("AI job: p50, p99, worst".to_owned(), times("job_times")?),
    ];
    for (what, count) in figures.get("seen")?.as_object()? {
        rows.push((what.clone(), whole(count)?));
    }
    rows.extend([
        ("rolling restart: requests, failed".to_owned(), {
            let requests = rolling.get("segments")?.as_u64()? + rolling.get("jobs")?.as_u64()?;
            format!("{}, {}", whole(&Value::from(requests))?, whole(rolling.get("failed")?)?)
        }),
        ("worth of the tickets signed, wei (exact)".to_owned(), text(books, "signed_ev_wei")?),
        ("worth credited by orchestrators".to_owned(), text(books, "credited_ev_wei")?),
        ("of it signed and never delivered".to_owned(), text(books, "undelivered_wei")?),
        ("AI jobs, segments that were done again".to_owned(), {
            let done = books.get("ai_jobs_done")?.as_u64()?;
            let again = done.saturating_sub(figures.get("jobs")?.as_u64()?);
            format!("{again}, {}", whole(books.get("segments_done_twice")?)?)
        }),
        ("violations".to_owned(), violations.to_string()),
    ]);
    let mut lines = vec![
        format!("{} Seed {}.", origin(figures)?, figures.get("seed")?),
        String::new(),
        "| what was broken | times | viewer's longest wait around it: p50, p99, worst | AI jobs that met it; what it \
         cost them: p50, p99, worst |"
            .to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    for (act, effect) in figures.get("broken")?.get("acts")?.as_object()? {
        let gaps = three(effect.get("gaps_ms")?)?;
        let times = whole(effect.get("times")?)?;
        let met = match effect.get("costs_ms").and_then(Value::as_array).map(Vec::len) {
            None | Some(0) => "–".to_owned(),
            Some(jobs) => format!("{jobs}; {}", three(effect.get("costs_ms")?)?),
        };
        lines.push(format!("| {act} | {times} | {gaps} | {met} |"));
    }
    lines.extend([String::new(), "| what | count |".to_owned(), "| --- | --- |".to_owned()]);
    lines.extend(rows.iter().map(|(what, count)| format!("| {what} | {count} |")));
    lines.push(String::new());
    Some(lines.join("\n"))
}

/// p50, p99 and worst of milliseconds in any order.
pub fn three(times_ms: &Value) -> Option<String> {
    let times = times_ms.as_array()?.iter().map(Value::as_u64);
    let mut times = times.collect::<Option<Vec<u64>>>()?;
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        whole(&Value::from(times.get(index).copied().unwrap_or(0)))
    };
    Some(format!("{} ms, {} ms, {} ms", at(50)?, at(99)?, at(100)?))
}

/// Each way to the orchestrator, choices among many, idle streams.
pub fn bench(figures: &Value) -> Option<String> {
    let ms = |us: &Value| number(&Value::from(us.as_f64()? / 1e3), 2);
    let mut lines = vec![
        format!("{} {} clients.", origin(figures)?, figures.get("clients")?),
        String::new(),
        "| way | jobs/s | jobs per CPU-second of it | p50, p99 at the same pace | added p50, p99 |"
            .to_owned(),
        "| --- | --- | --- | --- | --- |".to_owned(),
    ];
    for way in figures.get("ways")?.as_array()? {
        let cpu = match way.get("per_cpu_second")? {
            Value::Null => "–".to_owned(),
            figure => whole(figure)?,
        };
        let (p50, p99) = (way.get("p50_us")?, way.get("p99_us")?);
        let compared = p50.as_u64()? > 0;
        let times = |a: &Value, b: &Value| match compared {
            true => Some(format!("{} ms, {} ms", ms(a)?, ms(b)?)),
            false => Some("–".to_owned()),
        };
        lines.push(format!(
            "| {} | {} | {cpu} | {} | {} |",
            way.get("name")?.as_str()?,
            whole(way.get("per_second")?)?,
            times(p50, p99)?,
            times(way.get("added_p50_us")?, way.get("added_p99_us")?)?,
        ));
    }
    lines.extend([
        String::new(),
        "| orchestrators | a choice: p50, p99 | a round of discovery | the first one |".to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ]);
    for crowd in figures.get("crowds")?.as_array()? {
        lines.push(format!(
            "| {} | {} ms, {} ms | {} ms | {} |",
            whole(crowd.get("orchestrators")?)?,
            ms(crowd.get("p50_us")?)?,
            ms(crowd.get("p99_us")?)?,
            whole(crowd.get("refresh_ms")?)?,
            match crowd.get("cold_refresh_ms") {
                Some(figure) => format!("{} ms", whole(figure)?),
                None => "–".to_owned(),
            },
        ));
    }
    lines.extend(flood(figures.get("flood")?)?);
    let idle = figures.get("idle")?;
    let asleep = match idle.get("asleep_redis_bytes_each") {
        Some(bytes) => format!("{} bytes of Redis, ", whole(bytes)?),
        None => String::new(),
    };
    lines.extend([
        String::new(),
        format!(
            "{} idle streams: {asleep}{} bytes of Redis soon after their segment, and {} bytes of a replica's memory each.",
            whole(idle.get("streams")?)?,
            whole(idle.get("redis_bytes_each")?)?,
            whole(idle.get("replica_bytes_each")?)?,
        ),
        String::new(),
    ]);
    Some(lines.join("\n"))
}

/// How many times its quiet p99 a segment's may be beside a flood of AI jobs (the design's target).
const VIDEO_P99_MOST: f64 = 1.5;

/// Video segments before, during and after a flood of AI jobs.
fn flood(flood: &Value) -> Option<Vec<String>> {
    let ms = |us: &Value| number(&Value::from(us.as_f64()? / 1e3), 1);
    let quiet = flood.get("quiet")?.get("p99_us")?.as_f64()?;
    let mut lines = vec![
        String::new(),
        format!(
            "{} AI jobs a second where there is room for {}: {} answered, {} turned away. {} video segments \
             before, during and after:",
            whole(flood.get("sent_per_second")?)?,
            whole(flood.get("capacity_per_second")?)?,
            whole(flood.get("answered")?)?,
            whole(flood.get("turned_away")?)?,
            whole(flood.get("segments")?)?,
        ),
        String::new(),
        "| AI jobs | a segment: p50, p99 | p99 of quiet |".to_owned(),
        "| --- | --- | --- |".to_owned(),
    ];
    for (name, phase) in [("none", "quiet"), ("flood", "flooded"), ("none again", "after")] {
        let phase = flood.get(phase)?;
        let (p50, p99) = (phase.get("p50_us")?, phase.get("p99_us")?);
        let ratio = number(&Value::from(p99.as_f64()? / quiet), 2)?;
        lines.push(format!("| {name} | {} ms, {} ms | {ratio} |", ms(p50)?, ms(p99)?));
    }
    let flooded = flood.get("flooded")?.get("p99_us")?.as_f64()? / quiet;
    let verdict = if flooded <= VIDEO_P99_MOST { "kept" } else { "**missed**" };
    lines.extend([
        String::new(),
        format!("Allowed beside the flood: {VIDEO_P99_MOST} times the quiet p99: {verdict}."),
    ]);
    Some(lines)
}

#[cfg(test)]
mod tests {
    #[test]
    fn figures_that_are_missing_make_no_table() {
        let empty = serde_json::json!({});
        assert_eq!((super::chaos(&empty), super::bench(&empty)), (None, None));
    }
}
