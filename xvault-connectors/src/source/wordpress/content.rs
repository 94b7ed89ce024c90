//! Where the content of a site lies, and what of it a backup of the document root alone would lack.

use std::collections::BTreeSet;

use xvault_core::entry::display_name;

use super::ask::{self, Listing};
use super::folders::{Kind, Unknown};
use super::outside::Outside;
use super::paths::joined;
use super::rows;
use crate::Error;
use crate::source::excludes::Excludes;
use crate::ssh::sftp::Sftp;
use crate::wordpress::{Folder, Layout};

/// Below a directory of content: what is kept elsewhere at times, behind a link, and what has such links in it.
const FOLDERS: [&str; 8] =
    ["", "uploads", "plugins", "themes", "mu-plugins", "languages", "uploads/sites", "blogs.dir"];

/// Of WordPress itself: what several sites may share, behind links.
const CORE: [&str; 2] = ["wp-admin", "wp-includes"];

/// What WordPress brings, and what closes its directories: a place that has nothing else may be one that the site does not use.
const STOCK: [&str; 6] = ["index.php", "index.html", ".htaccess", "akismet", "hello.php", "hello-dolly"];

/// What is known of a site before its content is looked for.
pub(super) struct Ground<'a> {
    /// The document root, without links.
    pub(super) root: &'a [u8],
    /// WordPress's own directory, if that was found.
    pub(super) core: Result<&'a [u8], &'a str>,
    /// `wp-config.php`, without links.
    pub(super) config: &'a [u8],
    pub(super) layout: &'a Layout,
    pub(super) excludes: &'a Excludes,
}

/// What was found of a site's content.
#[derive(Default)]
pub(super) struct Content {
    /// Absolute paths, without links, of what belongs to it and does not lie in the root.
    pub(super) elsewhere: Vec<String>,
    /// What it would take a person to know: who names a folder beside the site does.
    pub(super) unknown: Vec<Unknown>,
    /// Why something is not in a backup.
    pub(super) lacking: Vec<String>,
    pub(super) notes: Vec<String>,
    /// Its directories of content, by the paths that they are known by.
    pub(super) bases: Vec<Vec<u8>>,
    /// Directories of content, without links, below which links are watched.
    pub(super) watched: Vec<Vec<u8>>,
    /// Links that something is told of already, each in its directory without links.
    pub(super) told: Vec<Vec<u8>>,
    /// What keeps rows in other databases, for people.
    pub(super) rows: Vec<String>,
    /// There are uploads where they usually lie.
    pub(super) has_uploads: bool,
}

/// Directories of content as listed.
#[derive(Default)]
struct Listings(Vec<(Vec<u8>, Listing)>);

impl Listings {
    async fn add(&mut self, sftp: &mut Sftp, mut paths: Vec<Vec<u8>>) -> Result<(), Error> {
        let mut seen: BTreeSet<Vec<u8>> = self.0.iter().map(|(path, _)| path.clone()).collect();
        paths.retain(|path| seen.insert(path.clone()));
        let listings = ask::listings(sftp, &paths).await?;
        let there = paths.into_iter().zip(listings);
        self.0.extend(there.filter_map(|(path, listing)| Some((path, listing?))));
        Ok(())
    }

    fn of(&self, path: &[u8]) -> Option<&Listing> {
        self.0.iter().find(|(other, _)| other == path).map(|(_, listing)| listing)
    }

    /// Whether something lies there that did not come with WordPress.
    fn has_own(&self, path: &[u8]) -> bool {
        self.of(path).is_some_and(has_own)
    }

    fn real(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.iter().map(|(_, listing)| listing.real.clone())
    }

    /// Whether this is a directory of content that a site uses.
    fn is_used(&self, base: &[u8]) -> bool {
        ["uploads", "plugins", "themes", "mu-plugins"].iter().any(|name| self.has_own(&below(base, name)))
    }
}

/// Whether something is in it that did not come with WordPress.
pub(super) fn has_own(listing: &Listing) -> bool {
    let is_own =
        |name: &[u8]| !name.starts_with(b"twenty") && !STOCK.iter().any(|stock| stock.as_bytes() == name);
    listing.names.iter().any(|listed| is_own(&listed.name))
}

pub(super) async fn look(sftp: &mut Sftp, ground: &Ground<'_>) -> Result<Content, Error> {
    let usual = joined(ground.core.unwrap_or(ground.root), b"wp-content");
    let mut listings = Listings::default();
    let mut bases = ground.bases(&usual);
    let paths = bases.iter().flat_map(|base| folders(base)).chain(ground.set());
    listings.add(sftp, paths.collect()).await?;
    if !bases.iter().any(|base| listings.is_used(base)) {
        bases.extend(ground.search(sftp, &mut listings).await?);
    }
    let mut outside = Outside::new(ground.root, ground.excludes);
    let there = listings.0.iter().map(|(path, _)| path.clone());
    let core = CORE.iter().filter_map(|name| Some(below(ground.core.ok()?, name)));
    let core = core.chain(ground.core.ok().map(<[u8]>::to_vec));
    let all: Vec<_> = std::iter::once(ground.config.to_vec()).chain(core).chain(there).collect();
    outside.take(sftp, &all).await?;
    outside.take_links(sftp, &listings.0).await?;
    let mut content = ground.judge(&usual, &bases, &listings);
    content.rows = rows::look(sftp, ground, &bases, |name| {
        bases.iter().any(|base| listings.of(base).is_some_and(|listing| listing.has(name)))
    })
    .await?;
    content.add(outside);
    Ok(content)
}

/// Looks at the directories that the database names for uploads.
pub(super) async fn look_at_uploads(
    sftp: &mut Sftp,
    (root, excludes): (&[u8], &Excludes),
    places: Vec<Vec<u8>>,
    content: &mut Content,
) -> Result<(), Error> {
    let mut listings = Listings::default();
    listings.add(sftp, places.iter().flat_map(|path| [path.clone(), below(path, "sites")]).collect()).await?;
    for path in places.iter().filter(|path| listings.of(path).is_none()) {
        let text = format!(
            "`upload_path` in the database is `{}`, where no directory is that the account sees",
            display_name(path)
        );
        match content.has_uploads {
            true => content.notes.push(text),
            false => {
                content.doubt(Kind::Uploads, format!("{text}: uploads may not be in the backup; {CURE}"));
            }
        }
    }
    let mut outside = Outside::new(root, excludes);
    outside.found = std::mem::take(&mut content.elsewhere);
    outside.told = std::mem::take(&mut content.told);
    let there: Vec<_> = listings.0.iter().map(|(path, _)| path.clone()).collect();
    outside.take(sftp, &there).await?;
    outside.take_links(sftp, &listings.0).await?;
    content.watched.extend(listings.real());
    content.add(outside);
    Ok(())
}

/// What helps whoever is told that a place is not known.
const CURE: &str = "name the folder in `paths` beside the site";

fn below(base: &[u8], name: &str) -> Vec<u8> {
    if name.is_empty() { base.to_vec() } else { joined(base, name.as_bytes()) }
}

fn folders(base: &[u8]) -> Vec<Vec<u8>> {
    FOLDERS.iter().map(|name| below(base, name)).collect()
}

fn place_of(folder: &Folder) -> Option<Vec<u8>> {
    folder.place.as_ref().ok().or(folder.guess.as_ref()).map(|path| {
        let path = path.trim_end_matches('/');
        if path.is_empty() { b"/".to_vec() } else { path.as_bytes().to_vec() }
    })
}

impl Ground<'_> {
    fn folder(&self, constant: &str) -> Option<&Folder> {
        self.layout.folders.iter().find(|folder| folder.constant == constant)
    }

    /// The directories of content: where it usually is, and where it is set to be.
    fn bases(&self, usual: &[u8]) -> Vec<Vec<u8>> {
        let set = self.folder("WP_CONTENT_DIR").and_then(place_of);
        std::iter::once(usual.to_vec()).chain(set).collect()
    }

    /// The other folders that are set.
    fn set(&self) -> Vec<Vec<u8>> {
        self.layout.folders.iter().filter_map(place_of).collect()
    }

    /// Directories of the document root that hold what a site's content does.
    async fn search(&self, sftp: &mut Sftp, listings: &mut Listings) -> Result<Vec<Vec<u8>>, Error> {
        let root = ask::listings(sftp, &[self.root.to_vec()]).await?.pop().flatten().unwrap_or_default();
        let all: Vec<Vec<u8>> = root.directories().take(100).map(|name| joined(self.root, name)).collect();
        let mut seen = Listings::default();
        seen.add(sftp, all.iter().flat_map(|base| [below(base, "plugins"), below(base, "themes")]).collect())
            .await?;
        let is_content = |base: &Vec<u8>| {
            seen.of(&below(base, "themes")).is_some() && seen.of(&below(base, "plugins")).is_some()
        };
        let found: Vec<Vec<u8>> = all.into_iter().filter(is_content).collect();
        listings.add(sftp, found.iter().flat_map(|base| folders(base)).collect()).await?;
        Ok(found)
    }

    /// What of the places that the configuration means is known and there.
    fn judge(&self, usual: &[u8], bases: &[Vec<u8>], listings: &Listings) -> Content {
        let mut content = Content {
            bases: bases.to_vec(),
            watched: listings.real().collect(),
            has_uploads: bases.iter().any(|base| listings.has_own(&below(base, "uploads"))),
            ..Content::default()
        };
        let used = bases.iter().find(|base| listings.is_used(base));
        if let Err(why) = self.core {
            let text = format!(
                "where WordPress itself lies is not known ({why}), so content outside of `{}` may not be in the backup: name \
                 WordPress's own directory as the path of the site",
                display_name(self.root)
            );
            content.doubt(Kind::Content, text);
        }
        for folder in &self.layout.folders {
            let (kind, name) = match folder.constant {
                "WP_CONTENT_DIR" => (Kind::Content, ""),
                "WP_PLUGIN_DIR" => (Kind::Code, "plugins"),
                "WPMU_PLUGIN_DIR" => (Kind::Code, "mu-plugins"),
                "UPLOADS" => (Kind::Uploads, "uploads"),
                // Translations can be had again.
                _ => continue,
            };
            let is_elsewhere_used = match name {
                "" => used.is_some(),
                name => bases.iter().any(|base| listings.has_own(&below(base, name))),
            };
            content.weigh((kind, folder), is_elsewhere_used, listings);
        }
        if let (Some(why), None, None) = (&self.layout.included, used, self.folder("WP_CONTENT_DIR")) {
            let text = format!(
                "in `{}` is nothing but what WordPress brings, and wp-config.php may set WP_CONTENT_DIR to another place ({why}): \
                 the site's content may not be in the backup; {CURE}",
                display_name(usual)
            );
            content.doubt(Kind::Content, text);
        } else if bases.iter().all(|base| listings.of(base).is_none()) && content.unknown.is_empty() {
            let text = format!(
                "there is no `{}`, so the site's content is not known to be in the backup; {CURE}",
                display_name(usual)
            );
            content.doubt(Kind::Content, text);
        }
        content
    }
}

impl Content {
    fn doubt(&mut self, kind: Kind, text: String) {
        self.unknown.push(Unknown { kind, text });
    }

    fn weigh(&mut self, (kind, folder): (Kind, &Folder), is_elsewhere_used: bool, listings: &Listings) {
        let constant = folder.constant;
        let listed = |path: &str| listings.of(path.trim_end_matches('/').as_bytes()).is_some();
        let text = match (&folder.place, &folder.guess) {
            (Ok(place), _) if listed(place) => return,
            // Such a directory is there when there is something in it.
            (Ok(_), _) if constant == "WPMU_PLUGIN_DIR" => return,
            (Ok(place), _) => {
                format!(
                    "{constant} is `{}`, where no directory is that the account sees",
                    place.escape_debug()
                )
            }
            // What WordPress brings lies there anyway.
            (Err(why), Some(guess)) if listed(guess) && is_elsewhere_used => {
                return self.notes.push(format!(
                    "{constant} is taken for `{}`, as wp-config.php makes it of the document root ({why})",
                    guess.escape_debug()
                ));
            }
            (Err(why), _) => format!("where {constant} is, is not known from wp-config.php ({why})"),
        };
        if is_elsewhere_used {
            self.notes.push(format!("{text}; what lies at the usual place is in the backup"));
        } else {
            let cure = format!("define it in wp-config.php as plain text, or {CURE}");
            self.doubt(kind, format!("{text}: what lies there may not be in the backup; {cure}"));
        }
    }

    fn add(&mut self, outside: Outside<'_>) {
        self.elsewhere = outside.found;
        self.lacking.extend(outside.doubts);
        self.told = outside.told;
        if outside.is_cut {
            self.notes.push(
                "there are more links or files in its content than a test looks at: a backup names the links that lead \
                 outside of what is in it, and is partial then"
                    .to_owned(),
            );
        }
    }
}
