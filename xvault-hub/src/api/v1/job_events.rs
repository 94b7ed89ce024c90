//! `/api/v1/jobs/{id}/events`: a job as it goes, in server-sent events.
//!
//! Any hub may be asked about any job, so the stream is read from the database, by primary key, twice a second.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream};
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::JobId;
use xvault_core::job::JobStatus;
use xvault_core::secret::{ExposeSecret as _, SecretString};

use super::job_logs::{JobLog, place, place_text};
use super::jobs::Job;
use crate::Hub;
use crate::api::error::{ErrorBody, Result};
use crate::api::extract::Path;
use crate::api::principal::{Principal, bearer};
use crate::app::streams::Place;
use crate::app::{auth, jobs};
use crate::db::Scope;
use crate::db::job_logs::After;
use crate::serve::Stopping;

/// How often the database is asked.
const POLL: Duration = Duration::from_millis(500);
/// How often it is asked whether the caller may still see the job.
const CHECK: Duration = Duration::from_secs(2);
/// How long one stream lasts. The client comes back with `Last-Event-ID`.
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

/// The data of `end`.
#[derive(Debug, Serialize)]
struct End {
    status: JobStatus,
}

/// The data of `close`.
#[derive(Debug, Serialize)]
struct Close {
    reason: Reason,
}

/// Why a stream ends before its job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reason {
    /// It has gone on for as long as one may.
    TimeUp,
    /// The hub stops.
    Stopping,
    /// The token has run out or is revoked, or its owner is not what they were.
    AccessEnded,
    /// The database is away.
    Unavailable,
}

/// One event of the stream, by its fields.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it stands for the schema of what `Event` writes")]
struct JobEvent {
    event: JobEventKind,
    /// JSON: the job as `GET /jobs/{id}` gives it, a line as `GET /jobs/{id}/logs` gives it, `{"status": "…"}` at the end, or
    /// `{"reason": "…"}` of a close.
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
    /// The stream ends, the job does not: the last event. Reasons: `time_up`, `stopping`, `access_ended`, `unavailable`.
    Close,
}

/// Follow a job
///
/// A stream of server-sent events: `job` with the job whenever something about it has changed, `log` with each line of
/// its log, and `end` with its `status` when it is over. Every event has an id; a client that comes back with
/// `Last-Event-ID` gets the lines that it has not seen.
///
/// A stream ends with `close` and its `reason` when it has lasted 15 minutes, when the hub stops, and when the token is no
/// longer good or its owner may no longer do the same: come back, with a new token after `access_ended`. A user or API key
/// may have 20 streams open, a tenant 200.
#[utoipa::path(
    get, path = "/jobs/{id}/events", tag = "jobs",
    params(
        ("id" = JobId, Path),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen."),
    ),
    responses(
        (status = 200, body = JobEvent, content_type = "text/event-stream"),
        (status = 429, body = ErrorBody, description = "Too many streams are open: close one, or wait as long as \
            `Retry-After` says."),
    ),
)]
async fn events(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<JobId>,
    stopping: Option<Extension<Stopping>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse> {
    let scope = who.scope(None)?;
    jobs::get(&hub, &scope, &id).await?;
    let seen = headers.get("last-event-id").and_then(|value| place(value.to_str().ok()?));
    let token = SecretString::from(bearer(&headers)?);
    let stopping = stopping.map(|Extension(Stopping(token))| token).unwrap_or_default();
    let caller = Caller { _place: hub.streams().open(&who)?, who, token, scope };
    Ok(answer(Follower::new(hub, caller, id, seen.unwrap_or(After::START), stopping).stream()))
}

/// A stream that says something even when there is nothing to say.
fn answer<S>(stream: S) -> impl IntoResponse
where
    S: Stream<Item = std::result::Result<Event, Infallible>> + Send + 'static,
{
    Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}

/// Who reads a stream.
struct Caller {
    who: Principal,
    token: SecretString,
    scope: Scope,
    _place: Place,
}

/// What one stream has told.
struct Follower {
    hub: Hub,
    caller: Caller,
    id: JobId,
    /// The last line that was read.
    after: After,
    /// The last line that was sent.
    sent: After,
    told: Option<Job>,
    waiting: VecDeque<(After, Event)>,
    stopping: CancellationToken,
    until: Timestamp,
    next_check: Instant,
    next_poll: Instant,
    over: bool,
}

impl Follower {
    fn new(hub: Hub, caller: Caller, id: JobId, after: After, stopping: CancellationToken) -> Self {
        let (now, hub_now) = (Instant::now(), hub.clock().now());
        Self {
            hub,
            caller,
            id,
            after,
            sent: after,
            told: None,
            waiting: VecDeque::new(),
            stopping,
            until: hub_now.checked_add(MAX_STREAM).unwrap_or(Timestamp::MAX),
            next_check: now + CHECK,
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

    /// The next event; none after the last.
    async fn next(&mut self) -> Option<Event> {
        if self.over && self.waiting.is_empty() {
            return None;
        }
        let stopping = self.stopping.clone();
        let event = tokio::select! {
            biased;
            () = stopping.cancelled() => Err(Reason::Stopping),
            event = self.wait() => event,
        };
        Some(event.unwrap_or_else(|reason| self.close(reason)))
    }

    /// The next event of the job. Nothing is told that was not allowed [`CHECK`] ago.
    async fn wait(&mut self) -> std::result::Result<Event, Reason> {
        loop {
            self.check().await?;
            if let Some((after, event)) = self.waiting.pop_front() {
                self.sent = after;
                return Ok(event);
            }
            tokio::time::sleep_until(self.next_poll).await;
            self.next_poll = Instant::now() + POLL;
            self.look().await.map_err(|_| Reason::Unavailable)?;
        }
    }

    /// Whether the stream may go on.
    async fn check(&mut self) -> std::result::Result<(), Reason> {
        if self.hub.clock().now() >= self.until {
            return Err(Reason::TimeUp);
        }
        if Instant::now() < self.next_check {
            return Ok(());
        }
        let Caller { who, token, .. } = &self.caller;
        match auth::authenticate(&self.hub, token.expose_secret(), who.ip).await {
            Ok(now) if now == *who => {}
            Err(error) if error.is_ours() => return Err(Reason::Unavailable),
            _ => return Err(Reason::AccessEnded),
        }
        self.next_check = Instant::now() + CHECK;
        Ok(())
    }

    /// The last event, whatever else was to be told: the client comes back for it.
    fn close(&mut self, reason: Reason) -> Event {
        self.waiting.clear();
        self.over = true;
        event("close", self.sent, &Close { reason })
    }

    /// Reads what is new. The job goes first: what it said before it ended is there when its end is seen.
    async fn look(&mut self) -> Result<()> {
        let job = Job::from(jobs::get(&self.hub, &self.caller.scope, &self.id).await?);
        let lines = jobs::logs(&self.hub, &self.caller.scope, &self.id, self.after, LINES).await?;
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
        self.waiting.push_back((self.after, event(kind, self.after, data)));
    }
}

/// An event after which `after` was the last line that was sent.
fn event(kind: &str, after: After, data: &impl Serialize) -> Event {
    let text = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(kind).id(place_text(after)).retry(RETRY).data(text)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_events_is_kept_alive() {
        let begun = Instant::now();
        let mut body = answer(stream::pending()).into_response().into_body().into_data_stream();
        for beat in 1..=3 {
            assert_eq!(&body.next().await.unwrap().unwrap()[..], b":\n\n");
            assert_eq!(begun.elapsed().as_secs(), 15 * beat);
        }
    }
}
