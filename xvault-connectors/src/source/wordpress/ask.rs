//! Many questions to an SFTP server at once: a look at a site takes few round trips, however much it looks at.

use bytes::Bytes;

use crate::Error;
use crate::ssh::sftp::{FileType, Reply, Request, Sftp, Status, StatusCode};

/// Directories that are listed at once: fewer than any server has handles for.
const LISTED_AT_ONCE: usize = 32;

/// READDIRs in flight for a directory: OpenSSH gives a hundred names at once, so that most directories take one round trip.
const READS: usize = 3;

/// No more names than this are looked at of a directory.
pub(super) const MAX_NAMES: usize = 2000;

/// What is at the other end of a path.
pub(super) enum Found {
    /// Nothing, as far as the account sees.
    Nothing,
    /// Something that may not be looked at, and what the server says.
    Closed(String),
    /// Something, where it lies without links.
    There { real: Vec<u8>, kind: Option<FileType> },
}

/// What a directory has in it.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) names: Vec<Listed>,
    /// There is more.
    pub(super) is_cut: bool,
}

/// A name in a directory.
pub(super) struct Listed {
    pub(super) name: Vec<u8>,
    /// What it is itself; `None`: the server does not say.
    pub(super) kind: Option<FileType>,
}

impl Listing {
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.names.iter().any(|listed| listed.name == name)
    }
}

/// What these paths lead to, in their order.
pub(super) async fn found(sftp: &mut Sftp, paths: &[Vec<u8>]) -> Result<Vec<Found>, Error> {
    let asked = paths.iter().flat_map(|path| [Request::Stat(path), Request::RealPath(path)]);
    let replies = sftp.call_all(&asked.collect::<Vec<_>>()).await?;
    let mut replies = replies.into_iter();
    let mut found = Vec::new();
    while let (Some(attrs), Some(real)) = (replies.next(), replies.next()) {
        found.push(led_to(sftp, attrs, real)?);
    }
    Ok(found)
}

fn led_to(sftp: &Sftp, attrs: Reply, real: Reply) -> Result<Found, Error> {
    match (attrs, real) {
        (Reply::Attrs(attrs), Reply::Names(names)) => {
            let name = names.into_iter().next();
            let real =
                name.ok_or_else(|| sftp.protocol("REALPATH was answered without a name"))?.name.to_vec();
            Ok(Found::There { real, kind: attrs.file_type() })
        }
        (Reply::Status(status), _) | (_, Reply::Status(status)) => Ok(match status.code {
            StatusCode::NoSuchFile => Found::Nothing,
            _ => Found::Closed(status.message),
        }),
        _ => Err(sftp.protocol("STAT or REALPATH was answered with something else")),
    }
}

/// Which of these the account may not read, and what the server says: directories (`true`) and files.
pub(super) async fn refusals(
    sftp: &mut Sftp,
    things: &[(Vec<u8>, bool)],
) -> Result<Vec<Option<String>>, Error> {
    let mut refusals = Vec::new();
    for things in things.chunks(LISTED_AT_ONCE) {
        let asked: Vec<_> = things.iter().map(opening).collect();
        let (mut handles, replies) = (Vec::new(), sftp.call_all(&asked).await?);
        for reply in replies {
            refusals.push(opened(sftp, reply)?.map_or_else(
                |status| Some(status.message),
                |handle| {
                    handles.push(handle);
                    None
                },
            ));
        }
        close(sftp, &handles).await?;
    }
    Ok(refusals)
}

/// What these directories have in them; `None`: there is no such directory, or the account may not list it.
pub(super) async fn listings(sftp: &mut Sftp, paths: &[Vec<u8>]) -> Result<Vec<Option<Listing>>, Error> {
    let mut listings = Vec::new();
    for paths in paths.chunks(LISTED_AT_ONCE) {
        let asked: Vec<_> = paths.iter().map(|path| Request::OpenDir(path)).collect();
        let mut open = Vec::new();
        for reply in sftp.call_all(&asked).await? {
            open.push(opened(sftp, reply)?.ok().map(Reading::new));
        }
        read_all(sftp, open.iter_mut().flatten().collect()).await?;
        let handles: Vec<Bytes> = open.iter().flatten().map(|reading| reading.handle.clone()).collect();
        close(sftp, &handles).await?;
        listings.extend(open.into_iter().map(|reading| reading.map(|reading| reading.listing)));
    }
    Ok(listings)
}

struct Reading {
    handle: Bytes,
    listing: Listing,
    is_over: bool,
}

/// All of them to their end, or until there are too many names.
async fn read_all(sftp: &mut Sftp, mut open: Vec<&mut Reading>) -> Result<(), Error> {
    while !open.is_empty() {
        let asked = open.iter().flat_map(|reading| [Request::ReadDir(&reading.handle); READS]);
        let mut replies = sftp.call_all(&asked.collect::<Vec<_>>()).await?.into_iter();
        for reading in &mut open {
            for reply in replies.by_ref().take(READS) {
                reading.take(sftp, reply)?;
            }
        }
        open.retain(|reading| !reading.is_over);
    }
    Ok(())
}

impl Reading {
    fn new(handle: Bytes) -> Self {
        Self { handle, listing: Listing::default(), is_over: false }
    }

    fn take(&mut self, sftp: &Sftp, reply: Reply) -> Result<(), Error> {
        let Listing { names, is_cut } = &mut self.listing;
        match reply {
            _ if self.is_over => {}
            Reply::Names(new) if new.is_empty() => return Err(sftp.protocol("READDIR brought no names")),
            Reply::Names(new) => {
                let new = new.into_iter().filter(|name| !matches!(&name.name[..], b"." | b".."));
                names.extend(
                    new.map(|name| Listed { kind: name.attrs.file_type(), name: name.name.to_vec() }),
                );
                *is_cut = names.len() > MAX_NAMES;
                names.truncate(MAX_NAMES);
                self.is_over = *is_cut;
            }
            Reply::Status(status) => {
                *is_cut = status.code != StatusCode::Eof;
                self.is_over = true;
            }
            _ => return Err(sftp.protocol("READDIR was answered with something else")),
        }
        Ok(())
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
    let asked: Vec<_> = handles.iter().map(|handle| Request::Close(handle)).collect();
    sftp.call_all(&asked).await.map(drop)
}
