//! A file system that is soon full.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::tools::{command, run};

/// A tmpfs of limited size, unmounted on drop. Needs root.
#[derive(Debug)]
pub struct SmallFs {
    dir: TempDir,
}

impl SmallFs {
    /// Mounts one that holds `size` bytes, rounded up to whole pages.
    ///
    /// # Panics
    /// When mounting is not allowed.
    #[must_use]
    pub fn mount(size: u64) -> Self {
        let dir = tempfile::Builder::new().prefix("xvt-small").tempdir().unwrap();
        let options = format!("size={size},mode=755");
        let _ = run(command("mount", ["-t", "tmpfs", "-o", &options, "xvault-testkit"]).arg(dir.path()));
        Self { dir }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for SmallFs {
    fn drop(&mut self) {
        // Lazily: a file that a failed test left open must not keep the mount.
        let _ = command("umount", ["-l"]).arg(self.dir.path()).output();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_soon_and_gone_after() {
        let small = SmallFs::mount(64 * 1024);
        std::fs::write(small.join("fits"), [1; 1024]).unwrap();
        let error = std::fs::write(small.join("large"), vec![1; 128 * 1024]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        let path = small.path().to_owned();
        drop(small);
        assert!(!path.exists());
    }
}
