//! Whether `count: "existing"` keeps what the real `restic forget` keeps, and for the same reasons.
//!
//! By default 20 policies over 2 histories; with `XVAULT_RESTIC=full` in the environment 500 over 10, which takes some
//! minutes. The policies and histories are random, from a seed that a failure names and `XVAULT_RESTIC_SEED` sets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use xvault_retention::{Count, Period, Policy, Reason, Rules, Snapshot, evaluate};
use xvault_testkit::tools;

/// What is kept, by time, and by which rules.
type Kept = BTreeMap<Timestamp, BTreeSet<&'static str>>;

#[test]
fn restic_forget_keeps_the_same() {
    let full = std::env::var("XVAULT_RESTIC").is_ok_and(|value| value == "full");
    let (policies, histories, length) = if full { (500, 10, 40) } else { (20, 2, 30) };
    let seed = std::env::var("XVAULT_RESTIC_SEED").map_or(0x7856_6175_6c74, |text| text.parse().unwrap());
    let mut random = Random(seed);
    let histories: Vec<Vec<Timestamp>> = (0..histories).map(|_| history(&mut random, length)).collect();
    let repository = Repository::new();
    repository.back_up(&histories);

    for _ in 0..policies {
        let rules = rules(&mut random);
        let theirs = repository.forget(&rules);
        let policy = Policy::try_from(rules).unwrap();
        for (host, history) in histories.iter().enumerate() {
            let ours = ours(&policy, history);
            let theirs = &theirs[&host_name(host)];
            assert!(
                ours == *theirs,
                "seed {seed}: {}\nhistory {history:?}\nonly ours: {:?}\nonly restic's: {:?}",
                serde_json::to_string(&policy).unwrap(),
                difference(&ours, theirs),
                difference(theirs, &ours),
            );
        }
    }
}

fn difference<'k>(one: &'k Kept, other: &Kept) -> Vec<(&'k Timestamp, &'k BTreeSet<&'static str>)> {
    one.iter().filter(|(at, reasons)| other.get(*at) != Some(*reasons)).collect()
}

fn host_name(host: usize) -> String {
    format!("host-{host}")
}

fn ours(policy: &Policy, history: &[Timestamp]) -> Kept {
    let snapshot = |at: &Timestamp| Snapshot::new(at.as_second().to_string().parse().unwrap(), *at);
    let snapshots: Vec<Snapshot> = history.iter().map(snapshot).collect();
    // However late it is: what exists is counted, not the time that has passed.
    let now = history[0] + SignedDuration::from_hours(24 * 1000);
    let plan = evaluate(policy, &snapshots, now, &TimeZone::UTC);
    let kept = plan.decisions.into_iter().filter(|decision| decision.keep);
    kept.map(|decision| (decision.at, decision.reasons.iter().filter_map(rule).collect())).collect()
}

/// A reason in restic's words; the last good snapshot is no rule of its.
fn rule(reason: &Reason) -> Option<&'static str> {
    match reason {
        Reason::Last { .. } => Some("last"),
        Reason::NewestOf { bucket, .. } => Some(match bucket.period() {
            Period::Hour => "hourly",
            Period::Day => "daily",
            Period::Week => "weekly",
            Period::Month => "monthly",
            Period::Year => "yearly",
        }),
        _ => None,
    }
}

/// A repository of the real restic, with one host for each history.
struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    fn new() -> Self {
        let repository = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(repository.folder.path().join("file"), "content").unwrap();
        let _ = tools::run(&mut repository.restic(&["init", "--quiet"]));
        repository
    }

    fn restic(&self, args: &[&str]) -> Command {
        let at = |name: &str| Path::join(self.folder.path(), name);
        let mut command = tools::command("restic", args);
        command.current_dir(self.folder.path()).env("TZ", "UTC");
        command.env("RESTIC_PASSWORD", "not secret").env("RESTIC_REPOSITORY", at("repository"));
        command.env("RESTIC_CACHE_DIR", at("cache"));
        command
    }

    /// Two at a time: nearly all that one takes is the CPU time of its password hash.
    fn back_up(&self, histories: &[Vec<Timestamp>]) {
        let hosts: Vec<(usize, &Vec<Timestamp>)> = histories.iter().enumerate().collect();
        for pair in hosts.chunks(2) {
            std::thread::scope(|scope| {
                for (host, history) in pair {
                    scope.spawn(move || history.iter().for_each(|at| self.back_up_one(*host, *at)));
                }
            });
        }
    }

    fn back_up_one(&self, host: usize, at: Timestamp) {
        let time = at.strftime("%Y-%m-%d %H:%M:%S").to_string();
        let host = host_name(host);
        let args = ["backup", "--quiet", "--force", "--host", &host, "--time", &time, "file"];
        let _ = tools::run(&mut self.restic(&args));
    }

    /// What restic would keep, by host.
    fn forget(&self, rules: &Rules) -> BTreeMap<String, Kept> {
        let flags = [
            ("--keep-last", rules.keep_last_n),
            ("--keep-hourly", rules.keep_hourly),
            ("--keep-daily", rules.keep_daily),
            ("--keep-weekly", rules.keep_weekly),
            ("--keep-monthly", rules.keep_monthly),
            ("--keep-yearly", rules.keep_yearly),
        ];
        let mut command = self.restic(&["forget", "--dry-run", "--json", "--group-by", "host"]);
        for (flag, count) in flags {
            command.args(count.map(|count| format!("{flag}={count}")));
        }
        let groups: Value = serde_json::from_slice(&tools::run(&mut command)).unwrap();
        let groups = groups.as_array().unwrap().iter();
        groups.map(|group| (group["host"].as_str().unwrap().to_owned(), kept(group))).collect()
    }
}

fn kept(group: &Value) -> Kept {
    let mut kept = Kept::new();
    for reason in group["reasons"].as_array().unwrap() {
        let matches = reason["matches"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
        // Later versions keep the oldest one too, while a rule has places left, and say so from 0.18 on: see
        // docs/retention.md.
        let rules: BTreeSet<&'static str> =
            matches.filter(|text| !text.starts_with("oldest ")).map(known).collect();
        if !rules.is_empty() {
            kept.insert(reason["snapshot"]["time"].as_str().unwrap().parse().unwrap(), rules);
        }
    }
    kept
}

fn known(text: &str) -> &'static str {
    let rules = ["last", "hourly", "daily", "weekly", "monthly", "yearly"].into_iter();
    let mut rules = rules.filter(|rule| text.strip_suffix(" snapshot") == Some(rule));
    rules.next().unwrap_or_else(|| panic!("restic has a new reason: {text}"))
}

/// Newest first: bursts, regular times and long gaps, as a source has them over some years.
fn history(random: &mut Random, length: usize) -> Vec<Timestamp> {
    let mut at = Timestamp::from_second(1_650_000_000).unwrap() + seconds(random.below(100_000_000));
    let mut history = Vec::new();
    while history.len() < length {
        history.push(at);
        let longest = [1800, 7200, 86_400, 86_400, 86_400 * 9, 86_400 * 40, 86_400 * 400];
        let unit = longest[usize::try_from(random.below(longest.len() as u64)).unwrap()];
        at -= seconds(1 + random.below(unit));
    }
    history
}

fn seconds(number: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(number).unwrap())
}

/// One to six rules, most of them with small numbers.
fn rules(random: &mut Random) -> Rules {
    loop {
        let mut count = || match random.below(6) {
            0..=2 => None,
            3..=4 => Some(random.below(4) + 1),
            _ => Some(random.below(40) + 1),
        };
        let rules = Rules {
            keep_last_n: count(),
            keep_hourly: count(),
            keep_daily: count(),
            keep_weekly: count(),
            keep_monthly: count(),
            keep_yearly: count(),
            count: Count::Existing,
            ..Rules::default()
        };
        if Policy::try_from(rules.clone()).is_ok() {
            return rules;
        }
    }
}

/// `SplitMix64`: the same numbers from the same seed, on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        mixed % bound
    }
}
