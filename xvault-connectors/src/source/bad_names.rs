//! What is wrong with names of one directory: the first of them in full, the others counted.

use xvault_core::entry::display_name;
use xvault_core::{EntryPath, WarningCode};

/// Messages kept for one directory: enough to see what is wrong.
const MAX_KEPT: usize = 100;

/// A message is cut after so many characters: a name that a server makes up may be long.
const MAX_MESSAGE_LEN: usize = 500;

/// Messages about names that can't be kept.
#[derive(Debug, Default)]
pub(crate) struct BadNames {
    kept: Vec<String>,
    more: u64,
}

impl BadNames {
    /// One more. Whether `message` is made at all depends on how many there are.
    pub(crate) fn add(&mut self, message: impl FnOnce() -> String) {
        if self.kept.len() < MAX_KEPT {
            self.kept.push(shortened(&message()));
        } else {
            self.more += 1;
        }
    }

    /// Sorts the entries of a directory by their names, of which each is kept once.
    pub(crate) fn sort<T>(&mut self, children: &mut Vec<T>, name: impl Fn(&T) -> &[u8]) {
        children.sort_by(|a, b| name(a).cmp(name(b)));
        children.dedup_by(|later, kept| {
            let same = name(later) == name(kept);
            if same {
                self.add(|| format!("`{}` is listed twice", display_name(name(later))));
            }
            same
        });
    }

    /// The warnings, at `path`, that of their directory.
    pub(crate) fn into_warnings(
        self,
        path: Option<EntryPath>,
    ) -> impl Iterator<Item = (EntryPath, WarningCode, String)> {
        let messages = path.map(|path| (path, self.into_messages()));
        messages.into_iter().flat_map(|(path, messages)| {
            messages.map(move |message| (path.clone(), WarningCode::BadName, message))
        })
    }

    /// Those of another one, behind its own.
    pub(crate) fn append(&mut self, other: Self) {
        for message in other.into_messages() {
            self.add(|| message);
        }
    }

    /// The messages; the last one says how many there were besides.
    fn into_messages(self) -> impl Iterator<Item = String> {
        let more = (self.more > 0).then(|| format!("{} more names can't be kept", self.more));
        self.kept.into_iter().chain(more)
    }
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE_LEN) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_told_shortened_and_the_others_counted() {
        let mut names = BadNames::default();
        names.add(|| "é".repeat(100_000));
        for number in 1..1000 {
            names.add(|| number.to_string());
        }
        let messages: Vec<_> = names.into_messages().collect();
        assert_eq!(messages.len(), MAX_KEPT + 1);
        assert_eq!(messages[0], format!("{}…", "é".repeat(MAX_MESSAGE_LEN)));
        assert_eq!((messages[1].as_str(), messages[99].as_str()), ("1", "99"));
        assert_eq!(messages[100], "900 more names can't be kept");
        assert_eq!(BadNames::default().into_messages().count(), 0);
    }

    #[test]
    fn a_name_that_is_listed_twice_is_kept_once_and_told_at_its_directory() {
        let mut children = vec!["b", "a", "b", "c", "b"];
        let mut names = BadNames::default();
        names.sort(&mut children, |name| name.as_bytes());
        assert_eq!(children, ["a", "b", "c"]);
        let path = EntryPath::new("srv").unwrap();
        let told = (path.clone(), WarningCode::BadName, "`b` is listed twice".to_owned());
        assert_eq!(names.into_warnings(Some(path)).collect::<Vec<_>>(), [told.clone(), told]);
    }
}
