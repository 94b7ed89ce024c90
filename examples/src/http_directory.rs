//! A connector of one's own: the files below a web server's listing, as nginx, Apache and `python3 -m http.server` make it.

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use reqwest::{Client, Response, Url};
use std::collections::BTreeSet;
use xvault::connectors::{Control, Emitter, Error, Probe, ProbedPath, PullSummary, Source};
use xvault::core::snapshot::Evidence;
use xvault::core::{Entry, EntryKind, EntryPath, EntrySink, Metadata, Mtime, WarningCode};

/// All files below one URL, which ends with a slash, by this client. The host is their first directory.
pub struct HttpDirectory(pub Url, pub Client);

impl HttpDirectory {
    /// The answer; `None` when the server does not give it.
    async fn get(&self, url: &Url) -> Result<Option<Response>, Error> {
        let answer = self.1.get(url.clone()).send().await.map_err(|_| self.failed("it can't be reached"))?;
        match answer.status().as_u16() {
            200 => Ok(Some(answer)),
            400..=499 => Ok(None),
            status => Err(self.failed(&format!("HTTP status {status}"))),
        }
    }

    /// What lies right below `url` by its page of at most 16 MiB. Directories end with a slash.
    async fn list(&self, url: &Url, mut answer: Response) -> Result<BTreeSet<Url>, Error> {
        let mut page = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| self.failed("it broke off"))? {
            page.extend_from_slice(&chunk);
            (page.len() < 16 << 20).then_some(()).ok_or_else(|| self.failed("a listing is too long"))?;
        }
        let page = String::from_utf8_lossy(&page).replace("&amp;", "&");
        let links = page.split("href=\"").skip(1).filter_map(|rest| url.join(rest.split('"').next()?).ok());
        let is_below = |link: &Url| {
            let name = link.as_str().strip_prefix(url.as_str()).unwrap_or_default();
            !name.is_empty() && !name.contains(['?', '#']) && !name.trim_end_matches('/').contains('/')
        };
        Ok(links.filter(is_below).collect())
    }

    fn entry(&self, url: &Url, kind: EntryKind, answer: Option<&Response>) -> Result<Entry, Error> {
        let told = answer.and_then(|answer| answer.headers().get("last-modified")?.to_str().ok());
        let time = told.and_then(|time| jiff::fmt::rfc2822::parse(time).ok());
        let mtime = Mtime { secs: time.map_or(0, |time| time.timestamp().as_second()), nanos: 0 };
        let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
        let name = format!("{}{}", url.host_str().unwrap_or_default(), url.path());
        let path = EntryPath::from_source(&percent_decode_str(&name).collect::<Vec<_>>()).ok().flatten();
        let path = path.ok_or_else(|| self.failed("a name can't stand in an archive"))?;
        Ok(Entry { path, kind, metadata: Metadata { mode, mtime, ..Metadata::default() } })
    }

    fn failed(&self, reason: &str) -> Error {
        Error::Connection { server: self.0.to_string(), reason: reason.to_owned(), source: None }
    }
}

#[async_trait]
impl Source for HttpDirectory {
    fn kind(&self) -> &'static str {
        "http_directory"
    }

    async fn probe(&mut self) -> Result<Probe, Error> {
        let (path, found) = (self.0.to_string(), self.get(&self.0).await?.is_some());
        let (kind, error) = (found.then_some("directory"), (!found).then(|| "it is not given".to_owned()));
        let paths = vec![ProbedPath { path, kind, error }];
        Ok(Probe { server: None, host_key: None, paths, notes: Vec::new() })
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        let (mut emitter, mut left) = (Emitter::new(sink, control), vec![self.0.clone()]);
        while let Some(url) = left.pop() {
            match control.run(self.get(&url)).await? {
                None if url == self.0 => return Err(Error::NotFound(url.to_string())),
                None => {
                    let path = self.entry(&url, EntryKind::Stream, None)?.path;
                    emitter.warn(path, WarningCode::Unreadable, "the server does not give it").await?;
                }
                Some(answer) if url.path().ends_with('/') => {
                    emitter.whole(self.entry(&url, EntryKind::Directory, Some(&answer))?).await?;
                    left.extend(control.run(self.list(&url, answer)).await?.into_iter().rev());
                }
                Some(mut answer) => {
                    let size = answer.content_length().ok_or_else(|| self.failed("a file has no length"))?;
                    emitter.begin(self.entry(&url, EntryKind::File { size }, Some(&answer))?).await?;
                    let broken = |_| self.failed("it broke off");
                    while let Some(chunk) =
                        control.run(async { answer.chunk().await.map_err(broken) }).await?
                    {
                        emitter.data(chunk).await?;
                    }
                    emitter.end().await?;
                }
            }
        }
        let (directories, files) = (emitter.content().directories, emitter.content().files);
        Ok(emitter.finish(Evidence::Walk { directories, files }))
    }
}
