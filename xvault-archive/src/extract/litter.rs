//! Names of unfinished files, and removing those that a killed extraction left behind.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

/// The number of the next unfinished file of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A name that this process has not used before: `.xvault-PID-NUMBER.partial`.
pub(super) fn fresh_name() -> String {
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    format!(".xvault-{}-{number}.partial", std::process::id())
}

/// Removes the unfinished files in `directory` whose process is gone. What can't be read or removed stays: it is in
/// nobody's way.
pub(super) fn sweep(directory: BorrowedFd<'_>) {
    // Opened anew, as what we reach places by can't be read.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(names) = rustix::fs::openat(directory, ".", flags, Mode::empty()).and_then(Dir::new) else {
        return;
    };
    for name in names.map_while(Result::ok) {
        let name = name.file_name();
        if parse(name.to_bytes()).is_some_and(|(pid, number)| is_abandoned(pid, number)) {
            // Removes the name itself, never what a link leads to, and no directory.
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        }
    }
}

/// The process and the number in the name of an unfinished file.
fn parse(name: &[u8]) -> Option<(u32, u64)> {
    let rest = name.strip_prefix(b".xvault-")?.strip_suffix(b".partial")?;
    let (pid, number) = std::str::from_utf8(rest).ok()?.split_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(pid) || !is_number(number) {
        return None;
    }
    Some((pid.parse().ok()?, number.parse().ok()?))
}

fn is_abandoned(pid: u32, number: u64) -> bool {
    if pid == std::process::id() {
        // In a container every run has the same process id: ours are those that we have made.
        return number >= NEXT.load(Ordering::SeqCst);
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_make_are_ours() {
        assert_eq!(parse(b".xvault-12-0.partial"), Some((12, 0)));
        let fresh = fresh_name();
        assert_eq!(parse(fresh.as_bytes()).map(|(pid, _)| pid), Some(std::process::id()));
        let others: [&[u8]; 9] = [
            b"xvault-12-0.partial",
            b".xvault-12-0.partial2",
            b".xvault-12.partial",
            b".xvault--0.partial",
            b".xvault-12-.partial",
            b".xvault-+12-0.partial",
            b".xvault-12-0-0.partial",
            b".xvault-99999999999-0.partial",
            b".xvault-\xff-0.partial",
        ];
        for other in others {
            assert_eq!(parse(other), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn what_a_living_process_made_is_not_abandoned() {
        let _ = fresh_name();
        assert!(!is_abandoned(std::process::id(), 0));
        assert!(is_abandoned(std::process::id(), u64::MAX));
        assert!(!is_abandoned(std::os::unix::process::parent_id(), u64::MAX));
        assert!(!is_abandoned(0, 0) && !is_abandoned(u32::MAX, 0));
    }
}
