//! A year of backups: an hourly, a daily and an irregular source, each with its policy, and one without.
//!
//! Hub, API and database are real, the clock is moved by hand, and workers really write and remove small snapshots. Backups
//! fail and are partial, workers are away for days and break off in deletions, people hold, delete and change their
//! minds. After each day disk, database and plan agree, and what is kept is what `naive` says.

mod house;
mod naive;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde_json::json;
use xvault_testkit::Postgres;

use crate::wait::block_on;
use house::{House, Luck};
use naive::{Made, Rules};

/// A well-known sequence of numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }

    fn pick<'a>(&mut self, ids: &'a BTreeSet<String>) -> Option<&'a String> {
        let count = ids.len() as u64;
        if count == 0 { None } else { ids.iter().nth(usize::try_from(self.below(count)).unwrap()) }
    }
}

/// A source with what is known of it without the hub.
struct Subject {
    id: String,
    rules: Option<Rules>,
    zone: TimeZone,
    /// What lies somewhere, that nobody has asked to delete and no worker has begun to: what only waits for its worker stays after
    /// all when a rule keeps it again, because somebody has deleted another one, or has changed the rules.
    made: BTreeMap<String, Made>,
}

impl Subject {
    async fn new(house: &House, name: &str, rules: Option<Rules>, zone: &str) -> Self {
        let id = house.source(name).await;
        if zone != "UTC" {
            house.set_zone(&id, zone).await;
        }
        let subject = Self { id, rules, zone: TimeZone::get(zone).unwrap(), made: BTreeMap::new() };
        if let Some(rules) = rules {
            subject.apply(house, rules).await;
        }
        subject
    }

    async fn apply(&self, house: &House, rules: Rules) {
        let body = json!({"retention_policy": rules.json()});
        house.put(&format!("/api/v1/sources/{}/retention", self.id), body).await;
    }

    async fn back_up(&mut self, house: &House, dice: &mut Dice) {
        let luck = match dice.below(30) {
            0 => Luck::Failed,
            1 | 2 => Luck::Partial,
            _ => Luck::Whole,
        };
        let there: Vec<_> = (0..house.workers.len()).filter(|number| house.workers[*number].online).collect();
        let number = there[usize::try_from(dice.below(there.len() as u64)).unwrap()];
        if let Some(id) = house.back_up(&self.id, number, luck).await {
            let made = Made { at: house.clock.now(), whole: luck == Luck::Whole, held: false };
            self.made.insert(id, made);
        }
    }

    /// What the policy keeps of what there is.
    fn expire(&mut self, house: &House) -> BTreeSet<String> {
        self.made.retain(|id, _| !house.begun.contains(id));
        let kept = |id: &String| {
            self.rules.is_none_or(|rules| rules.keep(id, &self.made, house.clock.now(), &self.zone))
        };
        self.made.keys().filter(|id| kept(id)).cloned().collect()
    }

    /// Disk, database, plan and the naive statement are asked about the same moment. Gives how many snapshots wait for a
    /// worker to remove them.
    async fn check(&mut self, house: &House, day: u32) -> usize {
        let expected = self.expire(house);
        let rows = house.rows(&self.id).await;
        let (leaving, staying): (BTreeSet<_>, BTreeSet<_>) =
            rows.keys().cloned().partition(|id| rows[id] == "deleting");
        assert_eq!(staying, expected, "day {day}: the database and what the policy says");
        let disk = house.on_disk(&self.id);
        assert_eq!(
            disk.keys().cloned().collect::<BTreeSet<_>>(),
            rows.into_keys().collect(),
            "day {day}: disk"
        );
        assert!(
            staying.iter().all(|id| disk[id]),
            "day {day}: a snapshot without its manifest counts as kept"
        );
        if self.rules.is_some() {
            let (kept, gone) = house.plan(&self.id).await;
            assert_eq!(kept, staying, "day {day}: the plan");
            assert!(gone.is_subset(&leaving), "day {day}: {gone:?} are to go and do not");
        }
        leaving.len()
    }
}

/// Everything that people do in between.
async fn people(house: &House, subject: &mut Subject, dice: &mut Dice) {
    let ids: BTreeSet<_> = subject.made.keys().cloned().collect();
    if dice.one_in(9)
        && let Some(id) = dice.pick(&ids)
    {
        house.put(&format!("/api/v1/snapshots/{id}/hold"), json!({"reason": "court"})).await;
        subject.made.get_mut(id).unwrap().held = true;
    }
    let held: BTreeSet<_> = ids.iter().filter(|id| subject.made[*id].held).cloned().collect();
    if held.len() > 2
        && let Some(id) = dice.pick(&held)
    {
        house.delete(&format!("/api/v1/snapshots/{id}/hold")).await;
        subject.made.get_mut(id).unwrap().held = false;
    }
    let free: BTreeSet<_> = ids.difference(&held).cloned().collect();
    if dice.one_in(20)
        && let Some(id) = dice.pick(&free)
    {
        house.delete(&format!("/api/v1/snapshots/{id}")).await;
        subject.made.remove(id);
    }
}

/// How much of each day's hours are lived through: all of them take minutes in a build for tests.
#[derive(Clone, Copy)]
struct Scale {
    days: u32,
    hourly_every: u32,
}

async fn live(house: &mut House, scale: Scale) {
    let mut dice = Dice(20_261_124);
    let hourly = Rules { last: 3, hourly: 24, daily: 7, weekly: 4, monthly: 12, ..Rules::default() };
    let daily = Rules { daily: 14, weekly: 8, monthly: 6, min_age_hours: 48, ..Rules::default() };
    let irregular = Rules { last: 5, min_age_hours: 24, max_age_days: 90, ..Rules::default() };
    let mut subjects = [
        Subject::new(house, "hourly", Some(hourly), "UTC").await,
        Subject::new(house, "daily", Some(daily), "Europe/Berlin").await,
        Subject::new(house, "irregular", Some(irregular), "America/New_York").await,
        Subject::new(house, "without a policy", None, "UTC").await,
    ];
    let (mut waited, mut most, mut made) = (0, 0, 0);
    for day in 0..scale.days {
        for worker in &mut house.workers {
            // Away for three days on the average.
            worker.online = if worker.online { !dice.one_in(12) } else { dice.one_in(3) };
            worker.breaks = u32::from(dice.one_in(12));
        }
        if house.workers.iter().all(|worker| !worker.online) {
            house.workers[0].online = true;
        }
        for hour in 0..24_u32 {
            if day % 7 == 3 || hour % scale.hourly_every == 0 {
                subjects[0].back_up(house, &mut dice).await;
            }
            if hour == 2 {
                subjects[1].back_up(house, &mut dice).await;
            }
            if dice.one_in(31) {
                for _ in 0..=dice.below(3) {
                    subjects[2].back_up(house, &mut dice).await;
                    house.clock.advance(Duration::from_secs(60));
                }
            }
            if hour == 12 && day % 30 == 0 {
                subjects[3].back_up(house, &mut dice).await;
            }
            let past = house.clock.now().as_second().rem_euclid(3600).unsigned_abs();
            house.clock.advance(Duration::from_secs(3600 - past));
        }
        people(house, &mut subjects[2], &mut dice).await;
        people(house, &mut subjects[0], &mut dice).await;
        if day == scale.days / 2 {
            let wider = Rules { last: 10, daily: 30, ..Rules::default() };
            subjects[0].rules = Some(wider);
            subjects[0].apply(house, wider).await;
        }
        // Twice: what broke off is tried again after a pause.
        for _ in 0..2 {
            house.clock.advance(Duration::from_secs(20));
            let run = house.post("/api/v1/admin/retention/run", json!({})).await;
            assert_eq!(run["summary"]["sources_failed"], 0, "{run}");
            house.clean_up().await;
        }
        let all_there = house.workers.iter().all(|worker| worker.online);
        for subject in &mut subjects {
            let waiting = subject.check(house, day).await;
            assert!(!all_there || waiting == 0, "day {day}: {waiting} snapshots wait for nobody");
            (waited, most) = (waited + waiting, most.max(subject.made.len()));
        }
        made = subjects.iter().map(|subject| subject.made.len()).sum();
    }
    // The story told of what it is about.
    assert!(waited > 20, "hardly any deletion waited for its worker: {waited}");
    assert!(most > 20 && made > 40, "{most} {made}");
    let months = usize::try_from(scale.days.div_ceil(30)).unwrap();
    assert!(subjects[3].made.len() + 3 >= months, "a source without a policy lost snapshots");
}

fn tell(database_url: Option<String>, scale: Scale) {
    block_on(async {
        let start = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut house = House::build(database_url, start).await;
        let began = house.clock.now();
        live(&mut house, scale).await;
        let lived = house.clock.now().duration_since(began);
        assert!(lived >= SignedDuration::from_hours(24 * i64::from(scale.days)), "{lived}");
    });
}

#[test]
fn a_third_of_a_year_on_sqlite() {
    tell(None, Scale { days: 120, hourly_every: 1 });
}

/// `XVAULT_SLOW=yes scripts/test`
#[test]
#[ignore = "its 16,900 jobs take ten minutes; see scripts/test"]
fn every_hour_of_a_year_on_postgresql() {
    tell(Some(Postgres::shared().create_database()), Scale { days: 365, hourly_every: 1 });
}
