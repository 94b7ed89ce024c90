//! Paths on a server, as text.

pub(super) fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || folder.ends_with(b"/"))
}

pub(super) fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    [folder.strip_suffix(b"/").unwrap_or(folder), b"/", name].concat()
}

/// Where a link leads to by its text alone, as if no other link were on the way.
pub(super) fn leads_to(link: &[u8], target: &[u8]) -> Vec<u8> {
    let folder =
        link.iter().rposition(|byte| *byte == b'/').and_then(|cut| link.get(..cut)).unwrap_or_default();
    let target = if target.starts_with(b"/") { target.to_vec() } else { joined(folder, target) };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    [b"/", parts.join(&b'/').as_slice()].concat()
}

/// Whether it is of the running system, and holds nothing that a backup could keep: a container's log leads to `/dev/stdout`.
pub(super) fn is_of_system(path: &[u8]) -> bool {
    let is_in = |folder: &str| is_within(path, folder.as_bytes());
    is_in("/proc") || is_in("/sys") || is_in("/dev") && !is_in("/dev/shm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_their_text_says() {
        let to = |target: &str| String::from_utf8(leads_to(b"/w/wp-content/x", target.as_bytes())).unwrap();
        assert_eq!(to("y"), "/w/wp-content/y");
        assert_eq!(to("../../srv/./y//"), "/srv/y");
        assert_eq!(to("/srv/../nas"), "/nas");
        assert_eq!(to("../../../../.."), "/");
    }

    #[test]
    fn what_is_of_the_system_holds_no_data() {
        for path in ["/dev/stdout", "/dev/null", "/proc/1/fd/2", "/proc", "/sys/x"] {
            assert!(is_of_system(path.as_bytes()), "{path}");
        }
        for path in ["/dev/shm/pages", "/device/x", "/srv/dev/stdout", "/"] {
            assert!(!is_of_system(path.as_bytes()), "{path}");
        }
    }
}
