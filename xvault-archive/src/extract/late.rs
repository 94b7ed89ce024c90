//! Hard links that wait until it is known what their file is.

use std::collections::HashMap;

use xvault_core::EntryPath;

/// Links to files that were kept, by the file. Memory grows with the number of such links only.
#[derive(Default)]
pub(super) struct LateLinks(HashMap<EntryPath, Vec<EntryPath>>);

impl LateLinks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, file: &EntryPath, link: &EntryPath) {
        self.0.entry(file.clone()).or_default().push(link.clone());
    }

    /// The links to `file`, in their order.
    pub(super) fn take(&mut self, file: &EntryPath) -> Vec<EntryPath> {
        self.0.remove(file).unwrap_or_default()
    }
}
