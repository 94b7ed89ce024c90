//! The lines by which a dump of MySQL changes its database's default character set for a while, made to be about the database that
//! the dump is loaded into: they name the one it was made of.

use crate::database::mysql::quoted_name;

/// How such a line begins. The name is in quotes always.
const ALTER: &str = "ALTER DATABASE ";

/// How a line begins that tells what ends statements from here on.
const DELIMITER: &[u8] = b"DELIMITER ";

/// What ends statements at first.
const USUAL: &[u8] = b";";

/// Longer than a line can be that is changed: a name has 64 characters.
const LONGEST: usize = 1024;

/// More than the blanks and the delimiter at the end of a line.
const END: usize = 32;

/// Gives what it takes, but for the names in such lines. It holds no more than a line's beginning.
#[derive(Debug)]
pub(super) struct OwnDefaults {
    /// What is held back of the line: as long as it may be one to look at.
    held: Vec<u8>,
    holding: bool,
    /// The last bytes of a line that is not held back.
    end: Vec<u8>,
    delimiter: Vec<u8>,
    /// Whether the line begins a statement, where the delimiter is not the usual one. Elsewhere no statement of the tools has lines that
    /// begin so; a routine may.
    begins: bool,
}

impl Default for OwnDefaults {
    fn default() -> Self {
        let delimiter = USUAL.to_vec();
        Self { held: Vec::new(), holding: true, end: Vec::new(), delimiter, begins: true }
    }
}

impl OwnDefaults {
    /// What can be given now that `piece` came.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut given = Vec::with_capacity(piece.len() + self.held.len());
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.take(part, &mut given);
        }
        given
    }

    /// What is left at the end.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn take(&mut self, part: &[u8], given: &mut Vec<u8>) {
        let is_whole = part.ends_with(b"\n");
        if !self.holding {
            given.extend_from_slice(part);
            self.remember(part);
        } else if is_whole {
            self.held.extend_from_slice(part);
            let line = std::mem::take(&mut self.held);
            given.extend_from_slice(&self.looked_at(&line));
        } else {
            self.held.extend_from_slice(part);
            if !may_matter(&self.held) {
                self.holding = false;
                let line = std::mem::take(&mut self.held);
                self.remember(&line);
                given.extend_from_slice(&line);
            }
        }
        if is_whole {
            self.end_line();
        }
    }

    /// A whole line, changed or not.
    fn looked_at(&mut self, line: &[u8]) -> Vec<u8> {
        self.remember(line);
        if !self.begins && self.delimiter != USUAL {
            return line.to_vec();
        }
        if let Some(delimiter) = line.strip_prefix(DELIMITER) {
            self.delimiter = delimiter.trim_ascii().to_vec();
            // The line ends with it.
            return line.to_vec();
        }
        let changed = if line.len() > LONGEST { None } else { without_name(line, &self.delimiter) };
        changed.unwrap_or_else(|| line.to_vec())
    }

    fn remember(&mut self, part: &[u8]) {
        self.end.extend_from_slice(part.get(part.len().saturating_sub(END)..).unwrap_or_default());
        self.end.drain(..self.end.len().saturating_sub(END));
    }

    fn end_line(&mut self) {
        self.begins = self.end.trim_ascii_end().ends_with(&self.delimiter);
        self.end.clear();
        self.holding = true;
    }
}

/// Whether a line that begins so may be one to look at.
fn may_matter(line: &[u8]) -> bool {
    let fits = |word: &[u8]| line.starts_with(word) || word.starts_with(line);
    line.len() <= LONGEST && (fits(ALTER.as_bytes()) || fits(DELIMITER))
}

/// Without a name it is about the database that is in use: ``ALTER DATABASE `shop` CHARACTER SET latin1 COLLATE latin1_bin ;``.
fn without_name(line: &[u8], delimiter: &[u8]) -> Option<Vec<u8>> {
    let named = std::str::from_utf8(line).ok()?.strip_prefix(ALTER)?;
    let (_, rest) = quoted_name(named)?;
    let words: Vec<&str> = rest.strip_prefix(" CHARACTER SET ")?.split_ascii_whitespace().collect();
    let [set, "COLLATE", collation, end] = words[..] else { return None };
    let is_name = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let fits = is_name(set) && is_name(collation) && end.as_bytes() == delimiter;
    fits.then(|| format!("{}{}", ALTER.trim_end(), rest).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(dump: &str, size: usize) -> String {
        let mut defaults = OwnDefaults::default();
        let mut given = Vec::new();
        for piece in dump.as_bytes().chunks(size) {
            given.extend_from_slice(&defaults.push(piece));
            assert!(defaults.held.len() <= LONGEST + size, "it holds {} bytes", defaults.held.len());
        }
        given.extend_from_slice(&defaults.rest());
        String::from_utf8(given).unwrap()
    }

    const SET: &str = "CHARACTER SET latin1 COLLATE latin1_swedish_ci";

    #[test]
    fn the_tools_own_lines_lose_the_name_and_nothing_else_is_touched() {
        let row = format!("INSERT INTO `t` VALUES ('{}')", "x".repeat(5000));
        let alter = format!("ALTER DATABASE `a``b \u{e9}` {SET}");
        let kept = [
            format!("{row},('\\n{alter} ;');\n"),
            format!(" {alter} ;\n"),
            format!("{alter} ; DROP TABLE t;\n"),
            format!("ALTER DATABASE ``x`` {SET} ;\n"),
            format!("ALTER DATABASE x {SET} ;\n"),
            format!("{alter} ;;\n"),
            "ALTER DATABASE `x` CHARACTER SET a'b COLLATE c ;\n".to_owned(),
            "ALTER DATABASE `x` CHARACTER SET latin1 ;\n".to_owned(),
            format!("ALTER DATABASE `{}` {SET} ;\n", "x".repeat(2000)),
            // A procedure that changes a database, its one statement on a line of its own, and what it does within a block.
            format!("DELIMITER ;;\nCREATE PROCEDURE p()\n{alter} ;;\nDELIMITER ;\n"),
            format!(
                "DELIMITER ;;\nCREATE PROCEDURE p() BEGIN\n{alter} ;\nDELIMITER ;\nEND ;;\nDELIMITER ;\n"
            ),
            "\n\nDELIMITER".to_owned(),
        ];
        let of_event = format!(
            "/*!50106 SET x */ ;;\nDELIMITER ;;;\n{alter} ;;;\nCREATE EVENT e\n DO x ;;;\n{alter} ;;;\n"
        );
        let dump = [&format!("{alter} ;\n"), &of_event, "DELIMITER ;\n", &kept.join(&format!("{alter} ;\n"))]
            .concat();
        let expected = {
            let own = format!("ALTER DATABASE {SET}");
            let kept = kept.join(&format!("{own} ;\n"));
            let of_event = of_event.replace(&alter, &own);
            [&format!("{own} ;\n"), &of_event, "DELIMITER ;\n", &kept].concat()
        };
        for size in [1, 7, 300, 100_000] {
            assert_eq!(changed(&dump, size), expected, "{size}");
        }
    }
}
