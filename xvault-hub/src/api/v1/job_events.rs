//! `/api/v1/jobs/{id}/events`: a job as it goes, in server-sent events.
//!
//! Any hub may be asked about any job, so the stream is read from the database, by primary key, twice a second.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream};
use serde::Serialize;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::JobId;
use xvault_core::job::JobStatus;

use super::job_logs::{JobLog, place, place_text};
use super::jobs::Job;
use crate::Hub;
use crate::api::error::Result;
use crate::api::extract::Path;
use crate::api::principal::Principal;
use crate::app::jobs;
use crate::db::Scope;
use crate::db::job_logs::After;

/// How often the database is asked.
const POLL: Duration = Duration::from_millis(500);
/// How long one stream lasts: as long as an access token. The client comes back with `Last-Event-ID`.
const MAX_STREAM: Duration = Duration::from_secs(15 * 60);
/// How often a comment is sent while nothing happens, so that proxies keep the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);
/// How many lines are read at a time.
const LINES: u32 = 500;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(events))
}

/// The data of the last event of a stream.
#[derive(Debug, Serialize)]
struct End {
    status: JobStatus,
}

/// One event of the stream, by its fields.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it stands for the schema of what `Event` writes")]
struct JobEvent {
    event: JobEventKind,
    /// JSON: the job as `GET /jobs/{id}` gives it, a line as `GET /jobs/{id}/logs` gives it, or `{"status": "…"}`.
    data: String,
    /// For `Last-Event-ID`: up to which line of the log the stream has come.
    #[schema(pattern = r"^-?[0-9]+\.-?[0-9]+$")]
    id: String,
    /// How long to wait before coming back, in milliseconds.
    retry: u64,
}

/// What an event tells.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it stands for the schema of what `Event` writes")]
enum JobEventKind {
    /// Something about the job has changed.
    Job,
    /// A line of its log.
    Log,
    /// It is over: the last event.
    End,
}

/// Follow a job
///
/// A stream of server-sent events: `job` with the job whenever something about it has changed, `log` with each line of
/// its log, and `end` with its `status` when it is over. Every event has an id; a client that comes back with
/// `Last-Event-ID` gets the lines that it has not seen. A stream lasts 15 minutes at most.
#[utoipa::path(
    get, path = "/jobs/{id}/events", tag = "jobs",
    params(
        ("id" = JobId, Path),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen."),
    ),
    responses((status = 200, body = JobEvent, content_type = "text/event-stream")),
)]
async fn events(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<JobId>,
    headers: HeaderMap,
) -> Result<impl IntoResponse> {
    let scope = who.scope(None)?;
    jobs::get(&hub, &scope, &id).await?;
    let seen = headers.get("last-event-id").and_then(|value| place(value.to_str().ok()?));
    let follower = Follower::new(hub, scope, id, seen.unwrap_or(After::START));
    Ok(Sse::new(follower.stream()).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

/// What one stream has told.
struct Follower {
    hub: Hub,
    scope: Scope,
    id: JobId,
    after: After,
    told: Option<Job>,
    waiting: VecDeque<Event>,
    until: Instant,
    next_poll: Instant,
    over: bool,
}

impl Follower {
    fn new(hub: Hub, scope: Scope, id: JobId, after: After) -> Self {
        let now = Instant::now();
        Self {
            hub,
            scope,
            id,
            after,
            told: None,
            waiting: VecDeque::new(),
            until: now + MAX_STREAM,
            next_poll: now,
            over: false,
        }
    }

    fn stream(self) -> impl Stream<Item = std::result::Result<Event, Infallible>> + Send + 'static {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    /// The next event; none when the job is over, the time is up, or the database is away: the client comes back.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.over || Instant::now() >= self.until {
                return None;
            }
            tokio::time::sleep_until(self.next_poll).await;
            self.next_poll = Instant::now() + POLL;
            self.look().await.ok()?;
        }
    }

    /// Reads what is new. The job goes first: what it said before it ended is there when its end is seen.
    async fn look(&mut self) -> Result<()> {
        let job = Job::from(jobs::get(&self.hub, &self.scope, &self.id).await?);
        let lines = jobs::logs(&self.hub, &self.scope, &self.id, self.after, LINES).await?;
        let all = lines.len() <= usize::try_from(LINES).unwrap_or(usize::MAX);
        if self.told.as_ref().is_none_or(|told| job.differs(told)) {
            self.tell("job", &job);
        }
        for line in lines {
            self.after = After::line(&line);
            self.tell("log", &JobLog::from(line));
        }
        if all && job.status.is_finished() {
            self.tell("end", &End { status: job.status });
            self.over = true;
        } else if !all {
            self.next_poll = Instant::now();
        }
        self.told = Some(job);
        Ok(())
    }

    fn tell(&mut self, kind: &str, data: &impl Serialize) {
        let text = serde_json::to_string(data).unwrap_or_default();
        let event = Event::default().event(kind).id(place_text(self.after)).retry(RETRY).data(text);
        self.waiting.push_back(event);
    }
}
