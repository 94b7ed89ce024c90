//! Draws what a policy keeps of a year of backups, which a clock set by hand makes pass at once. The picture in
//! `docs/retention.md` is its output: `gfs_picture > docs/gfs-year.svg`.
#![expect(clippy::print_stdout, reason = "its output is the picture")]

use std::fmt::Write;

use xvault::retention::jiff::tz::TimeZone;
use xvault::retention::jiff::{SignedDuration, Timestamp};
use xvault::retention::{Period, Plan, Policy, Reason, Snapshot, evaluate};

/// "Grandfather, father, son": dense for the last days, thinner and thinner before.
const POLICY: &str = r#"{"keep_last_n": 12, "keep_daily": 30, "keep_weekly": 12, "keep_monthly": 9}"#;
const DAYS: i64 = 365;
const BACKUPS_A_DAY: i64 = 4;
const DAY: SignedDuration = SignedDuration::from_hours(24);

const LEFT: f64 = 190.0;
const DAY_WIDTH: f64 = 2.0;
const ROW: u32 = 22;

fn main() -> anyhow::Result<()> {
    let (start, policy) = ("2026-01-01T00:00:00Z".parse()?, serde_json::from_str(POLICY)?);
    let year = live_through(start, &policy)?;
    print!("{}", Picture::new(start).draw(&year)?);
    Ok(())
}

/// What a year of backups and deletions came to.
struct Year {
    taken: Vec<Timestamp>,
    /// Name of the month, and what was there at its end.
    months: Vec<(String, Vec<Timestamp>)>,
    /// The plan of the last day, before it was carried out.
    last: Plan,
}

/// Backs up four times a day, and deletes once a day what no rule keeps.
fn live_through(start: Timestamp, policy: &Policy) -> anyhow::Result<Year> {
    let (mut there, mut taken, mut months) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for day in 0..DAYS {
        for backup in 0..BACKUPS_A_DAY {
            let at = start + SignedDuration::from_hours(24 * day + 24 / BACKUPS_A_DAY * backup);
            there.push(Snapshot::new(format!("at-{}", at.as_second()).parse()?, at));
            taken.push(at);
        }
        let evening = start + SignedDuration::from_hours(24 * day + 23);
        let plan = evaluate(policy, &there, evening, &TimeZone::UTC);
        there.retain(|one| plan.decisions.iter().any(|decision| decision.keep && decision.id == one.id));
        let tomorrow = TimeZone::UTC.to_datetime(evening + DAY);
        if tomorrow.day() == 1 {
            let month = TimeZone::UTC.to_datetime(evening).strftime("%B").to_string();
            months.push((month, there.iter().map(|one| one.at).collect()));
        }
        last = Some(plan);
    }
    Ok(Year { taken, months, last: last.ok_or_else(|| anyhow::anyhow!("a year without days"))? })
}

/// The snapshots that a rule keeps in a plan.
fn kept_by(plan: &Plan, rule: impl Fn(&Reason) -> bool) -> Vec<Timestamp> {
    let kept = plan.decisions.iter().filter(|decision| decision.keep && decision.reasons.iter().any(&rule));
    kept.map(|decision| decision.at).collect()
}

fn newest_of(period: Period) -> impl Fn(&Reason) -> bool {
    move |reason| matches!(reason, Reason::NewestOf { bucket, .. } if bucket.period() == period)
}

/// An SVG that grows downwards, row by row.
struct Picture {
    start: Timestamp,
    rows: String,
    height: u32,
}

impl Picture {
    fn new(start: Timestamp) -> Self {
        Self { start, rows: String::new(), height: 0 }
    }

    fn draw(mut self, year: &Year) -> anyhow::Result<String> {
        let plan = &year.last;
        self.title("The last day of the year: which rule keeps which snapshot")?;
        self.row(&format!("{} backups were made", year.taken.len()), &year.taken, "#9aa0a6")?;
        let last = |reason: &Reason| matches!(reason, Reason::Last { .. });
        self.row("keep_last_n: 12", &kept_by(plan, last), "#0b57d0")?;
        self.row("keep_daily: 30", &kept_by(plan, newest_of(Period::Day)), "#137333")?;
        self.row("keep_weekly: 12", &kept_by(plan, newest_of(Period::Week)), "#b06000")?;
        self.row("keep_monthly: 9", &kept_by(plan, newest_of(Period::Month)), "#a50e0e")?;
        let left = kept_by(plan, |_| true);
        self.row(&format!("{} are left", left.len()), &left, "#202124")?;
        self.title("What was there at the end of each month")?;
        for (month, there) in &year.months {
            self.row(&format!("{month}: {}", there.len()), there, "#202124")?;
        }
        self.finish()
    }

    fn title(&mut self, text: &str) -> anyhow::Result<()> {
        self.height += ROW + ROW / 2;
        writeln!(self.rows, r#"<text x="12" y="{}" font-weight="bold">{text}</text>"#, self.height)?;
        self.height += ROW / 2;
        Ok(())
    }

    /// A label, and a tick for each snapshot.
    fn row(&mut self, label: &str, at: &[Timestamp], colour: &str) -> anyhow::Result<()> {
        let (top, mut ticks) = (self.height, String::new());
        for at in at {
            let days = at.duration_since(self.start).as_secs_f64() / DAY.as_secs_f64();
            write!(ticks, "M{:.1} {}v14", LEFT + days * DAY_WIDTH, top + 4)?;
        }
        writeln!(
            self.rows,
            r#"<text x="{}" y="{}" text-anchor="end">{label}</text>"#,
            LEFT - 12.0,
            top + 15
        )?;
        writeln!(self.rows, r#"<path d="{ticks}" stroke="{colour}" stroke-width="1"/>"#)?;
        self.height += ROW;
        Ok(())
    }

    fn finish(self) -> anyhow::Result<String> {
        let (mut axis, height) = (String::new(), self.height + 2 * ROW);
        for month in 1..=12_i8 {
            let first = xvault::retention::jiff::civil::date(2026, month, 1);
            let x = LEFT + (f64::from(first.day_of_year()) - 1.0) * DAY_WIDTH;
            let name = first.strftime("%b").to_string();
            write!(axis, r##"<text x="{x:.1}" y="{}" fill="#5f6368">{name}</text>"##, self.height + ROW)?;
        }
        let (width, rows) = (LEFT + 365.0 * DAY_WIDTH + 12.0, self.rows);
        Ok(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<title>What a policy keeps of a year of backups</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{rows}{axis}\n</svg>\n"
        ))
    }
}
