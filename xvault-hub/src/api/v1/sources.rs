//! `/api/v1/sources`

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, Schema};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::{
    CredentialId, FtpSettings, LocalSettings, MysqlSettings, PostgresSettings, ReadBack, SourceId,
    SshSettings, StoreId, TenantId, WordpressSettings,
};

use super::config::{SourceType, parse};
use crate::Hub;
use crate::api::error::{ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::fields::{Name, name, sought};
use crate::api::paging::{cut, page};
use crate::api::principal::{NamedTenant, Principal, Role};
use crate::app::overdue::{self, Standing};
use crate::app::sources::{self, Change, NewSource, StoreChoice};
use crate::db;
use crate::db::sources::SourceStatus;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, update, delete))
        .routes(routes!(disable))
        .routes(routes!(enable))
}

/// Stands for the schema of a JSON value that is parsed by the source's type.
pub(super) struct SourceConfig;

impl PartialSchema for SourceConfig {
    /// Any of them, and not one: what is right for one type may be right for another, too.
    fn schema() -> RefOr<Schema> {
        let schema = ConfigOfType::schema();
        let RefOr::T(Schema::OneOf(types)) = schema else { return schema };
        let any = AnyOfBuilder::new().description(types.description);
        types.items.into_iter().fold(any, AnyOfBuilder::item).into()
    }
}

impl ToSchema for SourceConfig {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ConfigOfType::schemas(schemas);
    }
}

/// The settings of a source, by its type.
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "its schema is all that is used of it")]
enum ConfigOfType {
    /// `local`
    Local(LocalSettings),
    /// `sftp` and `ssh`
    Ssh(SshSettings),
    /// `ftp`
    Ftp(FtpSettings),
    /// `postgres`
    Postgres(PostgresSettings),
    /// `mysql`: MySQL or MariaDB
    Mysql(MysqlSettings),
    /// `wordpress`
    Wordpress(WordpressSettings),
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateSource {
    /// Whose it is. Operators must say, here or in the query; others may leave it out.
    tenant_id: Option<TenantId>,
    #[serde(rename = "type")]
    kind: SourceType,
    /// For people.
    #[schema(value_type = Name)]
    name: String,
    /// What the source is read with; of kind `source`. A `local` one takes none, others need it once their `host_key` is
    /// pinned, those with a `use_password` of `true` in any case.
    credential_id: Option<CredentialId>,
    #[schema(value_type = SourceConfig)]
    config: Value,
    /// The store that its snapshots go to; `null`: the disk of the worker that makes them. When absent, the platform's default
    /// store, if there is one.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<StoreId>)]
    store_id: Option<Option<StoreId>>,
    /// The second store, that its snapshots are copied to; when absent, the `replica_id` of its store, if that has one.
    replica_store_id: Option<StoreId>,
    /// How much of each snapshot is read back and compared after it was written; when absent, `full` on a worker's disk and
    /// `sample` in a store.
    read_back: Option<ReadBack>,
}

/// What is absent stays as it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateSource {
    /// For people.
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
    /// What the source is read with; `null` for nothing any more.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<CredentialId>)]
    credential_id: Option<Option<CredentialId>>,
    /// The store that new snapshots go to; `null`: the disk of the worker that makes them. Those that are there stay where they are.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<StoreId>)]
    store_id: Option<Option<StoreId>>,
    /// The second store, that its snapshots are copied to, those that are there already among them; `null`: where its store says.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<StoreId>)]
    replica_store_id: Option<Option<StoreId>>,
    /// All settings of the source's type.
    #[schema(value_type = Option<SourceConfig>)]
    config: Option<Value>,
    /// How much of each snapshot is read back and compared after it was written.
    read_back: Option<ReadBack>,
}

/// Tells `null` from absence.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListSources {
    /// Whose: for operators, who see everybody's otherwise.
    pub(super) tenant_id: Option<TenantId>,
    /// Only those whose name holds this; `a` to `z` stand for `A` to `Z`, too.
    name: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A system that is backed up.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Source {
    id: SourceId,
    tenant_id: TenantId,
    #[serde(rename = "type")]
    #[schema(value_type = SourceType)]
    kind: String,
    name: String,
    status: SourceStatus,
    /// The settings of its type.
    #[schema(value_type = SourceConfig)]
    config: Value,
    credential_id: Option<CredentialId>,
    /// Where new snapshots go; absent: the disk of the worker that makes them.
    store_id: Option<StoreId>,
    /// Where its snapshots are copied to; absent: where its store says.
    replica_store_id: Option<StoreId>,
    read_back: ReadBack,
    /// When its last whole snapshot was reported. A partial one does not count.
    last_success_at: Option<Timestamp>,
    /// The first regular time after that. Absent: it has no schedule that runs.
    next_expected_at: Option<Timestamp>,
    /// Whether no whole snapshot has come since `next_expected_at`, within a quarter of the time to the run after that (1 to 24
    /// hours).
    overdue: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Sources {
    sources: Vec<Source>,
    next_cursor: Option<String>,
}

impl Source {
    fn new(row: db::sources::Source, standing: Standing) -> Result<Self> {
        Ok(Self {
            kind: row.settings.kind().to_owned(),
            config: db::sources::config(&row.settings)?,
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            status: row.status,
            credential_id: row.credential_id,
            store_id: row.store_id,
            replica_store_id: row.replica_store_id,
            read_back: row.read_back,
            last_success_at: standing.last_success_at,
            next_expected_at: standing.next_expected_at,
            overdue: standing.overdue,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Sources with how they stand.
async fn answers(hub: &Hub, rows: Vec<db::sources::Source>) -> Result<Vec<Source>> {
    let standings = overdue::standings(hub, &rows).await?;
    rows.into_iter().zip(standings).map(|(row, standing)| Source::new(row, standing)).collect()
}

/// One source with how it stands.
async fn answer(hub: &Hub, row: db::sources::Source) -> Result<Json<Source>> {
    let standing = overdue::standings(hub, std::slice::from_ref(&row)).await?;
    Ok(Json(Source::new(row, standing.into_iter().next().unwrap_or_default())?))
}

/// Save a source
///
/// The settings are those of its type; `POST /sources/{id}/test` tries them. A `local` source reads the disk of a worker:
/// only operators make one.
#[utoipa::path(
    post, path = "/sources", tag = "sources",
    params(NamedTenant),
    request_body = CreateSource,
    responses(
        (status = 201, body = Source),
        (status = 403, body = ErrorBody, description = "The token's role does not suffice, or the source is `local` and you \
            are no operator."),
        (status = 409, body = ErrorBody, description = "A store that it names is disabled (`store_disabled`)."),
    ),
)]
async fn create(
    State(hub): State<Hub>,
    who: Principal,
    Query(named): Query<NamedTenant>,
    Json(body): Json<CreateSource>,
) -> Result<(StatusCode, Json<Source>)> {
    who.require(Role::Admin)?;
    let new = NewSource {
        tenant_id: who.tenant(named.or(body.tenant_id)?)?,
        name: name("name", &body.name)?,
        settings: parse(body.kind.as_str(), &body.config)?,
        credential_id: body.credential_id,
        store: match body.store_id {
            None => StoreChoice::Default,
            Some(None) => StoreChoice::Disk,
            Some(Some(id)) => StoreChoice::Store(id),
        },
        replica_store_id: body.replica_store_id,
        read_back: body.read_back,
    };
    let source = sources::create(&hub, &who, new).await?;
    Ok((StatusCode::CREATED, answer(&hub, source).await?))
}

/// List sources
///
/// Newest first, without deleted ones.
#[utoipa::path(
    get, path = "/sources", tag = "sources",
    params(ListSources),
    responses((status = 200, body = Sources)),
)]
async fn list(
    State(hub): State<Hub>,
    who: Principal,
    Query(query): Query<ListSources>,
) -> Result<Json<Sources>> {
    let scope = who.scope(query.tenant_id.clone())?;
    answer_list(&hub, &scope, query).await
}

/// A page of sources, for tenants and operators alike.
pub(super) async fn answer_list(hub: &Hub, scope: &db::Scope, query: ListSources) -> Result<Json<Sources>> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let name = sought("name", query.name)?;
    let rows = sources::list(hub, scope, name.as_deref(), &page).await?;
    let (rows, next_cursor) = cut(&page, rows, |row| row.id.as_str());
    Ok(Json(Sources { sources: answers(hub, rows).await?, next_cursor }))
}

/// Get a source
#[utoipa::path(
    get, path = "/sources/{id}", tag = "sources",
    params(("id" = SourceId, Path)),
    responses((status = 200, body = Source)),
)]
async fn get(State(hub): State<Hub>, who: Principal, Path(id): Path<SourceId>) -> Result<Json<Source>> {
    answer(&hub, sources::get(&hub, &who.scope(None)?, &id).await?).await
}

/// Change a source
///
/// What is absent stays, and so does the type. Jobs that are claimed from now on use the new settings. Only operators change
/// a `local` source; who may change others may disable, enable and delete it.
#[utoipa::path(
    put, path = "/sources/{id}", tag = "sources",
    params(("id" = SourceId, Path)),
    request_body = UpdateSource,
    responses(
        (status = 200, body = Source),
        (status = 403, body = ErrorBody, description = "The token's role does not suffice, or the source is `local` and you \
            are no operator."),
        (status = 409, body = ErrorBody, description = "A store that it names is disabled (`store_disabled`)."),
    ),
)]
async fn update(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SourceId>,
    Json(body): Json<UpdateSource>,
) -> Result<Json<Source>> {
    who.require(Role::Admin)?;
    let change = Change {
        name: body.name.map(|text| name("name", &text)).transpose()?,
        config: body.config,
        credential_id: body.credential_id,
        store_id: body.store_id,
        replica_store_id: body.replica_store_id,
        read_back: body.read_back,
    };
    answer(&hub, sources::update(&hub, &who, &who.scope(None)?, &id, change, parse).await?).await
}

/// Delete a source
///
/// It is gone from the lists, its schedule is deleted, and its snapshots remain. Not while a job of it is unfinished.
#[utoipa::path(
    delete, path = "/sources/{id}", tag = "sources",
    params(("id" = SourceId, Path)),
    responses(
        (status = 204, description = "It is deleted."),
        (status = 409, description = "A job of it is not finished (`source_busy`).", body = ErrorBody),
    ),
)]
async fn delete(State(hub): State<Hub>, who: Principal, Path(id): Path<SourceId>) -> Result<StatusCode> {
    who.require(Role::Admin)?;
    sources::delete(&hub, &who, &who.scope(None)?, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stop backing a source up
///
/// A running backup goes on.
#[utoipa::path(
    post, path = "/sources/{id}/disable", tag = "sources",
    params(("id" = SourceId, Path)),
    responses((status = 200, body = Source)),
)]
async fn disable(State(hub): State<Hub>, who: Principal, Path(id): Path<SourceId>) -> Result<Json<Source>> {
    who.require(Role::Admin)?;
    answer(&hub, sources::switch(&hub, &who, &who.scope(None)?, &id, false).await?).await
}

/// Back a source up again
#[utoipa::path(
    post, path = "/sources/{id}/enable", tag = "sources",
    params(("id" = SourceId, Path)),
    responses(
        (status = 200, body = Source),
        (status = 409, body = ErrorBody, description = "It was put back on record without all of its settings: save its config first \
            (`settings_lost`)."),
    ),
)]
async fn enable(State(hub): State<Hub>, who: Principal, Path(id): Path<SourceId>) -> Result<Json<Source>> {
    who.require(Role::Admin)?;
    answer(&hub, sources::switch(&hub, &who, &who.scope(None)?, &id, true).await?).await
}
