//! The report as one page that needs nothing else: a row for each figure, its rounds as points on a line
//! with the target.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Figure, Target};

/// The line's length and a row's height, in pixels.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 28.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;\
color:#1b1f24;background:#fff}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;\
border-bottom:1px solid #d8dee4;vertical-align:middle}td.n{text-align:right;font-variant-numeric:tabular-nums;\
white-space:nowrap}.no{color:#b42318}.yes{color:#1a7f37}p{max-width:60rem}";

/// The page.
pub fn page(report: &Value, figures: &[Figure]) -> String {
    let mut rows = String::new();
    for figure in figures {
        rows.push_str(&row(figure));
    }
    let text = |path: &str| {
        let value = report.pointer(path).cloned().unwrap_or_default();
        escape(value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str())
    };
    let rounds = report.get("rounds").and_then(Value::as_array).map_or(0, Vec::len);
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Penstock's benchmarks</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style>\n\
         <h1>Benchmarks</h1>\n<p>Commit <code>{}</code>, {} cores of {}, {} MiB, Linux {}, {} build; {rounds} \
         rounds in {} s. Every figure is a ratio to what stands beside it, measured in the same round. The noise \
         is how far the rounds lie apart; the circle is the middle one, the red line the target.</p>\n{}\
         <table><thead><tr><th>figure</th><th>beside</th><th>ratio</th><th>noise</th><th>target</th><th>rounds</th>\
         </tr></thead><tbody>\n{rows}</tbody></table>\n</html>\n",
        text("/origin/commit"),
        text("/origin/cores"),
        text("/origin/cpu"),
        text("/origin/memory_mib"),
        text("/origin/kernel"),
        text("/origin/profile"),
        text("/wall_s"),
        compared(report.get("compared")),
    )
}

fn compared(compared: Option<&Value>) -> String {
    let Some(apart) = compared.and_then(|c| c.get("apart")).and_then(Value::as_array) else {
        return String::new();
    };
    let names: Vec<String> = apart.iter().filter_map(Value::as_str).map(escape).collect();
    let what = match names.as_slice() {
        [] => "all lie within both runs' noise".to_owned(),
        names => format!("further apart than both runs' noise: {}", names.join("; ")),
    };
    let commit = compared.and_then(|c| c.get("commit")).and_then(Value::as_str).unwrap_or("?");
    format!("<p>Beside the run before (<code>{}</code>): {what}.</p>\n", escape(commit))
}

fn row(figure: &Figure) -> String {
    let target = match figure.target {
        None => "–".to_owned(),
        Some(target) => {
            let (sign, ratio) = match target {
                Target::AtLeast(ratio) => ("≥", ratio),
                Target::AtMost(ratio) => ("≤", ratio),
            };
            let class = if figure.met() == Some(true) { "yes" } else { "no" };
            format!("<span class=\"{class}\">{sign} {ratio:.2}</span>")
        }
    };
    // One round lies apart from no other.
    let noise = match figure.raw.len() {
        0 | 1 => "–".to_owned(),
        _ => format!("±{:.1} %", figure.noise() / figure.median() * 50.0),
    };
    format!(
        "<tr><td>{}</td><td>{}</td><td class=\"n\">{:.3}</td><td class=\"n\">{}</td><td class=\"n\">{target}</td>\
         <td>{}</td></tr>\n",
        escape(&figure.name),
        escape(figure.beside),
        figure.median(),
        noise,
        line(figure),
    )
}

/// The rounds between nought and a little more than the most that is shown.
fn line(figure: &Figure) -> String {
    let target = figure.target.map(|t| match t {
        Target::AtLeast(ratio) | Target::AtMost(ratio) => ratio,
    });
    let most = figure.rounds().into_iter().chain(target).fold(0.0_f64, f64::max).max(1e-9);
    let x = |ratio: f64| 6.0 + (WIDTH - 12.0) * ratio / (most * 1.1);
    let middle = HEIGHT / 2.0;
    let mut svg = format!(
        "<svg role=\"img\" aria-label=\"rounds\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} \
         {HEIGHT}\"><line x1=\"6\" x2=\"{}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#d0d7de\"/>",
        WIDTH - 6.0
    );
    if let Some(target) = target {
        let x = x(target);
        let _ = write!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"3\" y2=\"{}\" stroke=\"#b42318\" stroke-width=\"2\"/>",
            HEIGHT - 3.0
        );
    }
    for (measured, bare) in &figure.raw {
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{middle}\" r=\"3\" fill=\"#0969da\" fill-opacity=\".5\">\
             <title>{measured:.1} beside {bare:.1} {}</title></circle>",
            x(measured / bare),
            figure.unit
        );
    }
    let _ = write!(
        svg,
        "<circle cx=\"{:.1}\" cy=\"{middle}\" r=\"6\" fill=\"none\" stroke=\"#0969da\" stroke-width=\"1.5\"/></svg>",
        x(figure.median())
    );
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_figure_is_on_the_page_and_nothing_breaks_out_of_it() {
        let figure = |name: &str, target| Figure {
            name: name.to_owned(),
            beside: "bare",
            target,
            unit: "ms",
            raw: vec![(5.0, 10.0), (6.0, 10.0), (5.5, 10.0)],
        };
        let figures = [figure("<one>", Some(Target::AtLeast(0.6))), figure("two", None)];
        let report = json!({"origin": {"commit": "<c>", "cores": 2}, "rounds": [1, 2, 3],
            "compared": {"commit": "old", "apart": ["two"]}});
        let page = page(&report, &figures);
        assert!(page.contains("&lt;one&gt;") && !page.contains("<one>") && !page.contains("<c>"));
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("<title>6.0 beside 10.0 ms</title>"), "{page}");
        assert!(page.contains("0.550") && page.contains("±9.1 %"), "{page}");
        assert!(page.contains("class=\"no\"") && page.contains("noise: two"), "{page}");
    }
}
