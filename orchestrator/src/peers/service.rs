//! Requests of one connection, and their answers' bodies: who is waited for.

use super::connection::{Call, Connection};
use axum::body::Body;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use penstock_http_kit::serve::Taken;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// What answers the requests of one connection.
#[derive(Debug, Clone)]
pub struct Watched<S> {
    inner: S,
    connection: Arc<Connection>,
}

impl<S> Watched<S> {
    pub fn new(inner: S, connection: Arc<Connection>) -> Self {
        Self { inner, connection }
    }
}

impl<S> Service<Request<Incoming>> for Watched<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Taken<Call>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let (connection, call) = (Arc::clone(&self.connection), self.connection.call());
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                connection.switched();
            }
            Ok(answer.map(|body| connection.taken(body, call)))
        }
        .boxed()
    }
}
