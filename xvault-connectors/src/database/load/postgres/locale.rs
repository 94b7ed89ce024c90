//! How the database of a dump was made: its encoding and locale, as options for another one.

use super::statement::{Token, literal, written};

/// What `CREATE DATABASE` in a dump says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Locale {
    encoding: Option<String>,
    /// The rest, where the dump tells it.
    rest: Option<Rest>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Rest {
    /// `libc` before version 15.
    provider: Option<String>,
    collate: String,
    ctype: String,
    /// What only the provider itself understands, with the words for it: `ICU_LOCALE`, `BUILTIN_LOCALE`, `ICU_RULES`.
    own: Vec<(&'static str, String)>,
}

/// The words for what is the provider's own.
const OWN: [&str; 3] = ["ICU_LOCALE", "BUILTIN_LOCALE", "ICU_RULES"];

impl Locale {
    pub(super) fn of_encoding(encoding: Option<String>) -> Self {
        Self { encoding, rest: None }
    }

    /// By `CREATE DATABASE … WITH …`. What is not about the locale is not looked at.
    pub(super) fn of_statement(tokens: &[Token]) -> Option<Self> {
        let [create, database, _, with, options @ ..] = tokens else { return None };
        if !(create.is("CREATE") && database.is("DATABASE") && with.is("WITH")) {
            return None;
        }
        let (mut locale, mut rest) = (Self::default(), Rest::default());
        for option in options.chunks(3) {
            let [Token::Word(word), Token::Sign('='), value] = option else { return None };
            let value = value.text().or(value.name())?.to_owned();
            match word.as_str() {
                "ENCODING" => locale.encoding = Some(value),
                "LOCALE_PROVIDER" => rest.provider = Some(value).filter(|value| is_word(value)),
                "LOCALE" => (rest.collate, rest.ctype) = (value.clone(), value),
                "LC_COLLATE" => rest.collate = value,
                "LC_CTYPE" => rest.ctype = value,
                word => rest.own.extend(OWN.into_iter().find(|own| *own == word).map(|own| (own, value))),
            }
        }
        locale.rest = Some(rest);
        Some(locale)
    }

    /// Whether the dump tells the locale, besides the encoding.
    pub(super) fn is_told(&self) -> bool {
        self.rest.is_some()
    }

    /// Whether texts may be of any encoding, and of several.
    pub(super) fn is_of_no_encoding(&self) -> bool {
        self.encoding.as_deref() == Some("SQL_ASCII")
    }

    /// Options of `CREATE DATABASE`, the best first: as it was; as it sorted; with the server's own locale; with the one that every
    /// encoding takes; and as the server makes databases.
    pub(super) fn options(&self, major: u32) -> Vec<String> {
        let encoding = self.encoding.as_ref().map(|encoding| format!(" ENCODING {}", literal(encoding)));
        let encoding = encoding.unwrap_or_default();
        let mut all = Vec::new();
        if let Some(rest) = &self.rest {
            let own = rest.own(major);
            all.push(format!("{encoding}{own}{}", rest.libc()));
            if !rest.own.is_empty() {
                all.push(format!("{encoding}{own}"));
                all.push(format!("{encoding}{own} LC_COLLATE 'C' LC_CTYPE 'C'"));
            }
        }
        let libc = if major >= 15 { " LOCALE_PROVIDER libc" } else { "" };
        all.extend([
            encoding.clone(),
            format!("{encoding}{libc} LC_COLLATE 'C' LC_CTYPE 'C'"),
            String::new(),
        ]);
        all.dedup();
        all
    }
}

impl Rest {
    fn libc(&self) -> String {
        let given = [("LC_COLLATE", &self.collate), ("LC_CTYPE", &self.ctype)];
        let given = given.into_iter().filter(|(_, value)| !value.is_empty());
        given.map(|(word, value)| format!(" {word} {}", literal(value))).collect()
    }

    /// Servers before 15 have one provider, and no word for it.
    fn own(&self, major: u32) -> String {
        let provider = self.provider.as_deref().unwrap_or("libc");
        let mut options = String::new();
        if major >= 15 || provider != "libc" {
            options = format!(" LOCALE_PROVIDER {provider}");
        }
        for (word, value) in &self.own {
            options.push_str(&format!(" {word} {}", written(&[Token::Text(value.clone())])));
        }
        options
    }
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::statement::statements;
    use super::*;

    fn options(sql: &str, major: u32) -> Vec<String> {
        Locale::of_statement(&statements(sql).unwrap()[0]).unwrap().options(major)
    }

    #[test]
    fn a_database_is_made_as_it_was_and_else_as_like_it_as_may_be() {
        let icu = "CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = icu LOCALE = 'C.UTF-8' \
                   ICU_LOCALE = 'de-DE' ICU_RULES = '&a < b' TABLESPACE = fast;";
        let own = " ENCODING E'UTF8' LOCALE_PROVIDER icu ICU_LOCALE E'de-DE' ICU_RULES E'&a < b'";
        assert_eq!(
            options(icu, 16),
            [
                &format!("{own} LC_COLLATE E'C.UTF-8' LC_CTYPE E'C.UTF-8'"),
                own,
                &format!("{own} LC_COLLATE 'C' LC_CTYPE 'C'"),
                " ENCODING E'UTF8'",
                " ENCODING E'UTF8' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'",
                "",
            ]
        );
        let older = "CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = 'LATIN1' LC_COLLATE = 'C' LC_CTYPE = 'de_DE';";
        assert_eq!(
            options(older, 14),
            [
                " ENCODING E'LATIN1' LC_COLLATE E'C' LC_CTYPE E'de_DE'",
                " ENCODING E'LATIN1'",
                " ENCODING E'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
                "",
            ]
        );
        assert!(options(older, 15)[0].contains(" LOCALE_PROVIDER libc "), "{:?}", options(older, 15));
        assert_eq!(Locale::default().options(17).len(), 3);
    }

    #[test]
    fn nothing_but_values_comes_from_a_dump() {
        let hostile = "CREATE DATABASE a WITH TEMPLATE = other LOCALE_PROVIDER = \"x; DROP\" ENCODING = '''; DROP' OWNER = me;";
        let all = options(hostile, 15);
        assert_eq!(all[0], " ENCODING E'''; DROP' LOCALE_PROVIDER libc");
        for other in ["CREATE DATABASE a WITH ENCODING;", "CREATE TABLE a WITH x = y;", "CREATE DATABASE a;"]
        {
            assert_eq!(Locale::of_statement(&statements(other).unwrap()[0]), None, "{other}");
        }
    }
}
