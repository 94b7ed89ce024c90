//! `limit` and `cursor` of lists.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use xvault_core::TenantId;

use super::error::{Error, Result};
use crate::db::Page;

/// Rows of a page when nothing else is asked for.
const DEFAULT_LIMIT: u32 = 50;
/// The most rows of a page.
const MAX_LIMIT: u32 = 200;

/// The parameters of every list. Flatten is not used: serde's flatten and query strings don't go together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub(crate) limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
}

impl Paging {
    pub(crate) fn page(self) -> Result<Page> {
        page(self.limit, self.cursor.as_deref())
    }
}

/// The parameters of a list of what tenants own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantPaging {
    /// Whose: for operators, who see everybody's otherwise.
    pub(crate) tenant_id: Option<TenantId>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub(crate) limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
}

impl TenantPaging {
    pub(crate) fn parts(self) -> Result<(Option<TenantId>, Page)> {
        let page = page(self.limit, self.cursor.as_deref())?;
        Ok((self.tenant_id, page))
    }
}

/// Checks the two parameters.
pub(crate) fn page(limit: Option<u32>, cursor: Option<&str>) -> Result<Page> {
    page_up_to(MAX_LIMIT, limit.unwrap_or(DEFAULT_LIMIT), cursor)
}

/// As [`page`], of a list with its own limits.
pub(crate) fn page_up_to(most: u32, limit: u32, cursor: Option<&str>) -> Result<Page> {
    if !(1..=most).contains(&limit) {
        return Err(Error::bad_request(format!("`limit` must be between 1 and {most}")));
    }
    let before = cursor.map(decode).transpose()?;
    Ok(Page { limit, before })
}

fn decode(cursor: &str) -> Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| foreign_cursor())?;
    let id = String::from_utf8(bytes).map_err(|_| foreign_cursor())?;
    // Every id of ours passes as any kind of id.
    id.parse::<xvault_core::JobId>().map(|_| id).map_err(|_| foreign_cursor())
}

/// 400: a cursor that no list has given.
pub(crate) fn foreign_cursor() -> Error {
    Error::bad_request("`cursor` is none that a list has given")
}

/// The cursor of the rows after the one that `place` names: an id, or of the letters of one.
pub(crate) fn cursor_after(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

/// Cuts `rows`, of which one more than the page's limit was asked for, and gives the cursor of the next page.
pub(crate) fn cut<T>(page: &Page, mut rows: Vec<T>, id: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| cursor_after(id(row)));
    (rows, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_the_last_id() {
        let first = page(Some(2), None).unwrap();
        let (rows, next) = cut(&first, vec!["c", "b", "a"], |id| id);
        assert_eq!(rows, ["c", "b"]);
        let second = page(Some(2), next.as_deref()).unwrap();
        assert_eq!(second.before.as_deref(), Some("b"));
        assert_eq!(cut(&second, vec!["a"], |id| id), (vec!["a"], None));
    }

    #[test]
    fn foreign_cursors_and_limits_are_refused() {
        for (limit, cursor) in
            [(Some(0), None), (Some(201), None), (None, Some("!")), (None, Some("JyBPUiAx"))]
        {
            assert!(page(limit, cursor).is_err(), "{limit:?} {cursor:?}");
        }
    }
}
