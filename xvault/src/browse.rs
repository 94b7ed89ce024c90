//! Pages of a stored index, by name.

use xvault_archive::ArchiveIndex;
use xvault_archive::browse::{self, Change, Item, Listed, Page, Pattern, Range};
use xvault_connectors::Control;
use xvault_core::EntryPath;

use crate::bridge::{exactly, with_objects};
use crate::{Error, Snapshot};

impl Snapshot<'_> {
    /// The children of `directory`, or of the root. Reads the index once, on a thread.
    ///
    /// # Errors
    /// When the index is damaged, or encrypted to others.
    pub async fn list(
        &self,
        directory: Option<&EntryPath>,
        range: &Range,
        control: &Control,
    ) -> Result<Listed, Error> {
        let (directory, range) = (directory.cloned(), range.clone());
        self.with_index(control, move |index| Ok(browse::list(index, directory.as_ref(), &range)?)).await
    }

    /// Entries below `directory`, or of all the snapshot, whose names fit. Reads the index once, on a thread.
    ///
    /// # Errors
    /// As [`Snapshot::list`].
    pub async fn search(
        &self,
        directory: Option<&EntryPath>,
        pattern: &Pattern,
        range: &Range,
        control: &Control,
    ) -> Result<Page<Item>, Error> {
        let (directory, pattern, range) = (directory.cloned(), pattern.clone(), range.clone());
        let work = move |index: &mut _| Ok(browse::search(index, directory.as_ref(), &pattern, &range)?);
        self.with_index(control, work).await
    }

    /// What is different in `later`, which may lie in another store. Reads this index twice and that one once, or more often
    /// when they are very large, on a thread.
    ///
    /// # Errors
    /// As [`Snapshot::list`].
    pub async fn diff(
        &self,
        later: &Snapshot<'_>,
        directory: Option<&EntryPath>,
        range: &Range,
        control: &Control,
    ) -> Result<Page<Change>, Error> {
        let (directory, range) = (directory.cloned(), range.clone());
        let (a, b) = (self.index(control).await?, later.index(control).await?);
        let (keys, identities) =
            ([self.manifest().key(), later.manifest().key()], [self.identities(), later.identities()]);
        with_objects(&[&a, &b], control, move |readers| {
            let [a, b] = exactly(readers)?;
            let ([a_key, b_key], [a_identities, b_identities]) = (keys, identities);
            let (mut a, mut b) =
                (ArchiveIndex::open(a, &a_identities)?, ArchiveIndex::open(b, &b_identities)?);
            a.expect_key(&a_key)?;
            b.expect_key(&b_key)?;
            Ok(browse::diff(&mut a, &mut b, directory.as_ref(), &range)?)
        })
        .await
    }
}
