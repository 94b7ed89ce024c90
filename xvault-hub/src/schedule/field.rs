//! One field of a cron expression: which numbers it allows.

use super::cron::Fault;

/// The longest text that a fault repeats, in characters.
const SHOWN: usize = 40;

/// Which of the five fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// 0 to 59
    Minute,
    /// 0 to 23
    Hour,
    /// 1 to 31
    DayOfMonth,
    /// 1 to 12, or by name
    Month,
    /// 0 to 7, where 0 and 7 are Sunday, or by name
    DayOfWeek,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Part {
    /// In the order of an expression.
    pub(super) const ALL: [Self; 5] =
        [Self::Minute, Self::Hour, Self::DayOfMonth, Self::Month, Self::DayOfWeek];

    /// As faults call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
        }
    }

    /// The least and the greatest number.
    fn bounds(self) -> (u8, u8) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 6),
        }
    }

    /// Names, the first of which means the least number.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &WEEKDAYS,
            _ => &[],
        }
    }

    pub(super) fn fault(self, text: &str, reason: impl Into<String>) -> Fault {
        let text = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        Fault { part: Some(self), text, reason: reason.into() }
    }
}

/// The numbers that a field allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    bits: u64,
    /// Whether it begins with `*`: cron takes a day field without one as a restriction of its own.
    pub(super) star: bool,
}

impl Field {
    /// Reads lists of numbers, names, ranges and steps: `*`, `*/5`, `1-5`, `10-20/2`, `mon,wed-fri`.
    pub(super) fn parse(part: Part, text: &str) -> Result<Self, Fault> {
        let bits = text.split(',').try_fold(0, |bits, item| Ok(bits | parse_item(part, text, item)?))?;
        Ok(Self { bits, star: text.starts_with('*') })
    }

    pub(super) fn contains(self, number: i8) -> bool {
        self.next_from(number) == Some(number)
    }

    /// The least allowed number that is not below `number`.
    pub(super) fn next_from(self, number: i8) -> Option<i8> {
        let above = self.bits.checked_shr(u32::try_from(number).ok()?)?;
        if above == 0 {
            return None;
        }
        number.checked_add(i8::try_from(above.trailing_zeros()).ok()?)
    }

    /// The least allowed number. There is one: no field is empty.
    pub(super) fn first(self) -> i8 {
        self.next_from(0).unwrap_or_default()
    }

    /// All allowed numbers, in order.
    pub(super) fn numbers(self) -> impl Iterator<Item = i8> {
        (0..i8::MAX).take(64).filter(move |number| self.contains(*number))
    }
}

/// The bits of one item of a list.
fn parse_item(part: Part, field: &str, item: &str) -> Result<u64, Fault> {
    let (span, step) = match item.split_once('/') {
        Some((span, step)) => (span, Some(step)),
        None => (item, None),
    };
    let (low, high) = parse_span(part, field, span)?;
    let step = match step {
        None => 1,
        Some(_) if span != "*" && !span.contains('-') => {
            let whole = part.bounds().1;
            return Err(part.fault(item, format!("a step needs a range: write {span}-{whole} before the /")));
        }
        Some(step) => parse_step(part, step)?,
    };
    Ok((low..=high).step_by(usize::from(step)).fold(0, |bits, number| bits | bit(part, number)))
}

/// Sunday has two numbers.
fn bit(part: Part, number: u8) -> u64 {
    let number = if part == Part::DayOfWeek { number % 7 } else { number };
    1 << number
}

fn parse_span(part: Part, field: &str, span: &str) -> Result<(u8, u8), Fault> {
    if span == "*" {
        return Ok(part.bounds());
    }
    let Some((low, high)) = span.split_once('-') else {
        let number = parse_number(part, field, span)?;
        return Ok((number, number));
    };
    let (first, last) = (parse_number(part, field, low)?, parse_number(part, field, high)?);
    // A week may end on Sunday.
    let last = if part == Part::DayOfWeek && last == 0 && first > 0 { 7 } else { last };
    if first > last {
        let reason = format!("{low} comes after {high}; write two ranges with a comma between them");
        return Err(part.fault(span, reason));
    }
    Ok((first, last))
}

fn parse_number(part: Part, field: &str, text: &str) -> Result<u8, Fault> {
    let (low, high) = part.bounds();
    if text.is_empty() {
        return Err(part.fault(field, "something is missing beside a comma, a - or a /"));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let high = if part == Part::DayOfWeek { 7 } else { high };
        return match text.parse() {
            Ok(number) if (low..=high).contains(&number) => Ok(number),
            _ => Err(part.fault(text, format!("{low} to {high} is possible"))),
        };
    }
    let names = part.names();
    let named = (low..=high).zip(names).find(|(_, name)| name.eq_ignore_ascii_case(text));
    named.map(|(number, _)| number).ok_or_else(|| part.fault(text, expected(part)))
}

fn expected(part: Part) -> String {
    let (low, high) = part.bounds();
    let names = match part.names() {
        [first, .., last] => format!(", or a name from {first} to {last}"),
        _ => String::new(),
    };
    format!("a number from {low} to {high}{names} is needed, a range, or *")
}

fn parse_step(part: Part, text: &str) -> Result<u8, Fault> {
    let (low, high) = part.bounds();
    let most = high - low + 1;
    match text.parse() {
        Ok(step) if (1..=most).contains(&step) => Ok(step),
        _ => Err(part.fault(
            text,
            format!("a step from 1 to {most} is possible; for a longer span of its own there is `interval_minutes`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(part: Part, text: &str) -> Vec<i8> {
        Field::parse(part, text).unwrap().numbers().collect()
    }

    #[test]
    fn lists_ranges_steps_and_names() {
        assert_eq!(numbers(Part::Minute, "*/15"), [0, 15, 30, 45]);
        assert_eq!(numbers(Part::Minute, "*/60"), [0]);
        assert_eq!(numbers(Part::Minute, "5-20/5,59,07"), [5, 7, 10, 15, 20, 59]);
        assert_eq!(numbers(Part::Hour, "*"), (0..24).collect::<Vec<_>>());
        assert_eq!(numbers(Part::DayOfMonth, "1,31"), [1, 31]);
        assert_eq!(numbers(Part::Month, "Jan,mar-MAY"), [1, 3, 4, 5]);
        assert_eq!(numbers(Part::DayOfWeek, "0"), numbers(Part::DayOfWeek, "7"));
        assert_eq!(numbers(Part::DayOfWeek, "fri-sun"), [0, 5, 6]);
        assert_eq!(numbers(Part::DayOfWeek, "5-7"), [0, 5, 6]);
        assert_eq!(numbers(Part::DayOfWeek, "sun-tue"), [0, 1, 2]);
        assert_eq!(numbers(Part::DayOfWeek, "0-7"), (0..7).collect::<Vec<_>>());
        assert_eq!(numbers(Part::DayOfWeek, "*"), (0..7).collect::<Vec<_>>());
    }

    #[test]
    fn the_next_number() {
        let field = Field::parse(Part::Minute, "0,59").unwrap();
        assert_eq!([0, 1, 59, 60].map(|n| field.next_from(n)), [Some(0), Some(59), Some(59), None]);
        assert_eq!(field.next_from(-1), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (Part::Minute, "60", "60", "0 to 59"),
            (Part::Minute, "1,,2", "1,,2", "missing"),
            (Part::Minute, "", "", "missing"),
            (Part::Minute, "5-", "5-", "missing"),
            (Part::Minute, "5/15", "5/15", "5-59"),
            (Part::Minute, "*/0", "0", "1 to 60"),
            (Part::Minute, "*/90", "90", "interval_minutes"),
            (Part::Minute, "*/", "", "step"),
            (Part::Minute, "*/-5", "-5", "step"),
            (Part::Minute, "99999999999999999999", "99999999999999999999", "0 to 59"),
            (Part::Minute, "mon", "mon", "0 to 59"),
            (Part::Hour, "22-4", "22-4", "22 comes after 4"),
            (Part::Hour, "1-2-3", "2-3", "needed"),
            (Part::DayOfMonth, "0", "0", "1 to 31"),
            (Part::DayOfMonth, "L", "L", "1 to 31"),
            (Part::DayOfMonth, "15W", "15W", "1 to 31"),
            (Part::DayOfMonth, "?", "?", "or *"),
            (Part::Month, "janu", "janu", "jan to dec"),
            (Part::Month, "0", "0", "1 to 12"),
            (Part::DayOfWeek, "8", "8", "0 to 7"),
            (Part::DayOfWeek, "5#2", "5#2", "sun to sat"),
            (Part::DayOfWeek, "**", "**", "or *"),
            (Part::DayOfWeek, "*,x\0", "x\\0", "or *"),
        ];
        for (part, text, shown, reason) in cases {
            let fault = Field::parse(part, text).unwrap_err();
            assert_eq!((fault.part, fault.text.as_str()), (Some(part), shown), "{text}: {fault}");
            assert!(fault.reason.contains(reason), "{text}: {fault}");
        }
        let long = "7".repeat(10_000);
        assert!(Field::parse(Part::Hour, &long).unwrap_err().to_string().len() < 200);
    }
}
