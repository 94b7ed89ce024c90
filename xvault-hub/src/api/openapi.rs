//! The API's description: what handlers say of themselves, completed with what is true of all of them.

use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Content, OpenApi, Ref, RefOr, ResponseBuilder};

use super::error::ErrorBody;

/// Calls of workers carry another kind of token.
const INTERNAL: &str = "/internal/";
/// Calls without a token.
const PUBLIC: &[&str] = &[
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/auth/login",
    "/api/v1/auth/refresh",
    "/api/v1/auth/register",
    "/api/v1/auth/logout",
];

/// The document's head.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "xVault hub",
        description = "Agentless, encrypted, multi-tenant backups.\n\n\
            Log in with `POST /api/v1/auth/login` and send the `access_token` as `Authorization: Bearer TOKEN`; API keys \
            (`xvk_…`) go the same way. Every id of another tenant answers 404. Lists go from new to old, in pages: give \
            `next_cursor` back as `cursor`. Errors are `{\"error\", \"code\", \"details\"}`: a sentence for people, a word for \
            programs, and what belongs to the word. `/internal` is for workers.",
    ),
    components(schemas(ErrorBody))
)]
pub(super) struct Head;

/// Adds to what the handlers say: who may call, unique operation ids, and the errors that any such call may give.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            complete_operation(path, operation);
        }
    }
    let components = document.components.take().unwrap_or_default();
    let schemes = [
        ("token", "An access token from `POST /api/v1/auth/login`, or an API key."),
        ("worker_token", "A worker's token (`xvw_…`), from `POST /api/v1/workers`."),
    ];
    let completed = schemes.into_iter().fold(ComponentsBuilder::from(components), |built, (name, text)| {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
        built.security_scheme(name, SecurityScheme::Http(bearer))
    });
    document.components = Some(completed.build());
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

fn complete_operation(path: &str, operation: &mut Operation) {
    if let (Some([tag, ..]), Some(name)) = (operation.tags.as_deref(), &operation.operation_id) {
        operation.operation_id = Some(format!("{}_{name}", tag.replace('-', "_")));
    }
    let token = if path.starts_with(INTERNAL) { "worker_token" } else { "token" };
    let public = PUBLIC.contains(&path);
    let requirement = if public {
        SecurityRequirement::default()
    } else {
        SecurityRequirement::new::<_, _, &str>(token, [])
    };
    operation.security = Some(vec![requirement]);
    for (status, text) in failures(operation, public) {
        let answer =
            ResponseBuilder::new().description(text).content("application/json", error_body()).build();
        operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(answer));
    }
    operation.responses.responses.retain(|status, _| status != "4XX" && status != "5XX");
}

fn error_body() -> Content {
    Content::new(Some(Ref::from_schema_name("ErrorBody")))
}

/// What may go wrong with any call of this shape.
fn failures(operation: &Operation, public: bool) -> Vec<(&'static str, &'static str)> {
    let has = |place: &ParameterIn| {
        let parameters = operation.parameters.iter().flatten();
        parameters.filter_map(inline).any(|parameter| parameter.parameter_in == *place)
    };
    let mut all = vec![
        ("400", "The request could not be understood."),
        ("500", "The hub failed; its log says more under the answer's `X-Request-Id`."),
        ("503", "The database is away, or the answer took too long: try again."),
    ];
    if !public {
        all.push(("401", "No valid token."));
        all.push(("403", "The token's role does not suffice."));
    }
    if has(&ParameterIn::Path) || !public {
        all.push(("404", "What was named does not exist, or belongs to somebody else."));
    }
    if operation.request_body.is_some() {
        all.push(("413", "The body is too large."));
        all.push(("415", "The body is not JSON."));
        all.push(("422", "A field of the body can't be: `details.field` names it."));
    }
    all
}

fn inline(parameter: &RefOr<Parameter>) -> Option<&Parameter> {
    match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    }
}
