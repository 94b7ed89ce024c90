//! The sites of a source, and the folders that are named beside them.

use std::collections::BTreeSet;

use xvault_core::EntryPath;

use super::content;
use super::databases::Databases;
use super::folders::{Folder, Kind};
use super::locate::{Located, Site};
use super::paths::is_within;
use super::told::{MAX_DOUBTS, MAX_NOTES, first_of};
use crate::Error;
use crate::source::sftp::scope::entry_path;
use crate::ssh::sftp::Sftp;

/// No more places of uploads that the database of a site names are looked at.
const MAX_PLACES: usize = 200;

/// What the configured paths are.
#[derive(Default)]
pub(super) struct Sites {
    pub(super) sites: Vec<Site>,
    pub(super) folders: Vec<Folder>,
}

impl Sites {
    pub(super) fn add(&mut self, located: Located) {
        match located {
            Located::Site(site) => self.sites.push(*site),
            Located::Folder(folder) => self.folders.push(folder),
        }
    }

    /// All are known.
    ///
    /// # Errors
    /// When there are folders and no site.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        if self.sites.is_empty() && !self.folders.is_empty() {
            return Err(self.folders.swap_remove(0).error);
        }
        Ok(())
    }

    pub(super) fn roots(&self) -> Vec<Vec<u8>> {
        let folders = self.folders.iter().map(|folder| folder.named.clone());
        self.sites.iter().map(|site| site.root.clone()).chain(folders).collect()
    }

    pub(super) fn own_directories(&self) -> Vec<String> {
        self.sites.iter().filter_map(Site::own_directory).collect()
    }

    /// Paths of what belongs to the sites and lies outside of their document roots.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = String> {
        self.sites.iter().flat_map(|site| site.content.elsewhere.iter().cloned())
    }

    /// How many places of this kind are not known, and how many of the folders' may be such. A site has one place of content, however
    /// many things are not known of it.
    fn count(&self, kind: Kind) -> (usize, usize) {
        let of_kind = |site: &Site| {
            let unknown = site.content.unknown.iter().filter(|unknown| unknown.kind == kind).count();
            if kind == Kind::Content { unknown.min(1) } else { unknown }
        };
        let named = self.folders.iter().flat_map(|folder| &folder.kinds).filter(|it| **it == kind);
        (self.sites.iter().map(of_kind).sum(), named.count())
    }

    /// What of the site is not known, a sentence each: what folders stand for, and what may not be in a backup. Where fewer folders are
    /// named than places are not known, nobody knows which is meant.
    fn unknown(&self, site: &Site) -> (Vec<String>, Vec<String>) {
        let (mut named, mut doubts) = (Vec::new(), Vec::new());
        for kind in Kind::ALL {
            let (unknown, folders) = self.count(kind);
            let of_kind = site.content.unknown.iter().filter(|unknown| unknown.kind == kind);
            let texts = of_kind.map(|unknown| unknown.text.clone());
            match folders {
                0 => doubts.extend(texts),
                _ if folders >= unknown => named.extend(texts),
                _ => doubts.extend(texts.map(|text| {
                    format!("{text} (of {unknown} such places, {folders} may be what a folder beside the sites is)")
                })),
            }
        }
        (named, doubts)
    }

    /// Why something of the site may not be in a backup, a sentence each.
    fn doubts_of(&self, site: &Site) -> impl Iterator<Item = String> {
        self.unknown(site).1.into_iter().chain(site.content.lacking.clone())
    }

    /// What there is to know, a sentence each; what a backup lacks among it.
    pub(super) fn notes(&self) -> Vec<String> {
        let of_site = |site: &Site| {
            let named = first_of(self.unknown(site).0, MAX_NOTES, "places that are not known");
            let doubts = first_of(self.doubts_of(site), MAX_NOTES, MORE);
            [site.notes(), named, doubts].concat()
        };
        self.sites.iter().flat_map(of_site).chain(self.folders.iter().map(note)).collect()
    }

    /// Why something of the sites may not be in a backup, each with the configuration that it is told at.
    pub(super) fn doubts(&self) -> Result<Vec<(EntryPath, String)>, Error> {
        let mut doubts = Vec::new();
        for site in &self.sites {
            let path = entry_path(&site.config_file, site.config_file.as_bytes())?;
            for doubt in first_of(self.doubts_of(site), MAX_DOUBTS, MORE) {
                doubts.extend(path.clone().map(|path| (path, doubt)));
            }
        }
        Ok(doubts)
    }

    /// Whether the databases know of places for uploads that were not looked at.
    pub(super) fn is_told_more(&self, databases: &Databases) -> bool {
        self.sites.iter().any(|site| !told_places(site, databases).is_empty())
    }

    /// Looks at these places.
    pub(super) async fn follow(&mut self, sftp: &mut Sftp, databases: &Databases) -> Result<(), Error> {
        let folders = self.folders.iter().flat_map(|folder| [folder.named.clone(), folder.real.clone()]);
        let folders: Vec<Vec<u8>> = folders.collect();
        for site in &mut self.sites {
            let mut places = told_places(site, databases);
            let mut others = places.split_off(places.len().min(MAX_PLACES));
            let Site { root, excludes, content, .. } = site;
            // Below the content, links are watched anyway.
            let is_in = |place: &Vec<u8>| folders.iter().chain(&content.bases).any(|it| is_within(place, it));
            others.retain(|place| !is_in(place) || place.windows(2).any(|part| part == b".."));
            if !others.is_empty() {
                content.lacking.push(unseen(others.len()));
            }
            content::look_at_uploads(sftp, (root, excludes), places, content).await?;
        }
        Ok(())
    }
}

/// What more there is than is told.
const MORE: &str = "reasons why something of the site may not be in the backup";

fn unseen(count: usize) -> String {
    format!(
        "the database names {count} more places for uploads (`upload_path`) than are looked at, so what lies there may not be in the \
         backup: name a folder that they lie in, in `paths` beside the site"
    )
}

fn note(folder: &Folder) -> String {
    let shown = folder.configured.escape_debug();
    let doubt = match &folder.kinds[..] {
        [] => "; it looks like no part of one, and stands for no place that is not known",
        _ => "",
    };
    format!("`{shown}` is no site, and is in the backup as a folder of the others{doubt}")
}

/// Of the database; the usual place is looked at anyway.
fn told_places(site: &Site, databases: &Databases) -> Vec<Vec<u8>> {
    let mut places = databases.upload_paths(site);
    places.retain(|place| place.trim_end_matches('/') != "wp-content/uploads");
    let mut seen = BTreeSet::new();
    places.retain(|place| seen.insert(place.clone()));
    places.iter().map(|place| site.absolute(place)).collect()
}
