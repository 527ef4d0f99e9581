//! The operator's own runners: all of a list or none of it, by label (live-runner.md section 3).

use super::{
    error::RunnerError,
    facts::StaticFacts,
    ids::{self, Seed},
    registry::Registry,
    runner::{Origin, Runner},
    state::State,
};
use crate::release::Reason;
use penstock_wire::json::StaticRunnerSaid;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use url::Url;

/// Whom to ask how it is: id, where, what means well.
pub type Question = (String, Url, u16);

impl Registry {
    /// A list, checked as a whole before anything of it counts.
    pub fn check_list(&self, list: &[StaticRunnerSaid]) -> Result<Vec<StaticFacts>, RunnerError> {
        let mut labels = BTreeSet::new();
        let check = |(n, said): (usize, &StaticRunnerSaid)| {
            let facts = StaticFacts::new(said, self.is_paid());
            let facts = facts.and_then(|facts| {
                self.check_place(&facts.facts.url)?;
                self.check_place(&facts.health_url)?;
                Ok(facts)
            });
            let facts =
                facts.map_err(|why| RunnerError::Senseless(format!("runners[{n}]: {why}")))?;
            if !labels.insert(said.runner.label.clone()) {
                let why = format!("runners[{n}]: duplicate label {:?}", said.runner.label);
                return Err(RunnerError::Senseless(why));
            }
            Ok(facts)
        };
        list.iter().enumerate().map(check).collect()
    }

    /// Adds or changes them; what each one's health was is known by now. An existing one keeps its id
    /// and, while it is well, its sessions.
    pub fn upsert(&self, list: &[(StaticFacts, bool)]) -> Result<Vec<Value>, RunnerError> {
        let mut state = self.lock();
        let new = list.iter().filter(|(said, _)| own(&state, &said.facts.label).is_none()).count();
        self.has_place(&state, new)?;
        for (n, (said, _)) in list.iter().enumerate() {
            let label = &said.facts.label;
            let taken = state.routes.get(label).is_some_and(|id| own(&state, label) != Some(id));
            if said.by_label && taken {
                let why = format!("runners[{n}]: label {label:?} is another runner's route");
                return Err(RunnerError::Senseless(why));
            }
        }
        let mut rows = Vec::with_capacity(list.len());
        for (said, well) in list {
            let id = match own(&state, &said.facts.label).cloned() {
                Some(id) => id,
                None => new_id(&state)?,
            };
            let mut runner = match state.runners.remove(&id) {
                Some(runner) => runner,
                None => {
                    let origin = Origin::Static {
                        health_url: said.health_url.clone(),
                        healthy_status: said.healthy_status,
                    };
                    let seed = Seed::new().map_err(|_| RunnerError::Internal)?;
                    Runner::new(id.clone(), String::new(), said.facts.clone(), origin, seed)
                }
            };
            runner.route = if said.by_label { said.facts.label.clone() } else { runner.id.clone() };
            runner.learn_static(said, *well);
            rows.push(row(&runner, said, *well));
            state.put(runner);
            if !well {
                state.release_all(&id, Reason::RunnerUnwell, &self.trickle);
            }
        }
        Ok(rows)
    }

    /// Whom of the operator's own to ask how it is.
    pub fn questions(&self) -> Vec<Question> {
        let ask = |runner: &Runner| match &runner.origin {
            Origin::Static { health_url, healthy_status } => {
                Some((runner.id.clone(), health_url.clone(), *healthy_status))
            }
            Origin::Dynamic { .. } => None,
        };
        self.lock().runners.values().filter_map(ask).collect()
    }

    /// What it answered. The question may be an old one: then it says nothing.
    pub fn heard(&self, (id, url, status): &Question, well: bool) {
        let mut state = self.lock();
        let Some(runner) = state.runners.get_mut(id) else { return };
        let asked = Origin::Static { health_url: url.clone(), healthy_status: *status };
        let same = match (&runner.origin, &asked) {
            (
                Origin::Static { health_url: a, healthy_status: b },
                Origin::Static { health_url: c, healthy_status: d },
            ) => a == c && b == d,
            _ => false,
        };
        if !same {
            return;
        }
        if runner.facts.ready != well {
            tracing::info!(
                runner = id,
                app = runner.facts.app,
                well,
                "a live runner's health changed"
            );
        }
        runner.facts.ready = well;
        if well {
            runner.is_heard();
        } else {
            state.release_all(id, Reason::RunnerUnwell, &self.trickle);
        }
    }
}

fn own<'a>(state: &'a State, label: &str) -> Option<&'a String> {
    let is = |runner: &&Runner| runner.is_static() && runner.facts.label == label;
    state.runners.values().find(is).map(|runner| &runner.id)
}

fn new_id(state: &State) -> Result<String, RunnerError> {
    loop {
        let id = ids::runner_id().map_err(|_| RunnerError::Internal)?;
        if !state.runners.contains_key(&id) && !state.routes.contains_key(&id) {
            return Ok(id);
        }
    }
}

/// For the operator, who knows where they are.
fn row(runner: &Runner, said: &StaticFacts, well: bool) -> Value {
    let mut row = json!({
        "runner_id": runner.id,
        "label": runner.facts.label,
        "app": runner.facts.app,
        "runner_url": runner.facts.url.as_str(),
        "mode": runner.facts.mode.as_str(),
        "health_url": said.health_url.as_str(),
        "healthy_status_code": said.healthy_status,
        "healthy": well,
    });
    if let (true, Some(map)) = (runner.facts.proxy, row.as_object_mut()) {
        map.insert("proxy".to_owned(), json!(true));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SECRET, registry, said};
    use super::*;
    use penstock_wire::json::RunnerSaid;
    use tokio::time::Instant;

    fn entry(label: &str, routing: &str) -> StaticRunnerSaid {
        StaticRunnerSaid {
            runner: RunnerSaid { label: label.into(), capacity: 2, ..said("") },
            routing: routing.into(),
            health_url: "/health".into(),
            healthy_status_code: 0,
        }
    }

    fn upsert(registry: &Registry, list: &[StaticRunnerSaid], well: bool) -> Vec<Value> {
        let list = registry.check_list(list).unwrap();
        let list: Vec<_> = list.into_iter().map(|facts| (facts, well)).collect();
        registry.upsert(&list).unwrap()
    }

    #[tokio::test]
    async fn by_label_all_or_none() {
        let registry = registry(&[]);
        let rows = upsert(&registry, &[entry("a", ""), entry("b", "label")], true);
        let a = rows[0]["runner_id"].as_str().unwrap().to_owned();
        assert_eq!(rows[1]["health_url"], "http://10.0.0.2:9000/base/health");
        assert_eq!(
            (&rows[1]["healthy_status_code"], &rows[1]["healthy"]),
            (&json!(200), &json!(true))
        );
        assert!(registry.lock().by_route("b").is_ok());
        assert!(registry.lock().by_route(rows[1]["runner_id"].as_str().unwrap()).is_err());

        // A bad entry spoils the list.
        for bad in
            [vec![entry("c", ""), entry("c", "")], vec![entry("c", ""), entry("d", "nowhere")]]
        {
            let why = registry.check_list(&bad).unwrap_err().to_string();
            assert!(why.starts_with("runners[1]: "), "{why}");
        }
        registry.heartbeat(said("c"), SECRET, true, Instant::now()).unwrap();
        let list = registry.check_list(&[entry("c", "label")]).unwrap();
        let list: Vec<_> = list.into_iter().map(|facts| (facts, true)).collect();
        assert!(registry.upsert(&list).is_err(), "a runner has that id");

        // It keeps its id and sessions, also at another route, and whoever is not named stays.
        registry.lock().add_session(&a, "s", Instant::now());
        let rows = upsert(&registry, &[entry("a", "label")], true);
        assert_eq!(rows[0]["runner_id"], a.as_str());
        assert!(registry.lock().by_route(&a).is_err());
        assert_eq!(registry.lock().by_route("a").unwrap().sessions.len(), 1);
        assert!(registry.lock().by_route("b").is_ok());
        upsert(&registry, &[entry("a", "")], false);
        assert!(registry.lock().by_route(&a).unwrap().sessions.is_empty());
        assert_eq!(registry.lock().ended.reason(&a, "s"), Some(Reason::RunnerUnwell));
    }

    #[tokio::test]
    async fn an_answer_to_an_old_question_says_nothing() {
        let registry = registry(&[]);
        upsert(&registry, &[entry("a", "label")], true);
        let old = registry.questions().remove(0);
        let other = StaticRunnerSaid { health_url: "/other".into(), ..entry("a", "label") };
        upsert(&registry, &[other], true);
        registry.heard(&old, false);
        assert!(registry.lock().by_route("a").unwrap().facts.ready);
        let new = registry.questions().remove(0);
        registry.heard(&new, false);
        assert!(!registry.lock().by_route("a").unwrap().facts.ready);
    }
}
