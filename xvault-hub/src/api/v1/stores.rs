//! `/api/v1/stores`

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::job::{JobError, JobStatus};
use xvault_core::protocol::StoreReport;
use xvault_core::secret::SecretString;
use xvault_core::{CredentialId, JobId, S3Credential, S3Settings, StoreId, TenantId};

use super::source_test::{wait, wait_until};

use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::fields::{Name, name};
use crate::api::paging::{TenantPaging, cut};
use crate::api::principal::{NamedTenant, Principal, Role};
use crate::app::jobs;
use crate::app::stores::{self, Change, Key, NewStore, keys};
use crate::db;
use crate::db::jobs::JobRow;
use crate::db::status::Status;
use crate::db::stores::{Scoping, StoreLock};

/// How long a test is waited for that the object lock depends on: locks of seconds must end in it, and a request has half a minute.
const LOCK_WAIT_SECS: u64 = 25;

/// In the place of words that name where a platform's store is.
const UNSEEN: &str = "what was seen is told to the platform's operators";

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, update, delete))
        .routes(routes!(test))
        .routes(routes!(lock, unlock))
}

/// The kinds of stores that can be made. Workers' own disks are there without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum StoreKind {
    /// A bucket of an S3-compatible service.
    S3,
}

/// What requests to the bucket are signed with.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct StoreCredential {
    access_key_id: String,
    /// It is encrypted at once, and never shown.
    #[schema(value_type = String)]
    secret_access_key: SecretString,
}

impl StoreCredential {
    fn read(self) -> Result<Key> {
        let credential = S3Credential {
            access_key_id: self.access_key_id,
            secret_access_key: self.secret_access_key,
            session_token: None,
        };
        use xvault_core::secret::ExposeSecret as _;
        let reread = S3Credential::from_json(credential.to_json().expose_secret());
        let reason = "both keys must be there, in letters, digits and signs without blanks";
        reread.map(Key::Own).map_err(|_| Error::invalid_field("credential", reason))
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateStore {
    /// Whose it is. For operators: without it the store is the platform's, for all tenants; others may leave it out.
    tenant_id: Option<TenantId>,
    /// For people.
    #[schema(value_type = Name)]
    name: String,
    kind: StoreKind,
    config: S3Settings,
    /// What requests are signed with. Either this or `credential_id`.
    credential: Option<StoreCredential>,
    /// The token of Garage's administration, for `scoping` of kind `garage`: in the place of `credential`. It is encrypted at once, and
    /// never shown.
    #[schema(value_type = Option<String>)]
    admin_token: Option<SecretString>,
    /// A credential of the tenant of kind `storage`, whose plain text is `{"access_key_id": …, "secret_access_key": …}`.
    credential_id: Option<CredentialId>,
    /// How jobs get credentials that reach no further than they need. For stores of the platform.
    scoping: Option<Scoping>,
    /// Whether sources that name no store when they are made get this one. For one store of the platform.
    #[serde(default)]
    is_default: bool,
    /// The store that snapshots in this one are copied to.
    replica_id: Option<StoreId>,
}

/// What is absent stays as it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateStore {
    /// For people.
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
    /// All of its settings. `bucket` and `prefix` stay while snapshots lie in it.
    config: Option<S3Settings>,
    /// What requests are signed with from now on.
    credential: Option<StoreCredential>,
    /// The token of Garage's administration from now on.
    #[schema(value_type = Option<String>)]
    admin_token: Option<SecretString>,
    /// The same, as a credential of the tenant.
    credential_id: Option<CredentialId>,
    /// How jobs get credentials that reach no further than they need; `null` for not at all.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Scoping>)]
    scoping: Option<Option<Scoping>>,
    is_default: Option<bool>,
    /// The store that snapshots in this one are copied to, those that are there already among them; `null` for none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<StoreId>)]
    replica_id: Option<Option<StoreId>>,
    /// `disabled`: no backups are made into it. What lies in it can be read and deleted.
    status: Option<Status>,
}

/// Tells `null` from absence.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// How far the credentials that a job gets reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum ScopedCredentials {
    /// Made for each job: as far as the job needs, and for hours.
    Sts,
    /// Made for each job: they reach the tenant's bucket, and are deleted after the job.
    Garage,
    /// Jobs get the store's own.
    None,
}

/// A place that snapshots lie in. Of the platform's, tenants see the name.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Store {
    id: StoreId,
    /// Absent: the platform's.
    tenant_id: Option<TenantId>,
    name: String,
    kind: StoreKind,
    /// Its settings; absent for those who may not change it.
    config: Option<S3Settings>,
    credential_id: Option<CredentialId>,
    scoping: Option<Scoping>,
    scoped_credentials: ScopedCredentials,
    /// What that means.
    scoped_credentials_note: &'static str,
    is_default: bool,
    /// Where snapshots in it are copied to.
    replica_id: Option<StoreId>,
    /// What every snapshot is locked with that is written into it; absent: none is.
    object_lock: Option<StoreLock>,
    /// Whether its credential may delete, as its last test saw. False: copies in it stay when their snapshot goes. Absent: nobody has
    /// tried since it was saved, or since its credential was changed; a second store is tested by itself.
    may_delete: Option<bool>,
    status: Status,
    /// What its last test saw; of the platform's stores, tenants see what was found and not how.
    last_test: Option<StoreReport>,
    tested_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Stores {
    stores: Vec<Store>,
    next_cursor: Option<String>,
}

/// Whether `who` may see where the store is.
fn is_visible(row: &db::stores::Store, who: &Principal) -> bool {
    row.tenant_id.is_some() || who.role == Role::Operator
}

impl Store {
    /// As `who` may see it.
    fn shown(row: db::stores::Store, who: &Principal) -> Self {
        let visible = is_visible(&row, who);
        let (scoped_credentials, scoped_credentials_note) = reach(row.scoping.as_ref());
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            kind: StoreKind::S3,
            config: Some(row.settings).filter(|_| visible),
            credential_id: row.credential_id,
            scoping: row.scoping.filter(|_| visible),
            scoped_credentials,
            scoped_credentials_note,
            is_default: row.is_default,
            replica_id: row.replica_id,
            object_lock: row.object_lock,
            may_delete: row.may_delete,
            status: row.status,
            last_test: row.last_test.and_then(|report| seen_by(visible, report)),
            tested_at: row.tested_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// What a test saw. To whom the store's place is not shown, the words are not either: they name it, and the tenant whose test it was.
fn seen_by(visible: bool, report: serde_json::Value) -> Option<StoreReport> {
    let mut report: StoreReport = serde_json::from_value(report).ok()?;
    for observation in report.observations.iter_mut().filter(|_| !visible) {
        UNSEEN.clone_into(&mut observation.seen);
    }
    Some(report)
}

fn reach(scoping: Option<&Scoping>) -> (ScopedCredentials, &'static str) {
    match scoping {
        Some(Scoping::Sts { .. }) => (
            ScopedCredentials::Sts,
            "each job gets credentials of its own from the store's STS: a backup may only put below the prefix of its snapshot",
        ),
        Some(Scoping::Garage { .. }) => (
            ScopedCredentials::Garage,
            "each job gets a key of its own from Garage, which reaches the tenant's bucket and no other, and is deleted after the job; Garage knows no finer rights, so a backup's key may also read and delete in that bucket",
        ),
        None => (
            ScopedCredentials::None,
            "nothing narrower is set up: jobs get the store's own credential, sealed to their worker: what it may do, a worker may do while it runs a job",
        ),
    }
}

/// What a request says about it, in one of three ways.
struct Given {
    credential: Option<StoreCredential>,
    admin_token: Option<SecretString>,
    credential_id: Option<CredentialId>,
}

impl Given {
    fn key(self) -> Result<Option<Key>> {
        match (self.credential, self.admin_token, self.credential_id) {
            (None, None, id) => Ok(id.map(Key::Credential)),
            (Some(credential), None, None) => credential.read().map(Some),
            (None, Some(token), None) => admin_token(token).map(Some),
            (_, _, Some(_)) => Err(Error::invalid_field("credential_id", "leave the others out beside it")),
            (Some(_), Some(_), None) => {
                Err(Error::invalid_field("admin_token", "leave it out beside `credential`"))
            }
        }
    }
}

fn admin_token(token: SecretString) -> Result<Key> {
    use xvault_core::secret::ExposeSecret as _;
    if keys::is_token(token.expose_secret()) {
        return Ok(Key::AdminToken(token));
    }
    Err(Error::invalid_field("admin_token", "letters, digits and signs without blanks are needed"))
}

/// Save a store
///
/// Operators save stores for all tenants, or for the one they name; a tenant's owners and admins save its own buckets.
/// `POST /stores/{id}/test` tries one.
#[utoipa::path(
    post, path = "/stores", tag = "stores",
    params(NamedTenant),
    request_body = CreateStore,
    responses((status = 201, body = Store)),
)]
async fn create(
    State(hub): State<Hub>,
    who: Principal,
    Query(named): Query<NamedTenant>,
    Json(body): Json<CreateStore>,
) -> Result<(StatusCode, Json<Store>)> {
    who.require(Role::Admin)?;
    let StoreKind::S3 = body.kind;
    let named = named.or(body.tenant_id)?;
    let tenant_id = match who.role {
        Role::Operator => named,
        _ => Some(who.tenant(named)?),
    };
    let (credential, admin_token, credential_id) = (body.credential, body.admin_token, body.credential_id);
    let key = Given { credential, admin_token, credential_id }
        .key()?
        .ok_or_else(|| Error::invalid_field("credential", "it is missing"))?;
    let new = NewStore {
        tenant_id,
        name: name("name", &body.name)?,
        settings: body.config,
        key,
        scoping: body.scoping,
        is_default: body.is_default,
        replica_id: body.replica_id,
    };
    let store = stores::create(&hub, &who, new).await?;
    Ok((StatusCode::CREATED, Json(Store::shown(store, &who))))
}

/// List stores
///
/// One's own and the platform's, newest first.
#[utoipa::path(
    get, path = "/stores", tag = "stores",
    params(TenantPaging),
    responses((status = 200, body = Stores)),
)]
async fn list(
    State(hub): State<Hub>,
    who: Principal,
    Query(query): Query<TenantPaging>,
) -> Result<Json<Stores>> {
    let (tenant_id, page) = query.parts()?;
    let rows = stores::list(&hub, &who.scope(tenant_id)?, &page).await?;
    let (rows, next_cursor) = cut(&page, rows, |row| row.id.as_str());
    let stores = rows.into_iter().map(|row| Store::shown(row, &who)).collect();
    Ok(Json(Stores { stores, next_cursor }))
}

/// Get a store
#[utoipa::path(
    get, path = "/stores/{id}", tag = "stores",
    params(("id" = StoreId, Path)),
    responses((status = 200, body = Store)),
)]
async fn get(State(hub): State<Hub>, who: Principal, Path(id): Path<StoreId>) -> Result<Json<Store>> {
    Ok(Json(Store::shown(stores::get(&hub, &who.scope(None)?, &id).await?, &who)))
}

/// Change a store
///
/// What is absent stays. Jobs that are claimed from now on use the new settings. Only operators change the platform's.
#[utoipa::path(
    patch, path = "/stores/{id}", tag = "stores",
    params(("id" = StoreId, Path)),
    request_body = UpdateStore,
    responses(
        (status = 200, body = Store),
        (status = 409, body = ErrorBody, description = "Its bucket or prefix would change while snapshots lie in it (`in_use`), or \
            its place while it has an object lock (`object_lock_set`)."),
    ),
)]
async fn update(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<StoreId>,
    Json(body): Json<UpdateStore>,
) -> Result<Json<Store>> {
    who.require(Role::Admin)?;
    let (credential, admin_token, credential_id) = (body.credential, body.admin_token, body.credential_id);
    let change = Change {
        name: body.name.map(|text| name("name", &text)).transpose()?,
        settings: body.config,
        key: Given { credential, admin_token, credential_id }.key()?,
        scoping: body.scoping,
        is_default: body.is_default,
        replica_id: body.replica_id,
        status: body.status,
    };
    let store = stores::update(&hub, &who, &who.scope(None)?, &id, change).await?;
    Ok(Json(Store::shown(store, &who)))
}

/// Delete a store
///
/// Not while sources, snapshots or jobs use it. What lies in its bucket stays there.
#[utoipa::path(
    delete, path = "/stores/{id}", tag = "stores",
    params(("id" = StoreId, Path)),
    responses(
        (status = 204, description = "It is gone."),
        (status = 409, description = "It is used (`in_use`); `details` counts by what.", body = ErrorBody),
    ),
)]
async fn delete(State(hub): State<Hub>, who: Principal, Path(id): Path<StoreId>) -> Result<StatusCode> {
    who.require(Role::Admin)?;
    stores::delete(&hub, &who, &who.scope(None)?, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct TestQuery {
    /// For which tenant: the objects lie below its prefix. Operators must say; others may leave it out.
    tenant_id: Option<TenantId>,
    /// How long to wait for the result.
    #[param(minimum = 0, maximum = 30, default = 10)]
    wait_seconds: Option<u64>,
}

/// How a test went, or how far it has come.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct StoreTest {
    /// To be asked again when the wait was too short.
    job_id: JobId,
    status: JobStatus,
    /// What was seen, also where the store refused.
    report: Option<StoreReport>,
    /// Why there is nothing to see: the store could not be reached, or gave no credentials.
    error: Option<JobError>,
}

impl StoreTest {
    fn shown(row: JobRow, visible: bool) -> Self {
        let status = row.status();
        let report = row.result.and_then(|report| seen_by(visible, report));
        Self { job_id: row.id, status, report, error: row.life.error }
    }
}

/// Test a store
///
/// A worker writes, reads, lists and deletes objects of its own below the tenant's prefix, and tries what the store really
/// enforces: checksums, conditional puts, versioning, object lock. Waits for the result, which is kept with the store; a test that
/// takes longer goes on as job `job_id`. While one is under way its result is the answer to everybody who asks.
#[utoipa::path(
    post, path = "/stores/{id}/test", tag = "stores",
    params(("id" = StoreId, Path), TestQuery),
    responses(
        (status = 200, body = StoreTest),
        (status = 409, body = ErrorBody, description = "No worker can run it (`no_worker`), or the tenant is disabled (`tenant_disabled`)."),
    ),
)]
async fn test(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<StoreId>,
    Query(query): Query<TestQuery>,
) -> Result<Json<StoreTest>> {
    who.require(Role::Admin)?;
    let until = wait_until(query.wait_seconds)?;
    // An id that is no store of theirs is none, whatever else they say.
    let store = stores::get(&hub, &who.scope(None)?, &id).await?;
    let tenant = who.tenant(query.tenant_id)?;
    let job = jobs::test_store(&hub, &who, &tenant, &id).await?;
    Ok(Json(StoreTest::shown(wait(&hub, job, until).await?, is_visible(&store, &who))))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct LockQuery {
    /// How long to wait for the test.
    #[param(minimum = 0, maximum = 30, default = 25)]
    wait_seconds: Option<u64>,
}

/// Lock a store's snapshots
///
/// From now on every object of a snapshot that is written into the store is locked (S3 Object Lock) for the span, and nothing
/// deletes the snapshot before. A worker tests the store first: unless it is seen to refuse to delete a version that is locked, to
/// shorten its lock and to lose it when it is written over, nothing is saved, and the answer tells what was seen. Takes some 10 to
/// 20 seconds; the objects of the test of a platform's store lie below the prefix of one of its tenants. Asked again, it sets another mode or span; what is locked keeps its lock. For admins; only operators change
/// the platform's.
#[utoipa::path(
    put, path = "/stores/{id}/object-lock", tag = "stores",
    params(("id" = StoreId, Path), LockQuery),
    request_body = StoreLock,
    responses(
        (status = 200, body = Store),
        (status = 409, body = ErrorBody, description = "The store was not seen to keep what is locked (`lock_not_proven`): \
            `details.observations` has what was seen. Or it could not be tested (`not_tested`, `no_worker`, `no_tenant`, `tenant_disabled`), the \
            test takes longer (`test_running`), or the store was changed meanwhile (`store_changed`)."),
    ),
)]
async fn lock(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<StoreId>,
    Query(query): Query<LockQuery>,
    Json(body): Json<StoreLock>,
) -> Result<Json<Store>> {
    who.require(Role::Admin)?;
    let until = wait_until(query.wait_seconds.or(Some(LOCK_WAIT_SECS)))?;
    let scope = who.scope(None)?;
    let tenant = stores::may_lock(&hub, &who, &scope, &id).await?;
    stores::check_span(&body)?;
    let job = jobs::test_store(&hub, &who, &tenant, &id).await?;
    let tested_from = job.created_at;
    // Who may set a lock may see the store.
    let report = tested(StoreTest::shown(wait(&hub, job, until).await?, true))?;
    let store = stores::set_lock(&hub, &who, &scope, &id, body, (&report, tested_from)).await?;
    Ok(Json(Store::shown(store, &who)))
}

/// What a test saw that is over.
fn tested(test: StoreTest) -> Result<StoreReport> {
    let details = serde_json::json!({ "job_id": test.job_id, "error": test.error });
    match (test.report, test.error) {
        (Some(report), _) => Ok(report),
        (None, Some(error)) => {
            let message = format!("the store could not be tested: {}. Nothing was saved", error.message);
            Err(Error::conflict("not_tested", message).details(details))
        }
        (None, None) => {
            let message = "the store's test takes longer. Nothing was saved: ask again when it is over";
            Err(Error::conflict("test_running", message).details(details))
        }
    }
}

/// Lock a store's snapshots no more
///
/// Those that are locked stay so until their locks are over: nobody can change that. One that locks none is fine. For admins; only
/// operators change the platform's.
#[utoipa::path(
    delete, path = "/stores/{id}/object-lock", tag = "stores",
    params(("id" = StoreId, Path)),
    responses((status = 204, description = "What is written from now on is not locked.")),
)]
async fn unlock(State(hub): State<Hub>, who: Principal, Path(id): Path<StoreId>) -> Result<StatusCode> {
    who.require(Role::Admin)?;
    stores::take_lock(&hub, &who, &who.scope(None)?, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
