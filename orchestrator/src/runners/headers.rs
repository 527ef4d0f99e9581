//! Headers on their way to a runner and back. What is between two neighbours stays there, and no answer
//! says where a runner is.

use crate::private_places::{is_public_host, mentions, tells};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;

/// Between two neighbours only (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Who the client is, and its money: not the application's business. `Expect` was answered here.
const NOT_FOR_RUNNERS: [HeaderName; 5] = [
    header::FORWARDED,
    header::HOST,
    header::EXPECT,
    HeaderName::from_static("livepeer-payment"),
    HeaderName::from_static("livepeer-segment"),
];

/// Offers of other addresses, good for this one only.
const NOT_FOR_CLIENTS: [HeaderName; 1] = [header::ALT_SVC];

/// Say where something else is.
const POINTING: [HeaderName; 2] = [header::LINK, header::REFRESH];

/// What is told to runners about a session.
pub struct Session<'a> {
    /// The runner's route.
    pub route: &'a str,
    /// The session's name.
    pub name: &'a str,
    /// Proves that the request comes from here.
    pub token: &'a str,
    /// Where the runner acts for the session.
    pub control: &'a str,
}

/// Whether somebody wants another protocol on this connection, and which. Another HTTP, or TLS, is between
/// two neighbours: whoever spoke it through here would pass by all that is looked at here.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers.get_all(header::CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|text| {
            text.split(',').any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
        })
    });
    let is_neighbours = |protocol: &str| {
        let name = protocol.split('/').next().unwrap_or_default().trim();
        ["h2c", "h2", "http", "tls"].iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    headers
        .get(header::UPGRADE)
        .filter(|_| asks && headers.get_all(header::UPGRADE).iter().count() == 1)
        .filter(|value| value.to_str().is_ok_and(|text| !text.split(',').any(is_neighbours)))
        .cloned()
}

/// What a runner is sent.
pub fn for_runner(from: &HeaderMap, session: &Session<'_>) -> HeaderMap {
    let mut headers = from.clone();
    let upgrade = upgrade(from);
    strip_hop_by_hop(&mut headers);
    for name in &NOT_FOR_RUNNERS {
        headers.remove(name);
    }
    let forwarded: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with("x-forwarded-")).cloned().collect();
    for name in forwarded {
        headers.remove(name);
    }
    restore_upgrade(&mut headers, upgrade);
    for (name, value) in [
        ("livepeer-runner-route", session.route),
        ("livepeer-session-id", session.name),
        ("livepeer-session-token", session.token),
        ("livepeer-session-control", session.control),
    ] {
        headers.remove(name);
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// What a client is sent of a runner's answer to a request for `asked`; the application is at `runner`
/// for us, and at `public` for the client.
pub fn for_client(from: &HeaderMap, asked: &Url, runner: &Url, public: &str) -> HeaderMap {
    let mut headers = from.clone();
    let upgrade = upgrade(from);
    strip_hop_by_hop(&mut headers);
    restore_upgrade(&mut headers, upgrade);
    for name in &NOT_FOR_CLIENTS {
        headers.remove(name);
    }
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let Some(said) = headers.remove(&name) else { continue };
        let told = said.to_str().ok().and_then(|said| location(said, asked, runner, public));
        if let Some(told) = told.and_then(|told| HeaderValue::from_str(&told).ok()) {
            headers.insert(name, told);
        }
    }
    // What was just told is known to tell nothing, and begins with an address of our own.
    let checked = |name: &HeaderName| name == header::LOCATION || name == header::CONTENT_LOCATION;
    let points_inside = |name: &HeaderName, value: &HeaderValue| {
        POINTING.contains(name) && mentions(&String::from_utf8_lossy(value.as_bytes()))
    };
    let telling: Vec<_> = headers
        .iter()
        .filter(|(name, value)| {
            !checked(name) && (tells(value.as_bytes(), runner) || points_inside(name, value))
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in telling {
        headers.remove(name);
    }
    headers
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn restore_upgrade(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

/// Where a client finds what a runner points to: below the application's public address, or at another
/// host, if that is ours or a public one; `None` if it is nowhere that clients can reach.
fn location(said: &str, asked: &Url, runner: &Url, public: &str) -> Option<String> {
    let url = asked.join(said).ok()?;
    if url.origin() == runner.origin() {
        let base = runner.path().trim_end_matches('/');
        let rest = url.path().strip_prefix(base)?;
        if !(rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        let mut told = rest.to_owned();
        for (mark, part) in [('?', url.query()), ('#', url.fragment())] {
            if let Some(part) = part {
                told.push(mark);
                told.push_str(part);
            }
        }
        let is_plain = !tells(told.as_bytes(), runner) && !mentions(&told);
        return is_plain.then(|| format!("{}{told}", public.trim_end_matches('/')));
    }
    let ours = Url::parse(public).ok().filter(|ours| ours.origin() == url.origin());
    let tells_nothing = match ours {
        Some(_) => !mentions(url.path()) && !mentions(url.query().unwrap_or_default()),
        None => url.host() != runner.host() && is_public_host(&url) && !mentions(said),
    };
    (tells_nothing && !tells(said.as_bytes(), runner)).then(|| said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn to_the_runner() {
        let session = Session { route: "r", name: "s", token: "t", control: "http://o/runner/r" };
        let sent = map(&[
            ("connection", "keep-alive, X-Own"),
            ("x-own", "1"),
            ("te", "trailers"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("livepeer-payment", "secret"),
            ("livepeer-session-token", "forged"),
            ("cookie", "a"),
            ("host", "o"),
        ]);
        let got = for_runner(&sent, &session);
        let expected = map(&[
            ("cookie", "a"),
            ("livepeer-runner-route", "r"),
            ("livepeer-session-id", "s"),
            ("livepeer-session-token", "t"),
            ("livepeer-session-control", "http://o/runner/r"),
        ]);
        assert_eq!(got, expected);
        let socket = map(&[("connection", "Keep-Alive, Upgrade"), ("upgrade", "websocket")]);
        let got = for_runner(&socket, &session);
        assert_eq!(
            (&got["connection"], &got["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        assert_eq!(upgrade(&map(&[("upgrade", "websocket")])), None);
        for protocol in ["h2c", "HTTP/2.0", "TLS/1.2, HTTP/1.1", "websocket, H2C"] {
            let sent = map(&[
                ("connection", "upgrade"),
                ("upgrade", protocol),
                ("http2-settings", "AAMAAABkAAQAAP__"),
            ]);
            let got = for_runner(&sent, &session);
            for name in ["connection", "upgrade", "http2-settings"] {
                assert!(!got.contains_key(name), "{protocol}: {name}");
            }
        }
    }

    #[test]
    fn to_the_client() {
        let runner = url("http://10.0.0.2:9000/base");
        let asked = url("http://10.0.0.2:9000/base/a/b");
        let public = "https://o:8935/apps/r/session/s/app";
        let told = |said: &str| {
            let headers = for_client(&map(&[("location", said)]), &asked, &runner, public);
            headers.get("location").map(|value| value.to_str().unwrap().to_owned())
        };
        let at = |rest: &str| Some(format!("{public}{rest}"));
        assert_eq!(told("http://10.0.0.2:9000/base/x?y=1#z"), at("/x?y=1#z"));
        assert_eq!(told("../c"), at("/c"));
        assert_eq!(told("/base"), at(""));
        assert_eq!(told("/basement"), None);
        assert_eq!(told("/elsewhere"), None);
        assert_eq!(told("http://10.0.0.2:1/base/x"), None);
        assert_eq!(told("https://login.example/x"), Some("https://login.example/x".into()));
        assert_eq!(told("https://login.example/?back=http://10.0.0.2:9000/"), None);
        // Others of our network are nobody's business either.
        for private in [
            "http://10.0.0.7:9000/",
            "//10.0.0.7/x",
            "http://127.0.0.1:9000/",
            "http://localhost/",
            "http://gpu-2:9000/x",
            "http://gpu-2.lan/",
            "http://[fd00::7]/",
            "https://login.example/?back=http%3A%2F%2F10.0.0.7%2F",
            "/base/x?next=http://10.0.0.7/",
        ] {
            assert_eq!(told(private), None, "{private}");
        }
        assert_eq!(told("https://o:8935/other"), Some("https://o:8935/other".into()), "ours");
        let answer = map(&[
            ("content-type", "text/plain"),
            ("alt-svc", "h3=\":443\""),
            ("set-cookie", "a=b; Domain=10.0.0.2"),
            ("link", "<http://10.0.0.2:9000/next>; rel=next"),
            ("refresh", "3; url=http://10.0.0.7/"),
            ("x-served-by", "10.0.0.22"),
            ("keep-alive", "5"),
        ]);
        let got = for_client(&answer, &asked, &runner, public);
        assert_eq!(got, map(&[("content-type", "text/plain"), ("x-served-by", "10.0.0.22")]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn no_redirect_says_where_anything_of_ours_is(
            host in "(10(\\.[0-9]{1,2}){3}|127(\\.[0-9]{1,2}){1,3}|192\\.168(\\.[0-9]{1,2}){2}|\\[f[de][0-9a-f]{2}::[0-9a-f]{1,4}\\]|[a-z]{1,8}(-[0-9])?|([a-z]{1,6}\\.){1,2}(lan|local|internal|localhost)\\.?)",
            scheme in "(https?:)?", port in "(:[1-9][0-9]{0,3})?", rest in "(/[!-~]{0,12})?",
            is_named in any::<bool>(),
        ) {
            let runner = url(if is_named { "http://gpu-1.lan:9000/base" } else { "http://10.0.0.200:9000/base" });
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(&format!("{scheme}//{host}{port}{rest}")).unwrap();
            headers.insert(header::LOCATION, value);
            let got = for_client(&headers, &runner, &runner, "https://o.example/app");
            prop_assert_eq!(got.get(header::LOCATION), None, "{}{}", host, port);
        }

        #[test]
        fn no_answer_says_where_the_runner_is(
            before in "[ -~]{0,12}[ /@=\"]", after in "([/:; \"][ -~]{0,12})?"
        ) {
            let runner = url("http://10.0.0.2:9000/base");
            let said = format!("{before}10.0.0.2{after}");
            for name in ["location", "link", "x-any"] {
                let Ok(value) = HeaderValue::from_str(&said) else { continue };
                let mut headers = HeaderMap::new();
                headers.insert(name, value);
                let got = for_client(&headers, &runner, &runner, "https://o/app");
                for value in got.values() {
                    let text = value.to_str().unwrap();
                    prop_assert!(!text.contains("10.0.0.2") || text.contains("10.0.0.2."), "{}", text);
                }
            }
        }
    }
}
