//! The sites of a source, and the folders that are named beside them.

use xvault_core::EntryPath;

use super::content;
use super::databases::Databases;
use super::locate::{Located, Site};
use crate::Error;
use crate::source::sftp::scope::entry_path;
use crate::ssh::sftp::Sftp;
use crate::wordpress::Layout;

/// What the configured paths are.
#[derive(Default)]
pub(super) struct Sites {
    pub(super) sites: Vec<Site>,
    folders: Vec<Folder>,
}

/// A folder that belongs to the sites.
struct Folder {
    configured: String,
    named: Vec<u8>,
    /// Why it is no site.
    error: Error,
}

impl Sites {
    pub(super) fn add(&mut self, configured: &str, located: Located) {
        match located {
            Located::Site(site) => self.sites.push(*site),
            Located::Folder { named, error } => {
                self.folders.push(Folder { configured: configured.to_owned(), named, error });
            }
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
        if !self.folders.is_empty() {
            self.sites.iter_mut().for_each(Site::trust);
        }
        Ok(())
    }

    pub(super) fn roots(&self) -> Vec<Vec<u8>> {
        self.sites.iter().map(|site| site.root.clone()).chain(self.folders().cloned()).collect()
    }

    /// The folders beside the sites, as configured and absolute.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.folders.iter().map(|folder| &folder.named)
    }

    pub(super) fn own_directories(&self) -> Vec<String> {
        self.sites.iter().filter_map(Site::own_directory).collect()
    }

    /// Paths of what belongs to the sites and lies outside of their document roots.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = String> {
        self.sites.iter().flat_map(|site| site.content.elsewhere.iter().cloned())
    }

    /// What there is to know, a sentence each; what a backup lacks among it.
    pub(super) fn notes(&self) -> Vec<String> {
        let folder = |folder: &Folder| {
            format!(
                "`{}` is no site, and is in the backup as a folder of the others",
                folder.configured.escape_debug()
            )
        };
        let of_sites =
            self.sites.iter().flat_map(|site| site.notes().into_iter().chain(site.doubts().cloned()));
        of_sites.chain(self.folders.iter().map(folder)).collect()
    }

    /// Why something of the sites may not be in a backup, each with the configuration that it is told at.
    pub(super) fn doubts(&self) -> Result<Vec<(EntryPath, String)>, Error> {
        let mut doubts = Vec::new();
        for site in &self.sites {
            for doubt in site.doubts() {
                let path = entry_path(&site.config_file, site.config_file.as_bytes())?;
                doubts.extend(path.map(|path| (path, doubt.clone())));
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
        for site in &mut self.sites {
            for path in told_places(site, databases) {
                let path = site.absolute(&path);
                let Site { root, excludes, content, .. } = site;
                content::look_at_uploads(sftp, (root, excludes), &path, content).await?;
            }
        }
        if !self.folders.is_empty() {
            self.sites.iter_mut().for_each(Site::trust);
        }
        Ok(())
    }
}

/// `UPLOADS` goes before what the database says; the usual place is looked at anyway.
fn told_places(site: &Site, databases: &Databases) -> Vec<String> {
    let Layout { folders, .. } = &site.layout;
    if folders.iter().any(|folder| folder.constant == "UPLOADS") {
        return Vec::new();
    }
    let mut places = databases.upload_paths(site);
    places.retain(|place| place.trim_end_matches('/') != "wp-content/uploads");
    places
}
