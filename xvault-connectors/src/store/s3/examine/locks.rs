//! Whether object lock holds: objects are locked for seconds, and everything is tried to be rid of them meanwhile.
//!
//! A refusal proves something only where the same is granted without a lock. So an object without one goes first.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use xvault_core::protocol::{Ability, Found, Observation};
use xvault_core::store::{LockMode, ObjectLock};
use xvault_core::{Dispose, Disposition};

use super::{CONTENT, Examination, refusal};
use crate::Error;
use crate::store::s3::body::Body;
use crate::store::s3::client::Call;
use crate::store::s3::http::Answer;
use crate::store::s3::multipart::{self, server_time};
use crate::store::s3::{answer, lock};

/// How long objects are locked: what is tried meanwhile must fit in.
const LOCK: SignedDuration = SignedDuration::from_secs(10);
/// What of it must be left when the last thing was tried.
const MARGIN: Duration = Duration::from_secs(2);
/// The modes, with what is shown of them.
const MODES: [(Ability, LockMode); 2] =
    [(Ability::ObjectLock, LockMode::Compliance), (Ability::GovernanceLock, LockMode::Governance)];
/// Who may go past a lock in governance mode says so.
const BYPASS: (&str, &str) = ("x-amz-bypass-governance-retention", "true");

/// What was found of a lock, in words.
type Verdict = (Found, String);

/// It does not hold, or can't be told to: what speaks against it.
enum Against {
    Seen(Verdict),
    /// The server can't be reached any more.
    Broken(Error),
}

impl From<Error> for Against {
    fn from(error: Error) -> Self {
        refusal(error).map_or_else(Self::Broken, |words| Self::Seen((Found::No, words)))
    }
}

fn no(words: impl Into<String>) -> Against {
    Against::Seen((Found::No, words.into()))
}

fn unknown(words: impl Into<String>) -> Against {
    Against::Seen((Found::Unknown, words.into()))
}

impl Examination<'_> {
    /// Tries both modes.
    pub(super) async fn locks(&mut self) -> Result<(), Error> {
        if let Err(against) = self.unlocked_goes().await {
            let (found, words) = told(against)?;
            self.observe(Ability::DeleteVersion, (found, words.clone()));
            let proven = if found == Found::No { Found::Unknown } else { Found::No };
            let words = match proven {
                Found::Unknown => {
                    format!("where no version can be deleted, a refusal proves nothing: {words}")
                }
                _ => words,
            };
            for (ability, _) in MODES {
                self.observe(ability, (proven, words.clone()));
            }
            return Ok(());
        }
        self.observe(Ability::DeleteVersion, (Found::Yes, "a version without a lock was deleted".to_owned()));
        for (ability, mode) in MODES {
            let verdict = match self.lock(mode).await {
                Ok(words) => (Found::Yes, words),
                Err(against) => told(against)?,
            };
            self.observe(ability, verdict);
        }
        // What is locked goes when its lock is over.
        if let Some(end) = self.locked_until {
            tokio::time::sleep_until(end).await;
        }
        Ok(())
    }

    fn observe(&mut self, ability: Ability, (found, seen): Verdict) {
        self.seen.push(Observation { ability, found, seen });
    }

    /// A version without a lock can be deleted, for good. Unknown: there are no versions.
    async fn unlocked_goes(&mut self) -> Result<(), Against> {
        let answer = self.put("unlocked", CONTENT, &[]).await?;
        let version = version_of(&answer)
            .ok_or_else(|| unknown("the server keeps no versions, and only these can be locked"))?;
        self.delete("unlocked", Some(&version), &[]).await.map_err(|error| match error {
            error @ Error::Denied { .. } => refusal(error).map_or_else(Against::Broken, |words| {
                no(format!(
                    "it is refused to this credential, or the bucket locks everything by itself: {words}"
                ))
            }),
            error => error.into(),
        })?;
        match self.read_version("unlocked", &version).await {
            Ok(_) => Err(no("a version was still there after it was deleted")),
            Err(error) => refusal(error).map(drop).map_err(Against::Broken),
        }
    }

    /// Locks an object that is written at once and one that is uploaded in parts; says what was refused.
    async fn lock(&mut self, mode: LockMode) -> Result<String, Against> {
        let now = self.now().await?;
        let until = now.checked_add(LOCK).map_err(|_| no("the server's clock is at the end of time"))?;
        let lock = ObjectLock { mode, until };
        let began = tokio::time::Instant::now();
        self.locked_until = Some(began + LOCK.unsigned_abs() + Duration::from_secs(1));
        let [whole, parts] = names(mode);
        let body = Body::of(Bytes::from_static(CONTENT));
        let made = self.put(whole, CONTENT, &lock::whole(Some(&lock), &body)).await?;
        let version = self.locked_version(whole, &made).await?;
        let refused = self.holds(whole, &version, &lock).await?;
        self.survives(whole, &version).await?;
        let made = self.upload(parts, &lock).await?;
        let version = self.locked_version(parts, &made).await?;
        let gone = self.delete(parts, Some(&version), &[]).await;
        denied(gone, "a locked object that was uploaded in parts was deleted")?;
        if began.elapsed() + MARGIN > LOCK.unsigned_abs() {
            return Err(unknown(
                "the server is too slow: locks of seconds were nearly over before everything was tried",
            ));
        }
        Ok(format!(
            "locked in {} mode, an object and one uploaded in parts could not be deleted and their lock not be shortened, and stayed when \
             written over and deleted: {refused}",
            mode.as_s3()
        ))
    }

    /// Neither deleting nor shortening gets past the lock.
    async fn holds(&mut self, name: &str, version: &str, lock: &ObjectLock) -> Result<String, Against> {
        let gone = self.delete(name, Some(version), &[]).await;
        let words = denied(gone, "the lock was taken, and the object's version deleted all the same")?;
        let sooner = ObjectLock { until: lock.until.saturating_sub(LOCK / 2).unwrap_or(lock.until), ..*lock };
        let shorter = self.retain(name, version, &sooner).await;
        denied(shorter, "the lock was taken, and shortened all the same")?;
        if lock.mode == LockMode::Compliance {
            let gone = self.delete(name, Some(version), &[BYPASS]).await;
            denied(gone, "the object's version was deleted by asking to go past the lock")?;
        }
        Ok(words)
    }

    /// The version is there when the object was written over and deleted.
    async fn survives(&mut self, name: &str, version: &str) -> Result<(), Against> {
        self.put(name, b"", &[]).await?;
        self.delete(name, None, &[]).await?;
        match self.read_version(name, version).await {
            Ok(answer) if answer.body == CONTENT => Ok(()),
            Ok(_) => Err(no("something else came back than was locked")),
            Err(Error::NotFound(_)) => {
                Err(no("the locked version was gone when the object was written over and deleted"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Which version was made. A server that keeps none ignores locks.
    async fn locked_version(&mut self, name: &str, made: &Answer) -> Result<String, Against> {
        if let Some(version) = version_of(made) {
            return Ok(version);
        }
        let (key, body) = (self.key(name), Body::empty());
        let found = self.store.client.ask(&Call::new("look at", Method::GET, Some(&key), &body)).await?;
        self.remember(key, &found);
        version_of(&found).ok_or_else(|| no("the lock was taken, and no version told that could have it"))
    }

    async fn read_version(&self, name: &str, version: &str) -> Result<Answer, Error> {
        let (key, body) = (self.key(name), Body::empty());
        let query = vec![("versionId", version.to_owned())];
        let read =
            self.store.client.ask(&Call::new("read", Method::GET, Some(&key), &body).query(query)).await;
        // The answer to a version that is gone.
        read.map_err(|error| if answer::is(&error, "NoSuchVersion") { Error::NotFound(key) } else { error })
    }

    /// Gives a version another lock.
    async fn retain(&self, name: &str, version: &str, lock: &ObjectLock) -> Result<Answer, Error> {
        lock::retain(&self.store.client, &self.key(name), Some(version), lock).await
    }

    /// As artifacts are.
    async fn upload(&mut self, name: &str, lock: &ObjectLock) -> Result<Answer, Error> {
        let (key, client) = (self.key(name), &self.store.client);
        let id = multipart::create(client, &key, Some(lock)).await?;
        let body = Body::of(Bytes::from_static(CONTENT));
        let finished = async {
            let part = multipart::put_part(client, (&key, true), &id, 1, body).await?;
            let xml = Body::of(multipart::complete_xml(&[part])?.into());
            let query = vec![("uploadId", id.clone())];
            client.ask(&Call::new("finish", Method::POST, Some(&key), &xml).query(query)).await
        };
        match finished.await {
            Ok(answer) => {
                self.remember(key, &answer);
                Ok(answer)
            }
            Err(error) => {
                drop(multipart::end(client, &key, &id).await);
                Err(error)
            }
        }
    }

    /// The server's clock.
    async fn now(&self) -> Result<Timestamp, Error> {
        let (key, body) = (self.key("probe"), Body::empty());
        match self.store.client.ask(&Call::new("read", Method::GET, Some(&key), &body)).await {
            Ok(answer) => Ok(server_time(&answer)),
            Err(error) => refusal(error).map(|_| xvault_core::clock::now()),
        }
    }
}

/// A refusal is what is wanted; a failure that time heals is none.
fn denied(tried: Result<Answer, Error>, granted: &str) -> Result<String, Against> {
    match tried {
        Ok(_) => Err(no(granted)),
        Err(Error::NotFound(key)) => Err(no(format!("{key}, which was locked, is gone"))),
        Err(error) if error.disposition() == Disposition::Permanent => {
            refusal(error).map_err(Against::Broken)
        }
        Err(error) => Err(unknown(refusal(error).map_err(Against::Broken)?)),
    }
}

/// Of the objects that are locked in a mode.
pub(super) fn names(mode: LockMode) -> [&'static str; 2] {
    match mode {
        LockMode::Compliance => ["locked-compliance", "locked-compliance-parts"],
        LockMode::Governance => ["locked-governance", "locked-governance-parts"],
    }
}

/// A version of the name `null` is none: the one that is written over.
fn version_of(answer: &Answer) -> Option<String> {
    answer.header("x-amz-version-id").filter(|version| *version != "null").map(str::to_owned)
}

fn told(against: Against) -> Result<Verdict, Error> {
    match against {
        Against::Seen(verdict) => Ok(verdict),
        Against::Broken(error) => Err(error),
    }
}
