//! Open files: each connection is one, and most systems allow 1,024 to a program that does not ask for more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's limit of open files as far as it may. For `main` of a program that serves: the hub holds half as many
/// connections as files may be open, and no more than [`Settings::max_connections`](crate::Settings::max_connections).
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where the system refuses, the hub makes do with what it has.
    let _refused = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// How many of the `wanted` connections are open at once: the database, and a worker in the same process, open files, too.
pub(super) fn room(wanted: u32) -> u32 {
    let Some(files) = getrlimit(Resource::Nofile).current else { return wanted };
    let room = wanted.min(half(files));
    if room < wanted {
        tracing::warn!(
            wanted,
            room,
            files,
            "the limit of open files leaves room for fewer connections: raise it (`ulimit -n`, systemd's LimitNOFILE), or lower \
             HUB_MAX_CONNECTIONS"
        );
    }
    room
}

/// At least one.
fn half(files: u64) -> u32 {
    u32::try_from(files / 2).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_files_are_connections() {
        for (files, connections) in [(u64::MAX, u32::MAX), (1024, 512), (1, 1), (0, 1)] {
            assert_eq!(half(files), connections, "{files}");
        }
    }
}
