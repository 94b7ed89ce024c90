//! `/api/v1/source-types`: what a form for a source is made from.

mod schema;

use std::sync::LazyLock;

use serde::Serialize;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path};
use crate::api::principal::Principal;

/// They are the same as long as the program runs.
static ALL: LazyLock<Vec<SourceTypeForm>> = LazyLock::new(schema::all);

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(list_types)).routes(routes!(get_type))
}

/// A type of sources.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct SourceTypeInfo {
    /// The `type` of such sources.
    #[serde(rename = "type")]
    kind: String,
    /// For people.
    title: String,
    /// In a sentence.
    description: String,
    /// Whether only operators make and change such sources.
    operators_only: bool,
}

/// A type of sources with what its forms are made from.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
struct SourceTypeForm {
    #[serde(flatten)]
    info: SourceTypeInfo,
    /// JSON Schema (2020-12) of a source's `config`. The API checks more than a schema can say, and names the field at fault; it does not
    /// look at `ssh_` fields without `use_ssh`, which the schema bounds in any case.
    #[schema(value_type = Object)]
    settings: Value,
    /// JSON Schema of what its credential's `plaintext` is made from: a text, or an object that is written as JSON. Null: there is none.
    #[schema(value_type = Option<Object>)]
    credential: Option<Value>,
}

/// All types.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct SourceTypes {
    source_types: Vec<SourceTypeInfo>,
}

/// List the types of sources
#[utoipa::path(
    get, path = "/source-types", tag = "sources",
    responses(
        (status = 200, body = SourceTypes),
    ),
)]
async fn list_types(_: Principal) -> Json<SourceTypes> {
    Json(SourceTypes { source_types: ALL.iter().map(|form| form.info.clone()).collect() })
}

/// Get the schemas of a type of sources
///
/// For forms: titles, descriptions, defaults and bounds of every setting, and what the credential is.
#[utoipa::path(
    get, path = "/source-types/{type}", tag = "sources",
    params(("type" = String, Path, description = "As in `type` of a source.")),
    responses(
        (status = 200, body = SourceTypeForm),
        (status = 404, body = ErrorBody, description = "There is no such type."),
    ),
)]
async fn get_type(_: Principal, Path(kind): Path<String>) -> Result<Json<SourceTypeForm>> {
    let found = ALL.iter().find(|form| form.info.kind == kind);
    found.cloned().map(Json).ok_or_else(|| Error::not_found("type of sources"))
}
