//! What is traced here: jobs and payments, by one of a few names.

use axum::extract::Request;
use penstock_http_kit::traced::caller;
use penstock_wire::ai::Pipeline;

/// Paths whose requests begin a trace if their caller has none.
const JOBS: [(&str, &str); 9] = [
    ("/segment", "segment"),
    ("/payment", "payment"),
    ("/refresh-payment", "refresh_payment"),
    ("/live-video-to-video", "live_start"),
    ("/process/request", "byoc"),
    ("/process/train", "byoc_training"),
    ("/ai/stream/start", "byoc_stream"),
    ("/ai/stream/payment", "payment"),
    ("/process/token", "byoc_token"),
];

/// What is asked for all the time, by pollers too: only as a part of somebody's trace.
const ASIDE: [(&str, &str); 3] = [
    ("/net.Orchestrator/GetOrchestrator", "get_orchestrator"),
    ("/transcodeResults", "transcode_results"),
    ("/aiResults", "ai_results"),
];

/// The name of what is asked for, if it is worth a span.
pub fn operation(request: &Request) -> Option<&'static str> {
    let path = request.uri().path();
    let named = |list: &[(&'static str, &'static str)]| {
        let is = |prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        list.iter().find(|(prefix, _)| is(prefix)).map(|(_, name)| *name)
    };
    if let Some(name) = named(&ASIDE) {
        return caller(request.headers()).is_some().then_some(name);
    }
    let pipeline = Pipeline::ALL.iter().find(|p| path.strip_prefix('/') == Some(p.name()));
    pipeline.map(|pipeline| pipeline.name()).or_else(|| named(&JOBS))
}

/// What a worker is told of the job's trace; empty: nothing.
pub fn for_worker() -> String {
    penstock_telemetry::trace::outgoing().map(|at| at.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn few_names() {
        let named = |path: &str, trace: bool| {
            let mut request = Request::builder().uri(path);
            if trace {
                let at = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
                request = request.header("traceparent", at);
            }
            operation(&request.body(Body::empty()).unwrap())
        };
        assert_eq!(named("/segment", false), Some("segment"));
        assert_eq!(named("/text-to-image", false), Some("text-to-image"));
        assert_eq!(named("/process/request/a/b", false), Some("byoc"));
        let offers = "/net.Orchestrator/GetOrchestrator";
        assert_eq!((named(offers, false), named(offers, true)), (None, Some("get_orchestrator")));
        for none in ["/", "/segments", "/discovery", "/stream/s/0.ts", "/net.Orchestrator/Ping"] {
            assert_eq!(named(none, true), None, "{none}");
        }
    }
}
