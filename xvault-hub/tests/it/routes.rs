//! Every route of the API with what a test needs to call it: a new one without an entry fails `every_route_is_here`.

use serde_json::Value;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Without a token.
    Anybody,
    /// With a token of a tenant, whatever the role.
    Member,
    Admin,
    Owner,
    Operator,
    /// With a worker's token, and only with that.
    Worker,
}

/// What the `{id}` of a route names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Nothing,
    Tenant,
    User,
    ApiKey,
    Credential,
    Source,
    Store,
    Job,
    Snapshot,
    Schedule,
    /// Of the user who asks.
    Session,
    /// The platform's, not a tenant's.
    Worker,
    /// A job that another worker holds.
    HeldJob,
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) who: Who,
    pub(crate) names: Names,
    /// A body that is valid but for ids it may have to hold: [`Route::body`] fills them in.
    pub(crate) body: Option<&'static str>,
}

const fn route(method: &'static str, path: &'static str, who: Who, names: Names) -> Route {
    Route { method, path, who, names, body: None }
}

const fn with(method: &'static str, path: &'static str, who: Who, names: Names, body: &'static str) -> Route {
    Route { method, path, who, names, body: Some(body) }
}

impl Route {
    /// Its body, with what it has to hold.
    pub(crate) fn body(&self, tenant: &str, source: &str, fresh: &str) -> Option<Value> {
        let filled = self
            .body?
            .replace("$tenant", tenant)
            .replace("$source", source)
            .replace("$recipient", &xvault_core::Identity::generate().recipient().to_string())
            .replace("$fresh", fresh);
        Some(serde_json::from_str(&filled).unwrap())
    }
}

use Names::{
    ApiKey, Credential, HeldJob, Job, Nothing, Schedule, Session, Snapshot, Source, Store, Tenant, User,
    Worker,
};

/// Every one.
pub(crate) const ROUTES: &[Route] = &[
    route("GET", "/healthz", Who::Anybody, Nothing),
    route("GET", "/readyz", Who::Anybody, Nothing),
    route("GET", "/metrics", Who::Anybody, Nothing),
    with(
        "POST",
        "/api/v1/auth/register",
        Who::Anybody,
        Nothing,
        r#"{"tenant_name":"t","email":"x@example.com","password":"0123456789"}"#,
    ),
    with(
        "POST",
        "/api/v1/auth/login",
        Who::Anybody,
        Nothing,
        r#"{"email":"x@example.com","password":"0123456789"}"#,
    ),
    with("POST", "/api/v1/auth/refresh", Who::Anybody, Nothing, r#"{"refresh_token":"xvr_no"}"#),
    with("POST", "/api/v1/auth/logout", Who::Anybody, Nothing, r#"{"refresh_token":"xvr_no"}"#),
    route("GET", "/api/v1/auth/me", Who::Member, Nothing),
    route("GET", "/api/v1/auth/sessions", Who::Member, Nothing),
    route("DELETE", "/api/v1/auth/sessions/{id}", Who::Member, Session),
    with("POST", "/api/v1/tenants", Who::Operator, Nothing, r#"{"name":"new"}"#),
    route("GET", "/api/v1/tenants", Who::Operator, Nothing),
    route("GET", "/api/v1/tenants/{id}", Who::Member, Tenant),
    with("PUT", "/api/v1/tenants/{id}", Who::Operator, Tenant, r#"{"name":"other"}"#),
    route("POST", "/api/v1/tenants/{id}/identity", Who::Owner, Tenant),
    route("GET", "/api/v1/tenants/{id}/recipients", Who::Member, Tenant),
    with(
        "POST",
        "/api/v1/tenants/{id}/recipients/challenge",
        Who::Owner,
        Tenant,
        r#"{"data":["$recipient"]}"#,
    ),
    with(
        "PUT",
        "/api/v1/tenants/{id}/recipients",
        Who::Owner,
        Tenant,
        r#"{"data":["$recipient"],"answers":{}}"#,
    ),
    route("DELETE", "/api/v1/tenants/{id}/recipients", Who::Owner, Tenant),
    with(
        "POST",
        "/api/v1/users",
        Who::Owner,
        Nothing,
        r#"{"tenant_id":"$tenant","email":"$fresh@example.com","password":"0123456789","role":"member"}"#,
    ),
    route("GET", "/api/v1/users", Who::Owner, Nothing),
    route("GET", "/api/v1/users/{id}", Who::Owner, User),
    with("PUT", "/api/v1/users/{id}", Who::Owner, User, r#"{"role":"member"}"#),
    route("DELETE", "/api/v1/users/{id}", Who::Owner, User),
    with("PUT", "/api/v1/users/{id}/password", Who::Owner, User, r#"{"password":"9876543210"}"#),
    with(
        "POST",
        "/api/v1/api-keys",
        Who::Owner,
        Nothing,
        r#"{"tenant_id":"$tenant","name":"k","role":"member"}"#,
    ),
    route("GET", "/api/v1/api-keys", Who::Owner, Nothing),
    route("GET", "/api/v1/api-keys/{id}", Who::Owner, ApiKey),
    route("DELETE", "/api/v1/api-keys/{id}", Who::Owner, ApiKey),
    route("GET", "/api/v1/audit-events", Who::Admin, Nothing),
    route("GET", "/api/v1/source-types", Who::Member, Nothing),
    route("GET", "/api/v1/source-types/{type}", Who::Member, Nothing),
    route("GET", "/api/v1/settings", Who::Member, Nothing),
    with(
        "PUT",
        "/api/v1/settings",
        Who::Admin,
        Nothing,
        r#"{"tenant_id":"$tenant","settings":{"download_expiration_hours":5}}"#,
    ),
    with(
        "POST",
        "/api/v1/credentials",
        Who::Admin,
        Nothing,
        r#"{"tenant_id":"$tenant","kind":"source","plaintext":"dGVzdC1wYXNz"}"#,
    ),
    route("GET", "/api/v1/credentials", Who::Member, Nothing),
    route("GET", "/api/v1/credentials/{id}", Who::Member, Credential),
    route("DELETE", "/api/v1/credentials/{id}", Who::Admin, Credential),
    with(
        "POST",
        "/api/v1/credentials/{id}/rotate",
        Who::Admin,
        Credential,
        r#"{"plaintext":"YW5vdGhlci1wYXNz"}"#,
    ),
    with(
        "POST",
        "/api/v1/sources",
        Who::Admin,
        Nothing,
        r#"{"tenant_id":"$tenant","type":"ssh","name":"new","config":{"host":"h","username":"u","paths":["/srv"]}}"#,
    ),
    route("GET", "/api/v1/sources", Who::Member, Nothing),
    route("GET", "/api/v1/sources/{id}", Who::Member, Source),
    with("PUT", "/api/v1/sources/{id}", Who::Admin, Source, r#"{"name":"renamed"}"#),
    route("DELETE", "/api/v1/sources/{id}", Who::Admin, Source),
    route("POST", "/api/v1/sources/{id}/disable", Who::Admin, Source),
    route("POST", "/api/v1/sources/{id}/enable", Who::Admin, Source),
    route("POST", "/api/v1/sources/{id}/test?wait_seconds=0", Who::Member, Source),
    route("GET", "/api/v1/sources/{id}/snapshots", Who::Member, Source),
    with(
        "POST",
        "/api/v1/stores",
        Who::Admin,
        Nothing,
        r#"{"tenant_id":"$tenant","name":"bucket","kind":"s3","config":{"bucket":"backups"},
            "credential":{"access_key_id":"AK","secret_access_key":"hunter2"}}"#,
    ),
    route("GET", "/api/v1/stores", Who::Member, Nothing),
    route("GET", "/api/v1/stores/{id}", Who::Member, Store),
    with("PATCH", "/api/v1/stores/{id}", Who::Admin, Store, r#"{"name":"renamed"}"#),
    route("DELETE", "/api/v1/stores/{id}", Who::Admin, Store),
    route("POST", "/api/v1/stores/{id}/test?wait_seconds=0", Who::Admin, Store),
    with(
        "PUT",
        "/api/v1/stores/{id}/object-lock?wait_seconds=0",
        Who::Admin,
        Store,
        r#"{"mode":"compliance","span":{"kind":"days","days":1}}"#,
    ),
    route("DELETE", "/api/v1/stores/{id}/object-lock", Who::Admin, Store),
    with(
        "POST",
        "/api/v1/schedules",
        Who::Admin,
        Nothing,
        r#"{"tenant_id":"$tenant","source_id":"$source","cron":"@daily"}"#,
    ),
    route("GET", "/api/v1/schedules", Who::Member, Nothing),
    route("GET", "/api/v1/schedules/{id}", Who::Member, Schedule),
    with("PUT", "/api/v1/schedules/{id}", Who::Admin, Schedule, r#"{"cron":"@hourly"}"#),
    route("DELETE", "/api/v1/schedules/{id}", Who::Admin, Schedule),
    route("GET", "/api/v1/schedules/{id}/preview", Who::Member, Schedule),
    with("POST", "/api/v1/jobs", Who::Member, Nothing, r#"{"tenant_id":"$tenant","source_id":"$source"}"#),
    route("GET", "/api/v1/jobs", Who::Member, Nothing),
    route("GET", "/api/v1/jobs/{id}", Who::Member, Job),
    route("POST", "/api/v1/jobs/{id}/cancel", Who::Member, Job),
    route("POST", "/api/v1/jobs/{id}/retry", Who::Member, Job),
    with("POST", "/api/v1/jobs/{id}/restore", Who::Member, Job, r#"{"format":"zip"}"#),
    route("GET", "/api/v1/jobs/{id}/logs", Who::Member, Job),
    route("GET", "/api/v1/jobs/{id}/events", Who::Member, Job),
    route("GET", "/api/v1/snapshots", Who::Member, Nothing),
    route("GET", "/api/v1/snapshots/{id}", Who::Member, Snapshot),
    route("GET", "/api/v1/snapshots/{id}/download?what=file&path=a", Who::Member, Snapshot),
    with("POST", "/api/v1/snapshots/{id}/restore", Who::Member, Snapshot, r#"{"paths":["/home"]}"#),
    route("GET", "/api/v1/snapshots/{id}/entries", Who::Member, Snapshot),
    route("GET", "/api/v1/snapshots/{id}/entries/content?path=a", Who::Member, Snapshot),
    route("GET", "/api/v1/snapshots/{id}/diff/{other}", Who::Member, Snapshot),
    with("PUT", "/api/v1/snapshots/{id}/hold", Who::Admin, Snapshot, r#"{"reason":"audit"}"#),
    route("DELETE", "/api/v1/snapshots/{id}/hold", Who::Admin, Snapshot),
    with("POST", "/api/v1/snapshots/{id}/verify", Who::Member, Snapshot, r#"{"depth":"deep"}"#),
    route("GET", "/api/v1/sources/{id}/retention", Who::Member, Source),
    with(
        "PUT",
        "/api/v1/sources/{id}/retention",
        Who::Admin,
        Source,
        r#"{"retention_policy":{"keep_last_n":14,"keep_weekly":8}}"#,
    ),
    route("GET", "/api/v1/sources/{id}/retention/plan", Who::Member, Source),
    with(
        "POST",
        "/api/v1/sources/{id}/retention/plan",
        Who::Member,
        Source,
        r#"{"retention_policy":{"keep_last_n":7}}"#,
    ),
    route("POST", "/api/v1/admin/retention/run", Who::Operator, Nothing),
    route("POST", "/api/v1/admin/retention/run/{id}", Who::Operator, Source),
    with("POST", "/api/v1/workers", Who::Operator, Nothing, r#"{"id":"$fresh"}"#),
    route("GET", "/api/v1/workers", Who::Operator, Nothing),
    route("GET", "/api/v1/workers/{id}", Who::Operator, Worker),
    route("DELETE", "/api/v1/workers/{id}", Who::Operator, Worker),
    route("POST", "/api/v1/workers/{id}/token", Who::Operator, Worker),
    route("POST", "/api/v1/workers/{id}/drain", Who::Operator, Worker),
    route("POST", "/api/v1/workers/{id}/undrain", Who::Operator, Worker),
    route("GET", "/api/v1/admin/tenants", Who::Operator, Nothing),
    route("GET", "/api/v1/admin/sources", Who::Operator, Nothing),
    route("GET", "/api/v1/admin/jobs", Who::Operator, Nothing),
    route("GET", "/api/v1/admin/snapshots", Who::Operator, Nothing),
    route("DELETE", "/api/v1/snapshots/{id}", Who::Admin, Snapshot),
    with(
        "POST",
        "/internal/workers/register",
        Who::Worker,
        Nothing,
        r#"{"worker_id":"w1","recipient":"$recipient","version":"0","capabilities":["ssh"],"storage_base_path":"/b","concurrency":1}"#,
    ),
    with(
        "POST",
        "/internal/workers/heartbeat",
        Who::Worker,
        Nothing,
        r#"{"worker_id":"w1","draining":false,"metrics":{"cpu_percent":1.5,"memory_bytes":1,"memory_total_bytes":2,
            "disk_free_bytes":1,"disk_total_bytes":2,"active_jobs":0}}"#,
    ),
    with("POST", "/internal/workers/reconcile", Who::Worker, Nothing, r#"{"snapshots":[]}"#),
    with("POST", "/internal/downloads/open", Who::Worker, Nothing, r#"{"token":"xvd_no"}"#),
    with("POST", "/internal/jobs/claim", Who::Worker, Nothing, "{}"),
    with("POST", "/internal/jobs/{id}/renew", Who::Worker, HeldJob, r#"{"lease_token":"not-it"}"#),
    with(
        "POST",
        "/internal/jobs/{id}/progress",
        Who::Worker,
        HeldJob,
        r#"{"lease_token":"not-it","progress":{"phase":"backup","bytes":1,"entries":1,"warnings":0}}"#,
    ),
    with("POST", "/internal/jobs/{id}/logs", Who::Worker, HeldJob, r#"{"lease_token":"not-it","lines":[]}"#),
    with(
        "POST",
        "/internal/jobs/{id}/complete",
        Who::Worker,
        HeldJob,
        r#"{"lease_token":"not-it","outcome":{"status":"released","reason":"stop"}}"#,
    ),
];
