//! Layers as plain functions, each around the next, over one copy of the routes a request. A router's own
//! `layer` makes a boxed service of each, and `from_fn` clones all that is inside it: with ten of them a
//! request makes some fifty copies, which cost more than what the layers do.

use axum::{extract::Request, response::IntoResponse, response::Response};
use futures::future::{BoxFuture, FutureExt, Map};
use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};
use tower::{Layer, Service};

type Function = dyn Fn(Request, Next) -> BoxFuture<'static, Response> + Send + Sync;
type Inside = Box<dyn FnOnce(Request) -> BoxFuture<'static, Response> + Send>;

/// Functions around a service, the first outermost.
#[derive(Clone, Default)]
pub struct Layers(Vec<Arc<Function>>);

impl Layers {
    /// One more, inside those before it.
    #[must_use]
    pub fn then<L, F>(mut self, layer: L) -> Self
    where
        L: Fn(Request, Next) -> F + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        self.0.push(Arc::new(move |request, next| layer(request, next).boxed()));
        self
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layers({})", self.0.len())
    }
}

/// What is inside a layer: the layers that follow, and the routes.
pub struct Next {
    layers: Arc<[Arc<Function>]>,
    /// Which follows.
    at: usize,
    inside: Inside,
}

impl Next {
    /// Has it answer the request.
    pub fn run(mut self, request: Request) -> BoxFuture<'static, Response> {
        let layers = Arc::clone(&self.layers);
        match layers.get(self.at) {
            Some(layer) => {
                self.at = self.at.saturating_add(1);
                layer(request, self)
            }
            None => (self.inside)(request),
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Next({} of {})", self.at, self.layers.len())
    }
}

impl<S> Layer<S> for Layers {
    type Service = Layered<S>;

    fn layer(&self, inner: S) -> Layered<S> {
        Layered { layers: self.0.clone().into(), inner }
    }
}

/// A service with functions around it.
#[derive(Clone)]
pub struct Layered<S> {
    layers: Arc<[Arc<Function>]>,
    inner: S,
}

impl<S> fmt::Debug for Layered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layered({})", self.layers.len())
    }
}

impl<S> Service<Request> for Layered<S>
where
    S: Service<Request, Error = Infallible> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Map<BoxFuture<'static, Response>, fn(Response) -> Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that is ready goes to work; its copy has to become ready anew.
        let again = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, again);
        let inside: Inside = Box::new(move |request| {
            inner.call(request).map(|Ok(answer)| answer.into_response()).boxed()
        });
        let next = Next { layers: Arc::clone(&self.layers), at: 0, inside };
        next.run(request).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, body::Body, routing::get};
    use http::HeaderValue;
    use tower::ServiceExt;

    /// Adds its mark to what the request came with, and to what the answer has.
    async fn mark(mark: &'static str, mut request: Request, next: Next) -> Response {
        let seen = request.headers().get("seen").cloned();
        let seen = format!("{}{mark}", seen.as_ref().map_or("", |v| v.to_str().unwrap()));
        request.headers_mut().insert("seen", HeaderValue::from_str(&seen).unwrap());
        let mut answer = next.run(request).await;
        answer.headers_mut().append("left", HeaderValue::from_static(mark));
        answer
    }

    #[tokio::test]
    async fn the_first_is_outermost_and_any_of_them_may_answer() {
        let routes = Router::new()
            .route("/", get(|r: Request| async move { r.headers()["seen"].as_bytes().to_vec() }))
            .layer(
                Layers::default()
                    .then(|request, next| mark("a", request, next))
                    .then(|request, next| async move {
                        match request.uri().query() {
                            Some(_) => "enough".into_response(),
                            None => next.run(request).await,
                        }
                    })
                    .then(|request, next| mark("b", request, next)),
            );
        for (path, body, left) in [("/", "ab", vec!["b", "a"]), ("/?", "enough", vec!["a"])] {
            // The same router, more than once.
            let request = http::Request::get(path).body(Body::empty()).unwrap();
            let answer = routes.clone().oneshot(request).await.unwrap();
            let marks: Vec<_> = answer.headers().get_all("left").iter().cloned().collect();
            assert_eq!(marks, left);
            let text = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
            assert_eq!(text, body);
        }
    }

    #[tokio::test]
    async fn without_any_it_is_the_service_itself() {
        let routes = Router::new().route("/", get(|| async { "here" })).layer(Layers::default());
        let request = http::Request::get("/").body(Body::empty()).unwrap();
        assert_eq!(routes.oneshot(request).await.unwrap().status(), 200);
    }
}
