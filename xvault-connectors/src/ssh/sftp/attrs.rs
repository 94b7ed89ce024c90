//! File attributes as SFTP version 3 has them.

use bytes::{BufMut, BytesMut};
use xvault_core::{Metadata, Mtime};

use super::wire::Fields;

const HAS_SIZE: u32 = 0x1;
const HAS_OWNER: u32 = 0x2;
const HAS_MODE: u32 = 0x4;
const HAS_TIMES: u32 = 0x8;
const HAS_EXTENDED: u32 = 0x8000_0000;

/// More extended attributes than this on one file are nonsense.
const MAX_EXTENDED: u32 = 64;

/// Attributes; what the server left out is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attrs {
    /// Bytes of content.
    pub size: Option<u64>,
    /// Numeric owner and group.
    pub owner: Option<(u32, u32)>,
    /// Type and permission bits, as `st_mode`.
    pub mode: Option<u32>,
    /// Last change of content: the low 32 bits of the seconds since 1970.
    pub mtime: Option<u32>,
}

/// What a mode says a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A socket, pipe or device node.
    Special,
}

impl Attrs {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, &'static str> {
        let flags = fields.u32()?;
        let mut attrs = Self::default();
        if flags & HAS_SIZE != 0 {
            attrs.size = Some(fields.u64()?);
        }
        if flags & HAS_OWNER != 0 {
            attrs.owner = Some((fields.u32()?, fields.u32()?));
        }
        if flags & HAS_MODE != 0 {
            attrs.mode = Some(fields.u32()?);
        }
        if flags & HAS_TIMES != 0 {
            fields.u32()?;
            attrs.mtime = Some(fields.u32()?);
        }
        if flags & HAS_EXTENDED != 0 {
            skip_extended(fields)?;
        }
        Ok(attrs)
    }

    /// What it is; `None` when the server did not say.
    #[must_use]
    pub fn file_type(&self) -> Option<FileType> {
        self.mode.map(|mode| match mode & 0o170_000 {
            0o100_000 => FileType::File,
            0o040_000 => FileType::Directory,
            0o120_000 => FileType::Symlink,
            _ => FileType::Special,
        })
    }

    /// As an archive keeps it. `now` is seconds since 1970: the 32 bits of a time are taken for the moment nearest to it.
    #[must_use]
    pub fn metadata(&self, now: i64) -> Metadata {
        let (uid, gid) = self.owner.unwrap_or_default();
        Metadata {
            mode: self.mode.unwrap_or_default() & 0o7777,
            uid: uid.into(),
            gid: gid.into(),
            user: None,
            group: None,
            mtime: Mtime { secs: self.mtime.map_or(0, |low| widen(low, now)), nanos: 0 },
        }
    }
}

/// Attributes to be set; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttrs {
    /// Numeric owner and group.
    pub owner: Option<(u32, u32)>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Seconds since 1970, for the times of last access and last change.
    pub mtime: Option<u32>,
}

impl SetAttrs {
    /// Permission bits alone.
    #[must_use]
    pub fn mode(mode: u32) -> Self {
        Self { mode: Some(mode), ..Self::default() }
    }

    pub(super) fn encode(self, out: &mut BytesMut) {
        let flag = |there: bool, flag| if there { flag } else { 0 };
        out.put_u32(
            flag(self.owner.is_some(), HAS_OWNER)
                | flag(self.mode.is_some(), HAS_MODE)
                | flag(self.mtime.is_some(), HAS_TIMES),
        );
        if let Some((uid, gid)) = self.owner {
            out.put_u32(uid);
            out.put_u32(gid);
        }
        if let Some(mode) = self.mode {
            out.put_u32(mode);
        }
        if let Some(mtime) = self.mtime {
            out.put_u32(mtime);
            out.put_u32(mtime);
        }
    }
}

fn skip_extended(fields: &mut Fields<'_>) -> Result<(), &'static str> {
    let count = fields.u32()?;
    if count > MAX_EXTENDED {
        return Err("too many extended attributes");
    }
    for _ in 0..count {
        fields.string()?;
        fields.string()?;
    }
    Ok(())
}

/// The moment nearest to `now` that has these low 32 bits.
///
/// SFTP version 3 cuts times to 32 bits. Read as unsigned, 1969 would become 2105; read as signed,
/// 2039 would become 1902. Nearest to now is right for the 68 years around it on either side.
fn widen(low: u32, now: i64) -> i64 {
    const CYCLE: i64 = 1 << 32;
    let ahead = (i64::from(low) - now).rem_euclid(CYCLE);
    if ahead < CYCLE / 2 { now + ahead } else { now + ahead - CYCLE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_before_1970_and_after_2038_survive() {
        let in_2026 = 1_795_000_000;
        assert_eq!(widen(0xffff_ffff, in_2026), -1);
        assert_eq!(widen(1_700_000_000, in_2026), 1_700_000_000);
        assert_eq!(widen(0x8000_0001, in_2026), 0x8000_0001);
    }

    proptest! {
        #[test]
        fn any_time_within_68_years_survives(now in 0_i64..1 << 34, apart in -(1_i64 << 31)..(1 << 31)) {
            let time = now + apart;
            let low = u32::try_from(time.rem_euclid(1 << 32)).unwrap();
            prop_assert_eq!(widen(low, now), time);
        }
    }
}
