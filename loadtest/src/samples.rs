//! Raw samples in a bench's report: times as the buckets of an HDR histogram, so that every percentile can be had
//! of them later and rounds can be added up, and JSON in which they take a line.

use crate::load::tally::LONGEST_US;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// Decimal digits that are kept of a time: a hundredth of it is less than what two runs lie apart, and a report
/// with a thousand times as many buckets belongs into no repository.
const DIGITS: u8 = 2;

/// Highest time of a bucket in µs, and how many were in it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Buckets(pub Vec<(u64, u64)>);

impl Buckets {
    /// Of times in µs, in any order.
    pub fn of(times_us: &[u64]) -> Self {
        let mut whole = Histogram::<u64>::new_with_bounds(1, LONGEST_US, DIGITS).expect("bounds");
        for us in times_us {
            whole.saturating_record((*us).max(1));
        }
        let recorded = whole.iter_recorded();
        Self(recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }

    /// How many times are in them.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

/// For people, who are shown percentiles.
impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} buckets", self.0.len())
    }
}

/// A report's JSON: a line for each field, and one for each array of numbers, however long.
pub fn json(report: &impl Serialize) -> String {
    let value = serde_json::to_value(report).expect("numbers and texts");
    let mut text = String::new();
    write(&value, 0, &mut text);
    text + "\n"
}

fn write(value: &Value, depth: usize, text: &mut String) {
    let (parts, [open, close]): (Vec<(String, &Value)>, _) = match value {
        Value::Object(fields) if !fields.is_empty() => {
            let named = |(name, part)| (format!("{}: ", Value::from(String::as_str(name))), part);
            (fields.iter().map(named).collect(), ["{", "}"])
        }
        Value::Array(parts) if has_objects(value) => {
            (parts.iter().map(|part| (String::new(), part)).collect(), ["[", "]"])
        }
        plain => return text.push_str(&plain.to_string()),
    };
    text.push_str(open);
    for (number, (name, part)) in parts.into_iter().enumerate() {
        text.push_str(if number == 0 { "\n" } else { ",\n" });
        text.push_str(&"  ".repeat(depth + 1));
        text.push_str(&name);
        write(part, depth + 1, text);
    }
    text.push('\n');
    text.push_str(&"  ".repeat(depth));
    text.push_str(close);
}

fn has_objects(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(parts) => parts.iter().any(has_objects),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_time_is_in_a_bucket_that_is_near_it() {
        let times: Vec<u64> = (0..5_000).map(|n| n * 37).collect();
        let buckets = Buckets::of(&times);
        assert_eq!(buckets.count(), 5_000);
        assert!(buckets.0.len() < 1_500, "{buckets:?}");
        // The middle one, within a hundredth.
        let mut below = 0;
        let middle = buckets.0.iter().find(|(_, count)| {
            below += count;
            below >= 2_500
        });
        let (median, _) = *middle.unwrap();
        assert!(median.abs_diff(times[2_499]) * 100 <= times[2_499], "{median}");
        assert_eq!(Buckets::of(&[]), Buckets::default());
    }

    #[test]
    fn arrays_of_numbers_take_a_line_and_nothing_is_lost() {
        let report = json!({
            "a": {"buckets_us": [[1, 2], [3, 4]], "none": [], "empty": {}},
            "b": [{"c": 1.5}, {"c": null}], "d\"": "e\n",
        });
        let text = super::json(&report);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), report);
        assert!(text.contains("\n    \"buckets_us\": [[1,2],[3,4]],\n"), "{text}");
        assert!(text.contains("\n    {\n      \"c\": 1.5\n    },\n"), "{text}");
    }
}
