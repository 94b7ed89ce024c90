//! OpenSSH's `known_hosts` file: which keys a server is known by.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// What the file says about one server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The keys it may show, in SSH's wire format.
    pub(crate) keys: Vec<KnownKey>,
    /// Keys that are revoked for it.
    pub(crate) revoked: Vec<Vec<u8>>,
    /// Whether a certificate authority is named for it, which xVault does not follow.
    pub(crate) has_authority: bool,
}

/// One key of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownKey {
    /// `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa`…
    pub(crate) algorithm: String,
    /// The key in SSH's wire format.
    pub(crate) blob: Vec<u8>,
}

/// The name a server has in the file: the port is part of it unless it is 22.
pub(crate) fn name_of(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// Looks `host` up. Lines that can't be understood are skipped, as OpenSSH does.
pub(crate) fn lookup(file: &[u8], host: &str, port: u16) -> Known {
    let name = name_of(host, port);
    let mut known = Known::default();
    for line in file.split(|b| *b == b'\n') {
        if let Ok(line) = std::str::from_utf8(line) {
            read_line(line.trim(), &name, &mut known);
        }
    }
    known
}

fn read_line(line: &str, name: &str, known: &mut Known) {
    if line.starts_with('#') {
        return;
    }
    let mut words = line.split_ascii_whitespace().peekable();
    let marker = words.next_if(|word| word.starts_with('@'));
    let (Some(hosts), Some(algorithm), Some(key)) = (words.next(), words.next(), words.next()) else {
        return;
    };
    let Ok(blob) = STANDARD.decode(key) else { return };
    if !names(hosts, name) {
        return;
    }
    match marker {
        None => known.keys.push(KnownKey { algorithm: algorithm.to_owned(), blob }),
        Some("@revoked") => known.revoked.push(blob),
        Some("@cert-authority") => known.has_authority = true,
        Some(_) => {}
    }
}

/// Whether the first column of a line names this server.
fn names(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return is_hash_of(hashed, name);
    }
    let mut found = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if glob(&lowercase(pattern), name.as_bytes()) => return false,
            None if glob(&lowercase(pattern), name.as_bytes()) => found = true,
            _ => {}
        }
    }
    found
}

fn lowercase(text: &str) -> Vec<u8> {
    text.to_ascii_lowercase().into_bytes()
}

fn is_hash_of(salt_and_hash: &str, name: &str) -> bool {
    let Some((salt, hash)) = salt_and_hash.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (STANDARD.decode(salt), STANDARD.decode(hash)) else { return false };
    // SHA-1 is what OpenSSH hides host names with; no trust rests on it.
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    hmac::verify(&key, name.as_bytes(), &hash).is_ok()
}

/// `*` and `?` as OpenSSH's `match_pattern` has them; linear in practice, quadratic at worst.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == b'?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')
}

/// The line that makes a key known.
pub(crate) fn line(host: &str, port: u16, algorithm: &str, blob: &[u8]) -> String {
    format!("{} {algorithm} {}\n", name_of(host, port), STANDARD.encode(blob))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn count(file: &str, host: &str, port: u16) -> usize {
        lookup(file.as_bytes(), host, port).keys.len()
    }

    #[test]
    fn names_ports_lists_and_negation() {
        let line = |hosts: &str| format!("{hosts} ssh-ed25519 {KEY} comment\n");
        assert_eq!(count(&line("a.example"), "A.Example", 22), 1);
        assert_eq!(count(&line("a.example"), "a.example", 2222), 0);
        assert_eq!(count(&line("[a.example]:2222"), "a.example", 2222), 1);
        assert_eq!(count(&line("x,a.example,y"), "a.example", 22), 1);
        assert_eq!(count(&line("*.example"), "a.example", 22), 1);
        assert_eq!(count(&line("*.example,!a.example"), "a.example", 22), 0);
        assert_eq!(count(&format!("# {}", line("a.example")), "a.example", 22), 0);
        assert_eq!(count(&[line("h"), line("h")].concat(), "h", 22), 2);
    }

    #[test]
    fn markers_are_kept_apart() {
        let file =
            format!("@revoked h ssh-ed25519 {KEY}\n@cert-authority *.x,h ssh-ed25519 {KEY}\n@odd h a {KEY}");
        let known = lookup(file.as_bytes(), "h", 22);
        assert_eq!((known.keys.len(), known.revoked.len(), known.has_authority), (0, 1, true));
    }

    #[test]
    fn hashed_names_match_only_their_host() {
        // As `ssh-keygen -H` does it; the integration tests ask the real one.
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"twenty bytes of salt");
        let (salt, hash) = (STANDARD.encode(b"twenty bytes of salt"), hmac::sign(&key, b"[a.example]:2222"));
        let file = format!("|1|{salt}|{} ssh-ed25519 {KEY}", STANDARD.encode(hash));
        assert_eq!(count(&file, "a.example", 2222), 1);
        assert_eq!(count(&file, "a.example", 22) + count(&file, "b.example", 2222), 0);
    }

    #[test]
    fn what_is_written_is_found_again() {
        let blob = STANDARD.decode(KEY).unwrap();
        let written = line("::1", 2222, "ssh-ed25519", &blob);
        assert_eq!(
            lookup(written.as_bytes(), "::1", 2222).keys,
            [KnownKey { algorithm: "ssh-ed25519".into(), blob }]
        );
    }

    proptest! {
        #[test]
        fn no_file_panics(file in proptest::collection::vec(any::<u8>(), 0..400), pattern in "[*?a-c]{0,12}", text in "[a-c]{0,12}") {
            lookup(&file, "host", 22);
            glob(pattern.as_bytes(), text.as_bytes());
        }
    }
}
