//! Links: made when the files before them are there.

use xvault_core::{Entry, EntryKind, EntryPath};

use super::place::{Found, mtime, owner};
use super::push::Push;
use crate::Error;
use crate::ssh::sftp::{Request, SetAttrs, Status, StatusCode};

/// A link that waits.
pub(super) struct PutOff {
    entry: Entry,
    replaces: bool,
}

/// Which of the two paths of SYMLINK is the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As OpenSSH has it.
    TargetFirst,
    /// As the protocol has it.
    LinkFirst,
}

impl Push {
    pub(super) fn put_off(&mut self, entry: &Entry) {
        self.put_off.push(PutOff { entry: entry.clone(), replaces: self.replacing.contains(&entry.path) });
    }

    /// Makes the links that wait. Nothing else may be in flight.
    pub(super) async fn make_links(&mut self) -> Result<(), Error> {
        let links = std::mem::take(&mut self.put_off);
        if links.is_empty() {
            return Ok(());
        }
        let replaced: Vec<_> =
            links.iter().filter(|link| link.replaces).map(|link| self.root.place(&link.entry.path)).collect();
        // When one can't be removed, making the link says why.
        self.ask_all(replaced.iter().map(|place| Request::Remove(place))).await?;
        self.make_symlinks(&links).await?;
        self.make_hard_links(&links).await
    }

    async fn make_symlinks(&mut self, links: &[PutOff]) -> Result<(), Error> {
        let mut all = Vec::new();
        for PutOff { entry, .. } in links {
            if let EntryKind::Symlink { target } = &entry.kind {
                all.push((entry, target.as_slice(), self.root.place(&entry.path)));
            }
        }
        if all.is_empty() {
            return Ok(());
        }
        let order = self.order().await?;
        let replies = self
            .ask_all(all.iter().map(|(_, target, place)| match order {
                Order::TargetFirst => Request::Symlink(target, place),
                Order::LinkFirst => Request::Symlink(place, target),
            }))
            .await?;
        self.check_all("create", all.iter().map(|(entry, ..)| &entry.path), &replies)?;
        if !self.sftp.extensions().lsetstat {
            return Ok(());
        }
        let attrs = |entry: &Entry| SetAttrs {
            owner: if self.owner { owner(entry).owner } else { None },
            mode: None,
            mtime: mtime(&entry.metadata),
        };
        let attrs: Vec<_> = all.iter().map(|(entry, ..)| attrs(entry)).collect();
        let set = all.iter().zip(attrs).map(|((_, _, place), attrs)| Request::LSetStat(place, attrs));
        let replies = self.ask_all(set).await?;
        self.check_all("set the time of", all.iter().map(|(entry, ..)| &entry.path), &replies)
    }

    async fn make_hard_links(&mut self, links: &[PutOff]) -> Result<(), Error> {
        let mut all = Vec::new();
        for PutOff { entry, .. } in links {
            if let EntryKind::Hardlink { target } = &entry.kind {
                all.push((&entry.path, self.root.place(target), self.root.place(&entry.path)));
            }
        }
        let replies =
            self.ask_all(all.iter().map(|(_, target, place)| Request::HardLink(target, place))).await?;
        self.check_all("create", all.iter().map(|(path, ..)| *path), &replies)
    }

    /// Finds out which path of SYMLINK is the link, with a link whose both ends lie in the target's directory: taken the
    /// wrong way round, a link of the snapshot would be made wherever it points to.
    async fn order(&mut self) -> Result<Order, Error> {
        if let Some(order) = self.order {
            return Ok(order);
        }
        let (one, two) = (probe(b".xvault-probe-1")?, probe(b".xvault-probe-2")?);
        let places = [self.root.place(&one), self.root.place(&two)];
        let remove = |place| Request::Remove(place);
        self.ask_all(places.iter().map(|place| remove(place))).await?;
        self.ask_all([Request::Symlink(&places[0], &places[1])].into_iter()).await?;
        let found = self.look_at(&[&one, &two]).await?;
        self.ask_all(places.iter().map(|place| remove(place))).await?;
        let order = match found.as_slice() {
            [Found::Nothing, Found::Symlink] => Order::TargetFirst,
            [Found::Symlink, Found::Nothing] => Order::LinkFirst,
            _ => {
                let message = "it can't make symbolic links there".to_owned();
                let status = Status { code: StatusCode::Other(4), message };
                return Err(self.root.complaint("create symbolic links", &status));
            }
        };
        self.order = Some(order);
        Ok(order)
    }
}

fn probe(name: &[u8]) -> Result<EntryPath, Error> {
    EntryPath::new(name).map_err(|_| Error::Cancelled)
}
