//! Expressions: what they come to, as far as that can be known.

use super::cursor::Reader;
use super::lexer::Kind;
use super::state::{Mode, joined};
use super::value::{Value, Why};

const TERNARY: u8 = 5;
const COALESCE: u8 = 6;
const UNARY: u8 = 18;

/// How tightly an operator binds.
fn power(op: &str) -> Option<u8> {
    Some(match op {
        "or" => 1,
        "xor" => 2,
        "and" => 3,
        "?" => TERNARY,
        "??" => COALESCE,
        "||" => 7,
        "&&" => 8,
        "|" => 9,
        "^" => 10,
        "&" => 11,
        "==" | "!=" | "===" | "!==" | "<>" | "<=>" => 12,
        "<" | "<=" | ">" | ">=" => 13,
        "." => 14,
        "<<" | ">>" => 15,
        "+" | "-" => 16,
        "*" | "/" | "%" => 17,
        "instanceof" => UNARY,
        "**" => 20,
        _ => return None,
    })
}

impl Reader<'_, '_> {
    /// An expression of operators that bind at least as tightly as `least`.
    pub(super) fn expression(&mut self, mode: &Mode, least: u8) -> Result<Value, Why> {
        self.deeper(|reader| {
            let mut left = reader.prefixed(mode)?;
            while let Some((op, power)) = reader.operator().filter(|(_, power)| *power >= least) {
                let line = reader.line();
                reader.advance();
                left = reader.operation(left, &op, power, line, mode)?;
            }
            Ok(left)
        })
    }

    fn operator(&self) -> Option<(String, u8)> {
        let op = match self.peek()? {
            Kind::Op(op) => (*op).to_owned(),
            Kind::Name(_) => self.word()?,
            _ => return None,
        };
        let power = power(&op)?;
        Some((op, power))
    }

    fn operation(&mut self, left: Value, op: &str, power: u8, line: u32, mode: &Mode) -> Result<Value, Why> {
        match op {
            "?" => return self.choice(&left, mode),
            "??" => return self.coalesced(left, mode),
            "||" | "or" => return self.either(&left, power, mode),
            "&&" | "and" => return self.both(&left, power, mode),
            _ => {}
        }
        let right = self.expression(mode, power + 1)?;
        let truth = |truth: Result<bool, Why>| truth.map_or_else(Value::Unknown, Value::Bool);
        Ok(match op {
            "." => self.concatenated(&left, &right, line)?,
            "===" => truth(left.is_identical(&right)),
            "!==" => match (&left, &right) {
                // Whether the environment has it: as good as the question for its value.
                (Value::Env(why), Value::Bool(false)) | (Value::Bool(false), Value::Env(why)) => {
                    Value::Env(why.clone())
                }
                _ => truth(left.is_identical(&right).map(|is| !is)),
            },
            "==" => truth(left.is_equal(&right, line)),
            "!=" | "<>" => truth(left.is_equal(&right, line).map(|is| !is)),
            _ => Value::unknown(line, "a calculation"),
        })
    }

    pub(super) fn concatenated(&mut self, left: &Value, right: &Value, line: u32) -> Result<Value, Why> {
        Ok(match (left.to_text(), right.to_text()) {
            (Ok(left), Ok(right)) => {
                self.state.spend(line, left.len() + right.len())?;
                Value::Text(joined(&left, &right))
            }
            (Err(why), _) | (_, Err(why)) => Value::Unknown(why),
        })
    }

    /// `… ? … : …` and `… ?: …`. What the environment lacks is taken from the file.
    fn choice(&mut self, condition: &Value, mode: &Mode) -> Result<Value, Why> {
        let truth = condition.truth();
        let if_true = match self.eat(":") {
            true => condition.clone(),
            false => {
                let value = self.expression(&mode.when(&truth), 0)?;
                self.expect(":")?;
                value
            }
        };
        let if_false = self.expression(&mode.when(&truth.clone().map(|truth| !truth)), COALESCE)?;
        Ok(match (condition, truth) {
            (Value::Env(why), _) => {
                self.state.assume_unset(why, mode);
                if_false
            }
            (_, Ok(true)) => if_true,
            (_, Ok(false)) => if_false,
            (_, Err(why)) => Value::Unknown(why),
        })
    }

    pub(super) fn coalesced(&mut self, left: Value, mode: &Mode) -> Result<Value, Why> {
        let is_null = match &left {
            Value::Null | Value::Unset(_) => Ok(true),
            Value::Env(why) | Value::Unknown(why) => Err(why.clone()),
            _ => Ok(false),
        };
        let right = self.expression(&mode.when(&is_null), COALESCE)?;
        Ok(match (&left, is_null) {
            (Value::Env(why), _) => {
                self.state.assume_unset(why, mode);
                right
            }
            (_, Ok(true)) => right,
            (_, _) => left,
        })
    }

    fn either(&mut self, left: &Value, power: u8, mode: &Mode) -> Result<Value, Why> {
        let truth = left.truth();
        let right = self.expression(&mode.when(&truth.clone().map(|truth| !truth)), power + 1)?;
        Ok(match (truth, right.truth()) {
            (Ok(true), _) | (_, Ok(true)) => Value::Bool(true),
            (Ok(false), Ok(false)) => Value::Bool(false),
            (Err(why), _) | (_, Err(why)) => Value::Unknown(why),
        })
    }

    fn both(&mut self, left: &Value, power: u8, mode: &Mode) -> Result<Value, Why> {
        let truth = left.truth();
        let right = self.expression(&mode.when(&truth), power + 1)?;
        Ok(match (truth, right.truth()) {
            (Ok(false), _) | (_, Ok(false)) => Value::Bool(false),
            (Ok(true), Ok(true)) => Value::Bool(true),
            (Err(why), _) | (_, Err(why)) => Value::Unknown(why),
        })
    }

    /// What stands behind its operator.
    fn prefixed(&mut self, mode: &Mode) -> Result<Value, Why> {
        let line = self.line();
        let Some(Kind::Op(op)) = self.peek() else { return self.suffixed(mode) };
        match *op {
            "!" => {
                self.advance();
                let truth = self.expression(mode, UNARY)?.truth();
                Ok(truth.map_or_else(Value::Unknown, |truth| Value::Bool(!truth)))
            }
            "@" => {
                self.advance();
                self.expression(mode, UNARY + 1)
            }
            "&" => Err(self.fault("a reference is not followed")),
            "-" | "+" | "~" | "++" | "--" => {
                let is_minus = *op == "-";
                self.advance();
                if let (true, Some(Kind::Variable(name))) = (matches!(*op, "++" | "--"), self.peek()) {
                    self.forget(&[*name], line, "a calculation", mode);
                }
                Ok(match self.expression(mode, UNARY + 1)? {
                    Value::Int(number) if is_minus => {
                        number.checked_neg().map_or_else(|| Value::unknown(line, "a calculation"), Value::Int)
                    }
                    _ => Value::unknown(line, "a calculation"),
                })
            }
            "(" => match self.cast() {
                Some(cast) => {
                    let value = self.expression(mode, UNARY + 1)?;
                    Ok(converted(&value, &cast, line))
                }
                None => self.suffixed(mode),
            },
            _ => self.suffixed(mode),
        }
    }

    /// `(string)`, which is gone over.
    fn cast(&mut self) -> Option<String> {
        const CASTS: [&str; 9] =
            ["string", "binary", "bool", "boolean", "int", "integer", "float", "array", "object"];
        let Some(Kind::Name(name)) = self.peek_second() else { return None };
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if !CASTS.contains(&name.as_str()) || !self.closes_after_next() {
            return None;
        }
        (0..3).for_each(|_| self.advance());
        Some(name)
    }
}

fn converted(value: &Value, cast: &str, line: u32) -> Value {
    let known = match cast {
        "string" | "binary" => value.to_text().map(Value::Text),
        "bool" | "boolean" => value.truth().map(Value::Bool),
        "int" | "integer" if matches!(value, Value::Int(_)) => Ok(value.clone()),
        _ => Err(Why::new(line, "a conversion")),
    };
    known.unwrap_or_else(Value::Unknown)
}
