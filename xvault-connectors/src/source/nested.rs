//! Configured paths that lie within others, and come with them.

use xvault_core::EntryPath;

/// The number of the path that number `number` comes with: the first that it lies within, or that is the same and stands before it.
/// `None` among the paths is the file system's root.
pub(super) fn outer(paths: &[Option<&EntryPath>], number: usize) -> Option<usize> {
    let inner = *paths.get(number)?;
    paths.iter().enumerate().position(|(other, outer)| {
        other != number && is_within(inner, *outer) && (!is_within(*outer, inner) || other < number)
    })
}

fn is_within(inner: Option<&EntryPath>, outer: Option<&EntryPath>) -> bool {
    match (inner, outer) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(inner), Some(outer)) => inner.is_within(outer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_with_what_it_lies_in_and_once() {
        let outers = |paths: &[&str]| {
            let paths: Vec<_> = paths.iter().map(|p| EntryPath::from_source(p.as_bytes()).unwrap()).collect();
            let paths: Vec<_> = paths.iter().map(Option::as_ref).collect();
            (0..=paths.len()).map(|number| outer(&paths, number)).collect::<Vec<_>>()
        };
        assert_eq!(outers(&["/a/b", "/ab", "/a", "/a/b/c"]), [Some(2), None, None, Some(0), None]);
        assert_eq!(outers(&["/a", "/a", "/a"]), [None, Some(0), Some(0), None]);
        assert_eq!(outers(&["/a", "/", "/"]), [Some(1), None, Some(1), None]);
    }
}
