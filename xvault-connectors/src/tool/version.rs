//! Versions of tools and servers.

use std::fmt;

/// A version: the numbers that it begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 15 of 15.18, 10 of 10.11.19.
    pub major: u32,
    /// 18 of 15.18, 11 of 10.11.19.
    pub minor: u32,
    /// 19 of 10.11.19.
    pub patch: u32,
}

impl Version {
    /// The first version in `text`: that of `pg_dump (PostgreSQL) 15.18 (Debian…)` is 15.18.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        let starts = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
        let words = text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ',' | '-')).filter(starts);
        words.filter_map(Self::parse).next()
    }

    /// `15.18`, `10.11.19`, `16beta1`: digits between dots, as far as they go.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map_while(|part| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        });
        let major = numbers.next()?;
        Some(Self {
            major,
            minor: numbers.next().unwrap_or_default(),
            patch: numbers.next().unwrap_or_default(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch > 0 { write!(f, ".{}", self.patch) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_and_servers_say_is_understood() {
        let cases = [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some((15, 18, 0))),
            ("pg_dump (PostgreSQL) 18.6", Some((18, 6, 0))),
            ("mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu", Some((10, 19, 0))),
            ("10.11.19-MariaDB-0+deb12u1", Some((10, 11, 19))),
            ("mysqldump  Ver 9.7.4 for Linux on x86_64", Some((9, 7, 4))),
            ("no version here", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = Version::find(text).map(|v| (v.major, v.minor, v.patch));
            assert_eq!(found, expected, "{text}");
        }
        assert!(Version::parse("15.9") < Version::parse("15.10"));
        assert_eq!(Version::parse("10.11.19").map(|v| v.to_string()), Some("10.11.19".into()));
    }
}
