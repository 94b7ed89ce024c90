//! What must hold for every policy, every history, every time and every place.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use xvault_core::SnapshotId;
use xvault_retention::{Count, Plan, Policy, Rules, Snapshot, Status, Within, evaluate};

use crate::oracle::World;
use crate::support::{BERLIN, LORD_HOWE, ST_JOHNS, at, zone};

/// Places whose clocks are never set back from one day to the day before.
const PLAIN: [&str; 6] = ["UTC0", BERLIN, LORD_HOWE, "EST5EDT,M3.2.0,M11.1.0", "<+0545>-5:45", "<+14>-14"];

#[derive(Debug, Clone)]
struct Case {
    policy: Policy,
    snapshots: Vec<Snapshot>,
    now: Timestamp,
    zone: TimeZone,
}

impl Case {
    fn plan(&self) -> Plan {
        evaluate(&self.policy, &self.snapshots, self.now, &self.zone)
    }

    fn with(&self, policy: Policy) -> Self {
        Self { policy, ..self.clone() }
    }

    fn retain(&self, stays: impl Fn(&Snapshot) -> bool) -> Self {
        let snapshots = self.snapshots.iter().filter(|one| stays(one)).cloned().collect();
        Self { snapshots, ..self.clone() }
    }
}

fn kept(plan: &Plan) -> BTreeSet<SnapshotId> {
    plan.decisions.iter().filter(|decision| decision.keep).map(|decision| decision.id.clone()).collect()
}

/// New Year, a leap day, the days around changes of the clocks, and any other.
fn nows() -> impl Strategy<Value = Timestamp> {
    let edges = [
        "2026-12-31T23:59:59Z",
        "2027-01-01T00:00:00Z",
        "2028-02-29T12:00:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T02:31:30Z",
        "2026-10-25T03:10:00Z",
        "2026-03-29T03:30:00Z",
        "2026-10-03T16:20:00Z",
        "2026-04-04T16:20:00Z",
        "2026-11-01T07:10:00Z",
    ];
    let edge = select(edges.map(at).to_vec());
    let any = (1_600_000_000_i64..1_900_000_000).prop_map(|second| Timestamp::from_second(second).unwrap());
    prop_oneof![2 => edge, 1 => any]
}

/// Seconds before now; less than 0 is the future.
fn ages() -> impl Strategy<Value = i64> {
    const DAY: i64 = 86_400;
    prop_oneof![
        4 => 0..6 * 3600_i64,
        4 => 0..4 * DAY,
        3 => 0..60 * DAY,
        2 => 0..1200 * DAY,
        // Whole hours and days, for the bounds of rules.
        2 => (0..60_i64).prop_map(|hours| hours * 3600),
        2 => (0..60_i64).prop_map(|days| days * DAY),
        1 => -DAY..0_i64,
    ]
}

fn histories() -> impl Strategy<Value = Vec<(i64, Snapshot)>> {
    let status = prop_oneof![5 => Just(Status::Whole), 2 => Just(Status::Partial), 1 => Just(Status::Failed)];
    let hold =
        prop_oneof![12 => Just(None), 1 => Just(Some("court".to_owned())), 1 => Just(Some(String::new()))];
    let tags = subsequence(vec!["a".to_owned(), "b".to_owned()], 0..=2);
    let tags = prop_oneof![3 => Just(Vec::new()), 1 => tags];
    let one = (ages(), status, prop::bool::weighted(0.3), hold, tags);
    prop::collection::vec(one, 0..26).prop_map(|ones| {
        let snapshot = |(place, (age, status, verified, hold, tags)): (usize, _)| {
            let id = format!("s{place:02}").parse().unwrap();
            (age, Snapshot { status, verified, hold, tags, ..Snapshot::new(id, Timestamp::UNIX_EPOCH) })
        };
        ones.into_iter().enumerate().map(snapshot).collect()
    })
}

fn numbers() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![3 => Just(None), 2 => (1..5_u64).prop_map(Some), 1 => (5..40_u64).prop_map(Some)]
}

fn withins() -> impl Strategy<Value = Option<Within>> {
    let texts = ["1h", "36h", "1d", "3d", "2w", "1m", "1m2d", "1y", "1y6m3h"];
    let within = select(texts.to_vec()).prop_map(|text| Some(text.parse().unwrap()));
    prop_oneof![3 => Just(None), 1 => within]
}

fn policies() -> impl Strategy<Value = Policy> {
    let tags = subsequence(vec!["a".to_owned(), "b".to_owned()], 0..=2);
    let counts = [numbers(), numbers(), numbers(), numbers(), numbers(), numbers()];
    let ages = (prop::option::weighted(0.3, 1..50_u64), prop::option::weighted(0.3, 1..100_u64));
    let flags = (prop::bool::weighted(0.05), prop::bool::weighted(0.3), prop::bool::weighted(0.3));
    let count = select(vec![Count::Calendar, Count::Existing]);
    (counts, withins(), tags, ages, flags, count).prop_filter_map(
        "keeps nothing",
        |([last, hours, days, weeks, months, years], keep_within, keep_tags, (min, max), flags, count)| {
            let rules = Rules {
                keep_all: flags.0,
                keep_last_n: last,
                keep_hourly: hours,
                keep_daily: days,
                keep_weekly: weeks,
                keep_monthly: months,
                keep_yearly: years,
                keep_within,
                keep_tags,
                min_age_hours: min,
                max_age_days: max,
                require_verified: flags.1,
                may_delete_last: flags.2,
                count,
            };
            Policy::try_from(rules).ok()
        },
    )
}

fn cases_in(places: Vec<&'static str>) -> impl Strategy<Value = Case> {
    (policies(), histories(), nows(), select(places)).prop_map(|(policy, history, now, place)| {
        let dated =
            |(age, one): (i64, Snapshot)| Snapshot { at: now - SignedDuration::from_secs(age), ..one };
        Case { policy, snapshots: history.into_iter().map(dated).collect(), now, zone: zone(place) }
    })
}

fn cases() -> impl Strategy<Value = Case> {
    cases_in(PLAIN.into_iter().chain([ST_JOHNS]).collect())
}

/// Wider in one respect: what must never delete more.
fn wider(policy: &Policy, respect: usize, by: u64) -> Policy {
    let mut rules = policy.rules().clone();
    let more = |number: Option<u64>| Some(number.unwrap_or(0) + by);
    match respect {
        0 => rules.keep_all = true,
        1 => rules.keep_last_n = more(rules.keep_last_n),
        2 => rules.keep_hourly = more(rules.keep_hourly),
        3 => rules.keep_daily = more(rules.keep_daily),
        4 => rules.keep_weekly = more(rules.keep_weekly),
        5 => rules.keep_monthly = more(rules.keep_monthly),
        6 => rules.keep_yearly = more(rules.keep_yearly),
        7 => rules.keep_within = Some(rules.keep_within.map_or(Within::hours(1), |_| "2y".parse().unwrap())),
        8 => rules.keep_tags = vec!["a".to_owned(), "b".to_owned()],
        9 => rules.min_age_hours = more(rules.min_age_hours),
        10 => rules.max_age_days = rules.max_age_days.map(|days| days + by),
        11 => rules.max_age_days = None,
        12 => rules.require_verified = true,
        13 => rules.may_delete_last = false,
        _ => rules.count = Count::Existing,
    }
    // Only a youth that outgrows the greatest age can be refused.
    Policy::try_from(rules).unwrap_or_else(|_| policy.clone())
}

proptest! {
    #[test]
    fn a_plan_says_what_a_naive_reading_says(case in cases()) {
        let world = World { rules: case.policy.rules(), snapshots: &case.snapshots, now: case.now, zone: &case.zone };
        let plan = case.plan();
        prop_assert_eq!(plan.decisions.len(), case.snapshots.len());
        for decision in &plan.decisions {
            let snapshot = case.snapshots.iter().find(|one| one.id == decision.id).unwrap();
            let reasons: BTreeSet<String> = decision.reasons.iter().map(ToString::to_string).collect();
            prop_assert_eq!((decision.keep, reasons), world.judge(snapshot), "{}", decision.id);
            prop_assert!(decision.reasons.iter().all(|reason| reason.keeps() == decision.keep));
        }
    }

    #[test]
    fn the_order_of_snapshots_does_not_matter((case, shuffled) in cases().prop_flat_map(|case| {
        let shuffled = Just(case.snapshots.clone()).prop_shuffle();
        (Just(case), shuffled)
    })) {
        let other = Case { snapshots: shuffled, ..case.clone() };
        prop_assert_eq!(other.plan(), case.plan());
    }

    #[test]
    fn what_a_plan_keeps_the_next_one_keeps(case in cases()) {
        let kept = kept(&case.plan());
        let left = case.retain(|one| kept.contains(&one.id));
        prop_assert_eq!(left.plan().summary.total_to_delete, 0);
    }

    #[test]
    fn a_wider_policy_never_deletes_more(
        case in cases_in(PLAIN.to_vec()), respect in 0..15_usize, by in 1..10_u64,
    ) {
        let wide = case.with(wider(&case.policy, respect, by));
        let (narrow, wide_kept) = (kept(&case.plan()), kept(&wide.plan()));
        prop_assert!(narrow.is_subset(&wide_kept), "{:?} lost {:?}", wide.policy, narrow.difference(&wide_kept));
    }

    #[test]
    fn a_partial_one_changes_nothing_for_whole_ones(case in cases()) {
        let whole = |plan: &Plan| -> BTreeSet<SnapshotId> {
            let whole = case.snapshots.iter().filter(|one| one.status == Status::Whole);
            let kept = kept(plan);
            whole.map(|one| one.id.clone()).filter(|id| kept.contains(id)).collect()
        };
        let without = case.retain(|one| one.status != Status::Partial);
        prop_assert_eq!(whole(&case.plan()), whole(&without.plan()));
    }

    #[test]
    fn what_counts_for_nothing_changes_nothing_for_others(case in cases()) {
        let counts = |one: &Snapshot| one.status != Status::Failed && one.at <= case.now;
        let without = case.retain(counts).plan();
        let mut with = case.plan().decisions;
        with.retain(|decision| without.decisions.iter().any(|other| other.id == decision.id));
        prop_assert_eq!(with, without.decisions);
    }

    #[test]
    fn what_is_promised_is_kept_whatever_comes_after(
        case in cases(), of in nows(), share in 0.0..=1.0_f64, partial: bool,
    ) {
        let status = if partial { Status::Partial } else { Status::Whole };
        let one = Snapshot { status, ..Snapshot::new("promised".parse().unwrap(), of) };
        let until = case.policy.keeps_until(of, &case.zone).min(at("2200-01-01T00:00:00Z"));
        // The last instant that is promised, and any before it.
        let last = (until - SignedDuration::from_nanos(1)).max(of);
        let now = of + SignedDuration::from_secs_f64(last.duration_since(of).as_secs_f64() * share * 0.999_999);
        for now in [now, last].into_iter().filter(|now| *now < until) {
            let shift = now.duration_since(case.now);
            let dated = |other: &Snapshot| Snapshot { at: other.at + shift, hold: None, ..other.clone() };
            let snapshots: Vec<_> = case.snapshots.iter().map(dated).chain([one.clone()]).collect();
            let plan = Case { snapshots, now, ..case.clone() }.plan();
            let decision = plan.decisions.iter().find(|decision| decision.id == one.id).unwrap();
            prop_assert!(decision.keep, "{:?}: {of} until {until}, at {now}: {decision:?}", case.policy);
        }
    }

    #[test]
    fn the_best_there_is_stays_unless_the_policy_allows_its_end(case in cases()) {
        let good = |status: Status| case.snapshots.iter().filter(move |one| one.status == status && one.at <= case.now);
        let newest = good(Status::Whole).map(|one| one.at).max().or(good(Status::Partial).map(|one| one.at).max());
        let may_go = case.policy.rules().may_delete_last;
        if let Some(newest) = newest.filter(|_| !may_go) {
            prop_assert!(case.plan().decisions.iter().any(|decision| decision.keep && decision.at == newest));
        }
    }
}
