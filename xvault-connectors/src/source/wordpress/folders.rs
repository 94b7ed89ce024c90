//! Folders that are named beside sites, and the places of sites that they may be: whoever names one says where one place is.

use super::ask::{self, Listing};
use super::content::has_own;
use super::paths::joined;
use crate::Error;
use crate::ssh::sftp::Sftp;

/// No more directories in a folder than this are looked into.
const MAX_DIRECTORIES: usize = 100;

/// What a directory of content has in it.
const PARTS: [&[u8]; 4] = [b"plugins", b"themes", b"mu-plugins", b"uploads"];

/// What people upload.
const MEDIA: [&[u8]; 22] = [
    b"jpg", b"jpeg", b"png", b"gif", b"webp", b"avif", b"svg", b"ico", b"heic", b"pdf", b"mp3", b"m4a",
    b"ogg", b"wav", b"mp4", b"mov", b"webm", b"zip", b"doc", b"docx", b"xlsx", b"csv",
];

/// What a part of a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All of its content.
    Content,
    /// Plugins, also those that a site must use.
    Code,
    Uploads,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Content, Self::Code, Self::Uploads];
}

/// A part of a site whose place is not known.
pub(super) struct Unknown {
    pub(super) kind: Kind,
    /// That what lies there may not be in a backup, and why.
    pub(super) text: String,
}

/// A folder that belongs to the sites.
pub(super) struct Folder {
    pub(super) configured: String,
    /// Absolute and as configured; and without links.
    pub(super) named: Vec<u8>,
    pub(super) real: Vec<u8>,
    /// The places that it may be: each of them once.
    pub(super) kinds: Vec<Kind>,
    /// Why it is no site.
    pub(super) error: Error,
}

/// What the folder looks like.
pub(super) async fn kinds(sftp: &mut Sftp, folder: &[u8]) -> Result<Vec<Kind>, Error> {
    let all = ask::listings(sftp, &[folder.to_vec()]).await?.pop().flatten().unwrap_or_default();
    let parts = PARTS.iter().map(|part| part.to_vec()).filter(|part| all.has(part));
    let others = all.directories().filter(|name| !PARTS.contains(&name.as_slice())).cloned();
    let names: Vec<Vec<u8>> = parts.chain(others).take(MAX_DIRECTORIES).collect();
    let paths: Vec<Vec<u8>> = names.iter().map(|name| joined(folder, name)).collect();
    let listings = ask::listings(sftp, &paths).await?;
    let there = names.into_iter().zip(listings).filter_map(|(name, listing)| Some((name, listing?)));
    Ok(Looks { name: folder, all, below: there.collect() }.kinds())
}

/// What is seen of a folder.
struct Looks<'a> {
    name: &'a [u8],
    all: Listing,
    /// What is in its directories.
    below: Vec<(Vec<u8>, Listing)>,
}

impl Looks<'_> {
    fn kinds(&self) -> Vec<Kind> {
        if self.below(b"plugins").is_some() || self.below(b"themes").is_some() {
            let parts: [(&[u8], Kind); 3] =
                [(b"uploads", Kind::Uploads), (b"plugins", Kind::Code), (b"mu-plugins", Kind::Code)];
            let used = parts.into_iter().filter(|(name, _)| self.below(name).is_some_and(has_own));
            return std::iter::once(Kind::Content).chain(used.map(|(_, kind)| kind)).collect();
        }
        if !has_own(&self.all) {
            Vec::new()
        } else if self.is_called(b"uploads") || self.has_uploads() {
            vec![Kind::Uploads]
        } else if self.is_called(b"plugins") || self.is_called(b"mu-plugins") || self.has(is_code) {
            vec![Kind::Code]
        } else if self.has(is_media) {
            vec![Kind::Uploads]
        } else {
            Vec::new()
        }
    }

    fn below(&self, name: &[u8]) -> Option<&Listing> {
        self.below.iter().find(|(other, _)| other == name).map(|(_, listing)| listing)
    }

    fn is_called(&self, name: &[u8]) -> bool {
        self.name.rsplit(|byte| *byte == b'/').next() == Some(name)
    }

    /// WordPress makes a directory for each year, and one for the sites of a network.
    fn has_uploads(&self) -> bool {
        let is_year = |name: &[u8]| name.len() == 4 && name.iter().all(u8::is_ascii_digit);
        self.below.iter().any(|(name, listing)| {
            is_year(name) || name == b"sites" || name == b"uploads" && has_own(listing)
        })
    }

    /// Whether such a file is in it, or in one of its directories.
    fn has(&self, is_such: impl Fn(&[u8]) -> bool) -> bool {
        let listings = self.below.iter().map(|(_, listing)| listing).chain([&self.all]);
        listings.flat_map(|listing| &listing.names).any(|listed| is_such(&listed.name))
    }
}

fn is_code(name: &[u8]) -> bool {
    name != b"index.php" && name.ends_with(b".php")
}

fn is_media(name: &[u8]) -> bool {
    let ending = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default().to_ascii_lowercase();
    name.contains(&b'.') && MEDIA.contains(&ending.as_slice())
}

#[cfg(test)]
mod tests {
    use super::super::ask::Listed;
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        let names = names.iter().map(|name| Listed { name: name.as_bytes().to_vec(), kind: None });
        Listing { names: names.collect(), ..Listing::default() }
    }

    /// Of a folder with these files, and directories with theirs.
    fn kinds(name: &str, files: &[&str], below: &[(&str, &[&str])]) -> Vec<Kind> {
        let all: Vec<&str> = below.iter().map(|(name, _)| *name).chain(files.iter().copied()).collect();
        let below = below.iter().map(|(name, files)| (name.as_bytes().to_vec(), listing(files))).collect();
        Looks { name: name.as_bytes(), all: listing(&all), below }.kinds()
    }

    #[test]
    fn folders_are_what_they_look_like() {
        use Kind::{Code, Content, Uploads};
        let content: &[(&str, &[&str])] = &[("plugins", &["akismet", "shop"]), ("uploads", &["2026"])];
        assert_eq!(kinds("/c", &[], content), [Content, Uploads, Code]);
        assert_eq!(kinds("/c", &[], &[("themes", &[]), ("mu-plugins", &["x.php"])]), [Content, Code]);
        assert_eq!(kinds("/c", &[], &[("themes", &[]), ("plugins", &["hello.php"])]), [Content]);
        for (name, files, below) in [
            ("/uploads", &["x"][..], &[][..]),
            ("/nas/shop", &[], &[("2026", &[][..])]),
            ("/nas/shop", &[], &[("sites", &[])]),
            ("/nas/shop", &[], &[("uploads", &["x"])]),
            ("/nas/shop", &[], &[("2026", &[]), ("forms", &["x.php"])]),
            ("/nas/shop", &["logo.PNG"], &[]),
            ("/nas/shop", &[], &[("products", &["one.webp"])]),
        ] {
            assert_eq!(kinds(name, files, below), [Uploads], "{files:?} {below:?}");
        }
        for (name, files, below) in [
            ("/plugins", &["x"][..], &[][..]),
            ("/own", &["must.php"], &[]),
            ("/own", &[], &[("shop", &["shop.php", "screenshot.png"][..])]),
        ] {
            assert_eq!(kinds(name, files, below), [Code], "{files:?} {below:?}");
        }
        for (name, files, below) in [
            ("/etc/nginx", &["nginx.conf"][..], &[("conf.d", &["site.conf"][..])][..]),
            ("/uploads", &[], &[]),
            ("/plugins", &["index.php"], &[]),
            ("/nas", &[], &[("uploads", &[])]),
            ("/nas", &["png"], &[("a", &["index.php"])]),
        ] {
            assert_eq!(kinds(name, files, below), [], "{files:?} {below:?}");
        }
    }
}
