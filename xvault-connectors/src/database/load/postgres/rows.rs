//! What PostgreSQL's server and tools say of a dump that can't be loaded, without its rows: those are the customer's alone, and errors
//! and logs are kept by the service.

use crate::tool::{Words, before};

/// What the server says of its error, with how it begins: names and places, then values.
const PARTS: [&str; 3] = ["DETAIL:  ", "HINT:  ", "CONTEXT:  "];

/// What begins a value there.
const PART_VALUES: [&str; 4] = [": ", "\"", "=(", " contains ("];

/// What begins a value in an error itself: `invalid input syntax for type integer: "x"`.
const ERROR_VALUES: [&str; 3] = [": \"", "value \"", "time zone \""];

/// What begins a value, or a name, in any language; and what a value stands in as well, in what the server says of its error.
const QUOTES: [char; 10] =
    ['"', '\'', '\u{ab}', '\u{bb}', '\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{300c}'];
const BRACKETS: [char; 3] = ['(', '\u{ff08}', '\u{ff1a}'];

/// What stands before a value that is no row's.
const SETTINGS: [&str; 2] = ["parameter \"", "locale name"];

/// Statements, which may hold rows: where in one an error is, one that a function ran, one that was sent.
const STATEMENTS: [&str; 3] = ["LINE ", "QUERY:  ", "STATEMENT:  "];

/// What `pg_restore` was about to do, and what of that holds no rows. A text in it may be a password: that of a subscription.
const COMMAND: &str = "Command was: ";
const DEFINITIONS: [&str; 8] =
    ["CREATE ", "ALTER ", "DROP ", "COMMENT ", "GRANT ", "REVOKE ", "SET ", "COPY "];
const TEXTS: [&str; 2] = ["'", "$"];

/// What ends the level of a message; and the levels of a server that speaks English.
const LEVEL_END: &str = ":  ";
const LEVELS: [&str; 5] = ["ERROR:  ", "FATAL:  ", "PANIC:  ", "WARNING:  ", "NOTICE:  "];

/// How the tools begin what they say.
const TOOLS: [&str; 2] = ["psql:", "pg_restore:"];

/// For the calls of `psql` and `pg_restore` that load.
pub(super) fn without_rows() -> Words {
    let mut is_within = false;
    Words::new(move |line| told(line, &mut is_within))
}

/// What may be told of `line`. `is_within` a message of the server, a line that begins as none does goes on with a value, or with a
/// statement.
fn told(line: &str, is_within: &mut bool) -> Option<String> {
    let was_within = std::mem::replace(is_within, true);
    let begins_with = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
    if let Some(label) = PARTS.iter().find(|label| line.starts_with(**label)) {
        let text = line.strip_prefix(label).unwrap_or_default();
        let mut kept = before(text, &PART_VALUES);
        if is_foreign("", text) {
            kept = before_signs(&kept, &[&QUOTES, &BRACKETS]);
        }
        return Some(format!("{label}{kept}"));
    }
    if begins_with(&STATEMENTS) {
        return None;
    }
    if let Some(command) = line.strip_prefix(COMMAND) {
        return DEFINITIONS
            .iter()
            .any(|word| command.starts_with(word))
            .then(|| format!("{COMMAND}{}", before(command, &TEXTS)));
    }
    *is_within = was_within || begins_with(&TOOLS);
    (begins_with(&TOOLS) || !was_within).then(|| without_values(line))
}

fn without_values(line: &str) -> String {
    let (start, message) = line.split_at(message_at(line));
    if is_foreign(start, message) {
        return format!("{start}{}", before_signs(message, &[&QUOTES]));
    }
    let kept = before(line, &ERROR_VALUES);
    if SETTINGS.iter().any(|words| kept.contains(words)) { line.to_owned() } else { kept }
}

/// What may be told of the error of a server that was asked for a setting, whose value may be a secret.
pub(super) fn without_setting(line: &str) -> String {
    let (start, message) = line.split_at(message_at(line));
    if is_foreign(start, message) {
        return format!("{start}{}", before_signs(message, &[&QUOTES]));
    }
    line.split_once("\": \"").map_or(line, |(kept, _)| kept).to_owned()
}

/// Where what the server says begins, behind the tool's name and the level: `psql:<stdin>:9: ERROR:  `.
fn message_at(line: &str) -> usize {
    line.find(LEVEL_END).map_or(0, |place| place + LEVEL_END.len())
}

/// Servers speak many languages, of which we know one. Names stand in quotes there.
fn is_foreign(start: &str, message: &str) -> bool {
    let is_known = start.is_empty() || LEVELS.iter().any(|level| start.ends_with(level));
    !is_known || message.split('"').step_by(2).any(|part| !part.is_ascii())
}

/// What stands before the first of these.
fn before_signs(text: &str, signs: &[&[char]]) -> String {
    let first = signs.iter().filter_map(|signs| text.find(*signs)).min();
    first
        .and_then(|place| text.get(..place))
        .map_or_else(|| text.to_owned(), |kept| format!("{kept}\u{2026}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_told_without_its_value() {
        for (said, expected) in [
            (
                "psql:<stdin>:3: ERROR:  invalid value for parameter \"work_mem\": \"secret\"",
                "psql:<stdin>:3: ERROR:  invalid value for parameter \"work_mem",
            ),
            (
                "psql:<stdin>:3: ERROR:  el valor no es v\u{e1}lido para \u{ab}work_mem\u{bb}: \u{ab}secret\u{bb}",
                "psql:<stdin>:3: ERROR:  el valor no es v\u{e1}lido para \u{2026}",
            ),
            ("ERRO:  valor \"secret\"", "ERRO:  valor \u{2026}"),
            ("ERROR:  role \"bk\" does not exist", "ERROR:  role \"bk\" does not exist"),
        ] {
            assert_eq!(without_setting(said), expected);
        }
    }

    fn told_of(said: &str) -> Vec<String> {
        let mut words = without_rows();
        let mut told = words.push(said.as_bytes());
        told.extend(words.rest());
        String::from_utf8(told).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn no_row_is_told_and_where_it_is_remains() {
        for (said, expected) in [
            (
                "psql:<stdin>:9: ERROR:  invalid input syntax for type integer: \"secret\"\nCONTEXT:  COPY t, line 2, column a: \"secret\"\n",
                &[
                    "psql:<stdin>:9: ERROR:  invalid input syntax for type integer: \u{2026}",
                    "CONTEXT:  COPY t, line 2, column a: \u{2026}",
                ][..],
            ),
            (
                "pg_restore: error: COPY failed for table \"t\": ERROR:  missing data for column \"b\"\nCONTEXT:  COPY t, line 1: \"secret\"",
                &[
                    "pg_restore: error: COPY failed for table \"t\": ERROR:  missing data for column \"b\"",
                    "CONTEXT:  COPY t, line 1: \u{2026}",
                ],
            ),
            (
                "psql:<stdin>:9: ERROR:  insert or update on table \"c\" violates foreign key constraint \"f\"\nDETAIL:  Key (a)=(secret) is not present in table \"p\".\n",
                &[
                    "psql:<stdin>:9: ERROR:  insert or update on table \"c\" violates foreign key constraint \"f\"",
                    "DETAIL:  Key (a)=(\u{2026}",
                ],
            ),
            (
                "pg_restore: error: could not execute query: ERROR:  could not create unique index \"t_pkey\"\nDETAIL:  Key (a)=(secret\nsecret) is duplicated.\nCommand was: ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a);\n",
                &[
                    "pg_restore: error: could not execute query: ERROR:  could not create unique index \"t_pkey\"",
                    "DETAIL:  Key (a)=(\u{2026}",
                    "Command was: ALTER TABLE ONLY public.t",
                ],
            ),
            (
                "psql:<stdin>:9: ERROR:  new row for relation \"t\" violates check constraint \"t_check\"\nDETAIL:  Failing row contains (1, secret).\nCONTEXT:  COPY t, line 1: \"1\tsecret\"\n",
                &[
                    "psql:<stdin>:9: ERROR:  new row for relation \"t\" violates check constraint \"t_check\"",
                    "DETAIL:  Failing row contains (\u{2026}",
                    "CONTEXT:  COPY t, line 1: \u{2026}",
                ],
            ),
            (
                "psql:<stdin>:9: ERROR:  invalid input syntax for type json\nDETAIL:  Token \"secret\" is invalid.\nCONTEXT:  JSON data, line 1: {secret\nCOPY t, line 1, column a: \"{secret\n\"\n",
                &[
                    "psql:<stdin>:9: ERROR:  invalid input syntax for type json",
                    "DETAIL:  Token \u{2026}",
                    "CONTEXT:  JSON data, line 1: \u{2026}",
                ],
            ),
            (
                "psql:<stdin>:9: ERROR:  value \"99secret\" is out of range for type integer\n",
                &["psql:<stdin>:9: ERROR:  value \u{2026}"],
            ),
            (
                "psql:<stdin>:9: ERROR:  malformed array literal: \"a\nsecret\"\nLINE 1: INSERT INTO t VALUES ('secret')\n              ^\nQUERY:  SELECT 'secret'\n  'secret'\n",
                &["psql:<stdin>:9: ERROR:  malformed array literal: \u{2026}"],
            ),
            (
                "psql:<stdin>:9: ERROR:  invalid input syntax for type integer: \"secret locale name\"\n",
                &["psql:<stdin>:9: ERROR:  invalid input syntax for type integer: \u{2026}"],
            ),
            (
                "psql:<stdin>:9: ERROR:  ung\u{fc}ltige Eingabesyntax f\u{fc}r Typ integer: \u{bb}secret\u{ab}\nDETAIL:  Fehlgeschlagene Zeile enth\u{e4}lt (1, secret).\n",
                &[
                    "psql:<stdin>:9: ERROR:  ung\u{fc}ltige Eingabesyntax f\u{fc}r Typ integer: \u{2026}",
                    "DETAIL:  Fehlgeschlagene Zeile enth\u{e4}lt \u{2026}",
                ],
            ),
            // As Spanish, French, Italian, Russian and Japanese servers say it, and German ones of a value out of range.
            (
                "psql:<stdin>:9: ERROR:  la sintaxis de entrada no es v\u{e1}lida para tipo integer: \u{ab}secret\u{bb}\nCONTEXTO:  COPY t, l\u{ed}nea 1, columna a: \u{ab}secret\u{bb}\n",
                &[
                    "psql:<stdin>:9: ERROR:  la sintaxis de entrada no es v\u{e1}lida para tipo integer: \u{2026}",
                ],
            ),
            (
                "psql:<stdin>:9: ERREUR:  syntaxe en entr\u{e9}e invalide pour le type integer : \u{ab} secret \u{bb}\n",
                &["psql:<stdin>:9: ERREUR:  syntaxe en entr\u{e9}e invalide pour le type integer : \u{2026}"],
            ),
            (
                "psql:<stdin>:9: ERRORE:  la sintassi in input per il tipo integer non: \"secret\"\nDETTAGLI:  secret\n",
                &["psql:<stdin>:9: ERRORE:  la sintassi in input per il tipo integer non: \u{2026}"],
            ),
            (
                "psql:<stdin>:9: FEHLER:  Wert \u{bb}99secret\u{ab} ist au\u{df}erhalb des g\u{fc}ltigen Bereichs f\u{fc}r Typ integer\n",
                &["psql:<stdin>:9: FEHLER:  Wert \u{2026}"],
            ),
            (
                "psql:<stdin>:9: ERROR:  \u{5024}\"99secret\"\u{306f}\u{578b}integer\u{306e}\u{7bc4}\u{56f2}\u{5916}\u{3067}\u{3059}\n",
                &["psql:<stdin>:9: ERROR:  \u{5024}\u{2026}"],
            ),
            (
                "pg_restore: error: could not execute query: ERROR:  must be superuser to create subscriptions\nCommand was: CREATE SUBSCRIPTION s1 CONNECTION 'host=h password=secret' PUBLICATION p;\n",
                &[
                    "pg_restore: error: could not execute query: ERROR:  must be superuser to create subscriptions",
                    "Command was: CREATE SUBSCRIPTION s1 CONNECTION \u{2026}",
                ],
            ),
            (
                "psql:<stdin>:9: ERROR:  invalid input syntax for type json\nCONTEXT:  JSON data, line 1: s\u{e9}cret\n",
                &[
                    "psql:<stdin>:9: ERROR:  invalid input syntax for type json",
                    "CONTEXT:  JSON data, line 1: \u{2026}",
                ],
            ),
            (
                "pg_restore: error: could not execute query: ERROR:  x\nCommand was: INSERT INTO t VALUES ('secret');\n",
                &["pg_restore: error: could not execute query: ERROR:  x"],
            ),
        ] {
            assert_eq!(told_of(said), expected);
        }
    }

    #[test]
    fn what_helps_and_is_no_row_is_told_whole() {
        for said in [
            "sh: 1: psql: not found\nWARNING: password file \"/dev/null\" is not a plain file\n",
            "psql: error: connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  database \"s\" does not exist\n",
            "pg_restore: from TOC entry 215; 1259 16385 TABLE t app\npg_restore: error: could not execute query: ERROR:  role \"app\" does not exist\nCommand was: ALTER TABLE public.t OWNER TO app;\n",
            "psql:<stdin>:9: ERROR:  invalid value for parameter \"default_tablespace\": \"fast\"\n",
            "psql:<stdin>:9: ERROR:  invalid locale name: \"de_DE.utf8\"\n",
            "psql:<stdin>:9: ERROR:  syntax error at or near \"CRAETE\"\n",
            "psql:<stdin>:9: ERROR:  relation \"caf\u{e9}\" does not exist\n",
            "psql:<stdin>:9: ERROR:  boom\nCONTEXT:  PL/pgSQL function f() line 3 at RAISE\n",
            "psql:<stdin>:9: ERROR:  function f() does not exist\nHINT:  No function matches the given name and argument types.\n",
        ] {
            assert_eq!(told_of(said).join("\n"), said.trim_end());
        }
    }
}
