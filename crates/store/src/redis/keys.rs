//! Names of keys. Everything of one stream has one hash tag and so lies in one slot of a cluster;
//! other things have a tag each. Names that a client or a peer chose are encoded, so that they can
//! neither end a tag nor reach another's key, and long ones are hashed.

use crate::{
    CreditKey, DocKey, PoolKey, SessionKey,
    names::{encoded, hashed},
    stream_of_scope,
};
use penstock_domain::StreamId;

/// Longest name that stays readable in a key.
const READABLE: usize = 80;

/// A prefix's keys.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    fn key(&self, tag: &str, what: &str) -> String {
        format!("{}:{{{tag}}}{what}", self.prefix)
    }

    pub fn stream(&self, id: &StreamId) -> String {
        self.key(&of_stream(id.as_str()), ":rec")
    }

    pub fn window(&self, id: &StreamId) -> String {
        self.key(&of_stream(id.as_str()), ":hls")
    }

    pub fn results(&self, id: &StreamId) -> String {
        self.key(&of_stream(id.as_str()), ":done")
    }

    /// The list of streams, a key of its own.
    pub fn streams(&self) -> String {
        self.key("streams", "")
    }

    pub fn session(&self, key: &SessionKey) -> String {
        let (tag, whose) = of_scope(&key.scope);
        self.key(&tag, &format!("{whose}:at:{}", name(&key.orchestrator)))
    }

    pub fn standings(&self, scope: &str) -> String {
        let (tag, whose) = of_scope(scope);
        self.key(&tag, &format!("{whose}:seen"))
    }

    pub fn credit(&self, key: &CreditKey) -> String {
        let CreditKey { auth_id, sender, orchestrator, session } = key;
        // The parts may hold anything: lengths keep them apart.
        let all = format!(
            "{}:{auth_id}{sender:#x}{}:{orchestrator}{session}",
            auth_id.as_str().len(),
            orchestrator.len()
        );
        self.key(&format!("c:{}", hashed(&all)), "")
    }

    pub fn pool(&self, key: &PoolKey) -> String {
        self.key(&format!("p:{}", name(&key.0)), "")
    }

    pub fn pool_lock(&self, key: &PoolKey) -> String {
        self.key(&format!("p:{}", name(&key.0)), ":lock")
    }

    pub fn doc(&self, key: &DocKey) -> String {
        self.key(&format!("d:{}:{}", name(key.kind), name(&key.id)), "")
    }

    pub fn limit(&self, group: &str, key: &str) -> String {
        self.key(&format!("l:{}", name(group)), &format!(":{}", name(key)))
    }

    /// No encoded name has a slash.
    pub fn quota(&self, group: &str, key: &str) -> String {
        self.key(&format!("l:{}", name(group)), &format!("/{}", name(key)))
    }

    pub fn slots(&self, key: &str) -> String {
        self.key(&format!("n:{}", name(key)), "")
    }

    pub fn segment(&self, key: &str) -> String {
        self.key(&format!("m:{}", name(key)), "")
    }
}

fn of_stream(id: &str) -> String {
    format!("s:{id}")
}

/// The stream's tag for its sessions and standings, and behind it whose they are
/// ([`crate::scope_of`]); a tag of its own for any other scope.
fn of_scope(scope: &str) -> (String, String) {
    match stream_of_scope(scope) {
        Some((id, None)) => (of_stream(id.as_str()), String::new()),
        Some((id, Some(caller))) => (of_stream(id.as_str()), format!("@{}", name(caller))),
        None => (format!("x:{}", name(scope)), String::new()),
    }
}

fn name(text: &str) -> String {
    encoded(text, READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{Address, AuthId};
    use proptest::prelude::*;

    fn tag(key: &str) -> &str {
        let rest = &key[key.find('{').unwrap() + 1..];
        &rest[..rest.find('}').unwrap()]
    }

    #[test]
    fn a_stream_lies_in_one_slot() {
        let (keys, id) = (Keys::new("p"), StreamId::new("my.show-1").unwrap());
        let mut all = vec![keys.stream(&id), keys.window(&id), keys.results(&id)];
        let orchestrator = "https://o:8935".to_owned();
        // As the gateway names them, whoever the caller is; and each caller's are their own.
        for caller in ["acme:bob", "acme", "bob@acme:x}y", "stream:my.show-1@"] {
            let scope = crate::scope_of("stream:my.show-1", &AuthId::new(caller).unwrap());
            let session = SessionKey { scope: scope.clone(), orchestrator: orchestrator.clone() };
            all.extend([keys.session(&session), keys.standings(&scope)]);
        }
        all.push(keys.standings("stream:my.show-1"));
        assert!(all.iter().all(|k| tag(k) == "s:my.show-1"), "{all:?}");
        assert_eq!(all[3], "p:{s:my.show-1}@acme%3Abob:at:https%3A%2F%2Fo%3A8935");
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "{all:?}");
        // A scope that only looks like a stream's is none.
        for scope in ["stream:a}b", "stream:", "streams", "stream:a/b", "stream:a}b@c", "stream:@a"]
        {
            let key = keys.standings(scope);
            assert!(tag(&key).starts_with("x:") && key.matches('}').count() == 1, "{key}");
        }
    }

    #[test]
    fn parts_of_an_account_do_not_run_together() {
        let keys = Keys::new("p");
        let key = |auth: &str, orchestrator: &str, session: &str| CreditKey {
            auth_id: AuthId::new(auth).unwrap(),
            sender: Address::ZERO,
            orchestrator: orchestrator.into(),
            session: session.into(),
        };
        let a = keys.credit(&key("a", "https://o", "1x"));
        assert_ne!(a, keys.credit(&key("a", "https://o1", "x")));
        assert_ne!(a, keys.credit(&key("a", "https:", "//o1x")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn names_are_safe_and_apart(a in "\\PC{0,60}", b in "\\PC{0,60}", long in 0usize..3) {
            let grown = |t: &str| format!("{}{t}", "%7E~".repeat(long * 20));
            let (a, b) = (grown(&a), grown(&b));
            let (x, y) = (name(&a), name(&b));
            prop_assert_eq!(a == b, x == y);
            prop_assert!(x.len() <= READABLE + 1);
            prop_assert!(x.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.%~".contains(&c)));
        }
    }
}
