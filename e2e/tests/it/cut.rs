//! A line breaks in mid-dump and stays broken, at either end of every way to a source: the job says so; nothing of the backup is on record,
//! on the disk or running at either end; and the same source is backed up once the line holds.

mod scene;

use serde_json::Value;

use crate::fleet::{Fleet, SOON, files_below};
use crate::wait::{eventually, until};
use scene::{Cut, Scene};

/// What lets a login, questions and the beginning of a dump pass, and no dump.
const LET_THROUGH: u64 = 1_500_000;

impl Cut {
    fn stall(&self) {
        self.lines.iter().for_each(|line| line.stall_after(LET_THROUGH));
    }

    fn is_in_its_middle(&self) -> bool {
        self.lines.iter().any(|line| line.bytes_to_client() >= LET_THROUGH)
    }

    fn cut(&self) {
        self.lines.iter().for_each(|line| line.cut_each_after(0));
    }

    fn heal(&self) {
        self.lines.iter().for_each(xvault_testkit::FaultProxy::heal);
    }

    /// The job failed, and what people are told says where.
    fn assert_told(&self, failed: &Value) {
        let Self { what, told, .. } = self;
        let message = failed["error_message"].as_str().unwrap_or_default();
        assert_eq!(failed["status"], "failed", "{what}: {failed}");
        assert!(message.contains(told), "{what}: {failed}");
        assert_eq!(failed["error_code"], "unreachable", "{what}: {failed}");
    }

    fn assert_nothing_is_left(&self, fleet: &Fleet) {
        assert!(fleet.snapshots(&self.source).is_empty(), "{}", self.what);
        let files = files_below(&fleet.workers[0].storage);
        let left = files.iter().find(|path| path.to_str().unwrap().contains(&self.source));
        assert_eq!(left, None, "{}", self.what);
    }
}

fn ended(fleet: &Fleet, job: &str) -> Value {
    eventually(SOON, "the job has ended", || {
        let job = fleet.job(job);
        ["completed", "failed"].contains(&job["status"].as_str()?).then_some(job)
    })
}

#[test]
fn a_line_cut_in_mid_dump_leaves_nothing_whichever_line_it_is() {
    let scene = Scene::start();
    let Scene { fleet, cuts, .. } = &scene;
    cuts.iter().for_each(Cut::stall);
    let jobs: Vec<String> = cuts.iter().map(|cut| fleet.backup(&cut.source)).collect();
    for cut in cuts {
        until(SOON, &cut.what, || cut.is_in_its_middle());
    }
    assert!(scene.running().iter().all(|(_, count)| *count > 0), "{:?}", scene.running());

    cuts.iter().for_each(Cut::cut);
    for (cut, job) in cuts.iter().zip(&jobs) {
        cut.assert_told(&ended(fleet, job));
        cut.assert_nothing_is_left(fleet);
    }
    assert!(fleet.workers[0].stagings().is_empty());
    for what in scene.running().iter().map(|(what, _)| *what) {
        until(SOON, &format!("no {what}"), || scene.running().contains(&(what, 0)));
    }

    cuts.iter().for_each(Cut::heal);
    let jobs: Vec<String> = cuts.iter().map(|cut| fleet.backup(&cut.source)).collect();
    for (cut, job) in cuts.iter().zip(&jobs) {
        let done = ended(fleet, job);
        assert_eq!(done["status"], "completed", "{}: {done}", cut.what);
        let _ = fleet.only_snapshot(&cut.source);
    }
}
