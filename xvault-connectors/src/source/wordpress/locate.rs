//! Where a site's configuration and its files lie.

use xvault_core::entry::display_name;
use zeroize::Zeroizing;

use crate::Error;
use crate::source::sftp::scope::{absolute, followed, invalid_path, real_path, remote_path};
use crate::ssh::sftp::{Attrs, FileType, Reply, Request, Sftp, StatusCode};
use crate::wordpress::{ConfigFault, MAX_CONFIG_LEN, WpConfig, version};

/// No `version.php` is longer, in bytes.
const MAX_VERSION_LEN: usize = 64 << 10;

/// Below the directory of content: what is kept elsewhere at times, behind a link.
const FOLDERS: [&str; 6] = ["", "/uploads", "/plugins", "/themes", "/mu-plugins", "/languages"];

/// A site as found.
pub(super) struct Site {
    /// The document root as configured.
    configured: String,
    /// The document root, without links.
    pub(super) root: Vec<u8>,
    /// What its configuration says; or why that does not tell where the database is, which is no matter when files alone are wanted.
    config: Result<WpConfig, ConfigFault>,
    /// Where that was read, for people.
    pub(super) config_file: String,
    version: Option<String>,
    /// Absolute paths of what belongs to the site and does not lie in the root.
    pub(super) elsewhere: Vec<String>,
}

impl Site {
    /// What its configuration says.
    ///
    /// # Errors
    /// When that does not tell where the database is.
    pub(super) fn config(&self) -> Result<&WpConfig, Error> {
        self.config.as_ref().map_err(|fault| broken(&self.config_file, fault))
    }

    /// What there is to know about it, a sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        let (database, notes) = match &self.config {
            Ok(config) => (place_of(config), config.notes.clone()),
            Err(fault) => (format!("; where its database is, is not known: {fault}"), Vec::new()),
        };
        let version = self.version.as_deref().unwrap_or("of an unknown version");
        let first = format!("`{}`: WordPress {version}{database}", self.configured.escape_debug());
        let elsewhere = self.elsewhere.iter().map(|path| {
            format!(
                "`{}` belongs to it and lies outside of it: it is in the backup, too",
                path.escape_debug()
            )
        });
        std::iter::once(first).chain(notes).chain(elsewhere).collect()
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
    with_database: bool,
) -> Result<Site, Error> {
    let root = absolute(sftp, configured).await?;
    let root = root_of(sftp, server, configured, &remote_path(root.as_ref())).await?;
    let path = config_path(sftp, server, &root).await?;
    let source = Zeroizing::new(read(sftp, &path, MAX_CONFIG_LEN).await?);
    let config_file = display_name(&path);
    let config = WpConfig::read(&source, &path, &root);
    let folders = match &config {
        Err(fault) if with_database => return Err(broken(&config_file, fault)),
        Err(_) => {
            WpConfig::folders_of(&source, &path, &root).map_err(|fault| broken(&config_file, &fault))?
        }
        Ok(config) => config.folders.clone(),
    };
    let version = version_of(sftp, &root).await?;
    let elsewhere = elsewhere(sftp, &root, &path, &folders).await?;
    Ok(Site { configured: configured.to_owned(), root, config, config_file, version, elsewhere })
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

/// In the root; or in the directory above, unless that is a site of its own: as WordPress looks for it.
async fn config_path(sftp: &mut Sftp, server: &str, root: &[u8]) -> Result<Vec<u8>, Error> {
    let own = joined(root, b"wp-config.php");
    if stat(sftp, &own).await?.is_some() {
        return real_path(sftp, &own).await;
    }
    let above =
        root.iter().rposition(|byte| *byte == b'/').and_then(|cut| root.get(..cut)).unwrap_or_default();
    let config = joined(above, b"wp-config.php");
    let is_site = stat(sftp, &joined(above, b"wp-settings.php")).await?.is_some();
    if !is_site && stat(sftp, &config).await?.is_some() {
        return real_path(sftp, &config).await;
    }
    let root = display_name(root);
    Err(Error::NotFound(format!("`wp-config.php` in `{root}` or in the directory above it, on {server},")))
}

async fn version_of(sftp: &mut Sftp, root: &[u8]) -> Result<Option<String>, Error> {
    let path = joined(root, b"wp-includes/version.php");
    match read(sftp, &path, MAX_VERSION_LEN).await {
        Ok(source) => Ok(version(&source)),
        Err(Error::Unreadable(_) | Error::SiteConfig { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The configuration, and folders of content that are set to lie elsewhere or are links that lead there.
async fn elsewhere(
    sftp: &mut Sftp,
    root: &[u8],
    config: &[u8],
    folders: &[String],
) -> Result<Vec<String>, Error> {
    let content = joined(root, b"wp-content");
    let bases = std::iter::once(content).chain(folders.iter().map(|folder| folder.as_bytes().to_vec()));
    let mut candidates = vec![config.to_vec()];
    candidates.extend(bases.flat_map(|base| FOLDERS.map(|folder| [&base, folder.as_bytes()].concat())));
    let mut outside: Vec<Vec<u8>> = Vec::new();
    for real in real_paths(sftp, candidates).await? {
        if !is_within(&real, root) && !outside.iter().any(|other| is_within(&real, other)) {
            outside.push(real);
        }
    }
    let text = |path: Vec<u8>| {
        String::from_utf8(path).map_err(|error| {
            let path = display_name(error.as_bytes());
            invalid_path(
                &path,
                "it belongs to the site, and is not UTF-8: back it up with a source of type `ssh`",
            )
        })
    };
    outside.into_iter().map(text).collect()
}

/// Where those that are there lie, without links.
async fn real_paths(sftp: &mut Sftp, mut paths: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Error> {
    let asked: Vec<_> = paths.iter().map(|path| Request::Stat(path)).collect();
    let mut there = Vec::new();
    for (reply, path) in sftp.call_all(&asked).await?.into_iter().zip(&paths) {
        there.push(attrs(sftp, path, reply)?.is_some());
    }
    let mut there = there.into_iter();
    paths.retain(|_| there.next().unwrap_or_default());
    let asked: Vec<_> = paths.iter().map(|path| Request::RealPath(path)).collect();
    let replies = sftp.call_all(&asked).await?;
    replies.into_iter().zip(&paths).map(|(reply, path)| followed(sftp, path, reply)).collect()
}

fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || folder.ends_with(b"/"))
}

fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    [folder.strip_suffix(b"/").unwrap_or(folder), b"/", name].concat()
}

/// What a path leads to; `None`: nothing that can be seen.
async fn stat(sftp: &mut Sftp, path: &[u8]) -> Result<Option<Attrs>, Error> {
    let reply = sftp.call(&Request::Stat(path)).await?;
    attrs(sftp, path, reply)
}

fn attrs(sftp: &Sftp, path: &[u8], reply: Reply) -> Result<Option<Attrs>, Error> {
    match reply {
        Reply::Attrs(attrs) => Ok(Some(attrs)),
        Reply::Status(status) if status.code == StatusCode::NoSuchFile => Ok(None),
        Reply::Status(status) => Err(refused(path, &status.message)),
        _ => Err(sftp.protocol("STAT was answered with something else")),
    }
}

fn refused(path: &[u8], message: &str) -> Error {
    let path = display_name(path);
    Error::Unreadable(format!("`{path}` can't be read: {message}; the account must be allowed to"))
}

/// All of a file that has at most `limit` bytes.
async fn read(sftp: &mut Sftp, path: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
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
