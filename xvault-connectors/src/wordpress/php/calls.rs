//! The functions that are followed, and words of the language that look like functions.

use super::cursor::Reader;
use super::lexer::Kind;
use super::operand::environment;
use super::state::{Mode, parent};
use super::value::{Value, Why};

impl Reader<'_, '_> {
    /// `(`, a word or a string, `)` or `]`: whether the bracket closes behind the next but one token.
    pub(super) fn closes_after_next(&self) -> bool {
        matches!(self.peek_at(2), Some(Kind::Op(")" | "]")))
    }

    /// Words of the language. `None`: it is none, and nothing was read.
    pub(super) fn language(&mut self, word: &str, mode: &Mode) -> Result<Option<Value>, Why> {
        let line = self.line();
        let value = match word {
            "include" | "include_once" | "require" | "require_once" => {
                self.advance();
                let file = self.expression(mode, 0)?;
                self.state.include(&file, line, mode);
                Value::unknown(line, "what another file returns")
            }
            "exit" | "die" => {
                self.advance();
                if self.is_op("(") {
                    self.arguments(mode)?;
                }
                self.state.is_over |= matches!(mode, Mode::Sure);
                Value::Null
            }
            "print" | "throw" | "clone" | "yield" => {
                self.advance();
                self.expression(mode, 0)?;
                Value::unknown(line, "what an expression of this kind comes to")
            }
            "new" => {
                self.advance();
                self.created()?;
                Value::unknown(line, "an object")
            }
            "function" | "fn" | "static" => return self.closure(word).map(Some),
            "match" if matches!(self.peek_second(), Some(Kind::Op("("))) => {
                self.skip_body()?;
                Value::unknown(line, "what `match` comes to")
            }
            "isset" | "empty" => return self.asked(word, mode).map(Some),
            "array" | "list" if matches!(self.peek_second(), Some(Kind::Op("("))) => {
                self.advance();
                return self.array(mode).map(Some);
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// Behind `new`.
    fn created(&mut self) -> Result<(), Why> {
        if self.word().as_deref() == Some("class") {
            return self.skip_body();
        }
        match self.peek() {
            Some(Kind::Name(_) | Kind::Variable(_)) => self.advance(),
            _ => return Err(self.fault("a class's name is missing")),
        }
        if self.is_op("(") { self.skip_group().map(drop) } else { Ok(()) }
    }

    /// A function without a name, which nobody runs here.
    fn closure(&mut self, word: &str) -> Result<Value, Why> {
        let line = self.line();
        self.advance();
        match word {
            "static" if matches!(self.word().as_deref(), Some("function" | "fn")) => {
                let word = self.word().unwrap_or_default();
                return self.closure(&word);
            }
            "function" => self.skip_body()?,
            "fn" => {
                while !self.is_op("=>") && self.peek().is_some() {
                    if self.is_op("(") { drop(self.skip_group()?) } else { self.advance() }
                }
                self.expect("=>")?;
                self.expression(&Mode::Never, 0)?;
            }
            _ => {}
        }
        Ok(Value::unknown(line, "a function without a name"))
    }

    /// `isset(…)` and `empty(…)` of one variable are followed.
    fn asked(&mut self, word: &str, mode: &Mode) -> Result<Value, Why> {
        let line = self.line();
        self.advance();
        let value = match self.peek_second() {
            Some(Kind::Variable(name)) if self.closes_after_next() => {
                Some(self.state.read_variable(name, line))
            }
            _ => None,
        };
        match value {
            Some(_) => drop(self.skip_group()?),
            None => drop(self.arguments(mode)?),
        }
        let truth = match (word, value) {
            ("isset", Some(Value::Null | Value::Unset(_))) => Ok(false),
            ("empty", Some(Value::Unset(_))) => Ok(true),
            ("isset", Some(Value::Env(why) | Value::Unknown(why))) => Err(why),
            ("isset", Some(_)) => Ok(true),
            ("empty", Some(value)) => value.truth().map(|truth| !truth),
            _ => Err(Why::new(line, "whether something is set")),
        };
        Ok(truth.map_or_else(Value::Unknown, Value::Bool))
    }

    /// `(…, …)`.
    pub(super) fn arguments(&mut self, mode: &Mode) -> Result<Vec<Value>, Why> {
        self.expect("(")?;
        let mut values = Vec::new();
        while !self.eat(")") {
            self.eat("...");
            if self.is_op(")") {
                continue;
            }
            if matches!((self.peek(), self.peek_second()), (Some(Kind::Name(_)), Some(Kind::Op(":")))) {
                return Err(self.fault("an argument with a name is not followed"));
            }
            values.push(self.expression(mode, 0)?);
            if !self.is_op(")") {
                self.expect(",")?;
            }
        }
        Ok(values)
    }

    /// The next token is the bracket.
    pub(super) fn call(&mut self, word: &str, line: u32, mode: &Mode) -> Result<Value, Why> {
        if matches!(word, "eval" | "extract" | "parse_str" | "unset") {
            return self.refused(word, line, mode);
        }
        let assumed = self.state.assumed.len();
        let mut arguments = self.arguments(mode)?.into_iter();
        let (first, second) = (arguments.next(), arguments.next());
        Ok(match (word, first, second) {
            ("define", Some(name), Some(value)) => self.define(&name, value, line, mode, assumed),
            ("defined", Some(name), None) => match name.to_text() {
                Ok(name) => self.state.is_defined(&name, line),
                Err(why) => Value::Unknown(why),
            },
            ("constant", Some(name), None) => match name.to_text() {
                Ok(name) => self.state.read_constant(&name, line),
                Err(why) => Value::Unknown(why),
            },
            ("getenv", Some(name), _) => self.environment(&name, line),
            ("putenv", ..) => {
                let why = Why::new(line, "a variable of the environment that the file itself sets");
                self.state.environment.get_or_insert(why);
                Value::Bool(true)
            }
            ("dirname", Some(path), levels) => directory(&path, levels.as_ref(), line),
            ("realpath", Some(path), None) if self.state.document_root().is_some() => path,
            _ => Value::unknown(line, called(word)),
        })
    }

    /// What may set anything.
    fn refused(&mut self, word: &str, line: u32, mode: &Mode) -> Result<Value, Why> {
        let variables = self.skip_group()?;
        match (word, mode) {
            (_, Mode::Never) => {}
            ("unset", _) => self.forget(&variables, line, "what is left of a variable after `unset`", mode),
            _ => return Err(Why::new(line, called(word))),
        }
        Ok(Value::Null)
    }

    fn define(&mut self, name: &Value, value: Value, line: u32, mode: &Mode, assumed: usize) -> Value {
        match name.to_text() {
            Ok(name) => self.state.define(&name, value, mode, assumed),
            Err(why) => self.state.define_something(why, mode),
        }
        Value::unknown(line, "whether a constant could be defined")
    }

    fn environment(&mut self, name: &Value, line: u32) -> Value {
        match (name.to_text(), &self.state.environment) {
            (Ok(_), Some(why)) => Value::Unknown(why.clone()),
            (Ok(name), None) => Value::Env(environment(line, &String::from_utf8_lossy(&name))),
            (Err(why), _) => Value::Unknown(why),
        }
    }
}

fn called(word: &str) -> String {
    let word: String = word.chars().take(64).collect();
    format!("the call of {}(), which is not followed", word.escape_debug())
}

fn directory(path: &Value, levels: Option<&Value>, line: u32) -> Value {
    let levels = match levels {
        None => 1,
        Some(Value::Int(levels @ 1..=64)) => *levels,
        Some(_) => return Value::unknown(line, called("dirname")),
    };
    match path.to_text() {
        Ok(path) => Value::text((0..levels).fold(&path, |path, _| parent(path))),
        Err(why) => Value::Unknown(why),
    }
}
