//! What a runner does for a session of its own: channels, and its end (live-runner.md sections 5.2 and
//! 7.1).

use super::{
    error::RunnerError, ids::is_secret, registry::Registry, session::SessionChannel,
    sessions::no_session, state::State,
};
use crate::release::Reason;
use penstock_trickle::{Group, TrickleServer};
use penstock_wire::json::WantedChannel;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Most channels in one request: the protocol's own number (live-runner.md section 7.1).
const MOST_AT_ONCE: usize = 25;
/// What a channel carries that does not say it.
const ANY: &str = "application/octet-stream";

impl Registry {
    /// Whether a runner may act for a session; the runner's id.
    pub fn may_act(
        &self,
        route: &str,
        name: &str,
        token: &str,
        now: Instant,
    ) -> Result<String, RunnerError> {
        let mut state = self.lock();
        let runner = self.there(&mut state, route, now)?;
        let Some(session) = runner.sessions.get_mut(name) else {
            return Err(no_session(&state, route, name));
        };
        if !is_secret(token, &runner.seed.session_token(name)) {
            return Err(RunnerError::Token);
        }
        session.touch(now);
        Ok(runner.id.clone())
    }

    /// Makes channels for a session of a runner that may act for it. Those before a bad one stay.
    pub fn create_channels(
        &self,
        runner: &str,
        name: &str,
        wanted: &[WantedChannel],
    ) -> Result<Value, RunnerError> {
        count(wanted.len())?;
        let mut state = self.lock();
        let mut rows = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let channel = self.create_channel(&mut state, runner, name, wanted)?;
            let (url, internal_url) = self.channel_urls(&channel.channel);
            rows.push(json!({
                "name": short(&wanted.name)?,
                "channel_name": channel.channel,
                "url": url,
                "internal_url": internal_url,
                "mime_type": channel.mime,
            }));
        }
        Ok(json!({ "channels": rows }))
    }

    fn create_channel(
        &self,
        state: &mut State,
        runner: &str,
        name: &str,
        wanted: &WantedChannel,
    ) -> Result<SessionChannel, RunnerError> {
        let short = short(&wanted.name)?;
        let most = self.bounds.channels;
        let session = state
            .runners
            .get_mut(runner)
            .and_then(|runner| runner.sessions.get_mut(name))
            .ok_or(RunnerError::NoSession(None))?;
        // One that somebody has closed is made anew.
        if let Some(there) = session.channels.get(&short).filter(|c| !c.watch.is_closed()) {
            return Ok(there.clone());
        }
        if session.channels.len() >= most && !session.channels.contains_key(&short) {
            let (what, setting) = ("channels of this session", "--max-runner-channels");
            return Err(RunnerError::TooMany { what, most, setting });
        }
        let mime = match wanted.mime_type.trim() {
            "" => ANY,
            _ => &wanted.mime_type,
        };
        // What came through the one before is not forgotten with it.
        session.has_delivered();
        let group = session.group.get_or_insert_with(|| self.trickle.group());
        let channel = make(&self.trickle, group, format!("{name}-{short}"), mime)?;
        session.channels.insert(short, channel.clone());
        Ok(channel)
    }

    /// Closes channels of a session.
    pub fn delete_channels(
        &self,
        runner: &str,
        name: &str,
        names: &[String],
    ) -> Result<Value, RunnerError> {
        count(names.len())?;
        let mut state = self.lock();
        let session = state
            .runners
            .get_mut(runner)
            .and_then(|runner| runner.sessions.get_mut(name))
            .ok_or(RunnerError::NoSession(None))?;
        session.has_delivered();
        for wanted in names {
            let channel = session.channels.remove(&short(wanted)?).ok_or(RunnerError::NoChannel)?;
            let _ = self.trickle.close(&channel.channel);
        }
        Ok(json!({ "deleted": names }))
    }

    /// A runner ends a session that it may act for.
    pub fn stop_by_runner(&self, runner: &str, name: &str) {
        self.lock().release(runner, name, Reason::RunnerStopped, &self.trickle);
    }
}

fn make(
    trickle: &TrickleServer,
    group: &Group,
    channel: String,
    mime: &str,
) -> Result<SessionChannel, RunnerError> {
    let refused = |refusal| RunnerError::Channels(refusal, "the limits of trickle");
    trickle.create_in(group, &channel, mime).map_err(refused)?;
    let watch = trickle.watch(&channel).ok_or(RunnerError::Internal)?;
    Ok(SessionChannel { channel, mime: mime.to_owned(), watch })
}

fn count(wanted: usize) -> Result<(), RunnerError> {
    let no = |why: String| Err(RunnerError::Senseless(why));
    match wanted {
        0 => no("channels is required".to_owned()),
        n if n > MOST_AT_ONCE => {
            no(format!("channels cannot contain more than {MOST_AT_ONCE} entries"))
        }
        _ => Ok(()),
    }
}

/// A channel's name within its session.
fn short(said: &str) -> Result<String, RunnerError> {
    let name = said.trim().replace('/', "-");
    let no = |why: &str| Err(RunnerError::Senseless(why.to_owned()));
    if name.is_empty() {
        return no("trickle channel name is required");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
        return no("trickle channel name may only contain alphanumerics, underscores, or hyphens");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SECRET, registry, said};
    use super::*;

    fn wanted(name: &str, mime: &str) -> WantedChannel {
        WantedChannel { name: name.into(), mime_type: mime.into() }
    }

    #[tokio::test]
    async fn made_once_and_closed_with_the_session() {
        let registry = registry(&["--max-runner-channels", "3"]);
        let now = Instant::now();
        registry.heartbeat(said("r"), SECRET, true, now).unwrap();
        registry.lock().add_session("r", "s", now);
        let token = registry.lock().by_route("r").unwrap().seed.session_token("s");
        assert!(matches!(registry.may_act("r", "s", "x", now), Err(RunnerError::Token)));
        assert!(matches!(
            registry.may_act("r", "t", &token, now),
            Err(RunnerError::NoSession(None))
        ));
        assert!(matches!(registry.may_act("q", "s", &token, now), Err(RunnerError::NoRunner)));
        assert_eq!(registry.may_act("r", "s", &token, now).unwrap(), "r");
        let create = |list: &[WantedChannel]| registry.create_channels("r", "s", list);
        let made = create(&[wanted(" in/put ", "video/mp2t"), wanted("out", "")]).unwrap();
        assert_eq!(
            made["channels"][0],
            json!({
                "name": "in-put", "channel_name": "s-in-put", "mime_type": "video/mp2t",
                "url": "https://service:1/ai/trickle/s-in-put",
                "internal_url": "http://internal:1/ai/trickle/s-in-put",
            })
        );
        assert_eq!(made["channels"][1]["mime_type"], ANY);
        let again = create(&[wanted("in-put", "text/plain")]).unwrap();
        assert_eq!(again["channels"][0]["mime_type"], "video/mp2t", "the first one's wins");
        let why = |list: &[WantedChannel]| create(list).unwrap_err().to_string();
        assert_eq!(why(&[]), "channels is required");
        assert_eq!(why(&vec![wanted("x", ""); 26]), "channels cannot contain more than 25 entries");
        assert_eq!(why(&[wanted(" ", "")]), "trickle channel name is required");
        // Those before a bad one stay.
        assert!(
            why(&[wanted("third", ""), wanted("a.b", "")]).starts_with("trickle channel name may")
        );
        assert!(
            why(&[wanted("fourth", "")]).contains("3 of 3 channels"),
            "{}",
            why(&[wanted("x", "")])
        );
        assert!(registry.trickle.exists("s-third"));
        let deleted = registry.delete_channels("r", "s", &["out".into()]).unwrap();
        assert_eq!(deleted, json!({ "deleted": ["out"] }));
        assert!(matches!(
            registry.delete_channels("r", "s", &["out".into()]),
            Err(RunnerError::NoChannel)
        ));
        registry.stop_by_runner("r", "s");
        assert_eq!(registry.trickle.usage().channels, 1, "the runner's own");
        assert!(matches!(
            registry.may_act("r", "s", &token, now),
            Err(RunnerError::NoSession(Some(Reason::RunnerStopped)))
        ));
    }
}
