//! A report for a terminal.

use super::{LoadReport, Report, Run, rate, time};
use std::fmt::Write as _;

/// All of it.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let origin = &report.origin;
    let _ = writeln!(
        text,
        "{} (seed {}), commit {}, {} build, {} cores of {}",
        report.scenario, report.seed, origin.commit, origin.profile, origin.cores, origin.cpu
    );
    for run in &report.runs {
        of_run(&mut text, run);
    }
    text
}

fn of_run(text: &mut String, run: &Run) {
    let replicas = match run.replicas {
        Some(_) => format!("{}, ", super::html::label(run)),
        None => String::new(),
    };
    let _ = writeln!(text, "\n{replicas}{:.1} s; {}", run.wall_s, run.target);
    for load in &run.loads {
        of_load(text, load);
    }
    for (name, count) in &run.counters {
        let _ = writeln!(text, "  {name} +{count}");
    }
}

fn of_load(text: &mut String, load: &LoadReport) {
    let failed = match load.failed {
        0 => "none failed".to_owned(),
        failed => format!("{failed} FAILED"),
    };
    let _ = writeln!(
        text,
        "  {} ({}): {} of {} went well, {failed}, {}",
        load.name,
        load.pace,
        load.ok,
        load.started,
        rate(load.per_second)
    );
    let columns = ["p50", "p90", "p99", "p99.9", "max"];
    let _ = write!(text, "    {:<16}{:>9}", "", "count");
    for column in columns {
        let _ = write!(text, "{column:>11}");
    }
    let _ = writeln!(text, "{:>20}", "p99 from its begin");
    for series in &load.series {
        let of = &series.latency;
        let _ = write!(text, "    {:<16}{:>9}", series.name, series.count);
        for us in [of.p50_us, of.p90_us, of.p99_us, of.p999_us, of.max_us] {
            let _ = write!(text, "{:>11}", time(us));
        }
        let _ = writeln!(text, "{:>20}", time(series.service.p99_us));
    }
    for (reason, times) in &load.reasons {
        let _ = writeln!(text, "    {times} × {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::report;

    #[test]
    fn it_says_what_went_well_and_how_late() {
        let text = super::render(&report(1));
        assert!(text.starts_with("sample (seed 1), commit 0123456789ab, release build"), "{text}");
        assert!(
            text.contains("ai (open, 100/s, even, at most 1000 in flight): 1000 of 1000 went well")
        );
        assert!(text.contains("3 × 503 <busy>"), "{text}");
        assert!(text.contains("penstock_gateway_ai_jobs_total +1000"), "{text}");
        let job = text.lines().find(|line| line.trim_start().starts_with("job")).unwrap();
        for time in ["1000", "500 ms", "900 ms", "990 ms", "1.00 s", "1.0 ms"] {
            assert!(job.contains(time), "{time}: {job}");
        }
    }
}
