//! A WordPress that lies in a directory of its own, below the document root.

use xvault_core::entry::display_name;

use super::ask;
use super::locate::stat;
use super::paths::joined;
use crate::Error;
use crate::database::some_of;
use crate::source::sftp::scope::real_path;
use crate::ssh::sftp::Sftp;
use crate::wordpress::abspath_of;

/// What only WordPress itself has.
pub(super) const CORE: &[u8] = b"wp-settings.php";

/// No more directories than this are looked into.
const MAX_DIRECTORIES: usize = 300;

/// The directories in a document root that has no WordPress itself.
#[derive(Default)]
pub(super) struct Below {
    /// There is nothing at all, as of a file system that is not mounted.
    pub(super) is_empty: bool,
    /// Those that have one.
    cores: Vec<Vec<u8>>,
    /// Those that have a `wp-config.php`.
    configs: Vec<Vec<u8>>,
    /// There is what only a site has, whatever else of it is gone.
    has_parts: bool,
}

/// What WordPress brings besides its core's settings.
const PARTS: [&[u8]; 5] =
    [b"wp-content", b"wp-includes", b"wp-admin", b"wp-load.php", b"wp-config-sample.php"];

impl Below {
    pub(super) async fn look(sftp: &mut Sftp, root: &[u8]) -> Result<Self, Error> {
        let listing = ask::listings(sftp, &[root.to_vec()]).await?.pop().flatten().unwrap_or_default();
        let directories = listing.directories().take(MAX_DIRECTORIES);
        let directories: Vec<Vec<u8>> = directories.map(|name| joined(root, name)).collect();
        let files: Vec<Vec<u8>> =
            directories.iter().flat_map(|it| [joined(it, CORE), joined(it, b"wp-config.php")]).collect();
        let there = ask::are_there(sftp, &files).await?;
        let has_parts = listing.names.iter().any(|listed| PARTS.contains(&&*listed.name));
        let mut below = Self { is_empty: listing.names.is_empty(), has_parts, ..Self::default() };
        for (directory, there) in directories.iter().zip(there.chunks(2)) {
            if let [core, config] = *there {
                below.cores.extend(core.then(|| directory.clone()));
                below.configs.extend(config.then(|| directory.clone()));
            }
        }
        Ok(below)
    }

    /// Where WordPress's own directory is whose configuration `source` lies at `config`; or why that is not known.
    ///
    /// It looks for its configuration in its own directory first: what has one there is another site.
    pub(super) async fn core(
        &self,
        sftp: &mut Sftp,
        root: &[u8],
        (source, config): (&[u8], &[u8]),
    ) -> Result<Result<Vec<u8>, String>, Error> {
        if let Some(told) = abspath_of(source, config, root) {
            let told = told.trim_end_matches('/').as_bytes();
            if stat(sftp, &joined(told, CORE)).await?.is_some() {
                return real_path(sftp, told).await.map(Ok);
            }
        }
        let mut without = self.cores.iter().filter(|core| !self.configs.contains(core));
        match (without.next(), without.next()) {
            (Some(core), None) => real_path(sftp, core).await.map(Ok),
            (Some(_), Some(_)) => Ok(Err(format!("several directories have one: {}", names(&self.cores)))),
            (None, _) => Ok(Err("neither it nor a directory in it has `wp-settings.php`".to_owned())),
        }
    }

    /// What to name instead of the document root, for people: sites in it.
    pub(super) fn sites(&self) -> Option<String> {
        (!self.configs.is_empty()).then(|| names(&self.configs))
    }

    /// Whether a site or a part of one is in it.
    pub(super) fn is_site(&self) -> bool {
        self.has_parts || !self.cores.is_empty() || !self.configs.is_empty()
    }
}

fn names(paths: &[Vec<u8>]) -> String {
    some_of(&paths.iter().map(|path| display_name(path)).collect::<Vec<_>>())
}
