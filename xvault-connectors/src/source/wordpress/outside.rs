//! What belongs to a site and lies outside of its document root.

use xvault_core::EntryPath;
use xvault_core::entry::display_name;

use super::ask::{self, Found, Listed, Listing};
use super::locate::refused;
use super::paths::{is_of_system, is_within, joined, leads_to};
use crate::Error;
use crate::source::excludes::Excludes;
use crate::source::sftp::scope::invalid_path;
use crate::ssh::sftp::{FileType, Sftp};

/// More than this is not taken along by itself: a backup tells the others.
const MAX_OUTSIDE: usize = 100;

/// Links that are followed at once.
const MAX_LINKS: usize = 500;

/// Where something lies without links, and whether it is a directory.
type Thing = (Vec<u8>, bool);

/// What is found of one site.
pub(super) struct Outside<'a> {
    root: &'a [u8],
    excludes: &'a Excludes,
    /// Real paths outside of the root, none within another.
    pub(super) found: Vec<String>,
    /// Why something may not be in a backup, a sentence each.
    pub(super) doubts: Vec<String>,
    /// The links that these are about.
    pub(super) told: Vec<Vec<u8>>,
    /// There is more, which was not looked at.
    pub(super) is_cut: bool,
}

impl<'a> Outside<'a> {
    pub(super) fn new(root: &'a [u8], excludes: &'a Excludes) -> Self {
        Self { root, excludes, found: Vec::new(), doubts: Vec::new(), told: Vec::new(), is_cut: false }
    }

    /// Takes what lies at these paths, whatever it is. What is not there is none of the site's.
    pub(super) async fn take(&mut self, sftp: &mut Sftp, paths: &[Vec<u8>]) -> Result<(), Error> {
        for (path, found) in paths.iter().zip(ask::found(sftp, paths).await?) {
            match found {
                Found::Nothing | Found::Special => {}
                Found::Closed(message) => return Err(refused(path, &message)),
                Found::There { real, .. } if self.is_in(&real) => {}
                // Whoever administers the site says where: not the whole server.
                Found::There { real, .. } if is_within(self.root, &real) => {
                    self.doubt(path, "is a directory that the site itself lies in");
                }
                Found::There { real, .. } => self.found.push(utf8(real)?),
            }
        }
        Ok(())
    }

    /// Takes what the links in a directory of content lead to.
    pub(super) async fn take_links(
        &mut self,
        sftp: &mut Sftp,
        directories: &[(Vec<u8>, Listing)],
    ) -> Result<(), Error> {
        let links = directories.iter().flat_map(links_of);
        // What is left out is told by the path that it is known by.
        let links = links.filter(|(named, real)| !self.excludes(named) && !self.excludes(real));
        let mut links: Vec<Vec<u8>> = links.map(|(_, real)| real).collect();
        links.retain(|link| !self.told.contains(link));
        self.is_cut |= links.len() > MAX_LINKS || directories.iter().any(|(_, listing)| listing.is_cut);
        links.truncate(MAX_LINKS);
        let (mut outside, mut broken) = (Vec::new(), Vec::new());
        for (link, found) in links.iter().zip(ask::found(sftp, &links).await?) {
            match found {
                Found::Nothing => {
                    broken.push((
                        link,
                        "is a link that leads to nothing, as far as the account sees".to_owned(),
                    ));
                }
                Found::Closed(said) => {
                    broken.push((link, format!("leads to what the account can't look at: {said}")));
                }
                Found::Special => {}
                Found::There { real, .. } if self.is_in(&real) => {}
                Found::There { real, .. } if is_within(self.root, &real) => {
                    self.doubt(link, "leads to a directory that the site itself lies in");
                }
                Found::There { real, is_directory } => outside.push((link, (real, is_directory))),
            }
        }
        self.tell_broken(sftp, broken).await?;
        self.take_readable(sftp, outside).await
    }

    /// Nothing is lost with what an account does not see of the running system.
    async fn tell_broken(&mut self, sftp: &mut Sftp, broken: Vec<(&Vec<u8>, String)>) -> Result<(), Error> {
        let links: Vec<&Vec<u8>> = broken.iter().map(|(link, _)| *link).collect();
        for ((link, what), target) in broken.iter().zip(ask::targets(sftp, &links).await?) {
            if !target.is_some_and(|target| is_of_system(&leads_to(link, &target))) {
                self.doubt(link, what);
            }
        }
        Ok(())
    }

    async fn take_readable(&mut self, sftp: &mut Sftp, outside: Vec<(&Vec<u8>, Thing)>) -> Result<(), Error> {
        let (links, things): (Vec<_>, Vec<_>) = outside.into_iter().unzip();
        let refusals = ask::refusals(sftp, &things).await?;
        for ((link, (real, _)), refusal) in links.into_iter().zip(things).zip(refusals) {
            match refusal {
                Some(said) => self.doubt(link, &format!("leads to what the account can't read: {said}")),
                None if self.is_in(&real) => {}
                None if self.found.len() >= MAX_OUTSIDE => self.is_cut = true,
                None => match String::from_utf8(real) {
                    Ok(real) => self.found.push(real),
                    Err(_) => self.doubt(link, "leads to a path that is not UTF-8"),
                },
            }
        }
        Ok(())
    }

    fn is_in(&self, real: &[u8]) -> bool {
        is_within(real, self.root) || self.found.iter().any(|other| is_within(real, other.as_bytes()))
    }

    /// A link to a directory is left out by what leaves the directory out.
    fn excludes(&self, link: &[u8]) -> bool {
        let path = |path: &[u8]| EntryPath::from_source(path).ok().flatten();
        let (root, link) = (path(self.root), path(link));
        link.is_some_and(|link| match &root {
            Some(root) if !link.is_within(root) => false,
            root => self.excludes.excludes(root.as_ref(), &link, true),
        })
    }

    fn doubt(&mut self, link: &[u8], what: &str) {
        self.doubts.push(format!(
            "`{}` {what}, so what belongs there is not in the backup: mend the link, or exclude it",
            display_name(link)
        ));
        self.told.push(link.to_vec());
    }
}

fn utf8(path: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(path).map_err(|error| {
        let path = display_name(error.as_bytes());
        invalid_path(
            &path,
            "it belongs to the site, and is not UTF-8: back it up with a source of type `ssh`",
        )
    })
}

/// What may be a link: by the path that its directory is known by, and without links.
fn links_of((directory, listing): &(Vec<u8>, Listing)) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let may_be = |kind| matches!(kind, None | Some(FileType::Symlink));
    let links = listing.names.iter().filter(move |listed| may_be(listed.kind));
    links.map(|Listed { name, .. }| (joined(directory, name), joined(&listing.real, name)))
}
