//! The lines by which a dump of MySQL names the database that it was made of, made to be about the one that it is loaded into:
//!
//! - those that change its default character set for a while;
//! - MariaDB's defaults that take a number of one of its sequences;
//! - MariaDB's views whose definer is gone: what such a view is made of the server writes down as it keeps it.
//!
//! A dump that goes on in a database of its own choice ends there: it would change that one.
//!
//! And the locks around rows go, which older dumps have: between them MariaDB takes no rows of a table that draws from a sequence.

use super::goes_elsewhere;
use crate::Error;
use crate::database::mysql::{identifier, quoted_name};

/// How a dump begins to say what it is of.
const HOST: &[u8] = b"-- Host: ";

/// What stands before the name there.
const DATABASE: &str = "    Database: ";

/// How a line begins that changes the defaults. The name is in quotes always.
const ALTER: &str = "ALTER DATABASE ";

/// How a line begins that is about a column.
const COLUMN: &[u8] = b"  `";

/// How a line begins that says what a view is made of.
const VIEW: &[u8] = b"/*!50001 VIEW `";

/// How a line is that locks a table.
const LOCK: (&[u8], &[u8]) = (b"LOCK TABLES `", b"` WRITE;\n");

/// How the lines begin that choose a database, or make one: those of dumps by `--databases` and `--all-databases`.
const CHOOSES: [&[u8]; 3] = [b"USE `", b"CREATE DATABASE ", b"/*!40000 DROP DATABASE "];

/// What stands before the name of a sequence.
const TAKES: [&[u8]; 3] = [b"nextval(", b"lastval(", b"setval("];

/// How a line begins that tells what ends statements from here on.
const DELIMITER: &[u8] = b"DELIMITER ";

/// What ends statements at first.
const USUAL: &[u8] = b";";

/// Longer than a line can be that is changed, but for those of columns and views: a name has 64 characters.
const LONGEST: usize = 1024;

/// A longer line of a column or a view is left as it is.
const LONGEST_DEFINITION: usize = 1 << 20;

/// More than the blanks and the delimiter at the end of a line.
const END: usize = 32;

/// Gives what it takes, but for the names in such lines. It holds no more than one of these, or another line's beginning.
#[derive(Debug)]
pub(super) struct OwnName {
    /// ``` `shop`. ```, once the dump has said so.
    qualifier: Option<Vec<u8>>,
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

impl Default for OwnName {
    fn default() -> Self {
        let delimiter = USUAL.to_vec();
        let (held, end) = (Vec::new(), Vec::new());
        Self { qualifier: None, held, holding: true, end, delimiter, begins: true }
    }
}

impl OwnName {
    /// What can be given now that `piece` came.
    ///
    /// # Errors
    /// When the dump chooses a database by itself.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, Error> {
        let mut given = Vec::with_capacity(piece.len() + self.held.len());
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.take(part, &mut given)?;
        }
        Ok(given)
    }

    /// What is left at the end.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn take(&mut self, part: &[u8], given: &mut Vec<u8>) -> Result<(), Error> {
        let is_whole = part.ends_with(b"\n");
        if !self.holding {
            given.extend_from_slice(part);
            self.remember(part);
        } else if is_whole {
            self.held.extend_from_slice(part);
            let line = std::mem::take(&mut self.held);
            given.extend_from_slice(&self.looked_at(&line)?);
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
        Ok(())
    }

    /// A whole line, changed or not.
    fn looked_at(&mut self, line: &[u8]) -> Result<Vec<u8>, Error> {
        self.remember(line);
        if !self.begins && self.delimiter != USUAL {
            return Ok(line.to_vec());
        }
        if let Some(delimiter) = line.strip_prefix(DELIMITER) {
            self.delimiter = delimiter.trim_ascii().to_vec();
            // The line ends with it.
            return Ok(line.to_vec());
        }
        if !is_short_enough(line) {
            return Ok(line.to_vec());
        }
        if line.starts_with(ALTER.as_bytes()) {
            return Ok(without_name(line, &self.delimiter).unwrap_or_else(|| line.to_vec()));
        }
        if self.delimiter == USUAL && CHOOSES.iter().any(|words| line.starts_with(words)) {
            return Err(goes_elsewhere(line));
        }
        Ok(self.unqualified(line))
    }

    /// Where nothing but the tool's own lines can stand.
    fn unqualified(&mut self, line: &[u8]) -> Vec<u8> {
        if self.qualifier.is_none() && line.starts_with(HOST) {
            self.qualifier = qualifier(line);
        }
        let is_lock = line.starts_with(LOCK.0) && line.ends_with(LOCK.1);
        match &self.qualifier {
            _ if is_lock && self.delimiter == USUAL => Vec::new(),
            Some(own) if self.delimiter == USUAL && line.starts_with(COLUMN) => {
                without(line, own, |before, _| TAKES.iter().any(|word| before.ends_with(word)))
            }
            Some(own) if self.delimiter == USUAL && line.starts_with(VIEW) => {
                without(line, own, is_of_a_column)
            }
            _ => line.to_vec(),
        }
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
    let mut words = [ALTER.as_bytes(), DELIMITER, HOST, COLUMN, VIEW, LOCK.0].into_iter().chain(CHOOSES);
    is_short_enough(line) && words.any(|word| line.starts_with(word) || word.starts_with(line))
}

fn is_short_enough(line: &[u8]) -> bool {
    let is_definition = line.starts_with(COLUMN) || line.starts_with(VIEW);
    line.len() <= if is_definition { LONGEST_DEFINITION } else { LONGEST }
}

/// From `-- Host: localhost    Database: shop`.
fn qualifier(line: &[u8]) -> Option<Vec<u8>> {
    let (_, name) = std::str::from_utf8(line).ok()?.split_once(DATABASE)?;
    let name = name.strip_suffix('\n')?;
    (!name.is_empty()).then(|| format!("{}.", identifier(name)).into_bytes())
}

/// Whether a name of three parts begins between these: a database's, a table's, a column's.
fn is_of_a_column(before: &[u8], after: &[u8]) -> bool {
    let table = after.get(..token(after)).filter(|table| table.starts_with(b"`"));
    let rest = table.and_then(|table| after.get(table.len()..));
    !before.ends_with(b".") && rest.is_some_and(|rest| rest.starts_with(b".`"))
}

/// `line` without `own` wherever it `may` go, going by what stands before it and what behind. Texts are left alone.
fn without(line: &[u8], own: &[u8], may: impl Fn(&[u8], &[u8]) -> bool) -> Vec<u8> {
    let (mut given, mut rest) = (Vec::with_capacity(line.len()), line);
    while !rest.is_empty() {
        match rest.strip_prefix(own) {
            Some(after) if may(&given, after) => rest = after,
            _ => {
                let (one, after) = rest.split_at(token(rest));
                given.extend_from_slice(one);
                rest = after;
            }
        }
    }
    given
}

/// How long what `text` begins with is: a text or a name in quotes, or one byte.
fn token(text: &[u8]) -> usize {
    let Some(quote) = text.first().filter(|byte| matches!(byte, b'\'' | b'"' | b'`')) else {
        return text.len().min(1);
    };
    let mut bytes = text.iter().enumerate().skip(1).peekable();
    while let Some((place, byte)) = bytes.next() {
        let is_escape = *byte == b'\\' && *quote != b'`';
        let is_doubled = byte == quote && bytes.peek().is_some_and(|(_, next)| *next == quote);
        if is_escape || is_doubled {
            bytes.next();
        } else if byte == quote {
            return place + 1;
        }
    }
    text.len()
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
        let mut own_name = OwnName::default();
        let mut given = Vec::new();
        for piece in dump.as_bytes().chunks(size) {
            given.extend_from_slice(&own_name.push(piece).unwrap());
            let (held, most) =
                (&own_name.held, if dump.contains(CUT) { LONGEST_DEFINITION } else { LONGEST });
            assert!(held.len() <= most + size, "it holds {} bytes", held.len());
        }
        given.extend_from_slice(&own_name.rest());
        String::from_utf8(given).unwrap()
    }

    /// What tests have in lines that are held for longer.
    const CUT: &str = "/*!50001 VIEW";

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

    #[test]
    fn a_dump_that_chooses_a_database_ends_there() {
        for line in [
            "USE `shop`;\n",
            "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `shop` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;\n",
            "/*!40000 DROP DATABASE IF EXISTS `shop`*/;\n",
        ] {
            let dump = format!("-- Host: localhost    Database: shop\n{line}INSERT INTO `t` VALUES (1);\n");
            for size in [1, 7, 1000] {
                let mut own_name = OwnName::default();
                let given: Result<Vec<_>, _> =
                    dump.as_bytes().chunks(size).map(|piece| own_name.push(piece)).collect();
                let said = given.expect_err(line).to_string();
                assert!(said.contains(&format!("(`{}`)", line.trim_end())), "{said}");
            }
        }
        for kept in [
            "DELIMITER ;;\nCREATE PROCEDURE p()\nUSE `x`;\n;;\nDELIMITER ;\nINSERT INTO t VALUES ('USE `x`;\\nUSE `x`;');\n",
            "-- USE `x`;\n USE `x`;\n",
        ] {
            assert_eq!(changed(kept, 5), kept);
        }
    }

    #[test]
    fn sequences_and_columns_of_the_dumps_own_database_lose_its_name() {
        let dump = |lines: &[&str]| {
            format!("-- X dump\n--\n-- Host: localhost    Database: it's`b\n{}\n", lines.join("\n"))
        };
        for (line, expected) in [
            ("  `a` int DEFAULT nextval(`it's``b`.`s`),", "  `a` int DEFAULT nextval(`s`),"),
            (
                "  `a` int DEFAULT (setval(`it's``b`.`s`,1,1,0) + lastval(`it's``b`.`t`)) COMMENT 'x'",
                "  `a` int DEFAULT (setval(`s`,1,1,0) + lastval(`t`)) COMMENT 'x'",
            ),
            (
                "/*!50001 VIEW `v` AS select `it's``b`.`t``x`.`a` AS `it's``b`,'\\'`it''s``b`.`t`.`a`' from `t``x` */;",
                "/*!50001 VIEW `v` AS select `t``x`.`a` AS `it's``b`,'\\'`it''s``b`.`t`.`a`' from `t``x` */;",
            ),
        ] {
            for size in [1, 5, 1000] {
                assert_eq!(changed(&dump(&[line]), size), dump(&[expected]), "{size}");
            }
        }
        let long =
            format!("/*!50001 VIEW `v` AS select '{}',`it's``b`.`t`.`a`", "x".repeat(LONGEST_DEFINITION));
        for kept in [
            "  `a` varchar(9) DEFAULT 'nextval(`it\\'s``b`.`s`)' COMMENT 'nextval(`it\'\'s``b`.`s`)',",
            "  `a` int DEFAULT nextval(`other`.`s`),",
            "  `nextval(``it's````b``.``s``)` int,",
            "  `x``it's``b`.`s`",
            "DELIMITER ;;\nCREATE PROCEDURE p()\nLOCK TABLES `t` WRITE;\n;;\nDELIMITER ;",
            "(1,'  `a` int DEFAULT nextval(`it\\'s``b`.`s`)')",
            // A table of the database's name.
            "/*!50001 VIEW `v` AS select `it's``b`.`a` AS `a` from `it's``b` */;",
            "/*!50001 VIEW `v` AS select `other`.`t`.`a` AS `a` from `other`.`t` */;",
            "/*!50001 VIEW `v` AS select `other`.`it's``b`.`t`.`a` AS `a` from `other`.`it's``b` */;",
            "DELIMITER ;;\nCREATE PROCEDURE p() CREATE TABLE t (\n  `a` int DEFAULT nextval(`it's``b`.`s`)) ;;\nDELIMITER ;",
            long.as_str(),
        ] {
            assert_eq!(changed(&dump(&[kept]), 1000), dump(&[kept]));
        }
        let nameless = "  `a` int DEFAULT nextval(`b`.`s`),\n";
        assert_eq!(changed(nameless, 7), nameless);
    }
}
