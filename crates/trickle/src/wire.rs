//! What the wire says in headers and paths: names, indexes, statuses (trickle.md section 2).

use http::{HeaderMap, HeaderName};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// Response: the index that the request was resolved to.
pub const SEQ: HeaderName = HeaderName::from_static("lp-trickle-seq");
/// Response: the index after the segment begun last, which may have no data yet.
pub const LATEST: HeaderName = HeaderName::from_static("lp-trickle-latest");
/// Response: the channel is closed; any value that is not empty says so.
pub const CLOSED: HeaderName = HeaderName::from_static("lp-trickle-closed");
/// Publish request: close the segments before this one; any value that is not empty says so.
pub const RESET: HeaderName = HeaderName::from_static("lp-trickle-reset");
/// Create request: media type of the new channel.
pub const EXPECT_CONTENT: HeaderName = HeaderName::from_static("expect-content");

/// Status of a `GET` whose channel is there and whose segment is not: too old, or too far ahead.
pub const STATUS_NO_SEGMENT: u16 = 470;

/// Value of [`CLOSED`] that servers send.
pub(crate) const TERMINATED: &str = "terminated";

/// A path's index that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("Invalid idx")]
pub struct InvalidIndex;

/// Number of a segment. There is always a next one as a 64-bit signed number, which is what other
/// implementations count in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

impl Seq {
    /// A channel's first segment.
    pub const ZERO: Self = Self(0);
    /// The last segment that a channel could have.
    pub const MAX: Self = Self(i64::MAX as u64 - 1);

    /// `None` above [`Seq::MAX`].
    pub fn new(number: u64) -> Option<Self> {
        (number <= Self::MAX.0).then_some(Self(number))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The one after it, if there is one.
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// The number after it: what `Lp-Trickle-Latest` says once it has begun.
    pub(crate) fn after(self) -> u64 {
        self.0 + 1
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which segment a request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// -1: the one that begins next.
    Next,
    /// -2: the one begun last.
    Current,
    /// This one.
    At(Seq),
}

impl FromStr for Position {
    type Err = InvalidIndex;

    /// A signed decimal number, as in a path.
    fn from_str(text: &str) -> Result<Self, InvalidIndex> {
        match text.parse::<i64>() {
            Ok(-1) => Ok(Self::Next),
            Ok(-2) => Ok(Self::Current),
            Ok(number) => {
                u64::try_from(number).ok().and_then(Seq::new).map(Self::At).ok_or(InvalidIndex)
            }
            Err(_) => Err(InvalidIndex),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Next => f.write_str("-1"),
            Self::Current => f.write_str("-2"),
            Self::At(seq) => seq.fmt(f),
        }
    }
}

impl From<Seq> for Position {
    fn from(seq: Seq) -> Self {
        Self::At(seq)
    }
}

/// Whether the header is there with a value that is not empty.
pub(crate) fn is_set(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get(name).is_some_and(|value| !value.is_empty())
}

/// The number in a header of an answer; `None` when it is missing or none.
pub(crate) fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let number: u64 = headers.get(name)?.to_str().ok()?.parse().ok()?;
    (number <= Seq::MAX.after()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    #[test]
    fn indexes_at_their_limits() {
        let of = |text: &str| text.parse::<Position>();
        assert_eq!(of("-1"), Ok(Position::Next));
        assert_eq!(of("-2"), Ok(Position::Current));
        assert_eq!(of("+0007"), Ok(Position::At(Seq(7))));
        assert_eq!(of("9223372036854775806"), Ok(Position::At(Seq::MAX)));
        let none = ["", "-", "+", "-3", "1_0", "0x1", " 1", "1.0", "next", "９"];
        let large = ["9223372036854775807", "9223372036854775808", "-9223372036854775808"];
        for text in none.iter().chain(&large) {
            assert_eq!(of(text), Err(InvalidIndex), "{text}");
        }
        assert_eq!(Seq::MAX.next(), None);
        assert_eq!(Seq::ZERO.next(), Seq::new(1));
    }

    /// Numbers about all limits, signed as one may sign them, and things that look like numbers.
    fn index_like() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            any::<i64>().prop_map(i128::from),
            (-4i128..4),
            (-2i128..3).prop_map(|d| i128::from(i64::MAX) + d),
            (-2i128..3).prop_map(|d| i128::from(i64::MIN) + d),
            any::<i128>(),
        ];
        let letters =
            proptest::sample::select(&['-', '+', '0', '1', '9', 'x', ' ', '_', '.', '９'][..]);
        prop_oneof![
            number.prop_map(|n| n.to_string()),
            number_with_zeros(),
            proptest::collection::vec(letters, 0..8).prop_map(|l| l.into_iter().collect()),
        ]
    }

    fn number_with_zeros() -> impl Strategy<Value = String> {
        (0usize..4, any::<u32>()).prop_map(|(zeros, n)| format!("+{}{n}", "0".repeat(zeros)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60_000))]

        #[test]
        fn a_path_index_is_its_number_or_refused(text in index_like()) {
            let parsed = text.parse::<Position>();
            match text.parse::<i128>() {
                Ok(-1) => prop_assert_eq!(parsed, Ok(Position::Next)),
                Ok(-2) => prop_assert_eq!(parsed, Ok(Position::Current)),
                Ok(n) if (0..i128::from(i64::MAX)).contains(&n) => {
                    let seq = Seq::new(u64::try_from(n).unwrap()).unwrap();
                    prop_assert_eq!(parsed, Ok(Position::At(seq)));
                    prop_assert_eq!(Position::At(seq).to_string(), n.to_string());
                }
                _ => prop_assert_eq!(parsed, Err(InvalidIndex)),
            }
        }

        #[test]
        fn a_header_is_a_number_within_limits_or_none(bytes in prop_oneof![
            proptest::collection::vec(prop_oneof![0x20u8..0x7f, 0x80u8..=0xff], 0..24),
            any::<u64>().prop_map(|n| n.to_string().into_bytes()),
        ]) {
            let mut headers = HeaderMap::new();
            headers.insert(LATEST, HeaderValue::from_bytes(&bytes).unwrap());
            if let Some(n) = number(&headers, &LATEST) {
                prop_assert!(n <= Seq::MAX.get() + 1);
                prop_assert_eq!(std::str::from_utf8(&bytes).unwrap().parse::<u64>(), Ok(n));
            }
            prop_assert_eq!(is_set(&headers, &LATEST), !bytes.is_empty());
        }
    }
}
