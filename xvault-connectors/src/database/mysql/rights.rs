//! What a user may read, by what `SHOW GRANTS` says: privileges of the user, of its active roles, and of everybody.
//!
//! A server shows nobody what he has no privilege on, so a dump that lacks it looks whole. What we can know is whether a
//! privilege covers all of a database.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Flavor, Mysql, identifier};
use crate::Error;
use crate::database::unhex;

/// What everybody has who has all.
const ALL: &str = "ALL PRIVILEGES";

/// How a server answers `SHOW GRANTS` that runs with --skip-grant-tables.
const KEEPS_NONE: [&str; 2] = ["ERROR 1290 ", "ERROR 1141 "];

/// Who has one of these on a database sees all of its routines.
const SHOW_ROUTINES: [&str; 4] = ["EXECUTE", "CREATE ROUTINE", "ALTER ROUTINE", "SHOW CREATE ROUTINE"];

/// Who has one of these on a server may have it write files, or can become one who does.
const MIGHTY: [&str; 4] = ["FILE", "SUPER", "SYSTEM_VARIABLES_ADMIN", "CREATE USER"];

/// What a user holds. A server that keeps no accounts gives everybody everything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rights(Option<Vec<Grant>>, Flavor);

/// A line of `SHOW GRANTS`.
#[derive(Debug, PartialEq, Eq)]
struct Grant {
    privileges: Vec<String>,
    scope: Scope,
    /// The user, or one of its roles.
    holder: String,
    /// MySQL takes parts of a server's privileges back.
    takes_back: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Scope {
    Server,
    /// A pattern, as of `LIKE`.
    Database(String),
    Table(String, String),
}

impl Mysql {
    /// What the user may do that we are.
    pub(crate) async fn rights(&self) -> Result<Rights, Error> {
        self.granted("SHOW GRANTS").await
    }

    /// What the user may do once it has taken on every role that it was given.
    pub(crate) async fn rights_of_all_roles(&self) -> Result<Rights, Error> {
        let roles = match self.product.flavor {
            Flavor::Mysql if !self.product.is_mysql_since(8, 0) => Vec::new(),
            Flavor::Mysql => vec!["ALL".to_owned()],
            // One at a time.
            Flavor::Mariadb => self.roles().await?,
        };
        let each: String = roles.iter().map(|role| format!("SET ROLE {role}; SHOW GRANTS; ")).collect();
        self.granted(&format!("SHOW GRANTS; {each}")).await
    }

    async fn roles(&self) -> Result<Vec<String>, Error> {
        let rows = self.query("SELECT HEX(ROLE_NAME) FROM information_schema.APPLICABLE_ROLES WHERE GRANTEE = CURRENT_USER()").await?;
        let role = |row: &Vec<String>| unhex(row.first()?).map(|name| identifier(&name));
        Ok(rows.iter().filter_map(role).collect())
    }

    async fn granted(&self, sql: &str) -> Result<Rights, Error> {
        match self.query(sql).await {
            Ok(rows) => {
                let lines = rows.iter().map(|row| row.join("\t"));
                Ok(Rights::parse(lines, self.product.flavor))
            }
            Err(Error::Tool { reason, .. }) if KEEPS_NONE.iter().any(|number| reason.contains(number)) => {
                Ok(Rights(None, self.product.flavor))
            }
            Err(error) => Err(error),
        }
    }
}

impl Rights {
    /// Names hold line breaks, too: a line that does not begin as one goes on with the one before.
    fn parse(lines: impl Iterator<Item = String>, flavor: Flavor) -> Self {
        let mut whole: Vec<String> = Vec::new();
        for line in lines {
            match whole.last_mut() {
                Some(last) if !line.starts_with("GRANT ") && !line.starts_with("REVOKE ") => {
                    last.push('\n');
                    last.push_str(&line);
                }
                _ => whole.push(line),
            }
        }
        Self(Some(whole.iter().filter_map(|line| Grant::parse(line)).collect()), flavor)
    }

    /// Whether the user may read every table of `database`, those that are yet to be made, too.
    pub(crate) fn reads_all_of(&self, database: &str) -> bool {
        self.covers("SELECT", database)
    }

    /// Whether the user sees that databases are there which it may not read.
    pub(crate) fn sees_all_databases(&self) -> bool {
        let seeing = ["SHOW DATABASES", "SELECT"];
        self.any(|grant| {
            grant.scope == Scope::Server && seeing.iter().any(|privilege| grant.gives(privilege))
        })
    }

    /// Whether the user may read every column of this table.
    pub(crate) fn reads_table(&self, database: &str, table: &str) -> bool {
        self.reads_all_of(database) || self.is_granted_on_table("SELECT", database, table)
    }

    fn is_granted_on_table(&self, privilege: &str, database: &str, table: &str) -> bool {
        self.any(|grant| {
            grant.gives(privilege)
                && matches!(&grant.scope, Scope::Table(d, t) if d == database && t == table)
        })
    }

    /// Whether the user may read the events of `database`: tools fail where it may not, though there are none.
    pub(crate) fn reads_events_of(&self, database: &str) -> bool {
        self.covers("EVENT", database)
    }

    /// Whether the user may read what this view is made of.
    pub(crate) fn reads_view(&self, database: &str, view: &str) -> bool {
        self.covers("SHOW VIEW", database) || self.is_granted_on_table("SHOW VIEW", database, view)
    }

    /// Whether the user may read and write the server's files, or do everything, or give itself the right to.
    pub(crate) fn is_mighty(&self) -> bool {
        let mighty = |grant: &Grant| MIGHTY.iter().any(|privilege| grant.gives(privilege));
        self.any(|grant| grant.scope == Scope::Server && mighty(grant))
            || ["INSERT", "UPDATE"].iter().any(|privilege| self.covers(privilege, "mysql"))
    }

    /// Whether the user sees the triggers of every table of `database`.
    pub(crate) fn sees_triggers_of(&self, database: &str) -> bool {
        self.covers("TRIGGER", database)
    }

    /// Whether the user sees the routines of `database`. Which of them it may read the dump's tool finds out.
    pub(crate) fn sees_routines_of(&self, database: &str) -> bool {
        SHOW_ROUTINES.iter().any(|privilege| self.covers(privilege, database)) || self.reads_all_routines()
    }

    /// Whether the user is shown what all routines are made of.
    pub(crate) fn reads_all_routines(&self) -> bool {
        let is_of_all = |grant: &Grant| {
            grant.scope == Scope::Server && (grant.gives("SELECT") || grant.gives("SHOW_ROUTINE"))
        };
        self.any(is_of_all) || self.reads_table("mysql", "proc")
    }

    /// Whether `privilege` holds for everything in `database`.
    fn covers(&self, privilege: &str, database: &str) -> bool {
        let of_it =
            |grant: &&Grant| matches!(&grant.scope, Scope::Database(pattern) if like(pattern, database));
        let (back, given): (Vec<_>, Vec<_>) =
            self.0.iter().flatten().filter(of_it).partition(|grant| grant.takes_back);
        // Of what one holder was given on patterns that fit, the server looks at the narrowest alone.
        let mut narrowest: BTreeMap<&str, _> = BTreeMap::new();
        for grant in &given {
            let most = narrowest.entry(&grant.holder).or_default();
            *most = self.narrowness(grant).max(*most);
        }
        let is_narrowest = |grant: &&&Grant| narrowest.get(&*grant.holder) == Some(&self.narrowness(grant));
        given.iter().filter(is_narrowest).any(|grant| grant.gives(privilege))
            || self.any(|grant| grant.gives(privilege) && grant.scope == Scope::Server)
                && !back.iter().any(|grant| grant.names(privilege))
    }

    /// How narrow the pattern of a grant is, as servers put it: a name is the narrowest. MySQL then asks how late the first wildcard comes; MariaDB
    /// whether there is any `%`, how many other signs there are, and how early the first wildcard comes.
    fn narrowness(&self, grant: &Grant) -> (bool, bool, usize, Reverse<usize>) {
        let Scope::Database(pattern) = &grant.scope else { return Default::default() };
        let (wild, others) = wildcards(pattern);
        let Some(first) = wild.first().map(|(place, _)| *place) else {
            return (true, true, 0, Reverse(0));
        };
        match self.1 {
            Flavor::Mysql => (false, false, first, Reverse(0)),
            Flavor::Mariadb => (false, wild.iter().all(|(_, sign)| *sign != '%'), others, Reverse(first)),
        }
    }

    fn any(&self, so: impl Fn(&Grant) -> bool) -> bool {
        self.0.as_ref().is_none_or(|grants| grants.iter().any(so))
    }
}

impl Grant {
    /// `None`: it is about something else, such as a role or a routine.
    fn parse(line: &str) -> Option<Self> {
        let (takes_back, rest) = match line.strip_prefix("GRANT ") {
            Some(rest) => (false, rest),
            None => (true, line.strip_prefix("REVOKE ")?),
        };
        let (privileges, scope) = privileges(rest)?;
        let holder =
            scope.rsplit_once(if takes_back { " FROM " } else { " TO " }).map_or("", |(_, holder)| holder);
        let holder = holder_of(holder);
        Some(Self { privileges, scope: Scope::parse(scope)?, holder, takes_back })
    }

    fn gives(&self, privilege: &str) -> bool {
        !self.takes_back && self.names(privilege)
    }

    /// One of some columns is written with their names.
    fn names(&self, privilege: &str) -> bool {
        self.privileges.iter().any(|name| name == privilege || name == ALL)
    }
}

impl Scope {
    /// `` `shop`.* TO `u`@`%` ``
    fn parse(text: &str) -> Option<Self> {
        if text.starts_with("*.* ") {
            return Some(Self::Server);
        }
        let (database, rest) = name(text)?;
        let rest = rest.strip_prefix('.')?;
        if rest.starts_with("* ") {
            return Some(Self::Database(database));
        }
        Some(Self::Table(database, name(rest)?.0))
    }
}

/// Who is named at the beginning, a user or a role: what follows is how it logs in, and whether it may grant.
fn holder_of(text: &str) -> String {
    let user = name(text).map(|(_, rest)| rest);
    let host = user.and_then(|rest| name(rest.strip_prefix('@')?)).map(|(_, rest)| rest);
    let rest = host.or(user).unwrap_or_default();
    text.strip_suffix(rest).unwrap_or(text).to_owned()
}

/// What stands before ` ON `, parted by commas, and what stands after it. Columns stand in brackets, their names in quotes.
fn privileges(text: &str) -> Option<(Vec<String>, &str)> {
    let (mut found, mut one) = (Vec::new(), String::new());
    let (mut quote, mut depth) = (None, 0_u32);
    for (place, sign) in text.char_indices() {
        match (quote, sign) {
            (Some(open), _) if open == sign => quote = None,
            (None, '`' | '"') => quote = Some(sign),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                found.push(std::mem::take(&mut one).trim().to_owned());
                continue;
            }
            (None, ' ') if depth == 0 => {
                if let Some(scope) = text.get(place..).and_then(|rest| rest.strip_prefix(" ON ")) {
                    found.push(one.trim().to_owned());
                    return Some((found, scope));
                }
            }
            _ => {}
        }
        one.push(sign);
    }
    None
}

/// The quoted name that `text` begins with, and what follows.
pub(crate) fn name(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|sign| matches!(sign, '`' | '"'))?;
    let (mut name, mut rest) = (String::new(), text.get(1..)?);
    loop {
        let (part, after) = rest.split_once(quote)?;
        name.push_str(part);
        match after.strip_prefix(quote) {
            Some(more) => (name.push(quote), rest = more),
            None => return Some((name, after)),
        };
    }
}

/// The wildcards of a pattern, each with its place, and how many other signs there are.
fn wildcards(pattern: &str) -> (Vec<(usize, char)>, usize) {
    let (mut wild, mut others, mut signs) = (Vec::new(), 0, pattern.chars().enumerate());
    while let Some((place, sign)) = signs.next() {
        match sign {
            '%' | '_' => wild.push((place, sign)),
            '\\' => others += usize::from(signs.next().is_some()),
            _ => others += 1,
        }
    }
    (wild, others)
}

/// Whether `text` is like `pattern`: `%` stands for any signs, `_` for one, `\` before a sign for that sign.
fn like(pattern: &str, text: &str) -> bool {
    let mut reached = vec![false; text.chars().count() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    let mut signs = pattern.chars();
    while let Some(sign) = signs.next() {
        let (any, sign) = match sign {
            '\\' => (false, signs.next().or(Some('\\'))),
            '%' => (true, None),
            '_' => (false, None),
            other => (false, Some(other)),
        };
        reached = if any { onwards(&reached) } else { one_on(&reached, text, sign) };
    }
    reached.last().copied().unwrap_or_default()
}

/// After `%`: from a place that was reached, every later one is.
fn onwards(reached: &[bool]) -> Vec<bool> {
    let later = |so_far: &mut bool, is_reached: &bool| {
        *so_far |= is_reached;
        Some(*so_far)
    };
    reached.iter().scan(false, later).collect()
}

/// After one sign: `None` is whichever.
fn one_on(reached: &[bool], text: &str, sign: Option<char>) -> Vec<bool> {
    let fits = |(was, found): (&bool, char)| *was && sign.is_none_or(|sign| sign == found);
    std::iter::once(false).chain(reached.iter().zip(text.chars()).map(fits)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(lines: &[&str]) -> Rights {
        of(Flavor::Mariadb, lines)
    }

    fn of(flavor: Flavor, lines: &[&str]) -> Rights {
        Rights::parse(lines.iter().flat_map(|line| line.split('\n')).map(str::to_owned), flavor)
    }

    #[test]
    fn a_holder_is_the_same_whatever_else_its_grant_says() {
        for flavor in [Flavor::Mysql, Flavor::Mariadb] {
            for end in ["", " WITH GRANT OPTION", " IDENTIFIED BY PASSWORD '*B6' WITH GRANT OPTION"] {
                let narrow = format!("GRANT INSERT ON `shop`.* TO `u`@`%`{end}");
                let grants = of(flavor, &["GRANT SELECT ON `sh%`.* TO `u`@`%`", &narrow]);
                assert!(!grants.reads_all_of("shop"), "{end}");
                let of_others =
                    of(flavor, &["GRANT SELECT ON `sh%`.* TO `u`@`%`", &narrow.replace("`u`", "`v`")]);
                assert!(of_others.reads_all_of("shop"), "{end}");
            }
        }
        assert_eq!(holder_of("`a``b`@`h` x"), "`a``b`@`h`");
        assert_eq!(holder_of("`role` WITH ADMIN OPTION"), "`role`");
    }

    /// As MariaDB 10.11 and MySQL 9.7 do, for each pair of patterns of which the first was given SELECT, the second INSERT.
    #[test]
    fn of_patterns_that_fit_the_narrowest_alone_counts() {
        let both = |flavor, one: &str, other: &str| {
            let grants = [
                format!("GRANT SELECT ON `{one}`.* TO `u`@`%` IDENTIFIED BY PASSWORD '*B6'"),
                format!("GRANT INSERT ON `{other}`.* TO `u`@`%` IDENTIFIED BY PASSWORD '*B6'"),
            ];
            of(flavor, &[&grants[0], &grants[1]]).reads_all_of("shop")
        };
        for (narrow, wide) in [
            ("shop", "sho_"),
            ("shop", "%"),
            ("sho_", "sh%"),
            ("sho%", "sh%"),
            ("sho_", "____"),
            ("sho_", "_%"),
            ("s%", "%"),
        ] {
            for flavor in [Flavor::Mysql, Flavor::Mariadb] {
                assert!(both(flavor, narrow, wide) && !both(flavor, wide, narrow), "{narrow} {wide}");
            }
        }
        for (later, earlier) in
            [("sho%", "%hop"), ("sho_", "_hop"), ("s%", "____"), ("sh%", "s%p"), ("s%p", "%hop")]
        {
            assert!(
                both(Flavor::Mysql, later, earlier) && !both(Flavor::Mysql, earlier, later),
                "{later} {earlier}"
            );
            assert!(
                both(Flavor::Mariadb, earlier, later) && !both(Flavor::Mariadb, later, earlier),
                "{later} {earlier}"
            );
        }
        let roles = rights(&["GRANT INSERT ON `shop`.* TO `u`@`%`", "GRANT SELECT ON `sho_`.* TO `r`"]);
        assert!(roles.reads_all_of("shop"));
    }

    #[test]
    fn a_privilege_covers_what_it_was_given_on() {
        let none =
            rights(&["GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*B6'", "GRANT `r1` TO `u`@`%`"]);
        assert!(
            !none.reads_all_of("shop") && !none.sees_routines_of("shop") && !none.sees_triggers_of("shop")
        );
        let server = rights(&["GRANT SELECT, TRIGGER ON *.* TO `u`@`%`"]);
        assert!(
            server.reads_all_of("shop") && server.sees_triggers_of("shop") && server.sees_routines_of("shop")
        );
        let all = rights(&["GRANT ALL PRIVILEGES ON \"shop\".* TO \"u\"@\"%\""]);
        assert!(all.reads_all_of("shop") && all.sees_routines_of("shop") && !all.reads_all_of("other"));
        let one = rights(&["GRANT SELECT, LOCK TABLES, EVENT ON `shop`.* TO `u`@`%`"]);
        assert!(one.reads_all_of("shop") && !one.sees_triggers_of("shop") && !one.sees_routines_of("shop"));
        let proc = rights(&["GRANT SELECT ON `mysql`.`proc` TO `u`@`%`"]);
        assert!(proc.sees_routines_of("shop") && !proc.reads_all_of("shop"));
        assert!(rights(&["GRANT SHOW_ROUTINE ON *.* TO `u`@`%`"]).sees_routines_of("shop"));
        assert!(
            Rights(None, Flavor::Mariadb).reads_all_of("shop")
                && Rights(None, Flavor::Mariadb).sees_triggers_of("shop")
        );
    }

    #[test]
    fn a_table_is_read_as_a_whole_or_not() {
        let some = rights(&[
            "GRANT SELECT, SHOW VIEW ON `shop`.`a` TO `u`@`%`",
            "GRANT SELECT (`id`, ` ON ``x`), INSERT ON `shop`.`b` TO `u`@`%`",
            "GRANT TRIGGER, EVENT ON `shop`.* TO `u`@`%`",
            "GRANT EXECUTE ON FUNCTION `shop`.`c` TO `u`@`%`",
            "GRANT PROXY ON ``@`` TO `u`@`%`",
        ]);
        assert!(some.reads_table("shop", "a") && !some.reads_all_of("shop"));
        for table in ["b", "c", "A"] {
            assert!(!some.reads_table("shop", table), "{table}");
        }
        assert!(!some.reads_table("other", "a"));
        assert!(some.sees_triggers_of("shop"));
    }

    #[test]
    fn a_column_may_be_called_as_a_privilege_or_as_what_follows_one() {
        // Older servers write names of columns without quotes.
        let odd = rights(&[
            "GRANT INSERT (a, SELECT, b) ON `shop`.`t` TO `u`@`%`",
            "GRANT SELECT (`x), SELECT ON \"shop\".* TO `) ON `shop`.`t` TO `u`@`%`",
            "GRANT UPDATE (a ON b), SELECT ON `shop`.`whole` TO `u`@`%`",
        ]);
        assert!(!odd.reads_all_of("shop") && !odd.reads_table("shop", "t"));
        assert!(odd.reads_table("shop", "whole"));
    }

    #[test]
    fn what_is_taken_back_is_not_held() {
        let back =
            rights(&["GRANT SELECT, EVENT ON *.* TO `u`@`%`", "REVOKE SELECT ON `shop`.* FROM `u`@`%`"]);
        assert!(!back.reads_all_of("shop") && back.reads_all_of("other"));
        assert!(back.reads_events_of("shop"));
    }

    #[test]
    fn who_can_become_mighty_is() {
        for lines in [
            "GRANT CREATE USER ON *.* TO `u`@`%`",
            "GRANT SYSTEM_VARIABLES_ADMIN ON *.* TO `u`@`%`",
            "GRANT ALL PRIVILEGES ON *.* TO `u`@`%`",
            "GRANT UPDATE ON `mysql`.* TO `u`@`%`",
            "GRANT INSERT ON `%`.* TO `u`@`%`",
        ] {
            assert!(rights(&[lines]).is_mighty(), "{lines}");
        }
        let usual =
            ["GRANT ALL PRIVILEGES ON `xvault\\_test\\_%`.* TO `u`@`%`", "GRANT SET USER ON *.* TO `u`@`%`"];
        assert!(!rights(&usual).is_mighty());
    }

    #[test]
    fn many_grants_take_no_time() {
        let lines: Vec<String> = (0..100_000)
            .map(|number| format!("GRANT INSERT ON `s{}%`.* TO `u`@`%`", "_".repeat(number % 9)))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (begun, many) = (std::time::Instant::now(), rights(&lines));
        assert!(!many.reads_all_of("shop"));
        assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    }

    #[test]
    fn names_are_patterns_and_hold_anything() {
        let odd = rights(&[
            "GRANT SELECT ON `a``b\\_\\\\\n\"%`.* TO `u`@`%`",
            "GRANT SELECT ON `wp\\_%`.* TO `u`@`%`",
        ]);
        assert!(odd.reads_all_of("a`b_\\\n\"c") && odd.reads_all_of("wp_") && odd.reads_all_of("wp_1"));
        assert!(!odd.reads_all_of("a`bx\\\n\"c") && !odd.reads_all_of("wpx1"));
        assert!(like("_\u{e9}%x%", "d\u{e9}yxz") && !like("_", "") && like("%", "") && like("\\", "\\"));
    }

    #[test]
    fn what_a_hostile_server_says_is_no_right_and_takes_no_time() {
        for line in [
            "GRANT SELECT ON `shop",
            "GRANT SELECT (ON *.* TO",
            "GRANT ",
            "GRANT SELECT ON *",
            "SELECT ON *.* TO u",
        ] {
            assert!(!rights(&[line]).reads_all_of("shop"), "{line}");
        }
        let long = rights(&[&format!("GRANT SELECT ON `{}`.* TO u", "%_".repeat(50_000))]);
        assert!(!long.reads_all_of(&"a".repeat(64)));
    }
}
