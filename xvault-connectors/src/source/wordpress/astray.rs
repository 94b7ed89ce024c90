//! Links below a site's content that lead outside of what is in the backup: seen while it is made.

use xvault_core::entry::display_name;
use xvault_core::{EntryPath, WarningCode};

use super::ask::{self, Found};
use super::locate::{is_within, joined};
use super::sites::Sites;
use crate::Error;
use crate::source::excludes::Excludes;
use crate::ssh::sftp::{FileType, Sftp};

/// No more links than this are told one by one.
const MAX_TOLD: usize = 200;

/// What is watched for, and what was seen.
pub(super) struct Watch {
    /// Document roots: as configured, and without links.
    roots: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is in the backup beside them, without links.
    elsewhere: Vec<Vec<u8>>,
    /// Directories of content, without links but for those in the paths of the roots.
    content: Vec<Vec<u8>>,
    /// Links that something was told of before.
    told: Vec<Vec<u8>>,
    excludes: Excludes,
    seen: Vec<Seen>,
    unseen: u64,
}

struct Seen {
    entry: EntryPath,
    /// Without links in the directories above it.
    path: Vec<u8>,
}

impl Watch {
    pub(super) fn of(sites: &Sites, excludes: Excludes) -> Self {
        let (sites, folders) = (&sites.sites, sites.folders());
        let named = |folder: &Vec<u8>| (folder.clone(), folder.clone());
        let roots = sites.iter().map(|site| (site.named.clone(), site.root.clone()));
        let contents = || sites.iter().map(|site| &site.content);
        let elsewhere = contents().flat_map(|content| &content.elsewhere);
        let elsewhere: Vec<Vec<u8>> = elsewhere.map(|path| path.as_bytes().to_vec()).collect();
        let content = contents().flat_map(|content| content.watched.iter().cloned());
        Self {
            roots: roots.chain(folders.map(named)).collect(),
            told: contents().flat_map(|content| content.told.iter().cloned()).collect(),
            content: content.chain(elsewhere.iter().cloned()).collect(),
            elsewhere,
            excludes,
            seen: Vec::new(),
            unseen: 0,
        }
    }

    /// A link at `entry`, whose text is `target`.
    pub(super) fn see(&mut self, entry: &EntryPath, target: &[u8]) {
        let path = self.real(&[b"/", entry.as_bytes()].concat());
        let is_content = self.content.iter().any(|folder| is_within(&path, folder));
        if !is_content || self.told.contains(&path) || self.has(&leads_to(&path, target)) {
            return;
        }
        if self.seen.len() < MAX_TOLD {
            self.seen.push(Seen { entry: entry.clone(), path });
        } else {
            self.unseen += 1;
        }
    }

    /// A path below a document root as configured, below its real one.
    fn real(&self, path: &[u8]) -> Vec<u8> {
        let below = self.roots.iter().find(|(named, _)| is_within(path, named));
        let real = below.and_then(|(named, real)| Some([real, path.get(named.len()..)?].concat()));
        real.unwrap_or_else(|| path.to_vec())
    }

    /// Whether that is in the backup.
    fn has(&self, path: &[u8]) -> bool {
        self.roots.iter().any(|(named, real)| is_within(path, named) || is_within(path, real))
            || self.elsewhere.iter().any(|folder| is_within(path, folder))
    }

    pub(super) fn has_seen(&self) -> bool {
        !self.seen.is_empty()
    }

    /// What is to be told of what was seen. `sftp`: none when the server can't be asked any more.
    pub(super) async fn warnings(
        &self,
        sftp: Option<&mut Sftp>,
    ) -> Result<Vec<(EntryPath, WarningCode, String)>, Error> {
        let paths: Vec<Vec<u8>> = self.seen.iter().map(|seen| seen.path.clone()).collect();
        let found: Vec<Option<Found>> = match sftp {
            Some(sftp) => ask::found(sftp, &paths).await?.into_iter().map(Some).collect(),
            None => paths.iter().map(|_| None).collect(),
        };
        let mut warnings: Vec<_> =
            self.seen.iter().zip(found).filter_map(|(seen, found)| self.warning(seen, found)).collect();
        if let (true, Some(last)) = (self.unseen > 0, self.seen.last()) {
            let message = format!(
                "and {} more links in the content lead outside of what is in the backup, or seem to: {CURE}",
                self.unseen
            );
            warnings.push((last.entry.clone(), WarningCode::Other, message));
        }
        Ok(warnings)
    }

    fn warning(&self, seen: &Seen, found: Option<Found>) -> Option<(EntryPath, WarningCode, String)> {
        let end = match found {
            // Nothing is lost with it.
            Some(Found::Nothing | Found::There { kind: Some(FileType::Special), .. }) => return None,
            Some(Found::There { real, .. }) if self.has(&real) => return None,
            Some(Found::There { kind: Some(FileType::Directory), .. }) if self.excludes(&seen.entry) => {
                return None;
            }
            Some(Found::There { real, .. }) => format!("`{}`", display_name(&real)),
            Some(Found::Closed(said)) => format!("what the account can't look at ({said})"),
            None => "what could not be looked at".to_owned(),
        };
        let message = format!("a link that leads to {end}, which is not in the backup: {CURE}");
        Some((seen.entry.clone(), WarningCode::Other, message))
    }

    /// A link to a directory is left out by what leaves the directory out.
    fn excludes(&self, entry: &EntryPath) -> bool {
        let roots = self.roots.iter().map(|(named, _)| named).chain(&self.elsewhere);
        let mut roots = roots.filter_map(|root| EntryPath::from_source(root).ok());
        roots.any(|root| {
            root.as_ref().is_none_or(|root| entry.is_within(root))
                && self.excludes.excludes(root.as_ref(), entry, true)
        })
    }
}

/// What helps whoever is told of a link.
const CURE: &str = "name what it leads to in `paths` beside the site, or exclude the link";

/// Where a link leads to by its text alone.
fn leads_to(link: &[u8], target: &[u8]) -> Vec<u8> {
    let folder =
        link.iter().rposition(|byte| *byte == b'/').and_then(|cut| link.get(..cut)).unwrap_or_default();
    let target = if target.starts_with(b"/") { target.to_vec() } else { joined(folder, target) };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    [b"/", parts.join(&b'/').as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_their_text_says() {
        let to = |target: &str| String::from_utf8(leads_to(b"/w/wp-content/x", target.as_bytes())).unwrap();
        assert_eq!(to("y"), "/w/wp-content/y");
        assert_eq!(to("../../srv/./y//"), "/srv/y");
        assert_eq!(to("/srv/../nas"), "/nas");
        assert_eq!(to("../../../../.."), "/");
    }
}
