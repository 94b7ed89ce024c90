//! `/api/v1`.

mod api_keys;
mod audit_events;
mod auth;
mod config;
mod credentials;
mod settings;
mod sources;
mod tenants;
mod users;

use utoipa_axum::router::OpenApiRouter;

use crate::Hub;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .merge(auth::routes())
        .merge(tenants::routes())
        .merge(users::routes())
        .merge(api_keys::routes())
        .merge(credentials::routes())
        .merge(sources::routes())
        .merge(settings::routes())
        .merge(audit_events::routes())
}
