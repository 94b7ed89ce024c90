//! `/api/v1`.

mod tenants;

use utoipa_axum::router::OpenApiRouter;

use crate::Hub;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().merge(tenants::routes())
}
