//! Statements, in their order.

use super::cursor::Reader;
use super::lexer::Kind;
use super::state::{Mode, State};
use super::value::Why;

/// How the reason begins why something is not known that is set in a condition.
const DEPENDS: &str = "it depends on";

impl Reader<'_, '_> {
    /// To the end, or to where nothing that follows is run.
    pub(super) fn run(mut self) -> Result<State, Why> {
        while self.peek().is_some() && !self.state.is_over {
            self.statement(&Mode::Sure)?;
        }
        Ok(self.state)
    }

    fn statement(&mut self, mode: &Mode) -> Result<(), Why> {
        let mode = if self.state.is_over { &Mode::Never } else { mode };
        self.deeper(|reader| reader.shallow_statement(mode))
    }

    fn shallow_statement(&mut self, mode: &Mode) -> Result<(), Why> {
        let line = self.line();
        if self.eat(";") {
            return Ok(());
        }
        if self.eat("{") {
            return self.block(mode);
        }
        if self.is_op("#[") {
            return self.skip_group().map(drop);
        }
        match self.word().unwrap_or_default().as_str() {
            "if" => self.condition(mode),
            "const" => self.constants(mode),
            "function" if !matches!(self.peek_second(), Some(Kind::Op("("))) => self.skip_body(),
            "abstract" | "final" | "class" | "interface" | "trait" => self.skip_body(),
            "enum" | "readonly" if matches!(self.peek_second(), Some(Kind::Name(_))) => self.skip_body(),
            "while" | "for" | "foreach" | "switch" | "declare" => self.loops(mode),
            "do" => {
                self.advance();
                self.statement(&mode.perhaps(line, "it depends on a loop"))?;
                self.skip_statement()
            }
            "try" | "catch" | "finally" => self.attempt(mode),
            "return" => self.end(mode),
            "__halt_compiler" => {
                self.advance_to_end();
                Ok(())
            }
            "use" | "global" => self.skip_statement(),
            "namespace" | "goto" if !matches!(mode, Mode::Never) => {
                Err(self.fault("`namespace` and `goto` are not followed"))
            }
            "static" if matches!(self.peek_second(), Some(Kind::Variable(_))) => self.skip_statement(),
            "echo" => {
                self.advance();
                self.expressions(mode)
            }
            _ => self.expressions(mode),
        }
    }

    /// One or more with commas between them.
    fn expressions(&mut self, mode: &Mode) -> Result<(), Why> {
        self.expression(mode, 0)?;
        while self.eat(",") {
            self.expression(mode, 0)?;
        }
        self.finish()
    }

    fn finish(&mut self) -> Result<(), Why> {
        if self.eat(";") || self.peek().is_none() {
            return Ok(());
        }
        Err(self.fault("the statement does not end where it should"))
    }

    fn end(&mut self, mode: &Mode) -> Result<(), Why> {
        self.advance();
        if !self.is_op(";") && self.peek().is_some() {
            self.expression(mode, 0)?;
        }
        self.state.is_over |= matches!(mode, Mode::Sure);
        self.finish()
    }

    fn block(&mut self, mode: &Mode) -> Result<(), Why> {
        while !self.eat("}") {
            self.member(mode)?;
        }
        Ok(())
    }

    /// A statement of a block, or a label of a `switch`.
    fn member(&mut self, mode: &Mode) -> Result<(), Why> {
        if self.peek().is_none() {
            return Err(self.fault("a brace that is not closed"));
        }
        if self.eat_word(&["case"]) {
            self.expression(mode, 0)?;
            return if self.eat(":") || self.eat(";") { Ok(()) } else { Err(self.fault("`:` is missing")) };
        }
        if self.eat_word(&["default"]) {
            return if self.eat(":") || self.eat(";") { Ok(()) } else { Err(self.fault("`:` is missing")) };
        }
        if self.eat_word(&["break", "continue"]) {
            return self.skip_statement();
        }
        self.statement(mode)
    }

    /// The body of `if`, `while` and others: a statement, or `:` and statements up to one of `ends`.
    fn body(&mut self, mode: &Mode, ends: &[&str]) -> Result<bool, Why> {
        if !self.eat(":") {
            self.member(mode)?;
            return Ok(false);
        }
        while !self.word().is_some_and(|word| ends.contains(&word.as_str())) {
            self.member(mode)?;
        }
        Ok(true)
    }

    fn condition(&mut self, mode: &Mode) -> Result<(), Why> {
        const ENDS: [&str; 3] = ["elseif", "else", "endif"];
        let mut rest = mode.clone();
        self.advance();
        loop {
            let truth = self.parenthesized(&rest)?;
            let is_open = self.body(&rest.when(&truth), &ENDS)?;
            rest = rest.when(&truth.map(|truth| !truth));
            if self.eat_word(&["elseif"]) {
                continue;
            }
            if self.eat_word(&["else"]) {
                self.body(&rest, &["endif"])?;
            }
            return if is_open && self.eat_word(&["endif"]) { self.finish() } else { Ok(()) };
        }
    }

    /// What a condition comes to, in a sentence when nobody knows.
    fn parenthesized(&mut self, mode: &Mode) -> Result<Result<bool, Why>, Why> {
        let line = self.line();
        self.expect("(")?;
        let truth = self.expression(mode, 0)?.truth();
        self.expect(")")?;
        let depends = |why: Why| match why.what.starts_with(DEPENDS) {
            true => why,
            false => Why::new(line, format!("{DEPENDS} a condition that can't be known: {}", why.what)),
        };
        Ok(truth.map_err(depends))
    }

    fn loops(&mut self, mode: &Mode) -> Result<(), Why> {
        const ENDS: [&str; 5] = ["endwhile", "endfor", "endforeach", "endswitch", "enddeclare"];
        const WHAT: &str = "it depends on a loop or a `switch`";
        let (line, is_declare) = (self.line(), self.word().as_deref() == Some("declare"));
        self.advance();
        if !self.is_op("(") {
            return Err(self.fault("`(` is missing"));
        }
        let variables = self.skip_group()?;
        if is_declare {
            return if self.is_op(":") { self.body(mode, &ENDS).map(drop) } else { self.statement(mode) };
        }
        self.forget(&variables, line, WHAT, mode);
        let is_open = self.body(&mode.perhaps(line, WHAT), &ENDS)?;
        if is_open && self.eat_word(&ENDS) { self.finish() } else { Ok(()) }
    }

    /// `try { }`, `catch (…) { }`, `finally { }`.
    fn attempt(&mut self, mode: &Mode) -> Result<(), Why> {
        let line = self.line();
        self.advance();
        if self.is_op("(") {
            self.skip_group()?;
        }
        self.statement(&mode.perhaps(line, "it depends on what a `try` comes to"))
    }

    /// `const NAME = …, OTHER = …;`
    fn constants(&mut self, mode: &Mode) -> Result<(), Why> {
        self.advance();
        loop {
            let Some(Kind::Name(name)) = self.peek() else {
                return Err(self.fault("a constant's name is missing"));
            };
            self.advance();
            self.expect("=")?;
            let assumed = self.state.assumed.len();
            let value = self.expression(mode, 0)?;
            self.state.define(name, value, mode, assumed);
            if !self.eat(",") {
                return self.finish();
            }
        }
    }
}
