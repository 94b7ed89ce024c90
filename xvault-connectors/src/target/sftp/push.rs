//! One conversation in which entries are pushed: what is in flight, and what each reply is for.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use xvault_core::{Entry, EntryKind, EntryPath, Overwrite};

use super::super::Plan;
use super::SftpTargetOptions;
use super::links::{Order, PutOff};
use super::place::{Found, Root};
use super::upload::{Step, Upload};
use crate::Error;
use crate::source::real_path;
use crate::ssh::sftp::{Reply, Request, Sftp, Status, StatusCode, free_bytes};

/// Content that was taken and not yet confirmed by the server: 320 MB/s on a way of 50 ms.
const BUDGET: u64 = 16 << 20;
/// Files in flight at once.
const MAX_UPLOADS: u64 = 256;
/// Handles left for others.
const SPARE_HANDLES: u64 = 4;
/// Requests of one kind in flight at once.
const MAX_REQUESTS: usize = 1024;

/// One conversation.
pub(super) struct Push {
    pub(super) sftp: Sftp,
    pub(super) root: Root,
    pub(super) overwrite: Overwrite,
    pub(super) owner: bool,
    /// Directories that are there and are no links.
    pub(super) directories: HashSet<EntryPath>,
    /// Those among them that this run made: nothing is in them that it has not put there.
    pub(super) made: HashSet<EntryPath>,
    /// Those that get their metadata at the end.
    pub(super) unfinished: HashSet<EntryPath>,
    /// Those that nobody may enter then: done last of all.
    pub(super) closed: Vec<Entry>,
    /// Of the entries planned last: those that take the place of something.
    pub(super) replacing: HashSet<EntryPath>,
    /// Links, which wait for the files before them.
    pub(super) put_off: Vec<PutOff>,
    pub(super) order: Option<Order>,
    /// What each reply is for: an upload, and how much it confirms.
    awaited: HashMap<u32, (u64, Step, u64)>,
    uploads: HashMap<u64, Upload>,
    /// Taken and not confirmed, in bytes.
    unconfirmed: u64,
    last: u64,
}

impl Push {
    pub(super) async fn start(
        mut sftp: Sftp,
        server: String,
        options: &SftpTargetOptions,
    ) -> Result<Self, Error> {
        let root = root(&mut sftp, server, &options.directory).await?;
        Ok(Self {
            sftp,
            root,
            overwrite: options.overwrite,
            owner: options.owner,
            directories: HashSet::new(),
            made: HashSet::new(),
            unfinished: HashSet::new(),
            closed: Vec::new(),
            replacing: HashSet::new(),
            put_off: Vec::new(),
            order: None,
            awaited: HashMap::new(),
            uploads: HashMap::new(),
            unconfirmed: 0,
            last: 0,
        })
    }

    pub(super) fn has_hard_links(&self) -> bool {
        self.sftp.extensions().hardlink
    }

    /// Asks everything at once, and gives the replies in the order of the requests. Nothing else may be in flight.
    pub(super) async fn ask_all<'r>(
        &mut self,
        requests: impl Iterator<Item = Request<'r>>,
    ) -> Result<Vec<Reply>, Error> {
        let (mut replies, mut awaited) = (Vec::new(), HashMap::new());
        for request in requests {
            while awaited.len() >= MAX_REQUESTS {
                self.take_reply(&mut awaited, &mut replies).await?;
            }
            awaited.insert(self.sftp.push(&request), replies.len());
            replies.push(None);
        }
        while !awaited.is_empty() {
            self.take_reply(&mut awaited, &mut replies).await?;
        }
        Ok(replies.into_iter().flatten().collect())
    }

    async fn take_reply(
        &mut self,
        awaited: &mut HashMap<u32, usize>,
        replies: &mut [Option<Reply>],
    ) -> Result<(), Error> {
        let (id, reply) = self.sftp.recv().await?;
        let place = awaited.remove(&id).and_then(|number| replies.get_mut(number));
        *place.ok_or_else(|| self.sftp.protocol(format!("a reply to {id}, which was not asked")))? =
            Some(reply);
        Ok(())
    }

    /// What stands at each of `paths`.
    pub(super) async fn look_at(&mut self, paths: &[&EntryPath]) -> Result<Vec<Found>, Error> {
        let places: Vec<_> = paths.iter().map(|path| self.root.place(path)).collect();
        let replies = self.ask_all(places.iter().map(|place| Request::Lstat(place))).await?;
        let mut found = Vec::with_capacity(paths.len());
        for (path, reply) in paths.iter().zip(replies) {
            let one = Found::of(&reply).ok_or_else(|| self.sftp.protocol("LSTAT got another answer"))?;
            found.push(one.map_err(|status| self.root.failed("look at", path, &status))?);
        }
        Ok(found)
    }

    /// What becomes of each entry; its directory is known to be there.
    pub(super) async fn look(&mut self, entries: &[Entry]) -> Result<Vec<Plan>, Error> {
        self.replacing.clear();
        let may_be_there = |entry: &&Entry| {
            entry.kind != EntryKind::Directory
                && !entry.path.parent().is_some_and(|parent| self.made.contains(&parent))
        };
        let asked: Vec<&EntryPath> = entries.iter().filter(may_be_there).map(|entry| &entry.path).collect();
        let found = self.look_at(&asked).await?;
        let found: HashMap<&EntryPath, Found> = asked.into_iter().zip(found).collect();
        let there = |entry: &Entry| found.get(&entry.path).copied().unwrap_or(Found::Nothing);
        let links = entries.iter().filter(|entry| there(entry) == Found::Symlink);
        let same_links = self.same_links(links.collect()).await?;
        entries.iter().map(|entry| self.plan(entry, there(entry), same_links.contains(&entry.path))).collect()
    }

    fn plan(&mut self, entry: &Entry, found: Found, is_same_link: bool) -> Result<Plan, Error> {
        if found == Found::Nothing || entry.kind == EntryKind::Directory {
            return Ok(Plan::Push);
        }
        if matches!(found, Found::Directory(_)) {
            let reason = "a directory is in the way, but the snapshot has none there".to_owned();
            return Err(self.root.obstructed(&entry.path, reason));
        }
        let same = match &entry.kind {
            EntryKind::File { size } => found.is_same_file(*size, &entry.metadata),
            _ => is_same_link,
        };
        match self.overwrite {
            Overwrite::Never => return Ok(Plan::Keep { same }),
            Overwrite::IfChanged if same => return Ok(Plan::Keep { same }),
            Overwrite::IfChanged | Overwrite::Always => {}
        }
        self.replacing.insert(entry.path.clone());
        Ok(Plan::Push)
    }

    /// Those of `links` that point to the same target there.
    async fn same_links(&mut self, links: Vec<&Entry>) -> Result<HashSet<EntryPath>, Error> {
        let places: Vec<_> = links.iter().map(|entry| self.root.place(&entry.path)).collect();
        let replies = self.ask_all(places.iter().map(|place| Request::ReadLink(place))).await?;
        let points_there = |entry: &Entry, reply: &Reply| match (&entry.kind, reply) {
            (EntryKind::Symlink { target }, Reply::Names(names)) => {
                names.first().is_some_and(|name| name.name == *target)
            }
            _ => false,
        };
        let same = links.iter().zip(&replies).filter(|(entry, reply)| points_there(entry, reply));
        Ok(same.map(|(entry, _)| entry.path.clone()).collect())
    }

    pub(super) async fn begin_file(&mut self, entry: &Entry) -> Result<(), Error> {
        let handles = self.sftp.limits().open_handles.saturating_sub(SPARE_HANDLES);
        let window = handles.clamp(1, MAX_UPLOADS);
        while self.uploads.len() as u64 >= window {
            self.advance().await?;
        }
        self.last += 1;
        let upload = Upload::new(entry.clone(), &self.root, self.replacing.contains(&entry.path));
        self.ask(self.last, Step::Open, 0, &upload.open());
        self.uploads.insert(self.last, upload);
        self.sftp.flush();
        Ok(())
    }

    pub(super) async fn data(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.unconfirmed += chunk.len() as u64;
        if let Some(upload) = self.uploads.get_mut(&self.last) {
            upload.queue.push_back(chunk);
        }
        self.go_on(self.last)?;
        self.sftp.flush();
        self.take_arrived().await?;
        while self.unconfirmed > BUDGET {
            self.advance().await?;
        }
        Ok(())
    }

    pub(super) async fn end_file(&mut self) -> Result<(), Error> {
        if let Some(upload) = self.uploads.get_mut(&self.last) {
            upload.is_whole = true;
        }
        self.go_on(self.last)?;
        self.sftp.flush();
        self.take_arrived().await
    }

    /// Waits until all files that were ended have their names, then makes the links that waited for them.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        while !self.uploads.is_empty() {
            self.advance().await?;
        }
        self.make_links().await
    }

    async fn take_arrived(&mut self) -> Result<(), Error> {
        while let Some((id, reply)) = self.sftp.try_recv()? {
            if let Err(error) = self.replied(id, reply) {
                return Err(self.explain(error).await);
            }
        }
        self.sftp.flush();
        Ok(())
    }

    async fn advance(&mut self) -> Result<(), Error> {
        let (id, reply) = self.sftp.recv().await?;
        if let Err(error) = self.replied(id, reply) {
            return Err(self.explain(error).await);
        }
        self.sftp.flush();
        Ok(())
    }

    fn ask(&mut self, number: u64, step: Step, confirms: u64, request: &Request<'_>) {
        let id = self.sftp.push(request);
        self.awaited.insert(id, (number, step, confirms));
    }

    fn replied(&mut self, id: u32, reply: Reply) -> Result<(), Error> {
        let Some((number, step, confirms)) = self.awaited.remove(&id) else {
            return Err(self.sftp.protocol(format!("a reply to {id}, which was not asked")));
        };
        self.unconfirmed -= confirms;
        let Some(upload) = self.uploads.get_mut(&number) else { return Ok(()) };
        match upload.replied(step, reply, &self.root) {
            Ok(()) => self.go_on(number),
            Err(Some(error)) => Err(error),
            Err(None) => Err(self.sftp.protocol(format!("another answer than {step:?} may have"))),
        }
    }

    /// Asks for what an upload needs next.
    fn go_on(&mut self, number: u64) -> Result<(), Error> {
        let write_len = self.sftp.limits().write_len as usize;
        let (fsync, posix_rename) = (self.sftp.extensions().fsync, self.sftp.extensions().posix_rename);
        let Some(mut upload) = self.uploads.remove(&number) else { return Ok(()) };
        let owner = self.owner;
        upload.go_on(write_len, owner, fsync, posix_rename, &mut |step, confirms, request| {
            self.ask(number, step, confirms, request);
        });
        if !upload.is_done() {
            self.uploads.insert(number, upload);
        }
        Ok(())
    }

    /// A server that only says "failure" may have a full disk.
    async fn explain(&mut self, error: Error) -> Error {
        let Error::Push { .. } = &error else { return error };
        if !self.sftp.extensions().statvfs {
            return error;
        }
        let writing =
            self.uploads.values().find(|upload| upload.failed).map(|upload| upload.entry.path.clone());
        match (writing, self.free_bytes().await) {
            (Some(path), Some(free)) if free < 1 << 20 => self.root.full(&path, free),
            _ => error,
        }
    }

    async fn free_bytes(&mut self) -> Option<u64> {
        let root = self.root.path().to_vec();
        let asked = self.sftp.push(&Request::StatVfs(&root));
        // What else was in flight is given up; more than that is no answer to anything.
        for _ in 0..=self.awaited.len() {
            match self.sftp.recv().await.ok()? {
                (id, Reply::Extended(body)) if id == asked => return free_bytes(&body).ok(),
                (id, _) if id == asked => return None,
                _ => {}
            }
        }
        None
    }

    /// Removes the temporary files of what is half-done.
    pub(super) async fn clean_up(&mut self) -> Result<(), Error> {
        let uploads = std::mem::take(&mut self.uploads);
        let mut last = None;
        for upload in uploads.values() {
            if let Some(handle) = &upload.handle {
                self.sftp.push(&Request::Close(handle));
            }
            last = Some(self.sftp.push(&Request::Remove(&upload.temporary)));
        }
        let Some(last) = last else { return Ok(()) };
        while self.sftp.recv().await?.0 != last {}
        Ok(())
    }
}

/// The target's directory without links on the way, made when it is missing.
async fn root(sftp: &mut Sftp, server: String, directory: &str) -> Result<Root, Error> {
    let path = match directory.strip_prefix('/') {
        Some(_) => directory.as_bytes().to_vec(),
        None => [&real_path(sftp, b".").await?, &b"/"[..], directory.as_bytes()].concat(),
    };
    let root = Root::new(path, server);
    let mut end = 1;
    loop {
        let rest = root.path().get(end..).unwrap_or_default();
        let next = rest.iter().position(|b| *b == b'/').map_or(root.path().len(), |at| end + at);
        let part = root.path().get(..next).unwrap_or_default();
        make(sftp, &root, part).await?;
        if next >= root.path().len() {
            return Ok(root);
        }
        end = next + 1;
    }
}

async fn make(sftp: &mut Sftp, root: &Root, path: &[u8]) -> Result<(), Error> {
    match sftp.call(&Request::Stat(path)).await? {
        Reply::Attrs(attrs) if attrs.file_type() == Some(crate::ssh::sftp::FileType::Directory) => Ok(()),
        Reply::Status(Status { code: StatusCode::NoSuchFile, .. }) => {
            match sftp.call(&Request::MkDir(path, 0o777)).await? {
                Reply::Status(Status { code: StatusCode::Ok, .. }) => Ok(()),
                Reply::Status(status) => Err(root.unmade(path, &status)),
                _ => Err(sftp.protocol("MKDIR got another answer")),
            }
        }
        Reply::Status(status) => Err(root.unmade(path, &status)),
        _ => {
            let message = "something else stands there".to_owned();
            Err(root.unmade(path, &Status { code: StatusCode::Other(4), message }))
        }
    }
}
