//! Many questions to an SFTP server at once: a look at a site takes few round trips, however much it looks at.
//!
//! A server that is after this machine's memory finds no more than one of its answers in it, and of what is kept so much as is said here.

use std::collections::HashMap;

use bytes::Bytes;

use crate::Error;
use crate::ssh::sftp::{FileType, Name, Reply, Request, Sftp, Status, StatusCode};

/// Directories that are listed at once: fewer than any server has handles for.
const LISTED_AT_ONCE: usize = 32;

/// Paths that are looked at in one round trip.
const FOUND_AT_ONCE: usize = 256;

/// READDIRs in flight for a directory: OpenSSH gives a hundred names at once, so that most directories take one round trip.
const READS: usize = 3;

/// No more names than this are looked at of a directory.
pub(super) const MAX_NAMES: usize = 2000;

/// All names that are kept of directories which are listed together take at most so many bytes.
const MAX_NAMES_LEN: usize = 8 << 20;

/// No path is longer, in bytes.
const MAX_PATH_LEN: usize = 32 << 10;

/// What is at the other end of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, as far as the account sees.
    Nothing,
    /// Something that may not be looked at, and what the server says.
    Closed(String),
    /// A pipe, socket or device: nothing is kept of it, and opening one may take for ever.
    Special,
    /// A file or directory (`true`), where it lies without links.
    There { real: Vec<u8>, is_directory: bool },
}

/// What a directory has in it.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Where the directory lies without links.
    pub(super) real: Vec<u8>,
    pub(super) names: Vec<Listed>,
    /// There is more.
    pub(super) is_cut: bool,
}

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: Vec<u8>,
    /// What it is itself; `None`: the server does not say.
    pub(super) kind: Option<FileType>,
}

impl Listing {
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.names.iter().any(|listed| listed.name == name)
    }

    /// The names of what may be a directory, or a link to one.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Vec<u8>> {
        let may_be = |kind| matches!(kind, None | Some(FileType::Directory | FileType::Symlink));
        self.names.iter().filter(move |listed| may_be(listed.kind)).map(|listed| &listed.name)
    }
}

/// Asks all, and hands each reply on as it comes, with the number of its request.
async fn each<'a>(
    sftp: &mut Sftp,
    requests: impl IntoIterator<Item = Request<'a>>,
    mut take: impl FnMut(&Sftp, usize, Reply) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut asked = HashMap::new();
    for (number, request) in requests.into_iter().enumerate() {
        asked.insert(sftp.push(&request), number);
    }
    while !asked.is_empty() {
        let (id, reply) = sftp.recv().await?;
        let number = asked.remove(&id).ok_or_else(|| sftp.protocol("a reply to another request"))?;
        take(sftp, number, reply)?;
    }
    Ok(())
}

/// What these paths lead to, in their order.
pub(super) async fn found(sftp: &mut Sftp, paths: &[Vec<u8>]) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for paths in paths.chunks(FOUND_AT_ONCE) {
        let (mut kinds, mut reals) = (vec![None; paths.len()], vec![None; paths.len()]);
        let asked = paths.iter().flat_map(|path| [Request::Stat(path), Request::RealPath(path)]);
        each(sftp, asked, |sftp, number, reply| {
            match number % 2 {
                0 => put(&mut kinds, number / 2, kind_of(sftp, reply)?),
                _ => put(&mut reals, number / 2, real_of(sftp, reply)?),
            }
            Ok(())
        })
        .await?;
        found.extend(kinds.into_iter().flatten().zip(reals.into_iter().flatten()).map(led_to));
    }
    Ok(found)
}

fn put<T>(all: &mut [Option<T>], place: usize, one: T) {
    if let Some(slot) = all.get_mut(place) {
        *slot = Some(one);
    }
}

fn kind_of(sftp: &Sftp, reply: Reply) -> Result<Result<Option<FileType>, Status>, Error> {
    match reply {
        Reply::Attrs(attrs) => Ok(Ok(attrs.file_type())),
        Reply::Status(status) => Ok(Err(status)),
        _ => Err(sftp.protocol("STAT was answered with something else")),
    }
}

/// The one path that REALPATH and READLINK are answered with.
fn real_of(sftp: &Sftp, reply: Reply) -> Result<Result<Vec<u8>, Status>, Error> {
    match reply {
        Reply::Names(names) => match names.first() {
            Some(Name { name, .. }) if name.len() <= MAX_PATH_LEN => Ok(Ok(name.to_vec())),
            Some(_) => Err(sftp.protocol(format!("a path longer than {MAX_PATH_LEN} bytes"))),
            None => Err(sftp.protocol("REALPATH was answered without a name")),
        },
        Reply::Status(status) => Ok(Err(status)),
        _ => Err(sftp.protocol("REALPATH was answered with something else")),
    }
}

fn led_to((kind, real): (Result<Option<FileType>, Status>, Result<Vec<u8>, Status>)) -> Found {
    match (kind, real) {
        // Of some, as the pipe that `/dev/stdout` is, no path is known.
        (Ok(Some(FileType::Special)), _) => Found::Special,
        (Ok(kind), Ok(real)) => Found::There { real, is_directory: kind == Some(FileType::Directory) },
        (Err(status), _) | (_, Err(status)) => match status.code {
            StatusCode::NoSuchFile => Found::Nothing,
            _ => Found::Closed(status.message),
        },
    }
}

/// Which of these paths lead to something that the account sees.
pub(super) async fn are_there(sftp: &mut Sftp, paths: &[Vec<u8>]) -> Result<Vec<bool>, Error> {
    let mut there = vec![false; paths.len()];
    each(sftp, paths.iter().map(|path| Request::Stat(path)), |_, number, reply| {
        if let Some(it) = there.get_mut(number) {
            *it = matches!(reply, Reply::Attrs(_));
        }
        Ok(())
    })
    .await?;
    Ok(there)
}

/// The texts of these links; `None` where the server does not tell.
pub(super) async fn targets(sftp: &mut Sftp, links: &[&Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let mut targets = vec![None; links.len()];
    each(sftp, links.iter().map(|link| Request::ReadLink(link)), |sftp, number, reply| {
        if let (Some(target), Some(text)) = (targets.get_mut(number), real_of(sftp, reply)?.ok()) {
            *target = Some(text);
        }
        Ok(())
    })
    .await?;
    Ok(targets)
}

/// Which of these the account may not read, and what the server says: directories (`true`) and files.
pub(super) async fn refusals(
    sftp: &mut Sftp,
    things: &[(Vec<u8>, bool)],
) -> Result<Vec<Option<String>>, Error> {
    let mut refusals = Vec::new();
    for things in things.chunks(LISTED_AT_ONCE) {
        let (mut handles, mut said) = (Vec::new(), vec![None; things.len()]);
        each(sftp, things.iter().map(opening), |sftp, number, reply| {
            match opened(sftp, reply)? {
                Ok(handle) => handles.push(handle),
                Err(status) => put(&mut said, number, status.message),
            }
            Ok(())
        })
        .await?;
        close(sftp, &handles).await?;
        refusals.extend(said);
    }
    Ok(refusals)
}

/// What these directories have in them; `None`: there is no such directory, or the account may not list it.
pub(super) async fn listings(sftp: &mut Sftp, paths: &[Vec<u8>]) -> Result<Vec<Option<Listing>>, Error> {
    let (mut listings, mut room) = (Vec::new(), MAX_NAMES_LEN);
    for paths in paths.chunks(LISTED_AT_ONCE) {
        let mut open = begin(sftp, paths).await?;
        read_all(sftp, open.iter_mut().flatten().collect(), &mut room).await?;
        let handles: Vec<Bytes> = open.iter().flatten().map(|reading| reading.handle.clone()).collect();
        close(sftp, &handles).await?;
        listings.extend(open.into_iter().map(|reading| reading.map(|reading| reading.listing)));
    }
    Ok(listings)
}

async fn begin(sftp: &mut Sftp, paths: &[Vec<u8>]) -> Result<Vec<Option<Reading>>, Error> {
    let (mut handles, mut reals) = (vec![None; paths.len()], vec![None; paths.len()]);
    let asked = paths.iter().flat_map(|path| [Request::OpenDir(path), Request::RealPath(path)]);
    each(sftp, asked, |sftp, number, reply| {
        match number % 2 {
            0 => put(&mut handles, number / 2, opened(sftp, reply)?.ok()),
            _ => put(&mut reals, number / 2, real_of(sftp, reply)?.ok()),
        }
        Ok(())
    })
    .await?;
    let begun = paths.iter().zip(handles).zip(reals).map(|((path, handle), real)| {
        let real = real.flatten().unwrap_or_else(|| path.clone());
        Some(Reading::new(handle.flatten()?, real))
    });
    Ok(begun.collect())
}

struct Reading {
    handle: Bytes,
    listing: Listing,
    /// Names that came, whatever they were.
    count: usize,
    is_over: bool,
}

/// All of them to their end, or until there are too many names.
async fn read_all(sftp: &mut Sftp, mut open: Vec<&mut Reading>, room: &mut usize) -> Result<(), Error> {
    while !open.is_empty() {
        let handles: Vec<Bytes> = open.iter().map(|reading| reading.handle.clone()).collect();
        let asked = handles.iter().flat_map(|handle| [Request::ReadDir(handle); READS]);
        each(sftp, asked, |sftp, number, reply| match open.get_mut(number / READS) {
            Some(reading) => reading.take(sftp, reply, room),
            None => Ok(()),
        })
        .await?;
        open.retain(|reading| !reading.is_over);
    }
    Ok(())
}

impl Reading {
    fn new(handle: Bytes, real: Vec<u8>) -> Self {
        Self { handle, listing: Listing { real, ..Listing::default() }, count: 0, is_over: false }
    }

    /// `room`: how many more bytes of names are kept.
    fn take(&mut self, sftp: &Sftp, reply: Reply, room: &mut usize) -> Result<(), Error> {
        match reply {
            Reply::Names(new) if new.is_empty() => return Err(sftp.protocol("READDIR brought no names")),
            Reply::Names(new) => self.keep(new, room),
            Reply::Status(status) => {
                self.listing.is_cut |= status.code != StatusCode::Eof;
                self.is_over = true;
            }
            _ => return Err(sftp.protocol("READDIR was answered with something else")),
        }
        Ok(())
    }

    /// Even names that are none are counted: a server that brings nothing else comes to an end.
    fn keep(&mut self, new: Vec<Name>, room: &mut usize) {
        for Name { name, attrs } in new {
            self.count += 1;
            let cost = name.len() + size_of::<Listed>();
            // Itself and the directory above are two more.
            if self.count > MAX_NAMES + 2 || cost > *room {
                (self.listing.is_cut, self.is_over) = (true, true);
                return;
            }
            if !matches!(&name[..], b"." | b"..") {
                *room -= cost;
                self.listing.names.push(Listed { kind: attrs.file_type(), name: name.to_vec() });
            }
        }
    }
}

fn opening((path, is_directory): &(Vec<u8>, bool)) -> Request<'_> {
    if *is_directory { Request::OpenDir(path) } else { Request::Open(path) }
}

fn opened(sftp: &Sftp, reply: Reply) -> Result<Result<Bytes, Status>, Error> {
    match reply {
        Reply::Handle(handle) => Ok(Ok(handle)),
        Reply::Status(status) => Ok(Err(status)),
        _ => Err(sftp.protocol("OPEN or OPENDIR was answered with something else")),
    }
}

async fn close(sftp: &mut Sftp, handles: &[Bytes]) -> Result<(), Error> {
    each(sftp, handles.iter().map(|handle| Request::Close(handle)), |_, _, _| Ok(())).await
}
