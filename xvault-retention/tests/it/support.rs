//! Short ways to write down policies, histories and what is expected of a plan.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use xvault_retention::{Plan, Policy, Snapshot, Status, evaluate};

/// Summer time from the last Sunday of March to the last of October, changed at 01:00 UTC.
pub(crate) const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
/// Half an hour of summer time.
pub(crate) const LORD_HOWE: &str = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
/// As it was until 2011: clocks go back at one minute past midnight, into the day before.
pub(crate) const ST_JOHNS: &str = "NST3:30NDT,M4.1.0/0:01,M10.5.0/0:01";

pub(crate) fn zone(posix: &str) -> TimeZone {
    TimeZone::posix(posix).unwrap()
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A whole snapshot with its time as its id, so that a plan reads well.
pub(crate) fn snapshot(time: &str) -> Snapshot {
    let id = time.replace([':', '.', '+'], "-");
    Snapshot::new(id.parse().unwrap(), at(time))
}

pub(crate) fn partial(time: &str) -> Snapshot {
    Snapshot { status: Status::Partial, ..snapshot(time) }
}

pub(crate) fn failed(time: &str) -> Snapshot {
    Snapshot { status: Status::Failed, ..snapshot(time) }
}

pub(crate) fn verified(snapshot: Snapshot) -> Snapshot {
    Snapshot { verified: true, ..snapshot }
}

pub(crate) fn policy(json: &Value) -> Policy {
    Policy::parse(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// Evaluates in UTC.
pub(crate) fn plan(rules: &Value, snapshots: &[Snapshot], now: &str) -> Plan {
    evaluate(&policy(rules), snapshots, at(now), &TimeZone::UTC)
}

/// `TIME keep: reason; reason` for each decision, newest first.
pub(crate) fn lines(plan: &Plan) -> Vec<String> {
    let line = |decision: &xvault_retention::Decision| {
        let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
        let action = if decision.keep { "keep" } else { "delete" };
        format!("{} {action}: {}", decision.at, reasons.join("; "))
    };
    plan.decisions.iter().map(line).collect()
}

/// The same without the last good snapshot's own reason, which every plan has.
pub(crate) fn ruled(plan: &Plan) -> Vec<String> {
    lines(plan).into_iter().map(|line| line.replace("the last good snapshot; ", "")).collect()
}
