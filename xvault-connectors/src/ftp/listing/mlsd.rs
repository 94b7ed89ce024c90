//! Lines of MLSD and MLST: facts, a blank, the name (RFC 3659).

use super::time::modified;
use super::{Digits, Kind, Listed, or_itself};

/// Reads a line, without its end. `None`: it is none.
pub(crate) fn mlsd(line: &[u8]) -> Option<Listed> {
    let blank = line.iter().position(|byte| *byte == b' ')?;
    let (facts, name) = (line.get(..blank)?, line.get(blank + 1..)?);
    let mut listed = Listed::new(name, Kind::Special);
    let mut kind = None;
    for fact in facts.split(|byte| *byte == b';').filter(|fact| !fact.is_empty()) {
        let equals = fact.iter().position(|byte| *byte == b'=')?;
        let (fact, value) = (fact.get(..equals)?, fact.get(equals + 1..)?);
        match fact.to_ascii_lowercase().as_slice() {
            b"type" => kind = Some(kind_of(value, &mut listed)),
            fact => note(fact, value, &mut listed),
        }
    }
    // MLST names an entry by its path; `.` is one that it was asked for.
    listed.kind = or_itself(kind?, name);
    (!name.is_empty()).then_some(listed)
}

fn kind_of(value: &[u8], listed: &mut Listed) -> Kind {
    let small = value.to_ascii_lowercase();
    match small.as_slice() {
        b"file" => Kind::File,
        b"dir" => Kind::Directory,
        b"cdir" => Kind::Itself,
        b"pdir" => Kind::Above,
        b"os.unix=symlink" | b"os.unix=link" | b"os.unix=slink" => Kind::Symlink,
        _ if small.starts_with(b"os.unix=slink:") => {
            let target = value.get(b"os.unix=slink:".len()..).unwrap_or_default();
            listed.target = (!target.is_empty()).then(|| target.into());
            Kind::Symlink
        }
        _ => Kind::Special,
    }
}

fn note(fact: &[u8], value: &[u8], listed: &mut Listed) {
    match fact {
        b"size" => listed.size = value.parse_number(),
        b"modify" => {
            listed.mtime = modified(value);
            listed.is_exact = listed.mtime.is_some();
        }
        b"unix.mode" => listed.mode = octal(value),
        b"unix.uid" | b"unix.owner" => listed.uid = listed.uid.or(value.parse_number()),
        b"unix.gid" | b"unix.group" => listed.gid = listed.gid.or(value.parse_number()),
        b"unix.ownername" => listed.user = Some(value.into()),
        b"unix.groupname" => listed.group = Some(value.into()),
        b"unique" => listed.unique = Some(value.into()),
        _ => {}
    }
}

fn octal(value: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    u32::from_str_radix(text, 8).ok().map(|mode| mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvault_core::Mtime;

    #[test]
    fn facts_are_kept_whatever_their_case() {
        let line = b"Type=file;Size=12;Modify=20010909014640.25;Perm=adfrw;UNIX.mode=04755;UNIX.uid=7;UNIX.gid=8;UNIX.ownerName=web;Unique=801U1;X.y=z;  a name ";
        let listed = mlsd(line).unwrap();
        assert_eq!((&*listed.name, listed.kind, listed.size), (&b" a name "[..], Kind::File, Some(12)));
        assert_eq!(listed.mtime, Some(Mtime { secs: 1_000_000_000, nanos: 250_000_000 }));
        assert_eq!((listed.mode, listed.uid, listed.gid), (Some(0o4755), Some(7), Some(8)));
        assert_eq!(listed.user.as_deref(), Some(&b"web"[..]));
        assert_eq!(listed.unique.as_deref(), Some(&b"801U1"[..]));
        assert!(listed.is_exact);
    }

    #[test]
    fn each_type_has_its_kind() {
        let cases = [
            ("dir", Kind::Directory),
            ("CDIR", Kind::Itself),
            ("pdir", Kind::Above),
            ("OS.unix=symlink", Kind::Symlink),
            ("OS.unix=chr-4/64", Kind::Special),
            ("OS.unix=socket", Kind::Special),
        ];
        for (kind, expected) in cases {
            assert_eq!(mlsd(format!("type={kind}; x").as_bytes()).unwrap().kind, expected, "{kind}");
        }
        let link = mlsd(b"type=OS.unix=slink:/caf\xe9;size=1; l").unwrap();
        assert_eq!((link.kind, link.target.as_deref()), (Kind::Symlink, Some(&b"/caf\xe9"[..])));
        assert_eq!(mlsd(b"type=dir; .").unwrap().kind, Kind::Itself);
    }

    #[test]
    fn what_has_no_type_or_no_name_is_no_entry() {
        for bad in
            ["", "x", "size=1; x", "type=file;", "type=file; ", "type; x", "rest of a name", "type=file"]
        {
            assert_eq!(mlsd(bad.as_bytes()), None, "{bad}");
        }
    }
}
