//! What a server says that it can: FEAT.

use super::Reply;

/// The facts of MLSD that are of use, as we ask for them.
const WANTED: [&str; 13] = [
    "type",
    "size",
    "modify",
    "unique",
    "unix.mode",
    "unix.owner",
    "unix.group",
    "unix.uid",
    "unix.gid",
    "unix.ownername",
    "unix.groupname",
    "unix.slink",
    "perm",
];

/// What a server says that it can.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// MLST, and with it MLSD.
    pub(crate) mlst: bool,
    pub(crate) utf8: bool,
    pub(crate) mdtm: bool,
    pub(crate) size: bool,
    pub(crate) rest: bool,
    /// The facts to ask for, when some that are of use are not given unasked.
    pub(crate) facts: Option<String>,
    /// Whether FEAT was answered at all. If not, what there is must be tried.
    pub(crate) told: bool,
}

impl Features {
    pub(crate) fn read(reply: &Reply) -> Self {
        if !reply.is_done() {
            return Self { mdtm: true, size: true, rest: true, mlst: true, ..Self::default() };
        }
        let mut features = Self { told: true, ..Self::default() };
        for line in &reply.lines {
            let line = String::from_utf8_lossy(line);
            let line = line.trim();
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word.to_ascii_uppercase().as_str() {
                "MLST" => {
                    features.mlst = true;
                    features.facts = to_ask_for(rest);
                }
                "UTF8" => features.utf8 = true,
                "MDTM" => features.mdtm = true,
                "SIZE" => features.size = true,
                "REST" => features.rest = true,
                _ => {}
            }
        }
        features
    }

    /// For people.
    pub(crate) fn shown(&self) -> String {
        if !self.told {
            return "the server does not say what it can (no FEAT)".to_owned();
        }
        let all = [
            ("MLSD", self.mlst),
            ("UTF8", self.utf8),
            ("MDTM", self.mdtm),
            ("SIZE", self.size),
            ("REST", self.rest),
        ];
        let words =
            |has| all.iter().filter(|(_, had)| *had == has).map(|(word, _)| *word).collect::<Vec<_>>();
        let (has, lacks) = (words(true), words(false));
        let lacks = if lacks.is_empty() { String::new() } else { format!("; it lacks {}", lacks.join(", ")) };
        let has = if has.is_empty() { "nothing beyond RFC 959".to_owned() } else { has.join(", ") };
        format!("the server offers {has}{lacks}")
    }
}

/// `type*;size*;unix.mode;` marks with a star what is given unasked.
fn to_ask_for(offered: &str) -> Option<String> {
    let facts = offered.split(';').map(str::trim).filter(|fact| !fact.is_empty());
    let wanted = facts.filter(|fact| {
        let name = fact.trim_end_matches('*').to_ascii_lowercase();
        name.len() < 40 && WANTED.contains(&name.as_str())
    });
    let wanted: Vec<&str> = wanted.take(WANTED.len()).collect();
    let some_are_off = wanted.iter().any(|fact| !fact.ends_with('*'));
    let asked: String = wanted.iter().map(|fact| format!("{};", fact.trim_end_matches('*'))).collect();
    some_are_off.then_some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, text: &str) -> Reply {
        Reply { code, lines: text.split('\n').map(|line| line.as_bytes().to_vec()).collect() }
    }

    #[test]
    fn what_is_offered_is_known_and_facts_that_are_off_are_asked_for() {
        let text = "Features:\n UTF8\n MLST type*;perm*;size*;modify*;unique*;unix.mode;unix.uid;evil\r;\n rest STREAM\nEnd";
        let features = Features::read(&reply(211, text));
        assert!(features.mlst && features.utf8 && features.rest && !features.mdtm && !features.size);
        assert_eq!(features.facts.as_deref(), Some("type;perm;size;modify;unique;unix.mode;unix.uid;"));
        assert_eq!(features.shown(), "the server offers MLSD, UTF8, REST; it lacks MDTM, SIZE");
        let all_on = Features::read(&reply(211, "x\n MLST type*;size*;UNIX.mode*;lang;\nend"));
        assert_eq!(all_on.facts, None);
    }

    #[test]
    fn where_nothing_is_told_everything_is_tried() {
        let features = Features::read(&reply(500, "what?"));
        assert!(!features.told && features.mdtm && features.size && features.rest && features.mlst);
    }
}
