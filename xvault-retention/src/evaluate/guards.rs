//! What keeps a snapshot whatever the keep rules and `max_age_days` say.

use jiff::Timestamp;

use super::{Candidate, Grade, good};
use crate::policy::Rules;
use crate::reason::Reason;
use crate::snapshot::Snapshot;

/// The guards that look at one snapshot alone.
pub(super) fn by_itself(snapshot: &Snapshot, now: Timestamp, guards: &mut Vec<Reason>) {
    guards.extend(snapshot.hold.as_deref().map(|why| Reason::OnHold(why.into())));
    guards.extend(snapshot.locked_until.filter(|until| *until > now).map(Reason::LockedUntil));
    guards.extend(snapshot.undeletable.then_some(Reason::Undeletable));
    if snapshot.at > now {
        guards.push(Reason::InTheFuture);
    }
}

/// The guards that look at all of them.
pub(super) fn apply(rules: &Rules, candidates: &mut [Candidate<'_>]) {
    if !rules.may_delete_last {
        last_good(candidates);
    }
    if rules.require_verified {
        no_newer_verified(candidates);
    }
}

fn last_good(candidates: &mut [Candidate<'_>]) {
    let only = good(candidates).nth(1).is_none();
    let whole = good(candidates).position(|(grade, _)| grade == Grade::Whole);
    // Without a whole one, the newest partial one is the best there is.
    if let Some((_, last)) = good(candidates).nth(whole.unwrap_or(0)) {
        last.guards.push(Reason::LastGood { only });
    }
}

fn no_newer_verified(candidates: &mut [Candidate<'_>]) {
    let (mut verified_whole, mut verified) = (false, false);
    for (grade, candidate) in good(candidates) {
        let proven = if grade == Grade::Whole { verified_whole } else { verified };
        if !proven {
            candidate.guards.push(Reason::NoNewerVerified);
        }
        verified |= candidate.snapshot.verified;
        verified_whole |= candidate.snapshot.verified && grade == Grade::Whole;
    }
}
