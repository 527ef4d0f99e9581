//! Where proxies are found: a URL with `{proxy}` in its host, or as the last piece of its path
//! (live-runner.md section 7.2).

use url::Url;

const PLACE: &str = "{proxy}";
/// Stands for the place while the rest is read as a URL. Nobody has such a host.
const STAND_IN: &str = "proxy-placeholder";

/// A template, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    raw: String,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// `https://{proxy}.example/static`
    Host { prefix: String, suffix: String, path: String },
    /// `https://example:8935/run/{proxy}`
    Path { authority: (String, u16), scheme: String, prefix: String },
}

/// Whom a request is for, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched<'a> {
    /// The proxy's id, or a single-shot runner's route.
    pub id: String,
    /// What follows, without a slash before it.
    pub rest: &'a str,
}

impl Template {
    /// From a setting, or the usual one below the service's own address.
    pub fn new(setting: Option<&str>, service_uri: &str) -> Result<Self, &'static str> {
        let raw = match setting.map(str::trim) {
            None | Some("") => format!("{}/run/{PLACE}", service_uri.trim_end_matches('/')),
            Some(text) => text.to_owned(),
        };
        if raw.matches(PLACE).count() != 1 {
            return Err("must contain exactly one {proxy}");
        }
        let url = Url::parse(&raw.replacen(PLACE, STAND_IN, 1))
            .map_err(|_| "must be an absolute http or https URL")?;
        let host = url.host_str().unwrap_or_default();
        if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
            return Err("must be an absolute http or https URL");
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err("must have no query, fragment or user name");
        }
        let form = match (host.split_once(STAND_IN), url.path().split_once(STAND_IN)) {
            (Some((prefix, suffix)), None) => Form::Host {
                prefix: prefix.to_ascii_lowercase(),
                suffix: suffix.to_ascii_lowercase(),
                path: url.path().trim_end_matches('/').to_owned(),
            },
            (None, Some((prefix, "" | "/"))) if prefix.ends_with('/') => Form::Path {
                authority: authority(&url).ok_or("must be an absolute http or https URL")?,
                scheme: url.scheme().to_owned(),
                prefix: prefix.to_owned(),
            },
            (None, Some(_)) => return Err("{proxy} must be the last piece of the path"),
            _ => return Err("{proxy} must be in the host or in the path"),
        };
        Ok(Self { raw, form })
    }

    /// Where a proxy is found.
    pub fn url(&self, id: &str) -> String {
        let id = match self.form {
            Form::Host { .. } => id.to_owned(),
            Form::Path { .. } => super::path::segment(id),
        };
        self.raw.replacen(PLACE, &id, 1)
    }

    /// Whether a request to this host (with its port, if it says one) and path is for a proxy.
    pub fn matches<'a>(&self, host: &str, path: &'a str) -> Option<Matched<'a>> {
        match &self.form {
            Form::Host { prefix, suffix, path: fixed } => {
                let name = without_port(host).to_ascii_lowercase();
                let id = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
                let rest = path.strip_prefix(fixed.as_str())?;
                if id.is_empty() || !(rest.is_empty() || rest.starts_with('/')) {
                    return None;
                }
                Some(Matched { id: id.to_owned(), rest: rest.strip_prefix('/').unwrap_or(rest) })
            }
            Form::Path { authority: own, scheme, prefix } => {
                // The port that is usual may be said or left out.
                if host.contains(['/', '?', '#', '@', '\\']) {
                    return None;
                }
                let asked = Url::parse(&format!("{scheme}://{host}/")).ok()?;
                if authority(&asked).as_ref() != Some(own) {
                    return None;
                }
                let after = path.strip_prefix(prefix.as_str())?;
                let (id, rest) = after.split_once('/').unwrap_or((after, ""));
                let id = super::path::decoded(id)?;
                (!id.is_empty()).then_some(Matched { id, rest })
            }
        }
    }
}

/// Host and port, be it the usual one.
fn authority(url: &Url) -> Option<(String, u16)> {
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn template(text: &str) -> Template {
        Template::new(Some(text), "https://o:8935").unwrap()
    }

    fn found(template: &Template, host: &str, path: &str) -> Option<(String, String)> {
        template.matches(host, path).map(|m| (m.id, m.rest.to_owned()))
    }

    fn pair(id: &str, rest: &str) -> Option<(String, String)> {
        Some((id.to_owned(), rest.to_owned()))
    }

    #[test]
    fn in_the_path() {
        let usual = Template::new(None, "https://o:8935").unwrap();
        assert_eq!(usual.url("abc"), "https://o:8935/run/abc");
        assert_eq!(found(&usual, "O:8935", "/run/abc/a/b"), pair("abc", "a/b"));
        assert_eq!(found(&usual, "o:8935", "/run/abc"), pair("abc", ""));
        for (host, path) in [
            ("o", "/run/abc"),
            ("o:1", "/run/abc"),
            ("o:8935", "/run/"),
            ("o:8935", "/run"),
            ("o:8935", "/Run/abc"),
            ("o:8935", "/x/run/abc"),
        ] {
            assert_eq!(found(&usual, host, path), None, "{host}{path}");
        }
        for at in ["https://o", "https://o:443", "https://O:443/"] {
            let usual = Template::new(None, at).unwrap();
            for host in ["o", "O", "o:443"] {
                assert_eq!(found(&usual, host, "/run/abc/x"), pair("abc", "x"), "{at} {host}");
            }
            for host in ["o:80", "o:8935", "", "o/", "o@o", "o?", "p"] {
                assert_eq!(found(&usual, host, "/run/abc/x"), None, "{at} {host}");
            }
        }
        let label = template("http://o/a/{proxy}/");
        assert_eq!(label.url("two words"), "http://o/a/two%20words/");
        assert_eq!(found(&label, "o", "/a/two%20words/x"), pair("two words", "x"));
    }

    #[test]
    fn in_the_host() {
        let host = template("https://p-{proxy}.Apps.example:8443/fixed/");
        assert_eq!(host.url("abc"), "https://p-abc.Apps.example:8443/fixed/");
        let at = |h: &str, p: &str| found(&host, h, p);
        assert_eq!(at("P-ABC.apps.EXAMPLE:1", "/fixed/x/y"), pair("abc", "x/y"));
        assert_eq!(at("p-abc.apps.example", "/fixed"), pair("abc", ""));
        for (h, p) in [
            ("p-.apps.example", "/fixed"),
            ("p-abc.apps.example", "/"),
            ("p-abc.apps.example", "/fixedx"),
            ("abc.apps.example", "/fixed"),
            ("p-abc.example", "/fixed"),
        ] {
            assert_eq!(at(h, p), None, "{h}{p}");
        }
        assert_eq!(found(&template("http://{proxy}.o"), "abc.o:80", "/"), pair("abc", ""));
    }

    #[test]
    fn nonsense() {
        for bad in [
            "https://o/run",
            "https://{proxy}.o/{proxy}",
            "ftp://o/{proxy}",
            "/run/{proxy}",
            "https://o/{proxy}/more",
            "https://o/run-{proxy}",
            "https://o/?x={proxy}",
            "https://{proxy}@o/",
        ] {
            assert!(Template::new(Some(bad), "https://o").is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn any_request_is_for_somebody_or_nobody(
            host in "[a-zA-Z0-9.:\\[\\]-]{0,24}", path in "/[ -~]{0,24}", id in "[a-z2-7]{26}"
        ) {
            for text in ["https://o:8935/run/{proxy}", "https://{proxy}.apps.example/x"] {
                let template = template(text);
                let _ = template.matches(&host, &path);
                let url = Url::parse(&template.url(&id)).unwrap();
                let host = match url.port() {
                    Some(port) => format!("{}:{port}", url.host_str().unwrap()),
                    None => url.host_str().unwrap().to_owned(),
                };
                let found = template.matches(&host, url.path()).unwrap();
                prop_assert_eq!((found.id.as_str(), found.rest), (id.as_str(), ""));
            }
        }
    }
}
