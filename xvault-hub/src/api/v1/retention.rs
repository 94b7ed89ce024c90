//! `/api/v1/sources/{id}/retention`, and `/api/v1/admin/retention`

use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::SourceId;
use xvault_retention::{Decision, Policy, Summary};

use super::plan_page::{PlanPage, PlanPaging};
use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::principal::{Principal, Role};
use crate::app::retention::{self, Report, SourceResult};
use crate::db::Scope;
use crate::db::retention::{Keeping, Pause};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(get, set))
        .routes(routes!(plan, try_policy))
        .routes(routes!(run))
        .routes(routes!(run_one))
}

/// A policy to be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPolicy {
    /// The rules; null for none: then nothing is deleted by itself.
    #[schema(value_type = Option<Policy>, required = true)]
    retention_policy: Value,
}

/// By what the snapshots of a source are kept.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Retention {
    source_id: SourceId,
    /// Null: nothing is deleted by itself.
    retention_policy: Option<Policy>,
    /// Whose hours, days and weeks the rules mean: that of the source's schedule, or UTC.
    timezone: String,
    /// Why nothing is deleted by itself at present, whatever the policy says. Null: nothing stands in its way.
    paused: Option<Pause>,
}

impl From<Keeping> for Retention {
    fn from(keeping: Keeping) -> Self {
        let paused = keeping.pause();
        let Keeping { source_id, policy, timezone, .. } = keeping;
        Self { source_id, retention_policy: policy, timezone, paused }
    }
}

/// What would become of a source's snapshots right now, and why. Nothing is deleted by asking.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RetentionPlan {
    #[serde(flatten)]
    retention: Retention,
    /// The time it is made for.
    evaluated_at: Timestamp,
    /// For each snapshot, newest first. Without a policy there are none.
    decisions: Vec<Decision>,
    /// Decisions that come after these.
    decisions_left_out: usize,
    /// `cursor` of the page with them. Null: there are none.
    next_cursor: Option<String>,
    /// Snapshots that are being deleted already, by hand or beyond recall: they are no part of the plan.
    already_deleting: usize,
    /// Damaged snapshots, which are no part of the plan: nothing counts on them, and no rule deletes them.
    damaged: usize,
    /// Of the whole plan.
    summary: Summary,
}

/// Get the retention policy of a source
#[utoipa::path(
    get, path = "/sources/{id}/retention", tag = "retention",
    params(("id" = SourceId, Path)),
    responses((status = 200, body = Retention)),
)]
async fn get(State(hub): State<Hub>, who: Principal, Path(id): Path<SourceId>) -> Result<Json<Retention>> {
    Ok(Json(retention::get(&hub, &who.scope(None)?, &id).await?.into()))
}

/// Change the retention policy of a source
///
/// It is the source's, with a schedule or without; whoever deletes the schedule deletes it, too. It applies with the next backup, or within hours; deletions that wait for
/// their worker and that it does not want are canceled at once. `POST …/retention/plan` tries one before. For admins.
#[utoipa::path(
    put, path = "/sources/{id}/retention", tag = "retention",
    params(("id" = SourceId, Path)),
    request_body = NewPolicy,
    responses((status = 200, body = Retention)),
)]
async fn set(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SourceId>,
    Json(body): Json<NewPolicy>,
) -> Result<Json<Retention>> {
    who.require(Role::Admin)?;
    let policy = retention::parse(&body.retention_policy)?;
    Ok(Json(retention::set(&hub, &who, &who.scope(None)?, &id, policy.as_ref()).await?.into()))
}

/// Explain what retention does
///
/// Every snapshot of a source with what becomes of it by the source's policy, and with every reason.
#[utoipa::path(
    get, path = "/sources/{id}/retention/plan", tag = "retention",
    params(("id" = SourceId, Path), PlanPaging),
    responses((status = 200, body = RetentionPlan)),
)]
async fn plan(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SourceId>,
    Query(paging): Query<PlanPaging>,
) -> Result<Json<RetentionPlan>> {
    answer_plan(&hub, &who.scope(None)?, &id, None, &paging.page()?).await
}

/// Try a retention policy
///
/// As the plan of the source's own policy, for another one, which is not saved.
#[utoipa::path(
    post, path = "/sources/{id}/retention/plan", tag = "retention",
    params(("id" = SourceId, Path), PlanPaging),
    request_body = NewPolicy,
    responses((status = 200, body = RetentionPlan)),
)]
async fn try_policy(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SourceId>,
    Query(paging): Query<PlanPaging>,
    Json(body): Json<NewPolicy>,
) -> Result<Json<RetentionPlan>> {
    let needed = || Error::invalid_field("retention_policy", "a policy to try is needed");
    let policy = retention::parse(&body.retention_policy)?.ok_or_else(needed)?;
    answer_plan(&hub, &who.scope(None)?, &id, Some(policy), &paging.page()?).await
}

async fn answer_plan(
    hub: &Hub,
    scope: &Scope,
    id: &SourceId,
    policy: Option<Policy>,
    page: &PlanPage,
) -> Result<Json<RetentionPlan>> {
    let (keeping, evaluated_at, verdict) = retention::plan(hub, scope, id, policy).await?;
    let (already_deleting, damaged) =
        verdict.as_ref().map_or((0, 0), |verdict| (verdict.leaving, verdict.damaged));
    let plan = verdict.map(|verdict| verdict.plan);
    let (decisions, summary) = plan.map(|plan| (plan.decisions, plan.summary)).unwrap_or_default();
    let (decisions, decisions_left_out, next_cursor) = page.cut(decisions);
    Ok(Json(RetentionPlan {
        retention: keeping.into(),
        evaluated_at,
        decisions,
        decisions_left_out,
        next_cursor,
        already_deleting,
        damaged,
        summary,
    }))
}

/// What came of one source.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RetentionResult {
    source_id: SourceId,
    #[serde(flatten)]
    summary: Summary,
    /// Deletions that were queued now.
    jobs_enqueued: usize,
    /// Queued deletions that were canceled, because the policy keeps the snapshot after all.
    jobs_canceled: usize,
    /// Why it could not be done: then all numbers are 0.
    error: Option<String>,
}

impl From<SourceResult> for RetentionResult {
    fn from(result: SourceResult) -> Self {
        let SourceResult { source_id, settled } = result;
        let (settled, error) = match settled {
            Ok(settled) => (settled, None),
            Err(error) => (retention::Settled::default(), Some(error)),
        };
        Self {
            source_id,
            summary: settled.summary,
            jobs_enqueued: settled.queued,
            jobs_canceled: settled.spared,
            error,
        }
    }
}

/// Over all sources.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RetentionSummary {
    sources_evaluated: usize,
    /// Sources where it could not be done.
    sources_failed: usize,
    #[serde(flatten)]
    summary: Summary,
    /// Deletions that were queued now; fewer than are to go when some were queued before.
    jobs_enqueued: usize,
    /// Queued deletions that were canceled, because the policy keeps the snapshot after all.
    jobs_canceled: usize,
}

/// What a run of retention did.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RetentionRun {
    /// Source by source; the first 1,000.
    results: Vec<RetentionResult>,
    /// Results that were left out. The summary covers them.
    results_left_out: usize,
    summary: RetentionSummary,
}

impl From<Report> for RetentionRun {
    fn from(report: Report) -> Self {
        Self {
            results: report.results.into_iter().map(Into::into).collect(),
            results_left_out: report.left_out,
            summary: RetentionSummary {
                sources_evaluated: report.sources,
                sources_failed: report.failed,
                summary: report.summary,
                jobs_enqueued: report.queued,
                jobs_canceled: report.spared,
            },
        }
    }
}

/// Run retention for all sources
///
/// Applies the policy of every source that has one, as the hub does by itself now and then; not where source, schedule or tenant
/// is disabled. Goes on when the answer takes too long. For operators.
#[utoipa::path(
    post, path = "/admin/retention/run", tag = "admin",
    operation_id = "run_retention",
    responses((status = 200, body = RetentionRun)),
)]
async fn run(State(hub): State<Hub>, who: Principal) -> Result<Json<RetentionRun>> {
    who.require(Role::Operator)?;
    Ok(Json(retention::run(&hub).await?.into()))
}

/// Run retention for one source
#[utoipa::path(
    post, path = "/admin/retention/run/{id}", tag = "admin",
    operation_id = "run_retention_of",
    params(("id" = SourceId, Path)),
    responses(
        (status = 200, body = RetentionRun),
        (status = 409, body = ErrorBody, description = "It has no policy (`no_policy`), or it, its schedule or its \
            tenant is disabled (`source_disabled`, `schedule_disabled`, `tenant_disabled`)."),
    ),
)]
async fn run_one(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<SourceId>,
) -> Result<Json<RetentionRun>> {
    who.require(Role::Operator)?;
    Ok(Json(retention::run_one(&hub, &id).await?.into()))
}
