//! Paths of applications: below the runner's own and nowhere else, and back again.

use super::error::RunnerError;
use url::Url;

/// One segment of a path, with everything in it that means something escaped.
pub fn segment(text: &str) -> String {
    let mut coded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@:".contains(&byte) {
            coded.push(char::from(byte));
        } else {
            coded.push_str(&format!("%{byte:02X}"));
        }
    }
    coded
}

/// A segment as it was meant; `None` if it is no text.
pub fn decoded(coded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(coded.len());
    let mut rest = coded.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Where a request goes: `rest`, as it came, below the runner's URL. What could be taken for a way up
/// by anybody on the way is refused, escaped or not.
pub fn target(runner: &Url, rest: &str, query: Option<&str>) -> Result<Url, RunnerError> {
    let plain = decoded(rest).ok_or(RunnerError::Path)?;
    let climbs = plain.split(['/', '\\']).any(|piece| matches!(piece, "." | ".."));
    if climbs || plain.contains('\0') || rest.contains(['?', '#', '\\']) {
        return Err(RunnerError::Path);
    }
    let mut url = runner.clone();
    url.set_fragment(None);
    url.set_query(query);
    if !rest.is_empty() {
        let path = format!("{}/{rest}", runner.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

/// Where a session's proxy may lead: any port and path of the registered host.
pub fn proxy_target(runner: &Url, said: &str) -> Result<Url, RunnerError> {
    let no = |why: &str| RunnerError::Senseless(why.to_owned());
    let said = said.trim();
    if said.is_empty() {
        return Ok(runner.clone());
    }
    let url = Url::parse(said).map_err(|_| no("target_url must be an absolute URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(no("target_url scheme must be http or https"));
    }
    let Some(url) = super::facts::http_url(said) else {
        return Err(no("target_url must be an absolute URL"));
    };
    if url.fragment().is_some() {
        return Err(no("target_url must not include a fragment"));
    }
    // Hosts are in lower case by now.
    if url.host_str() != runner.host_str() {
        return Err(no("target_url hostname must match registered runner_url hostname"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(runner: &str, rest: &str) -> Result<String, RunnerError> {
        target(&Url::parse(runner).unwrap(), rest, Some("q=1")).map(|url| url.to_string())
    }

    #[test]
    fn below_the_runner() {
        assert_eq!(at("http://r:1", "").unwrap(), "http://r:1/?q=1");
        assert_eq!(at("http://r:1/base/?x#y", "").unwrap(), "http://r:1/base/?q=1");
        assert_eq!(at("http://r:1/base/", "a/b%20c/").unwrap(), "http://r:1/base/a/b%20c/?q=1");
        assert_eq!(at("http://r:1", "org%2Fmodel").unwrap(), "http://r:1/org%2Fmodel?q=1");
        for bad in
            ["..", "a/../b", "%2e%2E/x", "a%2F..%2Fb", "a\\..", "..%5cx", "%", "x?y", "%00", "./x"]
        {
            assert!(at("http://r:1/base", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn proxies_stay_at_their_host() {
        let runner = Url::parse("http://10.0.0.2:9000/base").unwrap();
        let of = |said: &str| proxy_target(&runner, said).map(|url| url.to_string());
        assert_eq!(of(" ").unwrap(), "http://10.0.0.2:9000/base");
        assert_eq!(of("https://10.0.0.2:1/x?y").unwrap(), "https://10.0.0.2:1/x?y");
        for bad in [
            "http://10.0.0.3:9000",
            "http://10.0.0.2.example/",
            "http://10.0.0.2:9000@evil/",
            "http://u:p@10.0.0.2:9000/",
            "ftp://10.0.0.2",
            "http://10.0.0.2/#x",
            "/x",
            "10.0.0.2",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn no_path_leaves_its_runner(rest in "[ -~]{0,24}", label: String) {
            prop_assert_eq!(decoded(&segment(&label)), Some(label));
            if let Ok(url) = at("http://r:1/base", &rest) {
                let url = Url::parse(&url).unwrap();
                prop_assert_eq!((url.host_str(), url.port()), (Some("r"), Some(1)), "{}", &url);
                prop_assert_eq!((url.query(), url.fragment()), (Some("q=1"), None), "{}", &url);
                let path = url.path();
                prop_assert!(path == "/base" || path.starts_with("/base/"), "{}", &url);
                let plain = decoded(path).unwrap();
                prop_assert!(!plain.split(['/', '\\']).any(|piece| piece == ".."), "{}", &url);
            }
        }
    }
}
