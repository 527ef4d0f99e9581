//! A stand-in for the Docker Engine: its HTTP interface on a Unix socket, as far as runner containers
//! need it. A container is a stand-in for ai-runner (`penstock_testkit::sim::runner`) on a free port, for
//! as long as the container runs; what is sent for it is kept for the test to look at.

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use penstock_testkit::sim::{Running, SimRunner};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

/// What becomes of the next container that is started.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// Its runner says this of its health.
    Says(&'static str),
    /// The engine refuses to start it.
    Refused,
    /// It ends with this exit code.
    Exits(i64),
}

/// A container as the engine has it.
#[derive(Clone)]
pub struct Box {
    pub id: String,
    pub name: String,
    /// What it was made from.
    pub body: Value,
    pub runner: Option<Arc<Running<SimRunner>>>,
    exited: Option<i64>,
}

impl Box {
    pub fn runner(&self) -> Arc<Running<SimRunner>> {
        self.runner.clone().expect("it runs")
    }

    pub fn env(&self) -> Vec<&str> {
        self.body["Env"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect()
    }
}

#[derive(Default)]
struct Engine {
    boxes: Vec<Box>,
    images: BTreeSet<String>,
    /// Images that a registry has.
    registry: BTreeSet<String>,
    pulled: Vec<String>,
    fates: VecDeque<Fate>,
    removed: Vec<String>,
    made: usize,
}

pub struct Docker {
    folder: TempDir,
    engine: Arc<Mutex<Engine>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Docker {
    pub async fn start(images: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = tokio::net::UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let engine: Arc<Mutex<Engine>> = Arc::default();
        engine.lock().unwrap().images = images.iter().map(|i| (*i).to_owned()).collect();
        let router = Router::new().fallback(call).with_state(engine.clone());
        let serving = tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
        Self { folder, engine, serving }
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    pub fn boxes(&self) -> Vec<Box> {
        self.engine.lock().unwrap().boxes.clone()
    }

    /// The container with this name.
    pub fn named(&self, name: &str) -> Option<Box> {
        self.boxes().into_iter().find(|b| b.name == name)
    }

    /// Names of containers that were removed.
    pub fn removed(&self) -> Vec<String> {
        self.engine.lock().unwrap().removed.clone()
    }

    pub fn pulled(&self) -> Vec<String> {
        self.engine.lock().unwrap().pulled.clone()
    }

    pub fn registry_has(&self, image: &str) {
        self.engine.lock().unwrap().registry.insert(image.to_owned());
    }

    pub fn fates(&self, fates: impl IntoIterator<Item = Fate>) {
        self.engine.lock().unwrap().fates.extend(fates);
    }

    /// A container that somebody left behind.
    pub fn left_behind(&self, name: &str, labels: &[(&str, &str)]) {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let body = json!({ "Labels": labels });
        self.engine.lock().unwrap().add(name, body);
    }
}

impl Engine {
    fn add(&mut self, name: &str, body: Value) -> String {
        self.made += 1;
        let id = format!("id{}", self.made);
        let (name, id_) = (name.to_owned(), id.clone());
        self.boxes.push(Box { id: id_, name, body, runner: None, exited: None });
        id
    }

    fn find(&mut self, id: &str) -> Option<&mut Box> {
        self.boxes.iter_mut().find(|b| b.id == id)
    }
}

fn refuse(status: u16, message: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({ "message": message }))).into_response()
}

fn no_such() -> Response {
    refuse(404, "No such container")
}

async fn call(
    State(engine): State<Arc<Mutex<Engine>>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    // `/v1.47/containers/json` and `/containers/json` are one.
    let path = uri.path().trim_start_matches('/');
    let path = match path.split_once('/') {
        Some((version, rest)) if version.starts_with("v1.") => rest,
        _ => path,
    };
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let words: Vec<&str> = path.split('/').collect();
    match (method.as_str(), &words[..]) {
        ("GET", ["version"]) => {
            Json(json!({"Version": "27.0", "ApiVersion": "1.47"})).into_response()
        }
        ("GET", ["images", name @ .., "json"]) => {
            let name = name.join("/");
            match engine.lock().unwrap().images.contains(&name) {
                true => Json(json!({ "Id": name })).into_response(),
                false => refuse(404, "No such image"),
            }
        }
        ("POST", ["images", "create"]) => pull(&engine, &query["fromImage"]),
        ("GET", ["containers", "json"]) => list(&engine, &query),
        ("POST", ["containers", "create"]) => create(&engine, &query["name"], &body),
        ("POST", ["containers", id, "start"]) => start(&engine, id).await,
        ("POST", ["containers", id, "stop"]) => {
            assert_eq!(query["t"], "8");
            match engine.lock().unwrap().find(id) {
                None => no_such(),
                Some(b) => match b.runner.take() {
                    None => StatusCode::NOT_MODIFIED.into_response(),
                    Some(_) => StatusCode::NO_CONTENT.into_response(),
                },
            }
        }
        ("DELETE", ["containers", id]) => {
            let mut engine = engine.lock().unwrap();
            match engine.boxes.iter().position(|b| b.id == *id) {
                None => no_such(),
                Some(at) => {
                    let gone = engine.boxes.remove(at);
                    assert!(gone.runner.is_none(), "a running container is not removed");
                    engine.removed.push(gone.name);
                    StatusCode::NO_CONTENT.into_response()
                }
            }
        }
        ("GET", ["containers", id, "json"]) => inspect(&engine, id),
        other => panic!("the engine was asked for {other:?}"),
    }
}

fn pull(engine: &Mutex<Engine>, image: &str) -> Response {
    let mut engine = engine.lock().unwrap();
    engine.pulled.push(image.to_owned());
    let end = match engine.registry.contains(image) {
        true => {
            engine.images.insert(image.to_owned());
            json!({"status": "Download complete"})
        }
        false => {
            json!({"errorDetail": {"message": "manifest unknown"}, "error": "manifest unknown"})
        }
    };
    format!("{}\n{end}\n", json!({"status": "Pulling"})).into_response()
}

fn list(engine: &Mutex<Engine>, query: &BTreeMap<String, String>) -> Response {
    assert_eq!(query["all"], "true");
    let filters: Value = serde_json::from_str(&query["filters"]).unwrap();
    let (name, value) = filters["label"][0].as_str().unwrap().split_once('=').unwrap();
    let engine = engine.lock().unwrap();
    let found = engine.boxes.iter().filter(|b| b.body["Labels"][name] == value).map(
        |b| json!({"Id": b.id, "Names": [format!("/{}", b.name)], "Labels": b.body["Labels"]}),
    );
    Json(found.collect::<Value>()).into_response()
}

fn create(engine: &Mutex<Engine>, name: &str, body: &Bytes) -> Response {
    let mut engine = engine.lock().unwrap();
    let body: Value = serde_json::from_slice(body).unwrap();
    if engine.boxes.iter().any(|b| b.name == name) {
        return refuse(409, "Conflict. The container name is already in use");
    }
    if !engine.images.contains(body["Image"].as_str().unwrap()) {
        return refuse(404, "No such image");
    }
    let id = engine.add(name, body);
    (StatusCode::CREATED, Json(json!({"Id": id, "Warnings": []}))).into_response()
}

async fn start(engine: &Mutex<Engine>, id: &str) -> Response {
    let (fate, model) = {
        let mut engine = engine.lock().unwrap();
        let fate = engine.fates.pop_front().unwrap_or(Fate::Says("OK"));
        let Some(b) = engine.find(id) else { return no_such() };
        let model = b.env().iter().find_map(|e| e.strip_prefix("MODEL_ID=")).unwrap().to_owned();
        (fate, model)
    };
    let runner = match fate {
        Fate::Refused => return refuse(500, "could not select device driver"),
        Fate::Exits(_) => None,
        Fate::Says(health) => {
            let runner = SimRunner::start(&model, None).await;
            *runner.health.lock().unwrap() = health;
            Some(Arc::new(runner))
        }
    };
    let mut engine = engine.lock().unwrap();
    let Some(b) = engine.find(id) else { return no_such() };
    b.runner = runner;
    if let Fate::Exits(code) = fate {
        b.exited = Some(code);
    }
    StatusCode::NO_CONTENT.into_response()
}

fn inspect(engine: &Mutex<Engine>, id: &str) -> Response {
    let mut engine = engine.lock().unwrap();
    let Some(b) = engine.find(id) else { return no_such() };
    let running = b.runner.is_some();
    let status = match (running, b.exited) {
        (true, _) => "running",
        (false, Some(_)) => "exited",
        (false, None) => "created",
    };
    let port = b.runner.as_ref().map(|r| r.uri().rsplit_once(':').unwrap().1.to_owned());
    let bindings = port.map(|port| json!([{"HostIp": "127.0.0.1", "HostPort": port}]));
    Json(json!({
        "Id": b.id, "Name": format!("/{}", b.name),
        "State": {"Status": status, "Running": running, "Restarting": false, "Dead": false,
            "ExitCode": b.exited.unwrap_or(0), "Error": ""},
        "NetworkSettings": {"Ports": {"8000/tcp": bindings}},
    }))
    .into_response()
}
