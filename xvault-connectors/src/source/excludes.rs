//! What a user wants left out: globs in gitignore syntax.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use xvault_core::EntryPath;
use xvault_core::source::check_glob;

use crate::Error;

/// Matches paths relative to a configured path. An excluded directory is excluded with all below it.
#[derive(Debug, Clone)]
pub(crate) struct Excludes(Gitignore);

impl Excludes {
    /// From gitignore lines; a later one wins, `!` takes back.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the glob that can't be understood.
    pub(crate) fn new(globs: &[String]) -> Result<Self, Error> {
        let mut builder = GitignoreBuilder::new("");
        for glob in globs {
            check_glob(glob).map_err(|reason| invalid(glob, reason))?;
            builder.add_line(None, glob).map_err(|error| invalid(glob, &error.to_string()))?;
        }
        builder.build().map(Self).map_err(|error| invalid(&globs.join(", "), &error.to_string()))
    }

    /// Whether `path` is left out. `root` is the configured path it was found under; a configured
    /// path itself is never left out. Parents are not looked at: a walk does not enter what is excluded.
    pub(crate) fn excludes(&self, root: Option<&EntryPath>, path: &EntryPath, is_dir: bool) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let relative = match root {
            Some(root) => path.as_bytes().get(root.as_bytes().len() + 1..).unwrap_or_default(),
            None => path.as_bytes(),
        };
        !relative.is_empty() && self.0.matched(Path::new(OsStr::from_bytes(relative)), is_dir).is_ignore()
    }
}

fn invalid(glob: &str, reason: &str) -> Error {
    Error::Settings(xvault_core::source::InvalidSettings {
        field: "excludes",
        reason: format!("`{}`: {reason}", glob.escape_debug()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xvault_core::source::{MAX_ITEM, MAX_TOTAL};

    use super::*;

    fn excluded(globs: &[&str], path: &[u8], is_dir: bool) -> bool {
        let globs: Vec<String> = globs.iter().map(|g| (*g).to_owned()).collect();
        let root = EntryPath::new(*b"srv/web").unwrap();
        let path = EntryPath::new([b"srv/web/", path].concat()).unwrap();
        Excludes::new(&globs).unwrap().excludes(Some(&root), &path, is_dir)
    }

    #[test]
    fn globs_are_gitignores() {
        assert!(excluded(&["*.log"], b"a/b/x.log", false));
        assert!(!excluded(&["/*.log"], b"a/x.log", false));
        assert!(excluded(&["/a/*.log"], b"a/x.log", false));
        assert!(excluded(&["cache/"], b"a/cache", true));
        assert!(!excluded(&["cache/"], b"a/cache", false));
        assert!(!excluded(&["*.log", "!keep.log"], b"keep.log", false));
        assert!(excluded(&["a/**/z"], b"a/b/c/z", false));
        assert!(excluded(&["*.log"], b"caf\xe9.log", false));
    }

    #[test]
    fn a_configured_path_is_never_excluded() {
        let root = EntryPath::new(*b"srv/x.log").unwrap();
        let all = Excludes::new(&["*".into()]).unwrap();
        assert!(!all.excludes(Some(&root), &root, false));
    }

    #[test]
    fn bad_globs_are_named() {
        for glob in ["a[", "[!", "x[]y", "[z-a]", r"\\["] {
            let error = Excludes::new(&["*.ok".into(), glob.into()]).unwrap_err().to_string();
            let shown = glob.escape_debug().to_string();
            assert!(error.contains("excludes") && error.contains(&shown), "{error}");
        }
    }

    #[test]
    fn closed_and_escaped_brackets_are_fine() {
        assert!(excluded(&["a[0-9]"], b"a7", false));
        assert!(excluded(&[r"a\["], b"a[", false));
        assert!(excluded(&["a[]]"], b"a]", false));
        assert!(!excluded(&["a[!0-9]"], b"a7", false));
    }

    /// What is most to compile for its length, as much of it as a source may have.
    #[test]
    fn the_most_that_a_source_may_have_is_understood() {
        for unit in ["?", "*", "[^a-z]", "**/", "{a,b}", "\u{e9}"] {
            let glob = unit.repeat(MAX_ITEM / unit.len());
            Excludes::new(&vec![glob; MAX_TOTAL / MAX_ITEM]).unwrap();
        }
    }

    proptest! {
        /// A source that is saved is not refused at each backup.
        #[test]
        fn what_the_core_takes_the_matcher_takes(glob in r"[\[\]{}!^\\\-*?,/ #:az\u{e9}]{0,12}|[a-f\[\]:-]{0,8}(\[:digit:\])?[a\]-]{0,4}") {
            if check_glob(&glob).is_ok() {
                prop_assert!(Excludes::new(std::slice::from_ref(&glob)).is_ok(), "{}", glob);
            }
        }
    }
}
