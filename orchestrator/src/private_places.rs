//! What says where something is that is nobody's business: addresses and names of our own networks, in words and
//! headers on their way to clients.

use penstock_clients::is_public;
use std::net::{Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

/// Names that nobody outside a network can look up (RFC 6761, 6762, 8375, and those that ICANN keeps free).
const PRIVATE_SUFFIXES: [&str; 10] = [
    "local",
    "localhost",
    "localdomain",
    "internal",
    "intranet",
    "private",
    "lan",
    "home",
    "corp",
    "home.arpa",
];
/// What is put in a word's place.
const REMOVED: &str = "[address]";

/// Whether clients may be told of a URL's host.
pub fn is_public_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_public(ip.into()),
        Some(Host::Ipv6(ip)) => is_public(ip.into()),
        Some(Host::Domain(name)) => is_public_name(name),
        None => false,
    }
}

fn is_public_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.contains('.') && !has_private_suffix(&name)
}

fn has_private_suffix(name: &str) -> bool {
    PRIVATE_SUFFIXES.iter().any(|suffix| {
        let rest = name.strip_suffix(suffix);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Whether a text names an address or a host of a private network, escaped or not.
pub fn mentions(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    mentions_plainly(&text) || mentions_plainly(&unescaped(&text))
}

fn mentions_plainly(text: &str) -> bool {
    let v4 = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    let v4 = v4.filter_map(|run| run.trim_matches('.').parse::<Ipv4Addr>().ok());
    let names = text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_'));
    v4.into_iter().any(|ip| !is_public(ip.into()))
        || names.into_iter().any(|name| {
            let name = name.trim_matches('.');
            (name == "localhost" || name.contains('.')) && has_private_suffix(name)
        })
        || has_private_v6(text)
        || has_private_url(text)
}

fn has_private_v6(text: &str) -> bool {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, ':' | '.'));
    words.into_iter().any(|word| {
        let word = word.trim_end_matches('.');
        let has_digits = word.contains(|c: char| c.is_ascii_hexdigit());
        has_digits && word.parse::<Ipv6Addr>().is_ok_and(|ip| !is_public(ip.into()))
    })
}

fn has_private_url(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| {
        let rest = text.get(at + mark.len()..).unwrap_or_default();
        let end = rest.find(|c: char| {
            c.is_whitespace() || matches!(c, '/' | '\\' | '?' | '#' | '"' | '\'' | '<' | '>' | ',')
        });
        let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        // Addresses have many spellings, which the URL parser knows.
        let url = Url::parse(&format!("http://{authority}/"));
        !url.is_ok_and(|url| is_public_host(&url))
    })
}

/// With its `%xx` read; what is no text then is left out.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let read = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%');
        match read {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).to_ascii_lowercase()
}

/// Words of a runner's or a worker's, for clients: without those that say where anything of ours is, `runner`
/// itself above all.
pub fn scrubbed(text: &str, runner: Option<&Url>) -> String {
    let is_private = |word: &str| {
        let host = runner.and_then(Url::host_str);
        mentions(word)
            || host.is_some_and(|host| host.eq_ignore_ascii_case(word))
            || runner.is_some_and(|runner| tells(word.as_bytes(), runner))
    };
    let is_between = |c: char| c.is_whitespace() || "\"'`<>()[]{},;=".contains(c);
    let mut clean = String::with_capacity(text.len());
    for piece in text.split_inclusive(is_between) {
        let word = piece.trim_end_matches(is_between);
        clean.push_str(if is_private(word) { REMOVED } else { word });
        clean.push_str(piece.get(word.len()..).unwrap_or_default());
    }
    clean
}

/// Whether a text says where a runner is. A name without a dot is a word like others: it has to look
/// like an address.
pub fn tells(text: &[u8], runner: &Url) -> bool {
    let Some(host) = runner.host_str() else { return false };
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    let port = runner.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    let is_word = matches!(runner.host(), Some(Host::Domain(name)) if !name.contains('.'))
        && host != "localhost";
    text.match_indices(host).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at + host.len()..).unwrap_or_default();
        let inside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-');
        let dotted = after.strip_prefix('.').is_some_and(|rest| inside(rest.chars().next()));
        // An escaped character ends a name, whatever its digits look like.
        let escaped = before.len().checked_sub(3).and_then(|at| before.get(at..));
        let escaped = escaped.is_some_and(|end| end.starts_with('%'));
        let whole = (escaped || !inside(before.chars().next_back()))
            && !before.ends_with('.')
            && !inside(after.chars().next())
            && !dotted;
        whole && (!is_word || before.ends_with("//") || after.starts_with(&port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn private_hosts() {
        for private in [
            "http://10.0.0.7:9000/",
            "http://127.1/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[fd00::1]/",
            "http://169.254.169.254/",
            "http://localhost:1/",
            "http://LOCALHOST./",
            "http://gpu-1/",
            "http://gpu-1.:1/",
            "http://gpu-1.lan/",
            "http://a.svc.cluster.local./",
            "http://10-0-0-7.ec2.internal/",
            "http://x.home.arpa/",
        ] {
            assert!(!is_public_host(&url(private)), "{private}");
            assert!(mentions(private), "{private}");
        }
        for public in ["https://login.example/x", "http://1.1.1.1/", "http://home.example.com/a"] {
            assert!(is_public_host(&url(public)) && !mentions(public), "{public}");
        }
    }

    #[test]
    fn words_that_name_places() {
        for private in [
            "at 192.168.1.4:80",
            "https://login.example/?back=http%3A%2F%2F10.0.0.7%3A9000%2F",
            "%2010.0.0.7",
            "[fe80::1]",
            "see GPU-1.LAN.",
            "http://gpu-1/x",
            "http://user@gpu-1:9/x",
            "//localhost/",
        ] {
            assert!(mentions(private), "{private}");
        }
        for public in [
            "version 1.10.0",
            "std::string",
            "12:30:45",
            "a localhostess",
            "1.1.1.1",
            "the home of it",
        ] {
            assert!(!mentions(public), "{public}");
        }
    }

    #[test]
    fn words_without_places() {
        let runner = url("http://gpu-1:9000/base");
        let clean = |text: &str| scrubbed(text, Some(&runner));
        assert_eq!(
            clean("HTTPConnectionPool(host='10.0.0.7', port=80): no route"),
            "HTTPConnectionPool(host='[address]', port=80): no route"
        );
        assert_eq!(clean("host='gpu-1', port=1"), "host='[address]', port=1");
        assert_eq!(clean("no answer of http://gpu-1:9000/x."), "no answer of [address]");
        assert_eq!(clean("{\"at\":\"http://[::1]:9/\"}").matches("::1").count(), 0);
        assert_eq!(clean("out of memory: 3 GiB of 2.5 GiB"), "out of memory: 3 GiB of 2.5 GiB");
        assert_eq!(
            scrubbed("connect to db.internal:5432 failed", None),
            "connect to [address] failed"
        );
    }

    #[test]
    fn a_word_is_no_address() {
        let says = |text: &str, host: &str| tells(text.as_bytes(), &url(host));
        assert!(!says("application/json; app", "http://app:9000"));
        assert!(
            says("via app:9000", "http://app:9000") && says("<http://app/x>", "http://app:9000")
        );
        assert!(says("LOCALHOST", "http://localhost:1") && says("gpu.lan", "http://gpu.lan"));
        assert!(!says("my-gpu.lan gpu.lan.example", "http://gpu.lan"));
        assert!(says("http://[::1]:9/", "http://[::1]:9/"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn no_private_address_is_left(
            before in "[ -~]{0,12}[ /@=\"(]", third in any::<u8>(), last in any::<u8>(), after in "([:/ \")][ -~]{0,12})?"
        ) {
            let address = format!("10.7.{third}.{last}");
            let clean = scrubbed(&format!("{before}{address}{after}"), None);
            let left = clean.split(|c: char| !c.is_ascii_digit() && c != '.');
            prop_assert!(!left.into_iter().any(|word| word == address), "{}", clean);
        }

        #[test]
        fn any_text_is_handled(text in "\\PC{0,60}") {
            let runner = url("http://10.0.0.2:9000/");
            let _ = (scrubbed(&text, Some(&runner)), mentions(&text));
        }
    }
}
