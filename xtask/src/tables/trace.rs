//! The picture of one paid job's trace, drawn from the spans that its system test recorded.

use std::fmt::Write as _;

use serde_json::Value;

/// Where the picture lies.
pub const PICTURE: &str = "docs/trace.svg";
/// The spans.
pub const DATA: &str = "trace.json";

/// Height of a line, and sizes of the drawing, in pixels.
const LINE: usize = 20;
const TOP: usize = 58;
const NAMES: usize = 330;
const BARS: usize = 560;
const RIGHT: usize = 90;

/// The processes, from the application's side to the far end, each with its colour.
const SERVICES: [(&str, &str); 5] = [
    ("penstock-gateway", "#2f6fab"),
    ("penstock-signer", "#b8860b"),
    ("penstock-orchestrator", "#6a4c93"),
    ("penstock-worker", "#2e7d51"),
    ("penstock-runner", "#b0413e"),
];

struct Span {
    parent: Option<usize>,
    service: String,
    name: String,
    start_us: u64,
    end_us: u64,
}

/// The drawing; `None` if the data is not what the test writes.
pub fn draw(data: &Value) -> Option<String> {
    let spans = data.get("spans")?.as_array()?.iter().map(span).collect::<Option<Vec<_>>>()?;
    let whole_us = spans.iter().map(|span| span.end_us).max()?.max(1);
    let order = in_order(&spans);
    let (width, height) = (NAMES + BARS + RIGHT, TOP + order.len() * LINE + 14);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>The trace of one paid job through all processes</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    legend(&mut svg)?;
    axis(&mut svg, whole_us, height)?;
    for (row, (n, depth)) in order.iter().enumerate() {
        line(&mut svg, spans.get(*n)?, *depth, TOP + row * LINE, whole_us)?;
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn span(value: &Value) -> Option<Span> {
    Some(Span {
        parent: value.get("parent")?.as_u64().and_then(|n| usize::try_from(n).ok()),
        service: value.get("service")?.as_str()?.to_owned(),
        name: value.get("name")?.as_str()?.to_owned(),
        start_us: value.get("start_us")?.as_u64()?,
        end_us: value.get("end_us")?.as_u64()?,
    })
}

/// Each span below its parent, by time, with how deep it is.
fn in_order(spans: &[Span]) -> Vec<(usize, usize)> {
    let mut order = Vec::new();
    let mut open: Vec<(usize, usize)> = children(spans, None, 0);
    while let Some((n, depth)) = open.pop() {
        order.push((n, depth));
        // A span that were its own ancestor would go on for ever.
        if order.len() > spans.len() {
            break;
        }
        open.extend(children(spans, Some(n), depth + 1));
    }
    order
}

/// The last first, for a stack.
fn children(spans: &[Span], of: Option<usize>, depth: usize) -> Vec<(usize, usize)> {
    let mut found: Vec<_> = spans
        .iter()
        .enumerate()
        .filter(|(_, span)| span.parent == of)
        .map(|(n, span)| (std::cmp::Reverse((span.start_us, n)), n))
        .collect();
    found.sort();
    found.into_iter().map(|(_, n)| (n, depth)).collect()
}

fn legend(svg: &mut String) -> Option<()> {
    for (n, (service, colour)) in SERVICES.iter().enumerate() {
        let x = 14 + n * 180;
        let name = service.trim_start_matches("penstock-");
        writeln!(
            svg,
            "<rect x=\"{x}\" y=\"12\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"22\" fill=\"#222222\">{name}</text>",
            x + 18
        )
        .ok()?;
    }
    Some(())
}

/// Four lines with their times.
fn axis(svg: &mut String, whole_us: u64, height: usize) -> Option<()> {
    for quarter in 0..=4_usize {
        let x = NAMES + BARS * quarter / 4;
        let at_us = whole_us * quarter as u64 / 4;
        writeln!(
            svg,
            "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{}\" stroke=\"#dddddd\"/>\
             <text x=\"{x}\" y=\"46\" fill=\"#666666\" text-anchor=\"middle\">{}</text>",
            TOP - 6,
            height - 10,
            time(at_us)
        )
        .ok()?;
    }
    Some(())
}

fn line(svg: &mut String, span: &Span, depth: usize, y: usize, whole_us: u64) -> Option<()> {
    let colour = SERVICES.iter().find(|(service, _)| *service == span.service)?.1;
    let scale = |us: u64| usize::try_from(us * BARS as u64 / whole_us).ok();
    let (x, end) = (NAMES + scale(span.start_us)?, NAMES + scale(span.end_us)?);
    let width = end.saturating_sub(x).max(2);
    let took = time(span.end_us.saturating_sub(span.start_us));
    writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}</text>\
         <rect x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{}\" rx=\"2\" fill=\"{colour}\"/>\
         <text x=\"{}\" y=\"{}\" fill=\"#444444\" font-size=\"10\">{took}</text>",
        14 + depth * 16,
        y + 14,
        escaped(&span.name),
        y + 4,
        LINE - 8,
        x + width + 5,
        y + 14,
    )
    .ok()
}

fn time(us: u64) -> String {
    match us {
        0 => "0".to_owned(),
        1..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn children_stand_below_their_parents() {
        let one = |id: u64, parent: Option<u64>, start: u64| {
            json!({"id": id, "parent": parent, "service": "penstock-gateway",
                "name": format!("n{id}"), "kind": "internal", "start_us": start, "end_us": start + 5})
        };
        let data = json!({"spans": [one(0, None, 0), one(1, Some(0), 9), one(2, Some(0), 3), one(3, Some(2), 4)]});
        let svg = draw(&data).unwrap();
        let at = |name: &str| svg.find(&format!(">{name}<")).unwrap();
        assert!(at("n0") < at("n2") && at("n2") < at("n3") && at("n3") < at("n1"));
        assert_eq!(draw(&json!({"spans": [{"id": 0}]})), None);
    }

    #[test]
    fn times_as_people_read_them() {
        let read = [0, 999, 1_540, 42_000, 1_234_567].map(time);
        assert_eq!(read, ["0", "999 µs", "1.5 ms", "42 ms", "1.23 s"]);
    }
}
