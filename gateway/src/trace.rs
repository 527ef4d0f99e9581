//! One trace per job (architecture.md rule 8): the W3C `traceparent` of a request, kept beside its task
//! and sent along with every call that the job makes.

use http::HeaderMap;

tokio::task_local! {
    static CURRENT: String;
}

/// The header.
pub const TRACEPARENT: &str = "traceparent";

/// Runs `work` as part of a trace.
pub async fn scope<T>(traceparent: String, work: impl Future<Output = T>) -> T {
    CURRENT.scope(traceparent, work).await
}

/// The trace of the job at hand; `None` outside of one (discovery).
pub fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Our own step in the caller's trace, or the beginning of one.
pub fn of(headers: &HeaderMap) -> String {
    let given = headers.get(TRACEPARENT).and_then(|v| v.to_str().ok());
    step(given, rand::random(), rand::random())
}

/// Whether the trace is being recorded by whoever began it (the `sampled` flag). One that began here is
/// not.
pub fn is_sampled(traceparent: &str) -> bool {
    let flags = traceparent.rsplit('-').next().and_then(|flags| u8::from_str_radix(flags, 16).ok());
    flags.is_some_and(|flags| flags & 1 == 1)
}

/// `span` becomes the parent of what follows; `trace` is used when none was given.
fn step(given: Option<&str>, trace: u128, span: u64) -> String {
    let (trace, flags) = match given.and_then(parse) {
        Some((trace, flags)) => (trace.to_owned(), flags.to_owned()),
        None => (format!("{:032x}", trace.max(1)), "00".to_owned()),
    };
    format!("00-{trace}-{:016x}-{flags}", span.max(1))
}

/// Trace id and flags of a version 00 header; all zeros are not allowed.
fn parse(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |t: &str, len: usize| {
        t.len() == len && t.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let some = |t: &str| t.bytes().any(|b| b != b'0');
    let whole = parts.next().is_none() && version == "00";
    let valid = hex(trace, 32) && some(trace) && hex(parent, 16) && some(parent) && hex(flags, 2);
    (whole && valid).then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_continued_or_begun() {
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(
            step(Some(given), 5, 7),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01"
        );
        for bad in
            [None, Some(""), Some("00-0-0-0"), Some(&given[1..]), Some(&given.to_uppercase())]
        {
            assert_eq!(step(bad, 5, 0), "00-00000000000000000000000000000005-0000000000000001-00");
        }
    }

    #[test]
    fn who_records_says_so() {
        assert!(is_sampled("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        assert!(!is_sampled("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"));
        assert!(!is_sampled(&step(None, 5, 7)) && !is_sampled(""));
    }

    #[tokio::test]
    async fn beside_the_task() {
        assert_eq!(current(), None);
        assert_eq!(scope("t".into(), async { current() }).await.as_deref(), Some("t"));
    }
}
