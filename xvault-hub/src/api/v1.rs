//! `/api/v1`.

mod admin;
mod api_keys;
mod audit_events;
mod auth;
mod config;
mod content;
mod credentials;
mod downloads;
mod entries;
mod job_events;
mod job_logs;
mod jobs;
mod plan_page;
mod recipients;
mod restores;
mod retention;
mod schedule_fields;
mod schedules;
mod sessions;
mod settings;
mod snapshot_verify;
mod snapshots;
mod source_test;
mod source_types;
mod sources;
mod stores;
mod tenants;
mod users;
mod workers;

use utoipa_axum::router::OpenApiRouter;

use crate::Hub;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .merge(auth::routes())
        .merge(sessions::routes())
        .merge(tenants::routes())
        .merge(recipients::routes())
        .merge(users::routes())
        .merge(api_keys::routes())
        .merge(credentials::routes())
        .merge(sources::routes())
        .merge(source_test::routes())
        .merge(source_types::routes())
        .merge(stores::routes())
        .merge(schedules::routes())
        .merge(jobs::routes())
        .merge(job_logs::routes())
        .merge(job_events::routes())
        .merge(snapshots::routes())
        .merge(snapshot_verify::routes())
        .merge(downloads::routes())
        .merge(restores::routes())
        .merge(content::routes())
        .merge(entries::routes())
        .merge(retention::routes())
        .merge(workers::routes())
        .merge(settings::routes())
        .merge(audit_events::routes())
        .merge(admin::routes())
}
