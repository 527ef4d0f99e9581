//! What the front door adds to every operation of the API's document: credentials, the answers of
//! limits and refusals, `Idempotency-Key`, the headers of answers. Written here once, so that no route
//! can forget it.

use super::{
    access::{self, Access},
    problem::PROBLEM,
};
use crate::routes::openai;
use http::Method;
use std::mem;
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, OpenApi, PathItem, Ref, RefOr, Required, ResponseBuilder,
    path::{Operation, ParameterBuilder, ParameterIn},
    schema::{ObjectBuilder, Type},
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

/// Adds it.
pub fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("bearer", bearer);
    for (path, item) in &mut document.paths.paths {
        same_as_put(item);
        if ["/healthz", "/readyz", "/openapi.json"].contains(&path.as_str()) {
            continue;
        }
        for (method, operation) in [
            (Method::GET, &mut item.get),
            (Method::PUT, &mut item.put),
            (Method::POST, &mut item.post),
            (Method::DELETE, &mut item.delete),
            (Method::PATCH, &mut item.patch),
        ] {
            if let Some(operation) = operation {
                guarded(operation, &method, path);
                headers(operation, &method, path);
                problems(operation);
            }
        }
    }
    // A router says that a parameter takes the rest of the path; the document only names it.
    document.paths.paths = mem::take(&mut document.paths.paths)
        .into_iter()
        .map(|(path, item)| (path.replace("{*", "{"), item))
        .collect();
}

fn guarded(operation: &mut Operation, method: &Method, path: &str) {
    operation.security = Some(vec![
        SecurityRequirement::default(),
        SecurityRequirement::new("bearer", Vec::<String>::new()),
    ]);
    let watching = access::of(method, path) == Access::Playback;
    let who = match watching {
        true => "No valid bearer token, where watching needs one",
        false => "No valid bearer token, where callers are told apart",
    };
    let error = match openai::owns(path) {
        true => "OpenAiError",
        false => "ErrorBody",
    };
    let mut answer =
        |status: &str, description: &str| refusal(operation, status, description, error);
    answer("401", who);
    answer("403", "The key expired or was revoked, or the account's rules forbid this");
    answer("503", "Nobody can tell who is calling, or a store is away");
    if !access::costs(method, path) {
        return;
    }
    answer("429", "More than the caller may ask for; `Retry-After` says when to repeat");
    if *method != Method::POST || access::of(method, path) == Access::Publish {
        return;
    }
    answer("400", "Not a request that can be understood");
    answer(
        "409",
        "The first request with this `Idempotency-Key` is under way, or its answer is gone",
    );
    answer("413", "The body is too large");
    answer("422", "This `Idempotency-Key` was used for another request");
    let key = ObjectBuilder::new().schema_type(Type::String).max_length(Some(128));
    let parameter = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The same request under the same key is done once; a repetition gets the stored answer",
        ))
        .schema(Some(key))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
}

/// A push is the same by either method.
fn same_as_put(item: &mut PathItem) {
    if let (Some(put), Some(post)) = (&item.put, &mut item.post) {
        post.parameters.clone_from(&put.parameters);
        post.request_body.clone_from(&put.request_body);
        post.responses = put.responses.clone();
        post.description.clone_from(&put.description);
    }
}

/// What each header of an answer says. Which answers have it is below.
const REPEAT_AFTER: (&str, &str) = ("Retry-After", "Seconds until a repetition makes sense");
const LIMITS: [(&str, &str); 3] = [
    ("RateLimit-Limit", "Of the limit that the caller meets first: how many requests it allows"),
    ("RateLimit-Remaining", "How many of them are left"),
    ("RateLimit-Reset", "Seconds until all of them are there again"),
];
const TIMING: (&str, &str) =
    ("Server-Timing", "Milliseconds: `queue`, `selection`, `payment`, `orchestrator`, `total`");
const TRACE: (&str, &str) =
    ("X-Trace-Id", "The trace of the request, for `GET /v1/selection/explain?job=…`");
const REPLAYED: (&str, &str) =
    ("Idempotency-Replayed", "`true`: the stored answer of an earlier request with this key");
const BROUGHT: [(&str, &str); 3] = [
    ("Livepeer-Balance", "What is left of what was paid, as the orchestrator says"),
    ("X-Metadata", "What the worker says of the job"),
    ("X-Orchestrator-Url", "Who did it"),
];

fn headers(operation: &mut Operation, method: &Method, path: &str) {
    let costs = access::costs(method, path);
    let keyed = *method == Method::POST && access::of(method, path) != Access::Publish;
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        let mut says = |(name, what): (&str, &str)| {
            let kind = match name {
                "Retry-After" | "RateLimit-Limit" | "RateLimit-Remaining" | "RateLimit-Reset" => {
                    Type::Integer
                }
                _ => Type::String,
            };
            let schema = ObjectBuilder::new().schema_type(kind).build();
            let header = HeaderBuilder::new().schema(Some(schema)).description(Some(what)).build();
            response.headers.insert(name.to_owned(), RefOr::T(header));
        };
        let done = status.starts_with('2');
        if ["429", "503"].contains(&status.as_str()) || keyed && costs && status == "409" {
            says(REPEAT_AFTER);
        }
        if costs && (done || status == "429") {
            LIMITS.into_iter().for_each(&mut says);
        }
        if costs {
            says(TRACE);
        }
        if costs && done {
            says(TIMING);
        }
        if costs && done && keyed {
            says(REPLAYED);
        }
        if done && path.starts_with("/process/") {
            BROUGHT.into_iter().for_each(&mut says);
        }
    }
}

/// Every error in the envelope comes as problem details as well, to whom accepts them.
fn problems(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        let failed = status.starts_with(['4', '5']);
        if failed && response.content.contains_key("application/json") {
            let body = Some(Ref::from_schema_name("Problem"));
            let body = ContentBuilder::new().schema(body).build();
            response.content.insert(PROBLEM.to_owned(), RefOr::T(body));
        }
    }
}

/// An error, unless the route says something of its own.
fn refusal(operation: &mut Operation, status: &str, description: &str, schema: &str) {
    let known = &mut operation.responses.responses;
    if known.contains_key(status) || known.contains_key("4XX") && status.starts_with('4') {
        return;
    }
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
    let response =
        ResponseBuilder::new().description(description).content("application/json", body);
    known.insert(status.to_owned(), RefOr::T(response.build()));
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn every_operation_says_what_the_front_door_answers() {
        let document: Value = serde_json::from_str(&crate::openapi::json()).unwrap();
        let at = |pointer: &str| document.pointer(pointer).cloned().unwrap_or_default();
        assert!(at("/paths/~1audio-to-text/post/responses/401").is_object());
        assert!(at("/paths/~1audio-to-text/post/responses/429").is_object());
        let parameters = at("/paths/~1audio-to-text/post/parameters");
        assert!(parameters.to_string().contains("Idempotency-Key"), "{parameters}");
        let header = |path: &str, status: u32, name: &str| {
            at(&format!("/paths/{path}/responses/{status}/headers/{name}")).is_object()
        };
        for path in ["~1audio-to-text/post", "~1v1~1chat~1completions/post", "~1llm/post"] {
            assert!(header(path, 200, "Idempotency-Replayed"), "{path}");
            assert!(header(path, 200, "RateLimit-Remaining"), "{path}");
            assert!(header(path, 200, "Server-Timing"), "{path}");
            assert!(header(path, 200, "X-Trace-Id") && header(path, 503, "X-Trace-Id"), "{path}");
            assert!(header(path, 429, "Retry-After") && header(path, 503, "Retry-After"), "{path}");
        }
        assert!(header("~1process~1request~1{path}/post", 200, "Livepeer-Balance"));
        assert!(!header("~1stream~1{file}/get", 200, "RateLimit-Limit"));
        let live = |method: &str, of: &str| {
            at(&format!("/paths/~1live~1{{stream}}~1{{file}}/{method}/{of}"))
        };
        for of in ["parameters", "requestBody", "responses"] {
            assert!(!live("put", of).is_null());
            assert_eq!(live("put", of), live("post", of), "{of}");
        }
        assert!(at("/paths/~1healthz/get/responses/401").is_null());
        assert!(
            at("/paths/~1stream~1{file}/get/responses/429").is_null(),
            "watching costs nothing"
        );
        let refused = "/responses/429/content/application~1json/schema/$ref";
        let speech = at(&format!("/paths/~1v1~1audio~1speech/post{refused}"));
        assert_eq!(speech, "#/components/schemas/OpenAiError");
        assert!(at("/paths/~1v1~1models~1{model}/get").is_object());
        let problem =
            "/paths/~1llm/post/responses/503/content/application~1problem+json/schema/$ref";
        assert_eq!(at(problem), "#/components/schemas/Problem");
        assert_eq!(at("/components/schemas/Problem/properties/code/type"), "string");
        assert_eq!(at("/components/securitySchemes/bearer/scheme"), "bearer");
    }
}
