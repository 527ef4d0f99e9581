//! What the front door adds to every operation of the API's document: credentials, the answers of
//! limits and refusals, `Idempotency-Key`. Written here once, so that no route can forget it.

use super::access::{self, Access};
use http::Method;
use utoipa::openapi::{
    ContentBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
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
            }
        }
    }
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
    answer(operation, "401", who);
    answer(operation, "403", "The key expired or was revoked, or the account's rules forbid this");
    answer(operation, "503", "Nobody can tell who is calling, or a store is away");
    if !access::costs(method) {
        return;
    }
    answer(operation, "429", "More than the caller may ask for; `Retry-After` says when to repeat");
    if *method != Method::POST || access::of(method, path) == Access::Publish {
        return;
    }
    answer(operation, "400", "Not a request that can be understood");
    answer(
        operation,
        "409",
        "The first request with this `Idempotency-Key` is under way, or its answer is gone",
    );
    answer(operation, "413", "The body is too large");
    answer(operation, "422", "This `Idempotency-Key` was used for another request");
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

/// An error, unless the route says something of its own.
fn answer(operation: &mut Operation, status: &str, description: &str) {
    let known = &mut operation.responses.responses;
    if known.contains_key(status) || known.contains_key("4XX") && status.starts_with('4') {
        return;
    }
    known.insert(status.to_owned(), RefOr::T(error(description)));
}

fn error(description: &str) -> Response {
    let body = || ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    ResponseBuilder::new().description(description).content("application/json", body()).build()
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
        assert!(at("/paths/~1healthz/get/responses/401").is_null());
        assert!(
            at("/paths/~1stream~1{file}/get/responses/429").is_null(),
            "watching costs nothing"
        );
        assert_eq!(at("/components/securitySchemes/bearer/scheme"), "bearer");
    }
}
