//! What a server answers: three digits and text, on one line or several.

use xvault_core::entry::display_name;

/// The longest answer that is taken, in bytes. FEAT's are the longest ones.
pub(super) const MAX_REPLY: usize = 64 << 10;

/// More of an answer is not shown in a message.
const MAX_SHOWN: usize = 200;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Between 100 and 599.
    pub(crate) code: u16,
    /// The lines without code, as bytes: names may be in them.
    pub(crate) lines: Vec<Vec<u8>>,
}

impl Reply {
    /// Whether it was done.
    pub(crate) fn is_done(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether it is only announced, with data to come.
    pub(crate) fn is_begun(&self) -> bool {
        self.code / 100 == 1
    }

    /// Whether the command itself is not known or not offered, whatever it is about.
    pub(crate) fn is_unknown_command(&self) -> bool {
        matches!(self.code, 500 | 502 | 504 | 202)
    }

    /// The last line, as the other lines only repeat it at length.
    pub(crate) fn text(&self) -> &[u8] {
        self.lines.last().map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether any of these words is in it, in small letters.
    pub(crate) fn says(&self, words: &[&str]) -> bool {
        let text = self.lines.join(&b' ').to_ascii_lowercase();
        words.iter().any(|word| text.windows(word.len()).any(|part| part == word.as_bytes()))
    }

    /// For messages: code and text, without control characters, and not too long.
    pub(crate) fn shown(&self) -> String {
        let text = display_name(self.text());
        let text: String = text.chars().take(MAX_SHOWN).collect();
        format!("{} {}", self.code, text.trim())
    }
}

/// Puts an answer together from its lines.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    code: Option<u16>,
    lines: Vec<Vec<u8>>,
    len: usize,
}

impl Assembly {
    /// One more line, without its end; the answer, once it is whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn add(&mut self, line: &[u8]) -> Result<Option<Reply>, &'static str> {
        self.len += line.len() + 1;
        if self.len > MAX_REPLY {
            return Err("its answer does not end");
        }
        let head = head(line);
        match (self.code, head) {
            (None, None) => Err("its answer does not begin with three digits"),
            (None, Some((code, is_last))) => {
                self.code = Some(code);
                self.push(line.get(4..).unwrap_or_default());
                Ok(is_last.then(|| self.whole(code)))
            }
            (Some(code), Some((again, true))) if again == code => {
                self.push(line.get(4..).unwrap_or_default());
                Ok(Some(self.whole(code)))
            }
            (Some(code), _) => {
                let own = format!("{code}-");
                self.push(line.strip_prefix(own.as_bytes()).unwrap_or(line));
                Ok(None)
            }
        }
    }

    fn push(&mut self, text: &[u8]) {
        self.lines.push(text.to_vec());
    }

    fn whole(&mut self, code: u16) -> Reply {
        Reply { code, lines: std::mem::take(&mut self.lines) }
    }
}

/// Code of a line, and whether it is the last one.
fn head(line: &[u8]) -> Option<(u16, bool)> {
    let digits = line.get(..3)?;
    let code = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit))?;
    let code = code.parse().ok().filter(|code| (100..600).contains(code))?;
    match line.get(3) {
        None | Some(b' ') => Some((code, true)),
        Some(b'-') => Some((code, false)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Option<Reply>, &'static str> {
        let mut assembly = Assembly::default();
        for line in text.lines() {
            if let Some(reply) = assembly.add(line.as_bytes())? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    #[test]
    fn one_line_and_several() {
        let reply = read("226 Done").unwrap().unwrap();
        assert_eq!((reply.code, reply.text()), (226, &b"Done"[..]));
        let reply = read("211-Features:\n MDTM\n211-SIZE\n 211 no end\n21\n211 End").unwrap().unwrap();
        assert_eq!(reply.lines, ["Features:", " MDTM", "SIZE", " 211 no end", "21", "End"].map(Vec::from));
        assert_eq!(read("230-a\n220 b\n").unwrap(), None);
        assert_eq!(read("200").unwrap().unwrap().text(), b"");
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for bad in ["SSH-2.0-OpenSSH", "", "99 x", "600 x", "22x hello", "220_x", "-20 x"] {
            let told = Assembly::default().add(bad.as_bytes());
            assert_eq!(told, Err("its answer does not begin with three digits"), "{bad}");
        }
    }

    #[test]
    fn an_answer_without_end_is_given_up() {
        let mut assembly = Assembly::default();
        assembly.add(b"220-begin").unwrap();
        let mut told = std::iter::repeat_with(|| assembly.add(&[b'x'; 1000]));
        let whole_lines = (MAX_REPLY - "220-begin\n".len()) / 1001;
        assert_eq!(told.by_ref().take_while(|told| *told == Ok(None)).count(), whole_lines);
        assert_eq!(told.next(), Some(Err("its answer does not end")));
    }

    #[test]
    fn what_is_shown_is_short_and_harmless() {
        let reply = Reply { code: 550, lines: vec![[b"\x1b[31m\xff", &[b'a'; 5000][..]].concat()] };
        assert!(reply.shown().starts_with("550 \\u{1b}[31m\\xffaaa") && reply.shown().len() < 300);
    }

    proptest! {
        #[test]
        fn nothing_panics(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..12)) {
            let mut assembly = Assembly::default();
            for line in lines {
                let _ = assembly.add(&line);
            }
        }
    }
}
