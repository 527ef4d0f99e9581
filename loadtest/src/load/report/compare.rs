//! Several reports side by side, and what keeps them from being compared.

use super::{
    Report,
    html::{self, Labelled},
    rate, time,
};
use std::fmt::Write as _;

/// Reports with what each is called, such as its file.
#[derive(Debug)]
pub struct Comparison {
    reports: Vec<(String, Report)>,
    /// Of each run.
    labels: Vec<String>,
}

impl Comparison {
    /// Of these.
    pub fn new(reports: Vec<(String, Report)>) -> Self {
        let mut labels = Vec::new();
        for (name, report) in &reports {
            for run in &report.runs {
                labels.push(match report.runs.len() {
                    1 => name.clone(),
                    _ => format!("{name}, {}", html::label(run)),
                });
            }
        }
        Self { reports, labels }
    }

    fn runs(&self) -> Vec<Labelled<'_>> {
        let all = self
            .reports
            .iter()
            .flat_map(|(_, report)| report.runs.iter().map(move |run| (report, run)));
        all.zip(&self.labels)
            .map(|((report, run), label)| Labelled { label, report, run })
            .collect()
    }

    /// What differs beside what was measured.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut differs = |what: &str, value: &dyn Fn(&Report) -> String| {
            let mut values: Vec<String> = self.reports.iter().map(|(_, r)| value(r)).collect();
            values.sort_unstable();
            values.dedup();
            if values.len() > 1 {
                warnings.push(format!("{what}: figures are not of the same thing"));
            }
        };
        differs("The scenarios' files differ", &|report| report.text.clone());
        differs("The machines differ", &|report| {
            let origin = &report.origin;
            format!("{} {} {}", origin.cpu, origin.cores, origin.memory_mib)
        });
        differs("The builds differ (release, dev)", &|report| report.origin.profile.clone());
        warnings
    }

    /// As a page.
    pub fn html(&self) -> String {
        let names: Vec<&str> = self.reports.iter().map(|(name, _)| name.as_str()).collect();
        let title = format!("{} compared", names.join(", "));
        html::page(&title, "", &self.warnings(), &self.runs())
    }

    /// For a terminal: each load, each run.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for warning in self.warnings() {
            let _ = writeln!(text, "!!! {warning}");
        }
        let runs = self.runs();
        let width = self.labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let mut names: Vec<&str> = Vec::new();
        for load in runs.iter().flat_map(|run| &run.run.loads) {
            if !names.contains(&load.name.as_str()) {
                names.push(&load.name);
            }
        }
        for name in names {
            let _ = writeln!(text, "{name}");
            for run in &runs {
                let Some(load) = run.run.loads.iter().find(|load| load.name == name) else {
                    continue;
                };
                let latency = load.main().map(|main| main.latency).unwrap_or_default();
                let _ = writeln!(
                    text,
                    "  {:width$}  {:>10}  p50 {:>9}  p99 {:>9}  slowest {:>9}  {} failed",
                    run.label,
                    rate(load.per_second),
                    time(latency.p50_us),
                    time(latency.p99_us),
                    time(latency.max_us),
                    load.failed
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample::report, *};

    fn two() -> Vec<(String, Report)> {
        vec![("before".to_owned(), report(1)), ("after".to_owned(), report(2))]
    }

    #[test]
    fn runs_are_called_by_their_file_and_their_replicas() {
        let comparison = Comparison::new(two());
        assert_eq!(comparison.labels, ["before", "after, 1 gateway", "after, 2 gateways"]);
        assert_eq!(comparison.warnings(), Vec::<String>::new());
        let text = comparison.text();
        let rates: Vec<&str> = text.lines().filter(|line| line.contains("/s")).collect();
        assert_eq!(rates.len(), 6, "{text}");
        assert!(rates[5].contains("after, 2 gateways") && rates[5].contains("100.0/s"), "{text}");
        let page = comparison.html();
        assert!(page.contains("before, after compared"));
        assert!(page.contains("<figcaption>Latency by percentile: job</figcaption>"));
        assert!(page.contains("Throughput by replicas"));
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let mut reports = two();
        reports[1].1.origin.cpu = "another".to_owned();
        reports[1].1.text.push('#');
        let comparison = Comparison::new(reports);
        assert_eq!(comparison.warnings().len(), 2, "{:?}", comparison.warnings());
        assert!(comparison.text().starts_with("!!! The scenarios' files differ"));
        assert!(comparison.html().contains("The machines differ"));
    }
}
