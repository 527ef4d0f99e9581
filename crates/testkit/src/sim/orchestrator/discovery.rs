//! `GET /discovery`: the apps that run at an orchestrator (live-runner.md section 4).

use super::{Node, SimOrchestrator};
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// An app that an orchestrator says it runs.
#[derive(Debug, Clone)]
pub struct SimApp {
    /// Its name, `owner/app`.
    pub app: String,
    /// Wei a second.
    pub price_wei: u64,
    /// Sessions at once.
    pub capacity: u32,
    /// Of them in use.
    pub capacity_used: u32,
}

/// An idle app for one session.
pub fn app(name: &str, price_wei: u64) -> SimApp {
    SimApp { app: name.to_owned(), price_wei, capacity: 1, capacity_used: 0 }
}

impl SimOrchestrator {
    /// Says from now on that these apps run here.
    pub fn runs(&self, apps: &[SimApp]) {
        let uri = self.uri();
        let runners: Vec<Value> = apps
            .iter()
            .enumerate()
            .map(|(number, app)| {
                json!({
                    "url": format!("{uri}/apps/{number}/session"),
                    "app": app.app,
                    "mode": "persistent",
                    "capacity": app.capacity,
                    "capacity_used": app.capacity_used,
                    "capacity_available": i64::from(app.capacity) - i64::from(app.capacity_used),
                    "price_info": {
                        "price": app.price_wei, "currency": "wei", "unit": "seconds",
                    },
                })
            })
            .collect();
        let list = json!([{ "address": uri, "runners": runners }]);
        *self.discovery.lock().unwrap() = Some(list.to_string());
    }
}

pub(super) async fn runners(State(Node(sim)): State<Node>) -> Response {
    match sim.discovery.lock().unwrap().clone() {
        Some(text) => ([("content-type", "application/json")], text).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
