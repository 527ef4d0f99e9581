//! Lines over two axes as an SVG picture, by numbers alone: no script draws it, no font has to be there.

use std::fmt::Write as _;

/// Picture and margins.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 88.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;
/// Colours that the page has.
pub const COLOURS: usize = 8;

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As they are, from 0.
    Linear,
    /// By their decimal logarithm.
    Log,
    /// Parts of one by how many nines they have: 0.9, 0.99, 0.999 are as far from each other.
    Nines,
}

/// One axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What is on it.
    pub label: String,
    /// How values become places.
    pub scale: Scale,
    /// How a value is written; what is written as nothing has no line across the picture either.
    pub write: fn(f64) -> String,
}

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it is.
    pub label: String,
    /// Its colour.
    pub colour: usize,
    /// For what is compared with.
    pub dashed: bool,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// Points that are marked, with what they say when they are pointed at.
    pub marks: Vec<(f64, f64, String)>,
}

/// Lines over two axes.
#[derive(Debug, Clone)]
pub struct Plot {
    /// What it shows, for whoever cannot see it.
    pub title: String,
    /// Across.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// Smallest and largest place of an axis, in its own scale.
#[derive(Debug, Clone, Copy)]
struct Extent {
    min: f64,
    max: f64,
}

impl Scale {
    /// Where a value is, if it has a place.
    fn place(self, value: f64) -> Option<f64> {
        let place = match self {
            Self::Linear => value,
            Self::Log => value.log10(),
            Self::Nines => -(1.0 - value).log10(),
        };
        place.is_finite().then_some(place)
    }

    /// Values worth a line within these places.
    fn ticks(self, Extent { min, max }: Extent) -> Vec<f64> {
        let within =
            |value: &f64| self.place(*value).is_some_and(|at| at >= min - 1e-9 && at <= max + 1e-9);
        match self {
            Self::Linear => {
                let step = nice((max - min) / 5.0);
                let first = (min / step).ceil() as i64;
                (first..first + 12).map(|n| n as f64 * step).filter(within).collect()
            }
            Self::Log => {
                let decades = min.floor() as i32..=max.ceil() as i32;
                let each: &[f64] = if max - min > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let all = decades.flat_map(|ten| each.iter().map(move |n| n * 10_f64.powi(ten)));
                all.filter(within).collect()
            }
            Self::Nines => [0.0, 0.5, 0.9, 0.99, 0.999, 0.999_9, 0.999_99, 0.999_999]
                .into_iter()
                .filter(within)
                .collect(),
        }
    }
}

/// 1, 2 or 5 times a power of ten, not below.
fn nice(step: f64) -> f64 {
    let step = step.max(1e-9);
    let ten = 10_f64.powf(step.log10().floor());
    let part = step / ten;
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|nice| part <= nice + 1e-9);
    nice.unwrap_or(10.0) * ten
}

impl Axis {
    fn extent(&self, values: impl Iterator<Item = f64>) -> Extent {
        let places: Vec<f64> = values.filter_map(|value| self.scale.place(value)).collect();
        let least = places.iter().copied().fold(f64::INFINITY, f64::min);
        let most = places.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (min, max) = match (self.scale, least.is_finite()) {
            (_, false) => (0.0, 1.0),
            // From nothing, with air above.
            (Scale::Linear, _) => (least.min(0.0), most * 1.04),
            (Scale::Log, _) => {
                // So wide that there is a tick: one of 1, 2 and 5 is never further than 0.4.
                let more = ((0.5 - (most - least)) / 2.0).max(0.05);
                (least - more, most + more)
            }
            (Scale::Nines, _) => (least, most),
        };
        if max - min > 1e-9 { Extent { min, max } } else { Extent { min, max: min + 1.0 } }
    }
}

impl Plot {
    /// The picture.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let across = self.x.extent(points().map(|point| point.0));
        let up = self.y.extent(points().map(|point| point.1));
        let part = |Extent { min, max }: Extent, at: f64| (at - min) / (max - min);
        let x = |value: f64| {
            let at = part(across, self.x.scale.place(value)?);
            Some(LEFT + at * (WIDTH - LEFT - RIGHT))
        };
        let y = |value: f64| {
            let at = part(up, self.y.scale.place(value)?);
            Some(HEIGHT - BOTTOM - at * (HEIGHT - TOP - BOTTOM))
        };
        let mut svg = String::new();
        let title = escape(&self.title);
        let _ = write!(
            svg,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\
             <title>{title}</title>"
        );
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in self.y.scale.ticks(up) {
            let Some(at) = y(tick) else { continue };
            let text = escape(&(self.y.write)(tick));
            if text.is_empty() {
                continue;
            }
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        for tick in self.x.scale.ticks(across) {
            let Some(at) = x(tick) else { continue };
            let text = escape(&(self.x.write)(tick));
            if text.is_empty() {
                continue;
            }
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>\
                 <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                bottom + 16.0
            );
        }
        let _ = write!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
             <text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"label\" transform=\"translate(14 {:.1}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 10.0,
            escape(&self.x.label),
            f64::midpoint(TOP, bottom),
            escape(&self.y.label)
        );
        for line in &self.lines {
            let places: Vec<(f64, f64)> =
                line.points.iter().filter_map(|(px, py)| Some((x(*px)?, y(*py)?))).collect();
            let mut path = String::new();
            for (number, (px, py)) in places.iter().enumerate() {
                let _ = write!(path, "{}{px:.1} {py:.1}", if number == 0 { 'M' } else { 'L' });
            }
            let dashed = if line.dashed { " dashed" } else { "" };
            let colour = line.colour % COLOURS;
            let _ = write!(svg, "<path class=\"line s{colour}{dashed}\" d=\"{path}\"/>");
            for (px, py, says) in &line.marks {
                let Some((px, py)) = x(*px).zip(y(*py)) else { continue };
                let says = escape(says);
                let _ = write!(
                    svg,
                    "<circle class=\"mark s{colour}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"4\">\
                     <title>{says}</title></circle>"
                );
            }
        }
        svg.push_str("</svg>");
        svg
    }

    /// Picture, heading, and what each line is, as a figure of a page.
    pub fn figure(&self) -> String {
        let mut html = format!("<figure><figcaption>{}</figcaption>", escape(&self.title));
        html.push_str("<ul class=\"legend\">");
        for line in &self.lines {
            let dashed = if line.dashed { " dashed" } else { "" };
            let _ = write!(
                html,
                "<li><svg viewBox=\"0 0 22 8\"><path class=\"line s{}{dashed}\" d=\"M1 4H21\"/></svg>{}</li>",
                line.colour % COLOURS,
                escape(&line.label)
            );
        }
        html.push_str("</ul>");
        html.push_str(&self.svg());
        html.push_str("</figure>");
        html
    }
}

/// Text for a page.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: f64) -> String {
        value.to_string()
    }

    fn axis(scale: Scale) -> Axis {
        Axis { label: "a <label>".to_owned(), scale, write: plain }
    }

    fn plot(x: Scale, y: Scale, points: Vec<(f64, f64)>) -> Plot {
        let line =
            Line { label: "l".to_owned(), colour: 0, dashed: false, marks: Vec::new(), points };
        Plot { title: "t".to_owned(), x: axis(x), y: axis(y), lines: vec![line] }
    }

    /// The places of the line's points.
    fn places(svg: &str) -> Vec<(f64, f64)> {
        let path = svg.split_once("class=\"line s0\" d=\"M").unwrap().1.split('"').next().unwrap();
        let number = |text: &str| text.parse::<f64>().unwrap();
        path.split('L')
            .map(|point| point.split_once(' ').unwrap())
            .map(|(x, y)| (number(x), number(y)))
            .collect()
    }

    #[test]
    fn values_are_where_their_scale_puts_them() {
        let svg =
            plot(Scale::Linear, Scale::Log, vec![(0.0, 1.0), (5.0, 10.0), (10.0, 100.0)]).svg();
        let [first, middle, last]: [_; 3] = places(&svg).try_into().unwrap();
        assert_eq!(first.0, LEFT);
        assert!(middle.0 > first.0 && last.0 > middle.0 && last.0 <= WIDTH - RIGHT);
        // A picture's first line is its upper one; equal ratios are equally far.
        assert!((first.1 - middle.1 - (middle.1 - last.1)).abs() < 0.2, "{svg}");
        assert!(first.1 > last.1);
        let svg =
            plot(Scale::Nines, Scale::Linear, vec![(0.9, 1.0), (0.99, 2.0), (0.999, 3.0)]).svg();
        let [first, middle, last]: [_; 3] = places(&svg).try_into().unwrap();
        assert!((middle.0 - first.0 - (last.0 - middle.0)).abs() < 0.2, "{svg}");
    }

    #[test]
    fn what_has_no_place_is_left_out_and_nothing_is_no_harm() {
        let svg =
            plot(Scale::Linear, Scale::Log, vec![(0.0, 0.0), (1.0, 5.0), (f64::NAN, 5.0)]).svg();
        assert_eq!(places(&svg).len(), 1);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let mut empty = plot(Scale::Nines, Scale::Linear, Vec::new());
        assert!(empty.svg().contains("class=\"line s0\" d=\"\""));
        empty.lines.clear();
        assert!(empty.svg().starts_with("<svg "));
    }

    #[test]
    fn ticks_are_few_round_and_within() {
        let extent = |min, max| Extent { min, max };
        assert_eq!(Scale::Linear.ticks(extent(0.0, 1_040.0)), [0.0, 500.0, 1_000.0]);
        assert_eq!(Scale::Linear.ticks(extent(0.0, 60.0)), [0.0, 20.0, 40.0, 60.0]);
        assert_eq!(Scale::Log.ticks(extent(2.9, 6.1)), [1e3, 1e4, 1e5, 1e6]);
        assert_eq!(Scale::Log.ticks(extent(0.1, 1.1)), [2.0, 5.0, 10.0]);
        assert_eq!(Scale::Nines.ticks(extent(0.0, 3.0)), [0.0, 0.5, 0.9, 0.99, 0.999]);
    }

    #[test]
    fn an_axis_of_equal_values_has_a_tick() {
        for value in [1.0, 1.9, 3.3, 7.1, 364_000.0] {
            let extent = axis(Scale::Log).extent([value].into_iter());
            assert!(!Scale::Log.ticks(extent).is_empty(), "{value}");
        }
    }

    #[test]
    fn texts_are_texts() {
        let svg = plot(Scale::Linear, Scale::Linear, vec![(0.0, 1.0)]).figure();
        assert!(svg.contains("a &lt;label&gt;") && !svg.contains("<label>"));
        assert_eq!(escape("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
