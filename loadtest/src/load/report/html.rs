//! A report as one page that needs nothing else: no script, no font, nothing from elsewhere.

use super::{
    LoadReport, Report, Run, Series, Times,
    plot::{Axis, Line, Plot, Scale, escape},
    rate, time,
};
use std::fmt::Write as _;

/// Points of a curve of percentiles.
const POINTS: u32 = 160;
/// Percentiles that are marked.
const MARKED: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.999_9, "p99.99")];

/// A run and what it is called beside others.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// What it is called.
    pub label: &'a str,
    /// The report that it is of.
    pub report: &'a Report,
    /// Itself.
    pub run: &'a Run,
}

/// A page of one report.
pub fn render(report: &Report) -> String {
    let labels: Vec<String> = report.runs.iter().map(label).collect();
    let runs: Vec<Labelled<'_>> = report
        .runs
        .iter()
        .zip(&labels)
        .map(|(run, label)| Labelled { label, report, run })
        .collect();
    page(&report.scenario, &report.about, &[], &runs)
}

/// `2 gateways`, or where it was.
pub fn label(run: &Run) -> String {
    match run.replicas {
        Some(1) => "1 gateway".to_owned(),
        Some(replicas) => format!("{replicas} gateways"),
        None => "target".to_owned(),
    }
}

/// A page of these runs, with warnings above them.
pub fn page(title: &str, about: &str, warnings: &[String], runs: &[Labelled<'_>]) -> String {
    let mut html = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style></head><body><main><h1>{0}</h1><p>{1}</p>",
        escape(title),
        escape(about)
    );
    for warning in warnings {
        let _ = write!(html, "<p class=\"warning\">{}</p>", escape(warning));
    }
    origins(&mut html, runs);
    if let Some(figures) = scaling(runs) {
        let _ = write!(
            html,
            "<section><h2>Replicas</h2><div class=\"figures\">{figures}</div></section>"
        );
    }
    for name in names(runs) {
        section(&mut html, &name, runs);
    }
    counters(&mut html, runs);
    if let Some(first) = runs.first() {
        let text = escape(&first.report.text);
        let _ = write!(
            html,
            "<details><summary>The scenario's file</summary><pre>{text}</pre></details>"
        );
    }
    html.push_str("</main></body></html>\n");
    html
}

fn origins(html: &mut String, runs: &[Labelled<'_>]) {
    html.push_str("<dl class=\"origins\">");
    for run in runs {
        let origin = &run.report.origin;
        let _ = write!(
            html,
            "<dt>{}</dt><dd>{}; {:.1} s; seed {}; commit {}, {} build; {} cores of {}, {} MiB, Linux {}</dd>",
            escape(run.label),
            escape(&run.run.target),
            run.run.wall_s,
            run.report.seed,
            escape(&origin.commit),
            escape(&origin.profile),
            origin.cores,
            escape(&origin.cpu),
            origin.memory_mib,
            escape(&origin.kernel)
        );
    }
    html.push_str("</dl>");
}

/// Names of loads, each once, in their order.
fn names(runs: &[Labelled<'_>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for load in runs.iter().flat_map(|run| &run.run.loads) {
        if !names.contains(&load.name) {
            names.push(load.name.clone());
        }
    }
    names
}

/// One load in all runs.
fn section(html: &mut String, name: &str, runs: &[Labelled<'_>]) {
    let loads: Vec<(&str, &LoadReport)> = runs
        .iter()
        .filter_map(|run| Some((run.label, run.run.loads.iter().find(|load| load.name == name)?)))
        .collect();
    let Some((_, first)) = loads.first() else { return };
    let _ = write!(
        html,
        "<section><h2>{}</h2><p class=\"pace\">{}: {}</p>",
        escape(name),
        escape(&first.kind),
        escape(&first.pace)
    );
    for (label, load) in &loads {
        if loads.len() > 1 {
            let _ = write!(html, "<h3>{}</h3>", escape(label));
        }
        summary(html, load);
        table(html, load);
        reasons(html, load);
    }
    html.push_str("<div class=\"figures\">");
    match loads.as_slice() {
        [(_, load)] => {
            html.push_str(&percentiles_of_one(load).figure());
            if let Some(main) = load.main() {
                html.push_str(&over_time(main).figure());
                html.push_str(&throughput(&[("ended", load)], load.offered_per_second).figure());
            }
        }
        several => {
            html.push_str(&percentiles_of_all(several).figure());
            html.push_str(&throughput(several, first.offered_per_second).figure());
        }
    }
    html.push_str("</div></section>");
}

fn summary(html: &mut String, load: &LoadReport) {
    let latency = load.main().map(|main| main.latency).unwrap_or_default();
    let class = if load.failed > 0 { "bad" } else { "" };
    html.push_str("<ul class=\"tiles\">");
    for (class, value, words) in [
        ("", format!("{} of {}", load.ok, load.started), "went well"),
        (class, load.failed.to_string(), "failed"),
        ("", rate(load.per_second), "throughput"),
        ("", time(latency.p50_us), "p50"),
        ("", time(latency.p99_us), "p99"),
        ("", time(latency.max_us), "slowest"),
    ] {
        let _ = write!(html, "<li class=\"{class}\"><b>{value}</b>{words}</li>");
    }
    html.push_str("</ul>");
}

fn table(html: &mut String, load: &LoadReport) {
    html.push_str(
        "<table><thead><tr><th></th><th>count</th><th>mean</th><th>p50</th><th>p90</th><th>p99</th>\
         <th>p99.9</th><th>slowest</th></tr></thead><tbody>",
    );
    for series in &load.series {
        row(html, &series.name, Some(series.count), &series.latency);
        // Where nothing waited they are the same.
        if series.service != series.latency {
            row(html, &format!("{}, from its begin", series.name), None, &series.service);
        }
    }
    html.push_str("</tbody></table>");
}

fn row(html: &mut String, name: &str, count: Option<u64>, times: &Times) {
    let count = count.map(|count| count.to_string()).unwrap_or_default();
    let _ = write!(html, "<tr><th>{}</th><td>{count}</td>", escape(name));
    for us in [times.mean_us, times.p50_us, times.p90_us, times.p99_us, times.p999_us, times.max_us]
    {
        let _ = write!(html, "<td>{}</td>", time(us));
    }
    html.push_str("</tr>");
}

fn reasons(html: &mut String, load: &LoadReport) {
    if load.reasons.is_empty() {
        return;
    }
    html.push_str("<ul class=\"reasons\">");
    for (reason, times) in &load.reasons {
        let _ = write!(html, "<li>{times} × {}</li>", escape(reason));
    }
    html.push_str("</ul>");
}

fn write_time(us: f64) -> String {
    time(us.round() as u64)
}

fn write_part(part: f64) -> String {
    let percent = format!("{:.4}", part * 100.0);
    format!("{}%", percent.trim_end_matches('0').trim_end_matches('.'))
}

fn write_number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Of what has no parts: between two of them is nothing to write at.
fn write_whole(value: f64) -> String {
    let is_whole = (value - value.round()).abs() < 1e-6;
    if is_whole { write_number(value) } else { String::new() }
}

fn time_axis(scale: Scale) -> Axis {
    Axis { label: "latency from when it was due".to_owned(), scale, write: write_time }
}

fn seconds_axis() -> Axis {
    let label = "seconds from the first arrival".to_owned();
    Axis { label, scale: Scale::Linear, write: write_number }
}

/// A curve from the median's half of all to the slowest.
fn curve(label: &str, colour: usize, series: &Series) -> Line {
    let whole = series.histogram();
    // As far as there are enough to say it.
    let nines = (series.count.max(2) as f64).log10();
    let at = |x: f64| {
        let part = 1.0 - 10_f64.powf(-x);
        (part, whole.value_at_quantile(part) as f64)
    };
    let points = (0..=POINTS).map(|n| at(nines * f64::from(n) / f64::from(POINTS))).collect();
    let far_enough = |part: f64| -(1.0 - part).log10() <= nines + 1e-9;
    let marks = MARKED
        .into_iter()
        .filter(|(part, _)| far_enough(*part))
        .map(|(part, name)| {
            let us = whole.value_at_quantile(part);
            (part, us as f64, format!("{label} {name}: {}", time(us)))
        })
        .collect();
    Line { label: label.to_owned(), colour, dashed: false, points, marks }
}

fn percentiles(title: &str, lines: Vec<Line>) -> Plot {
    let label = "so many of all are faster".to_owned();
    let x = Axis { label, scale: Scale::Nines, write: write_part };
    Plot { title: title.to_owned(), x, y: time_axis(Scale::Log), lines }
}

fn percentiles_of_one(load: &LoadReport) -> Plot {
    let all = load.series.iter().enumerate();
    let lines = all.map(|(number, series)| curve(&series.name, number, series)).collect();
    percentiles("Latency by percentile", lines)
}

fn percentiles_of_all(loads: &[(&str, &LoadReport)]) -> Plot {
    let lines = loads
        .iter()
        .enumerate()
        .filter_map(|(number, (label, load))| Some(curve(label, number, load.main()?)))
        .collect();
    let of = loads.iter().find_map(|(_, load)| load.main());
    let of = of.map_or("operation", |series| series.name.as_str());
    percentiles(&format!("Latency by percentile: {of}"), lines)
}

fn over_time(series: &Series) -> Plot {
    let line = |label: &str, colour, value: fn(&super::Span) -> u64| {
        let due = series.timeline.iter().filter(|span| span.count > 0);
        let middle = |span: &super::Span| (span.at_ms as f64 + span.for_ms as f64 / 2.0) / 1e3;
        let points = due.map(|span| (middle(span), value(span) as f64)).collect();
        Line { label: label.to_owned(), colour, dashed: false, points, marks: Vec::new() }
    };
    Plot {
        title: format!("Latency over time: {}", series.name),
        x: seconds_axis(),
        y: time_axis(Scale::Log),
        lines: vec![
            line("p50", 0, |span| span.p50_us),
            line("p99", 1, |span| span.p99_us),
            line("slowest", 6, |span| span.max_us),
        ],
    }
}

fn throughput(loads: &[(&str, &LoadReport)], offered: Option<f64>) -> Plot {
    let mut lines = Vec::new();
    let mut longest = 0.0_f64;
    for (number, (label, load)) in loads.iter().enumerate() {
        let Some(main) = load.main() else { continue };
        let points = rates(main);
        longest = points.last().map_or(longest, |(at, _)| longest.max(*at));
        let (label, marks) = ((*label).to_owned(), Vec::new());
        lines.push(Line { label, colour: number, dashed: false, points, marks });
        let failed = load.series.iter().find(|series| series.name == super::super::tally::FAILED);
        if let (1, Some(failed)) = (loads.len(), failed) {
            let (label, marks) = ("failed".to_owned(), Vec::new());
            lines.push(Line { label, colour: 6, dashed: false, points: rates(failed), marks });
        }
    }
    if let Some(offered) = offered {
        let points = vec![(0.0, offered), (longest, offered)];
        let (label, marks) = ("offered".to_owned(), Vec::new());
        lines.push(Line { label, colour: 7, dashed: true, points, marks });
    }
    let y = Axis { label: "a second".to_owned(), scale: Scale::Linear, write: write_number };
    Plot { title: "Throughput".to_owned(), x: seconds_axis(), y, lines }
}

/// What ended a second, over time; spans in which nothing did are nothing.
fn rates(series: &Series) -> Vec<(f64, f64)> {
    let Some(first) = series.timeline.first() else { return Vec::new() };
    let number = |span: &super::Span| usize::try_from(span.at_ms / first.for_ms).unwrap_or(0);
    let spans = series.timeline.last().map_or(0, number) + 1;
    // So few that each has something to say.
    let together = spans.div_ceil(60).max(1);
    let mut ended = vec![0_u64; spans.div_ceil(together)];
    for span in &series.timeline {
        if let Some(place) = ended.get_mut(number(span) / together) {
            *place += span.ended;
        }
    }
    let width_s = first.for_ms as f64 / 1e3 * together as f64;
    let each = ended.into_iter().enumerate();
    each.map(|(n, ended)| ((n as f64 + 0.5) * width_s, ended as f64 / width_s)).collect()
}

/// Throughput and p99 by replicas, if there are runs with different numbers of them.
fn scaling(runs: &[Labelled<'_>]) -> Option<String> {
    let mut numbers: Vec<usize> = runs.iter().filter_map(|run| run.run.replicas).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() < 2 {
        return None;
    }
    let (mut rates, mut times) = (Vec::new(), Vec::new());
    for (colour, name) in names(runs).iter().enumerate() {
        let mut points: Vec<(f64, &LoadReport)> = runs
            .iter()
            .filter_map(|run| {
                let load = run.run.loads.iter().find(|load| &load.name == name)?;
                Some((run.run.replicas? as f64, load))
            })
            .collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        let Some((fewest, base)) = points.first().copied() else { continue };
        let line = |value: &dyn Fn(&LoadReport) -> f64, says: &dyn Fn(&LoadReport) -> String| {
            let at = points.iter().map(|(replicas, load)| (*replicas, value(load))).collect();
            let marks = points.iter().map(|(replicas, load)| {
                let says = format!("{name}, {replicas} gateways: {}", says(load));
                (*replicas, value(load), says)
            });
            Line { label: name.clone(), colour, dashed: false, points: at, marks: marks.collect() }
        };
        rates.push(line(&|load| load.per_second, &|load| rate(load.per_second)));
        let ideal = |replicas: &f64| (*replicas, base.per_second * replicas / fewest);
        let ideal: Vec<(f64, f64)> = points.iter().map(|(replicas, _)| ideal(replicas)).collect();
        // In an open loop there is no more to be had than is offered.
        if base.offered_per_second.is_none() {
            let label = format!("{name}, if it were in proportion");
            rates.push(Line { label, colour, dashed: true, points: ideal, marks: Vec::new() });
        }
        let p99 = |load: &LoadReport| load.main().map_or(0, |main| main.latency.p99_us);
        times.push(line(&|load| p99(load) as f64, &|load| time(p99(load))));
    }
    let x = || Axis { label: "gateways".to_owned(), scale: Scale::Linear, write: write_whole };
    let y = Axis { label: "a second".to_owned(), scale: Scale::Linear, write: write_number };
    let title = "Throughput by replicas".to_owned();
    let throughput = Plot { title, x: x(), y, lines: rates };
    let title = "p99 by replicas".to_owned();
    let latency = Plot { title, x: x(), y: time_axis(Scale::Linear), lines: times };
    Some(throughput.figure() + &latency.figure())
}

fn counters(html: &mut String, runs: &[Labelled<'_>]) {
    let mut names: Vec<&String> = runs.iter().flat_map(|run| run.run.counters.keys()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return;
    }
    html.push_str("<section><h2>What the nodes counted</h2><table><thead><tr><th></th>");
    for run in runs {
        let _ = write!(html, "<th>{}</th>", escape(run.label));
    }
    html.push_str("</tr></thead><tbody>");
    for name in names {
        let _ = write!(html, "<tr><th>{}</th>", escape(name));
        for run in runs {
            let count = run.run.counters.get(name).copied().unwrap_or(0.0);
            let _ = write!(html, "<td>{}</td>", write_number(count));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></section>");
}

/// Light and dark, by what the reader's system wants.
const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::{super::sample::report, *};

    #[test]
    fn a_page_needs_nothing_else_and_says_everything() {
        let page = render(&report(1));
        for foreign in ["http-equiv", "<script", "<link", "src=", "url(", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("Speech &amp; &lt;pictures&gt;"));
        assert!(page.contains("3 × 503 &lt;busy&gt;") && !page.contains("<busy>"));
        // The median, the slowest in a hundred and the slowest of 1 to 1,000 ms.
        for told in
            ["<b>1000 of 1000</b>", "<b>500 ms</b>p50", "<b>990 ms</b>p99", "<b>1.00 s</b>slowest"]
        {
            assert!(page.contains(told), "{told}");
        }
        for title in ["Latency by percentile", "Latency over time: job", "Throughput"] {
            assert!(page.contains(&format!("<figcaption>{title}</figcaption>")), "{title}");
        }
        assert!(!page.contains("by replicas"), "there is one number of replicas");
        assert!(page.contains("penstock_gateway_ai_jobs_total"));
        assert!(!page.contains("NaN") && !page.contains(">inf"));
        for tag in ["section", "figure", "svg", "table", "ul", "li", "tr", "text"] {
            let (begins, ends) = (format!("<{tag}"), format!("</{tag}>"));
            assert_eq!(page.matches(&begins).count(), page.matches(&ends).count(), "{tag}");
        }
    }

    #[test]
    fn curves_are_of_the_times_that_were_recorded() {
        let report = report(1);
        let series = report.runs[0].loads[0].main().unwrap();
        let line = curve("job", 0, series);
        assert!(line.points.is_sorted_by_key(|point| point.0));
        assert!(line.points.is_sorted_by_key(|point| point.1));
        let says: Vec<&str> = line.marks.iter().map(|mark| mark.2.as_str()).collect();
        assert_eq!(
            says,
            ["job p50: 500 ms", "job p90: 900 ms", "job p99: 990 ms", "job p99.9: 999 ms"]
        );
        // A hundred were due in each second; the picture says so too.
        let rates = rates(series);
        let ended: f64 =
            rates.iter().map(|(_, rate)| rate).sum::<f64>() * (rates[1].0 - rates[0].0);
        assert!((ended - 1_000.0).abs() < 0.5, "{ended}");
    }

    #[test]
    fn replicas_are_compared_if_there_are_several() {
        let page = render(&report(3));
        assert!(page.contains("<figcaption>Throughput by replicas</figcaption>"));
        assert!(page.contains("<figcaption>p99 by replicas</figcaption>"));
        // 50 payments in a second with each gateway: in proportion, where a closed loop can tell.
        for replicas in 1..=3 {
            let says =
                format!("payments, {replicas} gateways: {}", rate(50.0 * f64::from(replicas)));
            assert!(page.contains(&says), "{says}");
        }
        assert!(page.contains("payments, if it were in proportion"));
        assert!(!page.contains("ai, if it were in proportion"), "an open loop cannot tell");
    }
}
