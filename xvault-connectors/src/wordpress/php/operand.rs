//! What operators stand between: strings, numbers, variables, constants, and what is called.

use super::cursor::Reader;
use super::lexer::Kind;
use super::quoted::Part;
use super::state::{Mode, parent};
use super::value::{Value, Why};

/// How tightly what assigns binds what stands right of it.
const ASSIGNMENT: u8 = 4;

impl<'s> Reader<'_, 's> {
    /// An operand, and what is done with it: elements, members, calls.
    pub(super) fn suffixed(&mut self, mode: &Mode) -> Result<Value, Why> {
        let line = self.line();
        let mut value = self.operand(mode)?;
        loop {
            match self.peek() {
                Some(Kind::Op("[")) => {
                    self.skip_group()?;
                    value = Value::unknown(line, "an element of an array");
                }
                Some(Kind::Op("(")) => {
                    self.arguments(mode)?;
                    value = Value::unknown(line, "the call of a function");
                }
                Some(Kind::Op("->" | "?->" | "::")) => {
                    self.advance();
                    self.member_name()?;
                    value = Value::unknown(line, "a member of an object or a class");
                }
                Some(Kind::Op("++" | "--")) => {
                    self.advance();
                    value = Value::unknown(line, "a calculation");
                }
                Some(Kind::Op(
                    "=" | "+=" | "-=" | "*=" | "/=" | ".=" | "%=" | "??=" | "|=" | "&=" | "^=" | "**="
                    | "<<=" | ">>=",
                )) => {
                    self.advance();
                    if self.is_op("&") {
                        return Err(self.fault("a reference is not followed"));
                    }
                    self.expression(mode, ASSIGNMENT)?;
                    value = Value::unknown(line, "what is assigned to an element");
                }
                _ => return Ok(value),
            }
        }
    }

    fn member_name(&mut self) -> Result<(), Why> {
        match self.peek() {
            Some(Kind::Name(_) | Kind::Variable(_)) => self.advance(),
            Some(Kind::Op("{")) => drop(self.skip_group()?),
            _ => return Err(self.fault("a member's name is missing")),
        }
        Ok(())
    }

    fn operand(&mut self, mode: &Mode) -> Result<Value, Why> {
        let line = self.line();
        match self.peek() {
            Some(Kind::Text(parts)) => {
                self.advance();
                self.text(parts, line)
            }
            Some(Kind::Number(number)) => {
                self.advance();
                Ok(number.map_or_else(|| Value::unknown(line, "a number that is not whole"), Value::Int))
            }
            Some(Kind::Variable(name)) => {
                self.advance();
                self.variable(name, line, mode)
            }
            Some(Kind::Name(_)) => self.named(mode),
            Some(Kind::Op("(")) => {
                self.advance();
                let value = self.expression(mode, 0)?;
                self.expect(")")?;
                Ok(value)
            }
            Some(Kind::Op("[")) => self.array(mode),
            Some(Kind::Op("$")) => Err(self.fault("a variable whose name is a variable is not followed")),
            Some(Kind::Op(_)) => Err(self.fault("an operator where a value should be")),
            None => Err(self.fault("the file ends in the middle of a statement")),
        }
    }

    /// `[…]`, or what is assigned to its variables.
    pub(super) fn array(&mut self, mode: &Mode) -> Result<Value, Why> {
        const WHAT: &str = "an array";
        let line = self.line();
        let variables = self.skip_group()?;
        if self.is_op("=") {
            self.forget(&variables, line, "what is assigned from an array", mode);
        }
        Ok(Value::unknown(line, WHAT))
    }

    fn text(&mut self, parts: &[Part<'s>], line: u32) -> Result<Value, Why> {
        let mut text: Vec<u8> = Vec::new();
        for part in parts {
            let value = match part {
                Part::Bytes(bytes) => {
                    text.extend_from_slice(bytes);
                    continue;
                }
                Part::Variable(name) => self.state.read_variable(name, line),
                Part::Unknown => Value::unknown(line, "a string with more than plain variables in it"),
            };
            match value.to_text() {
                Ok(value) => text.extend_from_slice(&value),
                Err(why) => return Ok(Value::Unknown(why)),
            }
            self.state.spend(line, text.len())?;
        }
        self.state.spend(line, text.len())?;
        Ok(Value::text(&text))
    }

    /// The value of a variable, or what it is given.
    fn variable(&mut self, name: &[u8], line: u32, mode: &Mode) -> Result<Value, Why> {
        let Some(Kind::Op(op)) = self.peek() else { return Ok(self.state.read_variable(name, line)) };
        match *op {
            "=" | ".=" | "??=" => self.assigned(name, op, line, mode),
            "+=" | "-=" | "*=" | "/=" | "%=" | "&=" | "|=" | "^=" | "**=" | "<<=" | ">>=" | "++" | "--" => {
                self.forget(&[name], line, "a calculation", mode);
                // The loop of suffixes reads what follows.
                Ok(Value::unknown(line, "a calculation"))
            }
            "[" => self.element(name, line, mode),
            _ => Ok(self.state.read_variable(name, line)),
        }
    }

    fn assigned(&mut self, name: &[u8], op: &str, line: u32, mode: &Mode) -> Result<Value, Why> {
        self.advance();
        if self.is_op("&") {
            return Err(self.fault("a reference is not followed"));
        }
        let (before, assumed) = (self.state.read_variable(name, line), self.state.assumed.len());
        let value = match op {
            "??=" => self.coalesced(before, mode)?,
            ".=" => {
                let right = self.expression(mode, ASSIGNMENT)?;
                self.concatenated(&before, &right, line)?
            }
            _ => self.expression(mode, ASSIGNMENT)?,
        };
        self.state.guess(assumed);
        self.state.assign(name, value.clone(), mode);
        Ok(value)
    }

    /// `$name[…]`: the environment is looked at, other arrays are not followed.
    fn element(&mut self, name: &[u8], line: u32, mode: &Mode) -> Result<Value, Why> {
        let key = match self.peek_second() {
            Some(Kind::Text(parts)) if self.closes_after_next() => match parts.as_slice() {
                [Part::Bytes(key)] => Some(String::from_utf8_lossy(key).into_owned()),
                _ => None,
            },
            _ => None,
        };
        self.skip_group()?;
        let is_written = matches!(self.peek(), Some(Kind::Op(op)) if op.ends_with('=') && !matches!(*op, "==" | "===" | "!=" | "!==" | "<=" | ">="))
            || matches!(self.peek(), Some(Kind::Op("++" | "--" | "[")));
        let is_environment = matches!(name, b"_ENV" | b"_SERVER");
        if is_written {
            let why = Why::new(line, "a variable of the environment that the file itself sets");
            match name {
                b"GLOBALS" if !matches!(mode, Mode::Never) => {
                    return Err(Why::new(line, "what is assigned through `$GLOBALS` is not followed"));
                }
                _ if is_environment => drop(self.state.environment.get_or_insert(why)),
                name => self.forget(&[name], line, "an array", mode),
            }
        }
        Ok(match (is_environment, key, &self.state.environment) {
            (true, Some(key), None) if key == "DOCUMENT_ROOT" => match self.state.document_root() {
                Some(path) => Value::text(path),
                None => Value::Env(environment(line, &key)),
            },
            (true, Some(key), None) => Value::Env(environment(line, &key)),
            (true, _, Some(why)) => Value::Unknown(why.clone()),
            _ => Value::unknown(line, "an element of an array"),
        })
    }

    /// A constant or something that is called.
    fn named(&mut self, mode: &Mode) -> Result<Value, Why> {
        let line = self.line();
        let Some(Kind::Name(name)) = self.peek() else { return Err(self.fault("a name is missing")) };
        let name = name.strip_prefix(b"\\").unwrap_or(name);
        let word = String::from_utf8_lossy(name).to_ascii_lowercase();
        if let Some(value) = self.language(&word, mode)? {
            return Ok(value);
        }
        self.advance();
        match self.peek() {
            Some(Kind::Op("(")) => self.call(&word, line, mode),
            Some(Kind::Op("::")) => Ok(Value::unknown(line, "a member of a class")),
            _ => Ok(self.constant(name, &word, line)),
        }
    }

    fn constant(&self, name: &[u8], word: &str, line: u32) -> Value {
        match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            "__dir__" => Value::text(parent(self.state.path())),
            "__file__" => Value::text(self.state.path()),
            "__line__" => Value::Int(line.into()),
            "php_eol" => Value::text(b"\n"),
            "directory_separator" => Value::text(b"/"),
            _ => self.state.read_constant(name, line),
        }
    }
}

/// Why a variable of the environment is not known. Its name is no secret.
pub(super) fn environment(line: u32, name: &str) -> Why {
    let name: String = name.chars().take(64).collect();
    Why::new(
        line,
        format!("the environment variable `{}`, which PHP sees and SSH does not", name.escape_debug()),
    )
}
