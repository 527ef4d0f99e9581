//! What a runner says about itself, checked in the documented order (live-runner.md section 2).

use super::{error::RunnerError, price::OwnPrice};
use penstock_wire::json::{RunnerGpu, RunnerSaid, StaticRunnerSaid};
use url::Url;

/// Most bytes of metadata.
const MAX_METADATA: usize = 1024;
/// Most sessions at once that a runner may claim to have room for.
const MAX_CAPACITY: i64 = 1_000_000;

/// How long a session of a runner lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Until somebody ends it.
    Persistent,
    /// For one call.
    SingleShot,
}

impl Mode {
    /// As discovery calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Persistent => "persistent",
            Self::SingleShot => "single-shot",
        }
    }
}

/// A runner's word, made sense of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where it is: for this process only, never for clients.
    pub url: Url,
    /// What it runs.
    pub app: String,
    /// Its operator's name for it.
    pub label: String,
    /// Its version.
    pub version: String,
    /// Free text.
    pub metadata: String,
    /// Whether it takes sessions.
    pub ready: bool,
    /// How long they last.
    pub mode: Mode,
    /// How many at once.
    pub capacity: usize,
    /// `None` off-chain.
    pub price: Option<OwnPrice>,
    /// Whether its URL goes through the proxy template.
    pub proxy: bool,
    /// Its GPU.
    pub gpu: Option<RunnerGpu>,
}

impl Facts {
    /// Checked. Without payments prices are not looked at.
    pub fn new(said: &RunnerSaid, paid: bool) -> Result<Self, RunnerError> {
        let no = |why: &str| Err(RunnerError::Senseless(why.to_owned()));
        let Some(url) = http_url(&said.runner_url) else { return no("invalid runner_url") };
        if said.app.is_empty() || said.app.trim() != said.app {
            return no("app must be trimmed");
        }
        if said.metadata.len() > MAX_METADATA {
            return no("metadata must be at most 1024 bytes");
        }
        if said.metadata.contains(char::REPLACEMENT_CHARACTER) {
            return no("metadata must not contain Unicode replacement character U+FFFD");
        }
        if said.status.trim().to_lowercase() != said.status {
            return no("status must be lowercase and trimmed");
        }
        let mode = match said.mode.as_str() {
            "" | "persistent" => Mode::Persistent,
            "single-shot" | "single_shot" => Mode::SingleShot,
            _ => return no("mode must be \"persistent\" or \"single-shot\""),
        };
        if said.capacity < 0 {
            return no("capacity must be >= 0");
        }
        let price = match paid {
            true => Some(
                OwnPrice::new(&said.price_info)
                    .map_err(|why| RunnerError::Senseless(why.to_owned()))?,
            ),
            false => None,
        };
        Ok(Self {
            url,
            app: said.app.clone(),
            label: said.label.clone(),
            version: said.version.clone(),
            metadata: said.metadata.clone(),
            ready: matches!(said.status.as_str(), "" | "ready"),
            mode,
            capacity: usize::try_from(said.capacity.clamp(1, MAX_CAPACITY)).unwrap_or(1),
            price,
            proxy: said.proxy,
            gpu: said.gpu.clone(),
        })
    }
}

/// A runner of the operator's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticFacts {
    /// The same as for others; never ready before it was asked.
    pub facts: Facts,
    /// Whether clients find it by its label.
    pub by_label: bool,
    /// Where its health is asked.
    pub health_url: Url,
    /// The only status that means well.
    pub healthy_status: u16,
}

impl StaticFacts {
    /// Checked; the error is what the list's entry has wrong.
    pub fn new(said: &StaticRunnerSaid, paid: bool) -> Result<Self, RunnerError> {
        let no = |why: &str| Err(RunnerError::Senseless(why.to_owned()));
        let by_label = match said.routing.trim() {
            "" | "runner-id" => false,
            "label" => true,
            _ => return no("routing must be \"runner-id\" or \"label\""),
        };
        let runner = &said.runner;
        if runner.label.is_empty() || runner.label.trim() != runner.label {
            return no("label is required and must be trimmed");
        }
        if by_label && runner.label.contains('/') {
            return no("label cannot contain / when routing is \"label\"");
        }
        // A route is one segment of a path.
        if by_label && (matches!(runner.label.as_str(), "." | "..") || has_control(&runner.label)) {
            return no("label must be printable and not a path when routing is \"label\"");
        }
        if said.health_url.is_empty() {
            return no("health_url is required");
        }
        let health_url = if said.health_url.starts_with('/') && !said.health_url.starts_with("//") {
            if http_url(&runner.runner_url).is_none() {
                return no("invalid runner_url");
            }
            format!("{}{}", runner.runner_url.trim_end_matches('/'), said.health_url)
        } else {
            said.health_url.clone()
        };
        let Some(health_url) = http_url(&health_url) else { return no("invalid health_url") };
        let healthy_status = match said.healthy_status_code {
            0 => 200,
            code => match u16::try_from(code) {
                Ok(code @ 100..=599) => code,
                _ => return no("healthy_status_code must be a valid HTTP status code"),
            },
        };
        let said = RunnerSaid { status: "unavailable".to_owned(), ..runner.clone() };
        Ok(Self { facts: Facts::new(&said, paid)?, by_label, health_url, healthy_status })
    }
}

/// An absolute URL of a web server, without a name and a password.
pub fn http_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_http = matches!(url.scheme(), "http" | "https");
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    let bare = url.username().is_empty() && url.password().is_none();
    // The parser forgives what is not written like one.
    let written = text.get(..url.scheme().len() + 3).is_some_and(|head| head.ends_with("://"));
    (is_http && has_host && bare && written).then_some(url)
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_wire::json::SaidPrice;

    fn said() -> RunnerSaid {
        RunnerSaid {
            runner_url: "http://10.0.0.2:9000/base".into(),
            app: "echo".into(),
            price_info: SaidPrice { price: "1".into(), ..SaidPrice::default() },
            ..RunnerSaid::default()
        }
    }

    fn refusal(change: impl Fn(&mut RunnerSaid)) -> String {
        let mut said = said();
        change(&mut said);
        Facts::new(&said, true).unwrap_err().to_string()
    }

    #[test]
    fn defaults_and_limits() {
        let facts = Facts::new(&said(), true).unwrap();
        assert_eq!((facts.mode, facts.capacity, facts.ready), (Mode::Persistent, 1, true));
        let metadata = |text: String| Facts::new(&RunnerSaid { metadata: text, ..said() }, true);
        assert!(metadata("é".repeat(512)).is_ok(), "bytes count");
        assert_eq!(
            metadata("é".repeat(513)).unwrap_err().to_string(),
            "metadata must be at most 1024 bytes"
        );
        assert!(refusal(|s| s.metadata = "\u{fffd}".into()).contains("U+FFFD"));
        for url in ["", "x", "ftp://h", "http://", "http:h", "http://u:p@h", "/path"] {
            assert_eq!(refusal(|s| s.runner_url = url.into()), "invalid runner_url", "{url}");
        }
        assert_eq!(refusal(|s| s.app = " echo".into()), "app must be trimmed");
        assert_eq!(refusal(|s| s.status = "Ready".into()), "status must be lowercase and trimmed");
        assert!(refusal(|s| s.mode = "other".into()).starts_with("mode must be"));
        assert_eq!(refusal(|s| s.capacity = -1), "capacity must be >= 0");
        assert_eq!(refusal(|s| s.price_info.price.clear()), "price_info.price is required");
        let free = RunnerSaid { price_info: SaidPrice::default(), ..said() };
        assert_eq!(Facts::new(&free, false).unwrap().price, None, "off-chain prices are nothing");
        let shot = RunnerSaid { mode: "single_shot".into(), status: "busy".into(), ..said() };
        let shot = Facts::new(&shot, true).unwrap();
        assert_eq!((shot.mode, shot.ready), (Mode::SingleShot, false));
    }

    #[test]
    fn an_operators_list() {
        let entry = || StaticRunnerSaid {
            runner: RunnerSaid { label: "a".into(), ..said() },
            health_url: "/health?x=1".into(),
            ..StaticRunnerSaid::default()
        };
        let good = StaticFacts::new(&entry(), true).unwrap();
        assert_eq!(good.health_url.as_str(), "http://10.0.0.2:9000/base/health?x=1");
        assert_eq!((good.healthy_status, good.facts.ready, good.by_label), (200, false, false));
        let refusal = |change: &dyn Fn(&mut StaticRunnerSaid)| {
            let mut said = entry();
            change(&mut said);
            StaticFacts::new(&said, true).unwrap_err().to_string()
        };
        let label = "label is required and must be trimmed";
        assert_eq!(refusal(&|s| s.runner.label.clear()), label);
        assert_eq!(refusal(&|s| s.runner.label = "a ".into()), label);
        assert!(refusal(&|s| s.routing = "x".into()).starts_with("routing must be"));
        assert_eq!(
            refusal(&|s| (s.routing, s.runner.label) = ("label".into(), "a/b".into())),
            "label cannot contain / when routing is \"label\""
        );
        assert_eq!(refusal(&|s| s.health_url.clear()), "health_url is required");
        assert_eq!(refusal(&|s| s.health_url = "health".into()), "invalid health_url");
        assert_eq!(refusal(&|s| s.health_url = "//other/x".into()), "invalid health_url");
        for code in [-1, 99, 600, 1 << 40] {
            assert!(refusal(&|s| s.healthy_status_code = code).starts_with("healthy_status_code"));
        }
    }
}
