//! A page of a plan's decisions: a source may have more snapshots than one answer should hold.

use serde::Deserialize;
use xvault_retention::Decision;

use crate::api::error::{Error, Result};
use crate::api::paging::{cursor_after, foreign_cursor, page_up_to};

/// The most decisions of a page, and how many there are when nothing else is asked for.
const MAX_LIMIT: u32 = 10_000;

/// Which decisions of a plan are told one by one.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanPaging {
    /// How many at most.
    #[param(minimum = 1, maximum = 10_000, default = 10_000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Where the page begins, and how long it is.
#[derive(Debug)]
pub(super) struct PlanPage {
    limit: usize,
    /// The time, in milliseconds, and the id of the last snapshot before it. That one may be gone by now.
    after: Option<(i64, String)>,
}

impl PlanPaging {
    pub(super) fn page(self) -> Result<PlanPage> {
        let page = page_up_to(MAX_LIMIT, self.limit.unwrap_or(MAX_LIMIT), self.cursor.as_deref())?;
        let limit = usize::try_from(page.limit).map_err(|error| Error::internal(&error))?;
        let after = page.before.map(|place| place_of(&place).ok_or_else(foreign_cursor)).transpose()?;
        Ok(PlanPage { limit, after })
    }
}

fn place_of(place: &str) -> Option<(i64, String)> {
    let (millis, id) = place.split_once('_')?;
    Some((millis.parse().ok()?, id.to_owned()))
}

impl PlanPage {
    /// The page of `decisions`, newest first as in a plan; how many come after it; and the cursor of the next.
    pub(super) fn cut(&self, mut decisions: Vec<Decision>) -> (Vec<Decision>, usize, Option<String>) {
        if let Some((millis, id)) = &self.after {
            let before =
                |one: &Decision| (one.at.as_millisecond(), one.id.as_str()) >= (*millis, id.as_str());
            decisions.drain(..decisions.partition_point(before));
        }
        let rest = decisions.len().saturating_sub(self.limit);
        decisions.truncate(self.limit);
        let last = decisions.last().filter(|_| rest > 0);
        let next = last.map(|last| cursor_after(&format!("{}_{}", last.at.as_millisecond(), last.id)));
        (decisions, rest, next)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use xvault_retention::{Policy, Rules, Snapshot, evaluate};

    use super::*;

    /// Two of them began in the same instant.
    fn decisions(left: &[&str]) -> Vec<Decision> {
        let seconds = [("e", 4), ("d", 3), ("c", 3), ("b", -2), ("a", -5)];
        let there = seconds.iter().filter(|(id, _)| left.contains(id));
        let snapshots: Vec<_> = there
            .map(|(id, at)| Snapshot::new(id.parse().unwrap(), jiff::Timestamp::from_second(*at).unwrap()))
            .collect();
        let policy = Policy::try_from(Rules { keep_all: true, ..Rules::default() }).unwrap();
        evaluate(&policy, &snapshots, jiff::Timestamp::from_second(9).unwrap(), &TimeZone::UTC).decisions
    }

    fn ids(decisions: &[Decision]) -> Vec<&str> {
        decisions.iter().map(|one| one.id.as_str()).collect()
    }

    #[test]
    fn pages_show_each_decision_once_also_when_snapshots_go_in_between() {
        let all = ["a", "b", "c", "d", "e"];
        let page = |cursor| PlanPaging { limit: Some(2), cursor }.page().unwrap();
        let (first, rest, next) = page(None).cut(decisions(&all));
        assert_eq!((ids(&first), rest), (vec!["e", "d"], 3));
        let (second, rest, last) = page(next.clone()).cut(decisions(&all));
        assert_eq!((ids(&second), rest), (vec!["c", "b"], 1));
        // The last of the first page is gone.
        let (again, _, _) = page(next).cut(decisions(&["a", "b", "c", "e"]));
        assert_eq!(ids(&again), ["c", "b"]);
        let (third, rest, end) = page(last).cut(decisions(&all));
        assert_eq!((ids(&third), rest, end), (vec!["a"], 0, None));
        let (whole, rest, end) = PlanPaging::default().page().unwrap().cut(decisions(&all));
        assert_eq!((whole.len(), rest, end), (5, 0, None));
    }

    #[test]
    fn foreign_cursors_and_limits_are_refused() {
        let cursor = |place| Some(cursor_after(place));
        for (limit, cursor) in [
            (Some(0), None),
            (Some(10_001), None),
            (None, Some("!".to_owned())),
            (None, cursor("0194f3c8-0000-7000-8000-000000000001")),
            (None, cursor("x_a")),
        ] {
            assert!(PlanPaging { limit, cursor: cursor.clone() }.page().is_err(), "{limit:?} {cursor:?}");
        }
    }
}
