//! Finding what dead runs left staged in a local directory, and removing it.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::fstatfs;

use super::Swept;
use super::staging_dir::{Lock, same_dir, try_lock};

/// What the name of a staging ends in.
pub(super) const STAGING_SUFFIX: &str = ".staging";

/// Whether a directory of that name is a staging: no id begins with a dot.
pub(super) fn is_staging(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(STAGING_SUFFIX)
}

/// Sweeps the directory that holds the tenants, which may be missing.
///
/// # Errors
/// When it can't be listed. What goes wrong below is counted.
pub(super) fn sweep(tenants: &Path, older_than: Duration) -> io::Result<Swept> {
    match sweep_dir(tenants, older_than) {
        // Never made.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Swept::default()),
        swept => swept,
    }
}

/// Stagings lie beside snapshots, so only directories that are no snapshot are looked into.
fn sweep_dir(dir: &Path, older_than: Duration) -> io::Result<Swept> {
    let mut swept = Swept::default();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let below = match (entry.file_type(), entry.file_name().to_str()) {
            (Ok(kind), _) if !kind.is_dir() => Ok(Swept::default()),
            (Err(error), _) => Err(error),
            (Ok(_), Some(name)) if is_staging(name) => sweep_staging(&entry.path(), older_than),
            _ if is_snapshot_list(dir) => Ok(Swept::default()),
            _ => sweep_dir(&entry.path(), older_than),
        };
        add(&mut swept, below);
    }
    Ok(swept)
}

fn is_snapshot_list(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name == "snapshots")
}

/// One tenant's trouble, or another user's staging, keeps nothing else from being swept.
fn add(swept: &mut Swept, below: io::Result<Swept>) {
    let below = match below {
        Ok(below) => below,
        // Committed or removed since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Swept::default(),
        Err(_) => Swept { failed: 1, ..Swept::default() },
    };
    swept.removed += below.removed;
    swept.in_use += below.in_use;
    swept.failed += below.failed;
}

/// Removes one staging, if its run is dead.
///
/// # Errors
/// Not found when it is gone already.
pub(super) fn sweep_staging(path: &Path, older_than: Duration) -> io::Result<Swept> {
    let opened = File::open(path)?;
    let lock = try_lock(&opened)?;
    // Whoever committed it meanwhile has renamed it: the lock is then on a snapshot.
    if !same_dir(&opened, path)? {
        return Ok(Swept::default());
    }
    let dead = match lock {
        Lock::Held => false,
        Lock::Free if locks_reach_all_hosts(&opened)? => true,
        Lock::Free | Lock::Unsupported => is_quiet(path, older_than, now())?,
    };
    if !dead {
        return Ok(Swept { in_use: 1, ..Swept::default() });
    }
    fs::remove_dir_all(path)?;
    Ok(Swept { removed: 1, ..Swept::default() })
}

/// Whether nothing in a staging, nor itself, was changed for longer than `older_than`. A directory's own
/// time stands still while its files grow.
fn is_quiet(staging: &Path, older_than: Duration, now: SystemTime) -> io::Result<bool> {
    let mut newest = fs::metadata(staging)?.modified()?;
    for entry in fs::read_dir(staging)? {
        newest = newest.max(entry?.metadata()?.modified()?);
    }
    Ok(now.duration_since(newest).is_ok_and(|age| age > older_than))
}

#[expect(
    clippy::disallowed_methods,
    reason = "compared with times that the file system took from the same clock"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Whether a lock that is free here is free everywhere. Network file systems may keep locks to each host.
fn locks_reach_all_hosts(dir: &File) -> io::Result<bool> {
    // The numbers have 32 bits, in a word whose width and sign depend on the architecture.
    let magic = fstatfs(dir)?.f_type.to_le_bytes();
    Ok(magic.first_chunk().is_some_and(|low| !is_shared(u32::from_le_bytes(*low))))
}

/// The file systems that other hosts, or programs with rules of their own, may stand behind
/// (`linux/magic.h`, and the sources of those that are not in it).
fn is_shared(magic: u32) -> bool {
    const NFS: u32 = 0x6969;
    const SMB: u32 = 0x517b;
    const SMB2: u32 = 0xfe53_4d42;
    const CIFS: u32 = 0xff53_4d42;
    const FUSE: u32 = 0x6573_5546;
    const V9FS: u32 = 0x0102_1997;
    const CEPH: u32 = 0x00c3_6400;
    const AFS: u32 = 0x5346_414f;
    const KAFS: u32 = 0x6b41_4653;
    const CODA: u32 = 0x7375_7245;
    const OCFS2: u32 = 0x7461_636f;
    const GFS2: u32 = 0x0116_1970;
    const LUSTRE: u32 = 0x0bd0_0bd0;
    const GPFS: u32 = 0x4750_4653;
    const BEEGFS: u32 = 0x1983_0326;
    let shared = [NFS, SMB, SMB2, CIFS, FUSE, V9FS, CEPH, AFS, KAFS, CODA, OCFS2, GFS2, LUSTRE, GPFS, BEEGFS];
    shared.contains(&magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn backdate(path: &Path, age: Duration) {
        File::open(path).unwrap().set_modified(now() - age).unwrap();
    }

    #[test]
    fn a_staging_is_as_old_as_the_last_write_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup.tar.zst.enc");
        fs::write(&file, b"half").unwrap();
        backdate(dir.path(), DAY * 3);
        // The directory is old, as it is in each long run; the file grows still.
        assert!(!is_quiet(dir.path(), DAY, now()).unwrap());
        backdate(&file, DAY * 2);
        assert!(is_quiet(dir.path(), DAY, now()).unwrap());
        assert!(is_quiet(dir.path(), DAY * 2, now() + DAY).unwrap());
        assert!(!is_quiet(dir.path(), DAY * 2, now() - DAY).unwrap());
        // A clock that was set back makes nothing old.
        assert!(!is_quiet(dir.path(), DAY, now() - DAY * 9).unwrap());
        backdate(dir.path(), Duration::ZERO);
        assert!(!is_quiet(dir.path(), DAY, now()).unwrap());
    }

    #[test]
    fn a_free_lock_proves_death_on_local_file_systems_only() {
        let dir = tempfile::tempdir().unwrap();
        assert!(locks_reach_all_hosts(&File::open(dir.path()).unwrap()).unwrap());
        // ext4, xfs, btrfs, tmpfs, overlayfs, zfs.
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
            assert!(!is_shared(local), "{local:x}");
        }
        for shared in [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546] {
            assert!(is_shared(shared), "{shared:x}");
        }
    }
}
