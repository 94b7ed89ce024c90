//! Where a site's configuration and its files lie.

use xvault_core::WordpressSettings;
use xvault_core::entry::display_name;
use zeroize::Zeroizing;

use super::content::{self, Content, Ground};
use super::folders::{Folder, kinds};
use super::own::{self, Below};
use super::paths::joined;
use super::told::{MAX_NOTES, first_of};
use crate::Error;
use crate::source::excludes::Excludes;
use crate::source::sftp::scope::{absolute, invalid_path, real_path, remote_path};
use crate::ssh::sftp::{Attrs, FileType, Reply, Request, Sftp, StatusCode};
use crate::wordpress::{ConfigFault, Layout, MAX_CONFIG_LEN, WpConfig, version};

/// No `version.php` is longer, in bytes.
const MAX_VERSION_LEN: usize = 64 << 10;

/// A site as found.
pub(super) struct Site {
    /// The document root as configured.
    configured: String,
    /// The document root, absolute and as configured.
    pub(super) named: Vec<u8>,
    /// The document root, without links.
    pub(super) root: Vec<u8>,
    /// WordPress's own directory, without links; or why it is not known.
    core: Result<Vec<u8>, String>,
    /// What its configuration says; or why that does not tell where the database is, which is no matter when files alone are wanted.
    config: Result<WpConfig, ConfigFault>,
    /// Where that was read, for people.
    pub(super) config_file: String,
    pub(super) layout: Layout,
    version: Option<String>,
    pub(super) content: Content,
    pub(super) excludes: Excludes,
}

/// What a configured path is.
pub(super) enum Located {
    Site(Box<Site>),
    /// No site, and nothing that looks like one: a folder that belongs to others, if there are others.
    Folder(Folder),
}

impl Site {
    /// What its configuration says.
    ///
    /// # Errors
    /// When that does not tell where the database is.
    pub(super) fn config(&self) -> Result<&WpConfig, Error> {
        self.config.as_ref().map_err(|fault| broken(&self.config_file, fault))
    }

    fn ground<'a>(&'a self, config: &'a [u8]) -> Ground<'a> {
        let core = self.core.as_ref().map(Vec::as_slice).map_err(String::as_str);
        Ground { root: &self.root, core, config, layout: &self.layout, excludes: &self.excludes }
    }

    /// What there is to know about it, a sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        let (database, notes) = match &self.config {
            Ok(config) => (place_of(config), config.notes.clone()),
            Err(fault) => (format!("; where its database is, is not known: {fault}"), Vec::new()),
        };
        let version = self.version.as_deref().unwrap_or("of an unknown version");
        let first = format!("`{}`: WordPress {version}{database}", self.configured.escape_debug());
        let elsewhere = self.content.elsewhere.iter().map(|path| {
            format!(
                "`{}` belongs to it and lies outside of it: it is in the backup, too",
                path.escape_debug()
            )
        });
        let own =
            self.own_directory().map(|own| format!("it lies in its own directory, `{}`", own.escape_debug()));
        let of_content = first_of(self.content.notes.iter().cloned(), MAX_NOTES, "such notes");
        let elsewhere = first_of(elsewhere, MAX_NOTES, "files and directories outside of it");
        let notes = own.into_iter().chain(notes).chain(of_content);
        std::iter::once(first).chain(notes).chain(elsewhere).collect()
    }

    /// WordPress's own directory, relative to the document root, if it is another.
    pub(super) fn own_directory(&self) -> Option<String> {
        let below = self.core.as_ref().ok()?.strip_prefix(self.root.as_slice())?.strip_prefix(b"/")?;
        std::str::from_utf8(below).ok().filter(|below| !below.is_empty()).map(str::to_owned)
    }

    /// `UPLOADS` goes before what the database says.
    pub(super) fn sets_uploads(&self) -> bool {
        self.layout.folders.iter().any(|folder| folder.constant == "UPLOADS")
    }

    /// A path that is meant relative to WordPress's own directory.
    pub(super) fn absolute(&self, path: &str) -> Vec<u8> {
        if path.starts_with('/') {
            return path.as_bytes().to_vec();
        }
        joined(self.core.as_ref().unwrap_or(&self.root), path.as_bytes())
    }
}

/// Behind the version of a site: whether it is several, and where its tables are.
fn place_of(config: &WpConfig) -> String {
    let WpConfig { name, user, host, table_prefix, multisite, .. } = config;
    let sites = if *multisite == Some(true) { ", a network of sites" } else { "" };
    let host = host.to_string();
    let [table_prefix, name, host, user] = [table_prefix, name, &host, user].map(|text| text.escape_debug());
    format!("{sites}; its tables `{table_prefix}…` are in the database `{name}` on {host} as `{user}`")
}

/// Looks the site in the directory `configured` up. Where its database is may be unknown when it is not wanted.
pub(super) async fn site(
    sftp: &mut Sftp,
    server: &str,
    configured: &str,
    settings: &WordpressSettings,
) -> Result<Located, Error> {
    let named = remote_path(absolute(sftp, configured).await?.as_ref());
    let root = root_of(sftp, server, configured, &named).await?;
    let has_core = stat(sftp, &joined(&root, own::CORE)).await?.is_some();
    let below = if has_core { Below::default() } else { Below::look(sftp, &root).await? };
    let Some(path) = config_path(sftp, &root, has_core).await? else {
        let error = no_config(server, &root, &below);
        let is_site = has_core || below.is_site() || below.is_empty;
        if is_site {
            return Err(error);
        }
        let (configured, kinds) = (configured.to_owned(), kinds(sftp, &root).await?);
        return Ok(Located::Folder(Folder { configured, named, real: root, kinds, error }));
    };
    let source = Zeroizing::new(read(sftp, &path, MAX_CONFIG_LEN).await?);
    let core = match has_core {
        true => Ok(root.clone()),
        false => below.core(sftp, &root, (&source, &path)).await?,
    };
    let inner = core.as_ref().unwrap_or(&root);
    let config_file = display_name(&path);
    let config = WpConfig::read(&source, &path, inner);
    if let (Err(fault), true) = (&config, settings.dump_database) {
        return Err(broken(&config_file, fault));
    }
    let layout = Layout::read(&source, &path, inner, &root).map_err(|fault| broken(&config_file, &fault))?;
    let version = version_of(sftp, inner).await?;
    let mut site = Site {
        configured: configured.to_owned(),
        named,
        core,
        config,
        config_file,
        layout,
        version,
        content: Content::default(),
        excludes: Excludes::new(&[])?,
        root,
    };
    let own: Vec<String> = site.own_directory().into_iter().collect();
    site.excludes = Excludes::new(&settings.files_in(&own).excludes)?;
    site.content = content::look(sftp, &site.ground(&path)).await?;
    Ok(Located::Site(Box::new(site)))
}

/// A directory has no configuration; the error names those of sites in it.
fn no_config(server: &str, root: &[u8], below: &Below) -> Error {
    let shown = display_name(root);
    Error::NotFound(match below.sites() {
        Some(sites) => {
            format!(
                "`wp-config.php` in `{shown}`, but in {sites}, which is to be named instead, on {server},"
            )
        }
        None => format!("`wp-config.php` in `{shown}` or in the directory above it, on {server},"),
    })
}

fn broken(file: &str, fault: &ConfigFault) -> Error {
    let reason = format!(
        "{fault} (strings, constants, `.`, `getenv()` with a default and conditions on them are understood; otherwise leave the \
         database out, and back it up with a source of type `mysql`)"
    );
    Error::SiteConfig { file: file.to_owned(), reason }
}

/// The directory's path as PHP has it: without links.
async fn root_of(sftp: &mut Sftp, server: &str, configured: &str, path: &[u8]) -> Result<Vec<u8>, Error> {
    match stat(sftp, path).await? {
        Some(attrs) if attrs.file_type() == Some(FileType::Directory) => real_path(sftp, path).await,
        Some(_) => Err(invalid_path(configured, "it is no directory: name the document root of a site")),
        None => Err(Error::NotFound(format!("path `{}` on {server}", configured.escape_debug()))),
    }
}

/// In the root; or in the directory above a WordPress, unless that is a site of its own: as WordPress looks for it.
async fn config_path(sftp: &mut Sftp, root: &[u8], has_core: bool) -> Result<Option<Vec<u8>>, Error> {
    let own = joined(root, b"wp-config.php");
    if stat(sftp, &own).await?.is_some() {
        return real_path(sftp, &own).await.map(Some);
    }
    if !has_core {
        return Ok(None);
    }
    let above =
        root.iter().rposition(|byte| *byte == b'/').and_then(|cut| root.get(..cut)).unwrap_or_default();
    let config = joined(above, b"wp-config.php");
    let is_site = stat(sftp, &joined(above, own::CORE)).await?.is_some();
    if !is_site && stat(sftp, &config).await?.is_some() {
        return real_path(sftp, &config).await.map(Some);
    }
    Ok(None)
}

async fn version_of(sftp: &mut Sftp, root: &[u8]) -> Result<Option<String>, Error> {
    let path = joined(root, b"wp-includes/version.php");
    match read(sftp, &path, MAX_VERSION_LEN).await {
        Ok(source) => Ok(version(&source)),
        Err(Error::Unreadable(_) | Error::SiteConfig { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a path leads to; `None`: nothing that can be seen.
pub(super) async fn stat(sftp: &mut Sftp, path: &[u8]) -> Result<Option<Attrs>, Error> {
    match sftp.call(&Request::Stat(path)).await? {
        Reply::Attrs(attrs) => Ok(Some(attrs)),
        Reply::Status(status) if status.code == StatusCode::NoSuchFile => Ok(None),
        Reply::Status(status) => Err(refused(path, &status.message)),
        _ => Err(sftp.protocol("STAT was answered with something else")),
    }
}

pub(super) fn refused(path: &[u8], message: &str) -> Error {
    let path = display_name(path);
    Error::Unreadable(format!("`{path}` can't be read: {message}; the account must be allowed to"))
}

/// All of a file that has at most `limit` bytes.
pub(super) async fn read(sftp: &mut Sftp, path: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let handle = match sftp.call(&Request::Open(path)).await? {
        Reply::Handle(handle) => handle,
        Reply::Status(status) => return Err(refused(path, &status.message)),
        _ => return Err(sftp.protocol("OPEN was answered with something else")),
    };
    let text = read_open(sftp, &handle, path, limit).await;
    sftp.call(&Request::Close(&handle)).await?;
    text
}

async fn read_open(sftp: &mut Sftp, handle: &[u8], path: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let (mut text, len) = (Vec::new(), sftp.limits().read_len);
    loop {
        match sftp.call(&Request::Read { handle, offset: text.len() as u64, len }).await? {
            Reply::Data(pieces) => pieces.iter().for_each(|piece| text.extend_from_slice(piece)),
            Reply::Status(status) if status.code == StatusCode::Eof => return Ok(text),
            Reply::Status(status) => return Err(refused(path, &status.message)),
            _ => return Err(sftp.protocol("READ was answered with something else")),
        }
        if text.len() > limit {
            let reason = format!("it is longer than {limit} bytes");
            return Err(Error::SiteConfig { file: display_name(path), reason });
        }
    }
}
