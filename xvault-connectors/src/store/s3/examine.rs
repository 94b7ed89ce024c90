//! What a server really does: tried with objects of our own, which are removed again.
//!
//! Some servers take the headers of conditional puts and object locks, and do nothing about them. So nothing is believed that was
//! not seen.

mod locks;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::Method;
use jiff::Timestamp;
use xvault_core::error::chain;
use xvault_core::protocol::{Ability, Found, Observation};
use xvault_core::store::LockMode;

use super::S3Store;
use super::body::Body;
use super::client::Call;
use super::http::Answer;
use crate::Error;

/// What stands in the objects.
const CONTENT: &[u8] = b"xvault was here to see what this store does\n";
/// As many objects are looked at in a listing that holds one of ours.
const MORE_THAN_OURS: usize = 1000;
/// SHA-256 of something else, in Base64.
const OTHER_DIGEST: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

impl S3Store {
    /// Tries everything with objects below `prefix`, and removes them.
    ///
    /// # Errors
    /// When the server can't be reached. What it refuses is part of the answer.
    pub async fn examine(&self, prefix: &str) -> Result<Vec<Observation>, Error> {
        let mut examination = Examination {
            store: self,
            prefix: prefix.to_owned(),
            seen: Vec::new(),
            versions: Vec::new(),
            locked_until: None,
        };
        examination.run().await?;
        Ok(examination.seen)
    }
}

struct Examination<'a> {
    store: &'a S3Store,
    prefix: String,
    seen: Vec<Observation>,
    /// Versions that were made, with their keys.
    versions: Vec<(String, String)>,
    /// When the last lock is over.
    locked_until: Option<tokio::time::Instant>,
}

/// Refusals are what was seen; a server that is not there is an error.
fn refusal(error: Error) -> Result<String, Error> {
    match error {
        Error::Connection { .. } | Error::Timeout { .. } | Error::Untrusted { .. } | Error::Cancelled => {
            Err(error)
        }
        error => Ok(chain(&error)),
    }
}

impl Examination<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    fn note(&mut self, ability: Ability, yes: bool, seen: impl Into<String>) {
        let found = if yes { Found::Yes } else { Found::No };
        self.seen.push(Observation { ability, found, seen: seen.into() });
    }

    /// Says whether it did, and what a refusal was.
    fn tried<T>(
        &mut self,
        ability: Ability,
        tried: Result<T, Error>,
        seen: impl FnOnce(&T) -> (bool, &'static str),
    ) -> Result<Option<T>, Error> {
        match tried {
            Ok(done) => {
                let (yes, words) = seen(&done);
                self.note(ability, yes, words);
                Ok(Some(done))
            }
            Err(error) => {
                let words = refusal(error)?;
                self.note(ability, false, words);
                Ok(None)
            }
        }
    }

    async fn run(&mut self) -> Result<(), Error> {
        let written = self.put("probe", CONTENT, &[]).await;
        let taken = self.tried(Ability::Write, written, |_| (true, "an object was taken"))?;
        if taken.is_none() {
            let rest = [
                Ability::Read,
                Ability::Range,
                Ability::List,
                Ability::Checksums,
                Ability::ConditionalPut,
                Ability::Versioning,
                Ability::DeleteVersion,
                Ability::ObjectLock,
                Ability::GovernanceLock,
                Ability::Delete,
            ];
            let seen = "nothing could be written, so it was not tried".to_owned();
            self.seen.extend(rest.map(|ability| Observation {
                ability,
                found: Found::Unknown,
                seen: seen.clone(),
            }));
            return Ok(());
        }
        let looked = self.look().await;
        let kept = match looked {
            Ok(()) => self.keep().await,
            Err(error) => Err(error),
        };
        let removed = self.remove().await;
        kept.and(removed)
    }

    /// Reads, ranges and lists.
    async fn look(&mut self) -> Result<(), Error> {
        let (key, length) = (self.key("probe"), CONTENT.len() as u64);
        let read = self.store.reader.read(&key, 0..length).await;
        let same = |read: &Bytes| match &read[..] == CONTENT {
            true => (true, "the object came back as it was"),
            false => (false, "something else came back than was written"),
        };
        self.tried(Ability::Read, read, same)?;
        let part = self.store.reader.read(&key, 7..10).await;
        let same = |part: &Bytes| match CONTENT.get(7..10) == Some(&part[..]) {
            true => (true, "three bytes of it came as asked for"),
            false => (false, "other bytes came than were asked for"),
        };
        self.tried(Ability::Range, part, same)?;
        let listed: Result<Vec<_>, _> =
            self.store.reader.entries(&self.prefix).take(MORE_THAN_OURS).try_collect().await;
        let there =
            |entries: &Vec<(String, Option<Timestamp>)>| match entries.iter().any(|(entry, _)| *entry == key)
            {
                true => (true, "it was listed"),
                false => (false, "it was not listed"),
            };
        self.tried(Ability::List, listed, there).map(drop)
    }

    /// What the server keeps, and refuses to write.
    async fn keep(&mut self) -> Result<(), Error> {
        let digest = ("x-amz-checksum-sha256", OTHER_DIGEST.to_owned());
        let wrong = self.put("wrong-digest", CONTENT, &[digest]).await;
        self.refused(Ability::Checksums, wrong, "an object was taken whose checksum was a lie")?;
        let again = self.put("probe", CONTENT, &[("if-none-match", "*".to_owned())]).await;
        self.refused(Ability::ConditionalPut, again, "If-None-Match was taken, and the object written over")?;
        let body = Body::empty();
        let call = Call::new("look at", Method::GET, None, &body).query(vec![("versioning", String::new())]);
        let answer = self.store.client.ask(&call).await;
        let enabled = |answer: &Answer| match String::from_utf8_lossy(&answer.body)
            .contains("<Status>Enabled</Status>")
        {
            true => (true, "the bucket says that it keeps versions"),
            false => (false, "the bucket says that it keeps no versions"),
        };
        self.tried(Ability::Versioning, answer, enabled)?;
        self.locks().await
    }

    /// A refusal is what is wanted; what was taken instead is told.
    fn refused(
        &mut self,
        ability: Ability,
        tried: Result<Answer, Error>,
        taken: &'static str,
    ) -> Result<(), Error> {
        match tried {
            Ok(_) => self.note(ability, false, taken),
            Err(error) => {
                let words = refusal(error)?;
                self.note(ability, true, words);
            }
        }
        Ok(())
    }

    /// Deletes all that was made, the last versions of it, too.
    async fn remove(&mut self) -> Result<(), Error> {
        let gone = self.delete("probe", None, &[]).await;
        let gone = match gone {
            Ok(answer) => match self.store.reader.look_at(&self.key("probe")).await {
                Ok(None) | Err(Error::Denied { .. }) => Ok(answer),
                Ok(Some(_)) => {
                    Err(Error::Incomplete("the object was still there after it was deleted".to_owned()))
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        self.tried(Ability::Delete, gone, |_| (true, "the object was deleted"))?;
        let locked = [LockMode::Compliance, LockMode::Governance].into_iter().flat_map(locks::names);
        for name in ["wrong-digest", "unlocked"].into_iter().chain(locked) {
            drop(self.delete(name, None, &[]).await);
        }
        for (key, version) in std::mem::take(&mut self.versions) {
            let body = Body::empty();
            let call =
                Call::new("delete", Method::DELETE, Some(&key), &body).query(vec![("versionId", version)]);
            drop(self.store.client.ask(&call).await);
        }
        Ok(())
    }

    async fn put(
        &mut self,
        name: &str,
        content: &'static [u8],
        headers: &[(&'static str, String)],
    ) -> Result<Answer, Error> {
        let (key, body) = (self.key(name), Body::of(Bytes::from_static(content)));
        let call = Call::new("write", Method::PUT, Some(&key), &body).headers(headers.to_vec());
        let answer = self.store.client.ask(&call).await?;
        self.remember(key.clone(), &answer);
        Ok(answer)
    }

    async fn delete(
        &mut self,
        name: &str,
        version: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> Result<Answer, Error> {
        let (key, body) = (self.key(name), Body::empty());
        let call = Call::new("delete", Method::DELETE, Some(&key), &body);
        let query = version.map(|version| ("versionId", version.to_owned())).into_iter().collect();
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let answer = self.store.client.ask(&call.query(query).headers(headers)).await?;
        self.remember(key.clone(), &answer);
        Ok(answer)
    }

    fn remember(&mut self, key: String, answer: &Answer) {
        if let Some(version) = answer.header("x-amz-version-id") {
            self.versions.push((key, version.to_owned()));
        }
    }
}
