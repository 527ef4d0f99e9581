//! Names of spend counters: who spent, or on whom, in which period.
//!
//! A counter holds what was charged to it: Σ of the stored payments plus Σ of the open
//! reservations. Names are text so that both databases and their operators can read them; parts
//! that callers choose are escaped, so that no two counters share a name.

use core::fmt;
use penstock_domain::{Address, AuthId, Wei, address_lower};
use sha2::{Digest, Sha256};
use time::{Date, OffsetDateTime};

/// Longest name of a counter, in bytes.
pub const MAX_COUNTER_KEY_BYTES: usize = 256;
/// Parts longer than this are replaced by their hash.
const MAX_PART_BYTES: usize = 80;

/// A day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

/// A month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(i32, u8);

/// An hour in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(Date, u8);

impl Day {
    /// The day of a moment, Unix milliseconds.
    pub fn of_ms(now_ms: i64) -> Self {
        Self(moment(now_ms).date())
    }
}

impl Month {
    /// The month of a moment, Unix milliseconds.
    pub fn of_ms(now_ms: i64) -> Self {
        let date = moment(now_ms).date();
        Self(date.year(), date.month().into())
    }
}

impl Hour {
    /// The hour of a moment, Unix milliseconds.
    pub fn of_ms(now_ms: i64) -> Self {
        let moment = moment(now_ms);
        Self(moment.date(), moment.hour())
    }
}

/// The nearest moment that has a date: clocks that show the year 10,000 are not believed.
fn moment(now_ms: i64) -> OffsetDateTime {
    let seconds = now_ms.div_euclid(1_000).clamp(0, 253_402_300_799);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0, self.1)
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T{:02}", Day(self.0), self.1)
    }
}

/// The name of one counter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey(String);

impl CounterKey {
    /// What an account spends in a day: `a/NAME/d/2026-11-21`.
    pub fn account_day(account: &str, day: Day) -> Self {
        Self(format!("a/{}/d/{day}", part(account)))
    }

    /// What an account spends in a month: `a/NAME/m/2026-11`.
    pub fn account_month(account: &str, month: Month) -> Self {
        Self(format!("a/{}/m/{month}", part(account)))
    }

    /// What an account spends for one subject in a day: `s/NAME/SUBJECT/d/2026-11-21`.
    pub fn subject_day(account: &str, auth_id: &AuthId, day: Day) -> Self {
        Self(format!("s/{}/{}/d/{day}", part(account), part(auth_id.as_str())))
    }

    /// What an account spends for one subject in a month: `s/NAME/SUBJECT/m/2026-11`.
    pub fn subject_month(account: &str, auth_id: &AuthId, month: Month) -> Self {
        Self(format!("s/{}/{}/m/{month}", part(account), part(auth_id.as_str())))
    }

    /// What one orchestrator is paid in an hour: `o/0x…/h/2026-11-21T13`.
    pub fn orchestrator_hour(address: &Address, hour: Hour) -> Self {
        Self(format!("o/{}/h/{hour}", address_lower(address)))
    }

    /// What this deposit spends in an hour: `g/h/2026-11-21T13`.
    pub fn global_hour(hour: Hour) -> Self {
        Self(format!("g/h/{hour}"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the counter's period was over before this moment, Unix milliseconds.
    pub fn ended_before(&self, now_ms: i64) -> bool {
        let mut parts = self.0.rsplitn(3, '/');
        let (Some(period), Some(kind)) = (parts.next(), parts.next()) else { return false };
        let now = match kind {
            "d" => Day::of_ms(now_ms).to_string(),
            "m" => Month::of_ms(now_ms).to_string(),
            "h" => Hour::of_ms(now_ms).to_string(),
            _ => return false,
        };
        // Of one length, largest part first: as text they are in the order of time.
        period.len() == now.len() && period < now.as_str()
    }

    /// A name out of the books; `None` if it cannot be one.
    pub(super) fn from_books(text: String) -> Option<Self> {
        (!text.is_empty() && text.len() <= MAX_COUNTER_KEY_BYTES).then_some(Self(text))
    }
}

impl fmt::Display for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `%` and `/` escaped; a long part becomes `%h` and its SHA-256, which no escape looks like.
fn part(text: &str) -> String {
    let escaped = text.replace('%', "%25").replace('/', "%2F");
    // NUL is no text to PostgreSQL.
    if escaped.len() > MAX_PART_BYTES || escaped.contains('\0') {
        return format!("%h{}", hex::encode(Sha256::digest(text.as_bytes())));
    }
    escaped
}

/// One counter that a payment is charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Which.
    pub counter: CounterKey,
    /// What it may not pass; `None` only counts.
    pub cap_wei: Option<Wei>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-21T13:45:06.789Z
    const NOW_MS: i64 = 1_795_268_706_789;

    #[test]
    fn names_are_as_documented() {
        let (day, month, hour) = (Day::of_ms(NOW_MS), Month::of_ms(NOW_MS), Hour::of_ms(NOW_MS));
        let subject = AuthId::new("client:subject").unwrap();
        let names = [
            CounterKey::account_day("gw", day),
            CounterKey::account_month("gw", month),
            CounterKey::subject_day("gw", &subject, day),
            CounterKey::subject_month("gw", &subject, month),
            CounterKey::orchestrator_hour(&Address::repeat_byte(0xab), hour),
            CounterKey::global_hour(hour),
        ];
        let expected = [
            "a/gw/d/2026-11-21".to_owned(),
            "a/gw/m/2026-11".to_owned(),
            "s/gw/client:subject/d/2026-11-21".to_owned(),
            "s/gw/client:subject/m/2026-11".to_owned(),
            format!("o/0x{}/h/2026-11-21T13", "ab".repeat(20)),
            "g/h/2026-11-21T13".to_owned(),
        ];
        assert_eq!(names.map(|n| n.to_string()), expected);
    }

    #[test]
    fn periods_end() {
        const DAY_MS: i64 = 86_400_000;
        let (day, month, hour) = (Day::of_ms(NOW_MS), Month::of_ms(NOW_MS), Hour::of_ms(NOW_MS));
        let subject = AuthId::new("d/2000-01-01").unwrap();
        for (key, ends_in_ms) in [
            (CounterKey::account_day("m/2000-01", day), DAY_MS),
            (CounterKey::subject_month("a", &subject, month), 10 * DAY_MS),
            (CounterKey::global_hour(hour), 3_600_000),
        ] {
            assert!(!key.ended_before(NOW_MS), "{key}");
            assert!(!key.ended_before(NOW_MS - 40 * DAY_MS), "{key}");
            assert!(key.ended_before(NOW_MS + ends_in_ms), "{key}");
        }
        assert!(!CounterKey("x".to_owned()).ended_before(i64::MAX));
    }

    #[test]
    fn a_clock_beyond_all_dates_still_has_a_day() {
        assert_eq!(Day::of_ms(i64::MIN).to_string(), "1970-01-01");
        assert_eq!(Day::of_ms(i64::MAX).to_string(), "9999-12-31");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn names_differ_when_their_parts_do(
            a in "[a/%:h0-9]{0,12}|.{0,120}", b in "[a/%:h0-9]{0,12}|.{0,120}",
            s in "[a/%:]{1,8}|[!-~]{1,128}", t in "[a/%:]{1,8}|[!-~]{1,128}",
        ) {
            let day = Day::of_ms(NOW_MS);
            let (s, t) = (AuthId::new(s).unwrap(), AuthId::new(t).unwrap());
            let one = CounterKey::subject_day(&a, &s, day);
            let two = CounterKey::subject_day(&b, &t, day);
            prop_assert_eq!(one == two, a == b && s == t);
            prop_assert_ne!(CounterKey::account_day(&a, day), two.clone());
            prop_assert!(one.as_str().len() <= MAX_COUNTER_KEY_BYTES);
            prop_assert!(!one.as_str().contains('\0'));
        }
    }
}
