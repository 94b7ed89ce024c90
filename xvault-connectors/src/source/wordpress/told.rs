//! How much is told of a site: what its owner writes decides how much there would be.

/// Notes of one kind.
pub(super) const MAX_NOTES: usize = 20;

/// Why something is not in a backup.
pub(super) const MAX_DOUBTS: usize = 100;

/// The first of them, and how many more there are of `what`.
pub(super) fn first_of(all: impl IntoIterator<Item = String>, most: usize, what: &str) -> Vec<String> {
    let mut all = all.into_iter();
    let mut first: Vec<String> = all.by_ref().take(most).collect();
    let more = all.count();
    if more > 0 {
        first.push(format!("and {more} more {what}"));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted() {
        let all = || (0..5).map(|number| number.to_string());
        assert_eq!(first_of(all(), 5, "links"), ["0", "1", "2", "3", "4"]);
        assert_eq!(first_of(all(), 2, "links"), ["0", "1", "and 3 more links"]);
    }
}
