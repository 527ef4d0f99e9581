//! The calls of the Docker Engine that runner containers need, each bounded in time.

use crate::plan::Plan;
use bollard::{
    Docker,
    errors::Error as DockerError,
    models::{
        ContainerCreateBody, DeviceRequest, HostConfig, Mount, MountType, PortBinding,
        RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptions, CreateImageOptions, InspectContainerOptions, ListContainersOptions,
        RemoveContainerOptions, StartContainerOptions, StopContainerOptions,
    },
};
use futures::StreamExt;
use std::{collections::HashMap, time::Duration};
use thiserror::Error;

/// Labels by which a worker knows its containers.
const CREATOR: (&str, &str) = ("creator", "ai-worker");
const CREATOR_ID: &str = "creator_id";
const CONTAINER_PORT: &str = "8000/tcp";
const CONTAINER_MODELS: &str = "/models";
const LOOPBACK: &str = "127.0.0.1";
/// How often a container that fails is started again by the engine itself.
const ENGINE_RETRIES: i64 = 3;
/// What a stopping runner is given, and what removing it may take in all.
const STOP_S: i32 = 8;
const REMOVE: Duration = Duration::from_secs(30);
const QUICK: Duration = Duration::from_secs(30);
const START: Duration = Duration::from_secs(180);
const REMOVE_POLL: Duration = Duration::from_millis(500);

/// A call gave no result.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The engine said no, or nothing that can be understood.
    #[error("docker: {0}")]
    Docker(#[from] DockerError),
    /// It took too long.
    #[error("docker: no answer within {}s to {what}", limit.as_secs())]
    Slow {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The image could not be pulled.
    #[error("image {image} cannot be pulled: {reason}")]
    Pull {
        /// The image.
        image: String,
        /// The engine's words.
        reason: String,
    },
    /// It runs, and is published nowhere.
    #[error("the container is not published on {LOOPBACK}")]
    NoPort,
    /// It will not run.
    #[error("the container ended before it ran ({0})")]
    Ended(String),
}

/// What has become of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Not running yet.
    Coming,
    /// Runs; its runner answers on this port of the loopback address.
    Running(u16),
}

/// One Docker Engine, and who we are to it.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    creator_id: String,
}

impl Engine {
    /// Connects to `host` (`unix:///var/run/docker.sock`, `tcp://127.0.0.1:2375`) and agrees on a
    /// version. Containers are labelled with `creator_id`.
    pub async fn connect(host: &str, creator_id: String) -> Result<Self, EngineError> {
        let docker = Docker::connect_with_host(host)?;
        let docker = within(QUICK, "connect", docker.negotiate_version()).await?;
        Ok(Self { docker, creator_id })
    }

    /// Removes what an earlier life of this worker left behind, and containers from before workers
    /// wrote their id on them. Those of other workers stay. Returns their names.
    pub async fn remove_leftovers(&self) -> Result<Vec<String>, EngineError> {
        let label = format!("{}={}", CREATOR.0, CREATOR.1);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options =
            ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let listed = self.docker.list_containers(Some(options));
        let mut removed = Vec::new();
        for container in within(QUICK, "list containers", listed).await? {
            let owner = container.labels.as_ref().and_then(|labels| labels.get(CREATOR_ID));
            let Some(id) = container.id.filter(|_| owner.is_none_or(|o| *o == self.creator_id))
            else {
                continue;
            };
            self.remove(&id).await?;
            removed.push(container.names.and_then(|n| n.into_iter().next()).unwrap_or(id));
        }
        Ok(removed)
    }

    /// Whether an image is on this machine.
    pub async fn has_image(&self, image: &str) -> Result<bool, EngineError> {
        match within(QUICK, "inspect an image", self.docker.inspect_image(image)).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Fetches an image. Takes as long as it takes: it may be tens of gigabytes.
    pub async fn pull(&self, image: &str) -> Result<(), EngineError> {
        let options =
            CreateImageOptions { from_image: Some(image.to_owned()), ..Default::default() };
        let mut progress = std::pin::pin!(self.docker.create_image(Some(options), None, None));
        while let Some(step) = progress.next().await {
            let failed = |reason| EngineError::Pull { image: image.to_owned(), reason };
            let step = step.map_err(|error| failed(error.to_string()))?;
            if let Some(detail) = step.error_detail {
                return Err(failed(detail.message.unwrap_or_default()));
            }
            tracing::debug!(image, status = step.status, "pulling");
        }
        Ok(())
    }

    /// Makes and starts a container; returns its id. One that does not start is removed again.
    pub async fn start(&self, plan: &Plan) -> Result<String, EngineError> {
        let options =
            CreateContainerOptions { name: Some(plan.name.clone()), ..Default::default() };
        let created = self.docker.create_container(Some(options), self.body(plan));
        let id = within(QUICK, "create a container", created).await?.id;
        let started = self.docker.start_container(&id, None::<StartContainerOptions>);
        match within(START, "start a container", started).await {
            Ok(()) => Ok(id),
            Err(error) => {
                self.remove_or_say(&id).await;
                Err(error)
            }
        }
    }

    fn body(&self, plan: &Plan) -> ContainerCreateBody {
        let binding = PortBinding {
            host_ip: Some(LOOPBACK.to_owned()),
            host_port: Some(plan.port.to_string()),
        };
        let request = plan.card.map(|card| DeviceRequest {
            device_ids: Some(vec![card.to_string()]),
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            ..Default::default()
        });
        let labels = [CREATOR, (CREATOR_ID, self.creator_id.as_str())];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        ContainerCreateBody {
            image: Some(plan.image.clone()),
            env: Some(plan.env.clone()),
            volumes: Some(vec![CONTAINER_MODELS.to_owned()]),
            exposed_ports: Some(vec![CONTAINER_PORT.to_owned()]),
            labels: Some(labels.into_iter().map(owned).collect()),
            host_config: Some(HostConfig {
                device_requests: request.map(|request| vec![request]),
                mounts: Some(vec![Mount {
                    typ: Some(MountType::BIND),
                    source: Some(plan.models_dir.display().to_string()),
                    target: Some(CONTAINER_MODELS.to_owned()),
                    ..Default::default()
                }]),
                port_bindings: Some(HashMap::from([(
                    CONTAINER_PORT.to_owned(),
                    Some(vec![binding]),
                )])),
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::ON_FAILURE),
                    maximum_retry_count: Some(ENGINE_RETRIES),
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// How a container is. One that will not run any more is an error.
    pub async fn look(&self, id: &str) -> Result<Look, EngineError> {
        let asked = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        let found = within(QUICK, "inspect a container", asked).await?;
        let state = found.state.unwrap_or_default();
        if state.running == Some(true) {
            let ports = found.network_settings.and_then(|s| s.ports).unwrap_or_default();
            let bindings = ports.get(CONTAINER_PORT).cloned().flatten().unwrap_or_default();
            let port = bindings.into_iter().find_map(|b| b.host_port?.parse().ok());
            return port.map(Look::Running).ok_or(EngineError::NoPort);
        }
        let status = state.status.map(|s| s.to_string()).unwrap_or_default();
        let code = state.exit_code.unwrap_or(0);
        let restarting = state.restarting == Some(true);
        let error = state.error.unwrap_or_default();
        let over = matches!(status.as_str(), "exited" | "dead");
        if over || (!restarting && (code != 0 || !error.is_empty())) {
            let error = if error.is_empty() { error } else { format!(": {error}") };
            return Err(EngineError::Ended(format!("{status}, exit code {code}{error}")));
        }
        Ok(Look::Coming)
    }

    /// Stops and removes a container, and waits until it is gone. One that is gone already is fine.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        within(REMOVE, "remove a container", async {
            let options = StopContainerOptions { t: Some(STOP_S), ..Default::default() };
            match self.docker.stop_container(id, Some(options)).await {
                Ok(()) => {}
                // Stopped already, or gone.
                Err(error) if matches!(status_of(&error), Some(304 | 404)) => {}
                Err(error) => return Err(error),
            }
            match self.docker.remove_container(id, None::<RemoveContainerOptions>).await {
                Ok(()) => return Ok(()),
                Err(error) if status_of(&error) == Some(404) => return Ok(()),
                // Somebody, the engine itself perhaps, is at it already.
                Err(error) if error.to_string().contains("already in progress") => {}
                Err(error) => return Err(error),
            }
            loop {
                match self.docker.inspect_container(id, None::<InspectContainerOptions>).await {
                    Err(error) if status_of(&error) == Some(404) => return Ok(()),
                    _ => tokio::time::sleep(REMOVE_POLL).await,
                }
            }
        })
        .await
    }

    /// The same where nobody can do anything about a failure.
    pub async fn remove_or_say(&self, id: &str) {
        if let Err(error) = self.remove(id).await {
            tracing::error!(%error, container = id, "a container cannot be removed");
        }
    }
}

async fn within<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = Result<T, DockerError>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(EngineError::Slow { what, limit }),
    }
}

fn status_of(error: &DockerError) -> Option<u16> {
    match error {
        DockerError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn is_missing(error: &EngineError) -> bool {
    matches!(error, EngineError::Docker(error) if status_of(error) == Some(404))
}
