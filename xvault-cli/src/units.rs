//! Sizes and times as people write and read them.

use std::num::NonZeroU64;
use std::time::Duration;

const UNITS: [(&str, u64); 5] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];

/// Reads `20MiB`, `500k`, `1.5G` or a plain number of bytes. Units are powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<NonZeroU64, String> {
    let wrong = || format!("`{text}` is no size: write 20MiB, 500KiB or a number of bytes, more than 0");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let factor = UNITS.iter().find(|(name, _)| unit.is_empty() && *name == "B" || matches_unit(name, unit));
    let (_, factor) = factor.ok_or_else(wrong)?;
    let number: f64 = number.parse().map_err(|_| wrong())?;
    #[expect(clippy::cast_precision_loss, reason = "a rate, and a few bytes more or less do not matter")]
    let bytes = number * *factor as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    let bytes = if (1.0..1e18).contains(&bytes) { bytes as u64 } else { 0 };
    NonZeroU64::new(bytes).ok_or_else(wrong)
}

/// `MiB`, `M`, `MB`, `m`: one meaning, whatever the habit.
fn matches_unit(name: &str, unit: &str) -> bool {
    let initial = name.get(..1).unwrap_or_default();
    [name, initial, &format!("{initial}B"), &format!("{initial}iB/s")]
        .iter()
        .any(|n| n.eq_ignore_ascii_case(unit))
}

/// `1.5 GiB`, `312 B`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let unit = UNITS.iter().take(4).rev().find(|(_, factor)| bytes >= *factor);
    match unit {
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        Some((name, factor)) => format!("{:.1} {name}", bytes as f64 / *factor as f64),
        None => format!("{bytes} B"),
    }
}

/// `1,234,567`.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `0.8 s`, `2 min 05 s`, `3 h 12 min`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{secs} s"),
        60..3600 => format!("{} min {:02} s", secs / 60, secs % 60),
        _ => format!("{} h {:02} min", secs / 3600, secs % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_every_habit() {
        let read = |text| parse_bytes(text).map(NonZeroU64::get).ok();
        assert_eq!(read("20MiB"), Some(20 << 20));
        assert_eq!(read("20M"), Some(20 << 20));
        assert_eq!(read("500k"), Some(500 << 10));
        assert_eq!(read("1.5GB"), Some(3 << 29));
        assert_eq!(read("4096"), Some(4096));
        for bad in ["", "0", "-1", "M", "20 parsecs", "1e9", "nan", "99999999999TiB", "1.2.3"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_are_shown_short() {
        assert_eq!(show_bytes(312), "312 B");
        assert_eq!(show_bytes(3 << 29), "1.5 GiB");
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_count(999), "999");
        assert_eq!(show_duration(Duration::from_millis(830)), "0.8 s");
        assert_eq!(show_duration(Duration::from_secs(125)), "2 min 05 s");
    }
}
