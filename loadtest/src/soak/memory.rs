//! Memory over time: samples of a process, and how steeply they rise. Pure but for [`gauges`]' reader.
//!
//! Memory in RAM goes in steps and comes back: an allocator takes a piece and keeps it. So samples are put together to the
//! median of each of some equal parts of the time, and the slope is the median of the slopes between any two of them
//! (Theil and Sen), which no single step decides. Its interval is Sen's, from Kendall's variance, 95 %, made wider by as much
//! as a median resembles the one before it: what an allocator swings by lasts for minutes.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// What a process may grow, MiB an hour.
pub const MOST_MIB_PER_H: f64 = 1.0;
/// Parts of the time at most.
const PARTS: usize = 30;
/// Fewer say nothing.
const LEAST_PARTS: usize = 6;
/// Of the normal distribution, for 95 %.
const Z: f64 = 1.96;

/// Seconds since the load began, and KiB.
pub type Sample = (f64, u64);

/// How steeply memory rises, MiB an hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slope {
    /// The estimate.
    pub mib_per_h: f64,
    /// Its interval.
    pub low: f64,
    /// Its interval.
    pub high: f64,
}

/// What a slope says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// All of its interval is within what is allowed.
    Flat,
    /// The estimate is, its interval is not.
    Within,
    /// The estimate is not, but some of its interval is: nothing is proved.
    Unclear,
    /// None of its interval is.
    Grows,
    /// Too few samples.
    #[default]
    Unknown,
}

/// The samples since then.
pub fn slope(samples: &[Sample], from_s: f64) -> Option<Slope> {
    let samples: Vec<Sample> = samples.iter().copied().filter(|(at, _)| *at >= from_s).collect();
    let parts = medians(&samples);
    if parts.len() < LEAST_PARTS {
        return None;
    }
    let mut slopes = Vec::new();
    for (number, (at, mib)) in parts.iter().enumerate() {
        for (later, more) in &parts[number + 1..] {
            slopes.push((more - mib) / (later - at));
        }
    }
    slopes.sort_by(f64::total_cmp);
    let (n, all) = (parts.len() as f64, slopes.len() as f64);
    let own = Z * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let width = own * resemblance(&parts, median(&slopes)).sqrt();
    let place = |at: f64| slopes[(at.max(0.0) as usize).min(slopes.len() - 1)];
    Some(Slope {
        mib_per_h: median(&slopes),
        low: place(((all - width) / 2.0).floor()),
        high: place(((all + width) / 2.0).ceil()),
    })
}

/// By how much fewer medians would say as much, had each nothing to do with the one before: from what is left of them
/// without the slope, and 1 where nothing is.
fn resemblance(parts: &[(f64, f64)], mib_per_h: f64) -> f64 {
    let mut left: Vec<f64> = parts.iter().map(|(at, mib)| mib - mib_per_h * at).collect();
    let mean = left.iter().sum::<f64>() / left.len() as f64;
    left.iter_mut().for_each(|value| *value -= mean);
    let all: f64 = left.iter().map(|value| value * value).sum();
    if all <= f64::EPSILON {
        return 1.0;
    }
    let with_next: f64 = left.iter().zip(&left[1..]).map(|(one, next)| one * next).sum();
    let alike = (with_next / all).clamp(0.0, 0.95);
    (1.0 + alike) / (1.0 - alike)
}

/// Of processes that were looked at in the same moments: what they have together, divided by how many they are.
pub fn together(of: &[&[Sample]]) -> Vec<Sample> {
    let (Some(first), Ok(count)) = (of.first(), u64::try_from(of.len())) else { return Vec::new() };
    let sum = |at: usize| {
        of.iter().map(|samples| samples.get(at).map(|(_, kib)| *kib)).sum::<Option<u64>>()
    };
    let both = first.iter().enumerate().map(|(at, (when, _))| Some((*when, sum(at)?)));
    both.map_while(|both: Option<(f64, u64)>| both.map(|(when, kib)| (when, kib / count))).collect()
}

/// Some samples, less what others said in the same moments; nothing where those said nothing.
pub fn without(samples: &[Sample], less: &[Sample]) -> Vec<Sample> {
    let of = |at: usize| less.get(at).map_or(0, |(_, kib)| *kib);
    let each = samples.iter().enumerate();
    each.map(|(at, (when, kib))| (*when, kib.saturating_sub(of(at)))).collect()
}

/// Hours and MiB in the middle of each part, and the median there.
fn medians(samples: &[Sample]) -> Vec<(f64, f64)> {
    let Some(((first, _), (last, _))) = samples.first().zip(samples.last()) else {
        return Vec::new();
    };
    let parts = samples.len().min(PARTS);
    let long_s = ((last - first) / parts as f64).max(f64::MIN_POSITIVE);
    let mut values: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (at, kib) in samples {
        let part = (((at - first) / long_s) as usize).min(parts - 1);
        values.entry(part).or_default().push(*kib as f64 / 1_024.0);
    }
    let middle_h = |part: usize| (first + (part as f64 + 0.5) * long_s) / 3_600.0;
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    values.into_iter().map(|(part, values)| (middle_h(part), median(&sorted(values)))).collect()
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

/// What it says.
pub fn verdict(slope: Option<Slope>) -> Verdict {
    match slope {
        None => Verdict::Unknown,
        Some(slope) if slope.low > MOST_MIB_PER_H => Verdict::Grows,
        Some(slope) if slope.mib_per_h > MOST_MIB_PER_H => Verdict::Unclear,
        Some(slope) if slope.high > MOST_MIB_PER_H => Verdict::Within,
        Some(_) => Verdict::Flat,
    }
}

/// How something went over time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// How steeply it rises.
    pub slope: Option<Slope>,
    /// What that says.
    pub verdict: Verdict,
}

impl Trend {
    /// Of the samples after the warm-up.
    pub fn of(samples: &[Sample], warm_up: Duration) -> Self {
        let slope = slope(samples, warm_up.as_secs_f64());
        Self { slope, verdict: verdict(slope) }
    }

    /// What fails a run whose time is enough for a verdict; `longer` is the option that gives it more.
    pub fn finding(&self, of: &str, longer: &str) -> Option<String> {
        let shown = self.slope.map_or_else(String::new, |slope| {
            format!(", {:.1} MiB/h ({:.1} to {:.1})", slope.mib_per_h, slope.low, slope.high)
        });
        match self.verdict {
            Verdict::Flat | Verdict::Within => None,
            Verdict::Grows => Some(format!("{of} GROWS{shown}")),
            Verdict::Unclear => Some(format!(
                "{of}: UNCLEAR whether it grows{shown}: nothing is proved, run longer ({longer})"
            )),
            Verdict::Unknown => Some(format!(
                "{of}: UNKNOWN, too few samples after the warm-up: run longer ({longer})"
            )),
        }
    }
}

/// The gauges of a page of metrics, labels added up: what a process says that it holds.
pub fn gauges(page: &str) -> BTreeMap<String, f64> {
    let (mut names, mut all) = (Vec::new(), BTreeMap::new());
    for line in page.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            names.extend(kind.strip_suffix(" gauge"));
            continue;
        }
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let name = name.split('{').next().unwrap_or(name);
        if let (true, Ok(value)) = (names.contains(&name), value.parse::<f64>()) {
            *all.entry(name.to_owned()).or_default() += value;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 5 s for so many minutes.
    fn samples(minutes: u64, kib: impl Fn(f64) -> f64) -> Vec<Sample> {
        (0..minutes * 12).map(|n| (n as f64 * 5.0, kib(n as f64 * 5.0) as u64)).collect()
    }

    #[test]
    fn a_steady_rise_is_found_and_its_beginning_left_out() {
        // 60 MiB an hour after ten minutes in which it was steeper.
        let rise = samples(30, |s| 50_000.0 + s.min(600.0) * 100.0 + s * 60.0 * 1_024.0 / 3_600.0);
        let late = slope(&rise, 600.0).unwrap();
        assert!((late.mib_per_h - 60.0).abs() < 0.5, "{late:?}");
        assert!(late.low > 59.0 && late.high < 61.0, "{late:?}");
        assert_eq!(verdict(Some(late)), Verdict::Grows);
        assert!(slope(&rise, 0.0).unwrap().mib_per_h > 70.0);
    }

    #[test]
    fn what_goes_up_and_down_is_flat() {
        let waves = samples(30, |s| 50_000.0 + 3_000.0 * (s / 40.0).sin());
        let flat = slope(&waves, 600.0).unwrap();
        assert!(flat.low <= 0.0 && flat.high >= 0.0, "{flat:?}");
        // One high sample decides nothing.
        let mut peak = samples(30, |_| 50_000.0);
        peak[350].1 = 900_000;
        assert_eq!(verdict(slope(&peak, 600.0)), Verdict::Flat);
    }

    #[test]
    fn what_swings_slowly_has_a_wide_interval() {
        // Half a swing of 20 MiB in the time that counts: it looks as if it rose.
        let swing = samples(30, |s| 60_000.0 + 10_000.0 * (s / 400.0 + 2.2).sin());
        let slow = slope(&swing, 600.0).unwrap();
        assert!(slow.high - slow.low > 2.0 * slow.mib_per_h.abs(), "{slow:?}");
        assert_ne!(verdict(Some(slow)), Verdict::Grows, "{slow:?}");
    }

    #[test]
    fn what_one_has_more_and_its_twin_less_is_no_growth_of_both() {
        let (up, down) = (samples(30, |s| 50_000.0 + s), samples(30, |s| 50_000.0 - s));
        let both = together(&[&up, &down]);
        assert_eq!(both.len(), up.len());
        let flat = slope(&both, 600.0).unwrap();
        assert!(flat.mib_per_h.abs() < 0.1, "{flat:?}");
        let other = samples(30, |s| 50_000.0 + s);
        assert_eq!(verdict(slope(&together(&[&up, &other]), 600.0)), Verdict::Grows);
        // As far as all were looked at.
        assert_eq!(together(&[&up, &down[..7]]).len(), 7);
        assert_eq!(together(&[]), Vec::new());
    }

    #[test]
    fn a_slope_says_what_its_interval_allows() {
        let says = |mib_per_h, low, high| verdict(Some(Slope { mib_per_h, low, high }));
        assert_eq!(says(0.5, -1.0, 0.9), Verdict::Flat);
        assert_eq!(says(0.5, -1.0, 2.0), Verdict::Within);
        assert_eq!(says(1.5, -1.0, 2.0), Verdict::Unclear);
        assert_eq!(says(1.5, 1.1, 2.0), Verdict::Grows);
        assert_eq!(verdict(slope(&samples(1, |_| 1.0)[..3], 0.0)), Verdict::Unknown);
        assert_eq!(slope(&[], 0.0), None);
    }

    #[test]
    fn what_is_not_known_to_stay_is_a_finding() {
        let found = |verdict| Trend { slope: None, verdict }.finding("role x", "--minutes");
        assert_eq!((found(Verdict::Flat), found(Verdict::Within)), (None, None));
        assert!(found(Verdict::Grows).unwrap().contains("role x GROWS"));
        for verdict in [Verdict::Unclear, Verdict::Unknown] {
            assert!(found(verdict).unwrap().contains("run longer (--minutes)"));
        }
        let slope = Some(Slope { mib_per_h: 2.04, low: 1.5, high: 3.0 });
        let told = Trend { slope, verdict: Verdict::Grows }.finding("a", "").unwrap();
        assert_eq!(told, "a GROWS, 2.0 MiB/h (1.5 to 3.0)");
    }

    #[test]
    fn gauges_are_told_from_counters_and_added_up() {
        let page = "# TYPE jobs counter\njobs 9\n# TYPE held gauge\nheld{a=\"x y\"} 3\nheld{a=\"b\"} 4\n\
                    # TYPE held_total counter\nheld_total 5\n";
        assert_eq!(gauges(page), BTreeMap::from([("held".to_owned(), 7.0)]));
    }
}
