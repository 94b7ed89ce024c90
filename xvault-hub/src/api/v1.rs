//! `/api/v1`.

mod config;
mod credentials;
mod sources;
mod tenants;

use utoipa_axum::router::OpenApiRouter;

use crate::Hub;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().merge(tenants::routes()).merge(credentials::routes()).merge(sources::routes())
}
