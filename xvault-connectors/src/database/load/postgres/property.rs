//! What belongs to a database itself: settings, a comment, privileges. Statements about one database become such about another.

use super::statement::{Token, identifier, written};

/// What one may do with a database.
const RIGHTS: [&str; 5] = ["ALL", "CREATE", "CONNECT", "TEMPORARY", "TEMP"];

/// A statement about a database, without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    before: String,
    after: String,
    /// What it is about, for messages: without values, which may be secrets.
    pub(super) about: String,
    pub(super) is_privilege: bool,
}

impl Property {
    /// None: it is none of those that `pg_dump` writes about a database. Of whatever database it is, it will be about the one that
    /// [`Property::statement`] is told.
    pub(super) fn of(tokens: &[Token]) -> Option<Self> {
        let place = place_of_name(tokens).filter(|place| tokens.get(*place).is_some_and(Token::is_name))?;
        let (before, after) = tokens.split_at_checked(place)?;
        let after = after.get(1..)?;
        let end = after.iter().position(|token| token.is("TO") || token.is("IS")).unwrap_or(after.len());
        let is_privilege = before.first().is_some_and(|token| token.is("GRANT") || token.is("REVOKE"));
        let shown = if is_privilege { after } else { after.get(..end)? };
        let about = match before.first() {
            Some(token) if token.is("COMMENT") => "COMMENT".to_owned(),
            Some(_) if is_privilege => format!("{} … {}", written(before), written(shown)),
            _ if before.get(1).is_some_and(|token| token.is("ROLE")) => {
                format!("{} of role {}", written(shown), written(before.get(2..3)?))
            }
            _ => written(shown),
        };
        Some(Self { before: written(before), after: written(after), about, is_privilege })
    }

    /// Who owns it.
    pub(super) fn owner(name: &str) -> Self {
        let after = format!("OWNER TO {}", identifier(name));
        Self { before: "ALTER DATABASE".to_owned(), about: after.clone(), after, is_privilege: true }
    }

    /// For the database `name`; in one line.
    pub(super) fn statement(&self, name: &str) -> String {
        format!("{} {} {};", self.before, identifier(name), self.after)
    }
}

/// Where the name of the database is in a statement that may be taken.
fn place_of_name(tokens: &[Token]) -> Option<usize> {
    let is = |place: usize, word: &str| tokens.get(place).is_some_and(|token| token.is(word));
    let rest = |place: usize| tokens.get(place..).unwrap_or_default();
    if is(0, "ALTER") && is(1, "DATABASE") {
        (is_setting(rest(3)) || is_option(rest(3))).then_some(2)
    } else if is(0, "ALTER") && is(1, "ROLE") && is(3, "IN") && is(4, "DATABASE") {
        (tokens.get(2).is_some_and(Token::is_name) && is_setting(rest(6))).then_some(5)
    } else if is(0, "COMMENT") && is(1, "ON") && is(2, "DATABASE") {
        matches!(rest(4), [is, Token::Text(_)] if is.is("IS")).then_some(3)
    } else if is(0, "GRANT") || is(0, "REVOKE") {
        let place = tokens
            .windows(2)
            .position(|two| matches!(two, [on, what] if on.is("ON") && what.is("DATABASE")))?;
        let is_right =
            |token: &Token| *token == Token::Sign(',') || RIGHTS.iter().any(|right| token.is(right));
        let are_rights = tokens.get(1..place)?.iter().all(is_right);
        (are_rights && is_grantee(rest(place + 3))).then_some(place + 2)
    } else {
        None
    }
}

/// `SET name TO 'value', …`.
fn is_setting(tokens: &[Token]) -> bool {
    let [set, name, to, values @ ..] = tokens else { return false };
    let is_value = |(place, token): (usize, &Token)| match token {
        Token::Text(_) => place % 2 == 0,
        sign => place % 2 == 1 && *sign == Token::Sign(','),
    };
    set.is("SET")
        && name.is_name()
        && to.is("TO")
        && values.len() % 2 == 1
        && values.iter().enumerate().all(is_value)
}

fn is_option(tokens: &[Token]) -> bool {
    match tokens {
        [connection, limit, Token::Sign('='), number @ ..] => {
            let number = matches!(number, [Token::Word(_)] | [Token::Sign('-'), Token::Word(_)]);
            connection.is("CONNECTION") && limit.is("LIMIT") && number
        }
        [option, Token::Sign('='), value] => option.is("IS_TEMPLATE") && value.is("true"),
        _ => false,
    }
}

/// `TO role WITH GRANT OPTION`, `FROM role`.
fn is_grantee(tokens: &[Token]) -> bool {
    let [to, role, rest @ ..] = tokens else { return false };
    let option = ["WITH", "GRANT", "OPTION"];
    let is_option = rest.len() == option.len() && rest.iter().zip(option).all(|(token, word)| token.is(word));
    (to.is("TO") || to.is("FROM")) && role.is_name() && (rest.is_empty() || is_option)
}

#[cfg(test)]
mod tests {
    use super::super::statement::statements;
    use super::*;

    fn property(sql: &str) -> Option<Property> {
        Property::of(&statements(sql)?[0])
    }

    #[test]
    fn what_pg_dump_writes_about_a_database_becomes_about_another() {
        for (sql, expected, about) in [
            (
                "ALTER DATABASE shop SET search_path TO 'app', 'public';",
                "ALTER DATABASE \"n\"\"n\" SET search_path TO E'app' , E'public';",
                "SET search_path",
            ),
            (
                "ALTER DATABASE \"a b\" SET \"my.key\" TO E'x';",
                "ALTER DATABASE \"n\"\"n\" SET \"my.key\" TO E'x';",
                "SET \"my.key\"",
            ),
            (
                "ALTER ROLE \"b k\" IN DATABASE shop SET statement_timeout TO '5s';",
                "ALTER ROLE \"b k\" IN DATABASE \"n\"\"n\" SET statement_timeout TO E'5s';",
                "SET statement_timeout of role \"b k\"",
            ),
            (
                "ALTER DATABASE shop CONNECTION LIMIT = 7;",
                "ALTER DATABASE \"n\"\"n\" CONNECTION LIMIT = 7;",
                "CONNECTION LIMIT = 7",
            ),
            (
                "ALTER DATABASE shop IS_TEMPLATE = true;",
                "ALTER DATABASE \"n\"\"n\" IS_TEMPLATE = true;",
                "IS_TEMPLATE = true",
            ),
            (
                "COMMENT ON DATABASE shop IS 'it''s\n';",
                "COMMENT ON DATABASE \"n\"\"n\" IS E'it''s\\n';",
                "COMMENT",
            ),
            (
                "REVOKE CONNECT,TEMPORARY ON DATABASE shop FROM PUBLIC;",
                "REVOKE CONNECT , TEMPORARY ON DATABASE \"n\"\"n\" FROM PUBLIC;",
                "REVOKE CONNECT , TEMPORARY ON DATABASE … FROM PUBLIC",
            ),
            (
                "GRANT ALL ON DATABASE shop TO \"a b\" WITH GRANT OPTION;",
                "GRANT ALL ON DATABASE \"n\"\"n\" TO \"a b\" WITH GRANT OPTION;",
                "GRANT ALL ON DATABASE … TO \"a b\" WITH GRANT OPTION",
            ),
        ] {
            let property = property(sql).unwrap_or_else(|| panic!("{sql}"));
            assert_eq!((property.statement("n\"n").as_str(), property.about.as_str()), (expected, about));
            assert_eq!(property.is_privilege, sql.starts_with("GRANT") || sql.starts_with("REVOKE"));
        }
        assert_eq!(Property::owner("a\"b").statement("n"), "ALTER DATABASE \"n\" OWNER TO \"a\"\"b\";");
    }

    #[test]
    fn no_other_statement_is_taken() {
        for sql in [
            "ALTER ROLE me SUPERUSER;",
            "ALTER ROLE me SET role TO 'postgres';",
            "ALTER ROLE me IN DATABASE shop RESET ALL;",
            "ALTER DATABASE shop OWNER TO me;",
            "ALTER DATABASE shop RENAME TO other;",
            "ALTER DATABASE shop SET TABLESPACE fast;",
            "ALTER DATABASE shop SET x TO 'a' 'b';",
            "ALTER DATABASE shop SET x TO 'a',;",
            "ALTER DATABASE shop SET x TO current_user;",
            "ALTER DATABASE 'shop' SET x TO 'a';",
            "ALTER DATABASE shop IS_TEMPLATE = false;",
            "ALTER SYSTEM SET x TO 'a';",
            "COMMENT ON DATABASE shop IS NULL;",
            "COMMENT ON ROLE shop IS 'x';",
            "GRANT me TO you;",
            "GRANT ALL ON TABLE DATABASE TO me;",
            "GRANT ALL ON DATABASE a , b TO me;",
            "GRANT SELECT ON TABLE t TO me WITH GRANT OPTION , x ON DATABASE d TO me;",
            "GRANT CONNECT ON DATABASE shop TO me GRANTED BY you;",
            "DROP DATABASE shop;",
            "UPDATE pg_database SET x = y;",
        ] {
            assert_eq!(property(sql), None, "{sql}");
        }
    }
}
