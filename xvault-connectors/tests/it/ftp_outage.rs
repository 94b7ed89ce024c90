//! Servers that are away for a while, or for good, while several files are under way.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use xvault_connectors::{Error, FtpOptions};
use xvault_testkit::trees::random_file;
use xvault_testkit::{FaultProxy, FtpFront, FtpKind, Ftpd};

use crate::ftp_support::{Job, body};
use crate::ssh_support::Kept;

/// `b` is one of which all is under way but its end, when nobody takes it.
const FILES: [(&str, u64); 4] = [("/a", 6 << 20), ("/b", 11 * (128 << 10)), ("/c", 6 << 20), ("/d", 5000)];

/// Nobody is kept waiting for so long here.
const LONG: Duration = Duration::from_secs(45);

fn serving_files() -> (Ftpd, Arc<FtpFront>) {
    let ftpd = Ftpd::builder(FtpKind::Proftpd).passive_ports(16).start();
    for (path, size) in FILES {
        random_file(&ftpd.home.join(&path[1..]), size, size);
    }
    ftpd.give(&ftpd.home);
    let front = Arc::new(FtpFront::of(&ftpd));
    (ftpd, front)
}

/// A pull of `paths` from a server that goes away when half of the first file is taken.
struct Outage {
    job: Job,
    kept: Kept,
}

impl Outage {
    fn of(ftpd: &Ftpd, front: &Arc<FtpFront>, paths: &[&str], connections: u8) -> Self {
        let job = Job::new(ftpd, paths).set(|settings| settings.max_connections = connections).through(front);
        let (front, mut is_there) = (Arc::clone(front), true);
        let on_data = move |bytes| {
            if bytes > 3 << 20 && std::mem::take(&mut is_there) {
                front.go_away();
            }
        };
        let slow = Some(Duration::from_millis(5));
        Self { job, kept: Kept { slow, on_data: Some(Box::new(on_data)), ..Kept::default() } }
    }

    fn with(self, change: impl FnOnce(&mut FtpOptions)) -> Self {
        Self { job: self.job.with(change), ..self }
    }

    /// How it ends, while `then` happens once the outage was noticed.
    async fn pull(&mut self, then: impl Future<Output = ()>) -> Result<(), Error> {
        let noticed = async {
            while !self.job.noted("connecting again") {
                sleep(Duration::from_millis(2)).await;
            }
            then.await;
        };
        let both = async { tokio::join!(self.job.pull_into(&mut self.kept), noticed) };
        let (pulled, ()) = timeout(Duration::from_secs(30), both).await.expect("it hangs");
        pulled.map(drop)
    }
}

#[tokio::test]
async fn an_outage_is_survived_whatever_other_files_wait_for() {
    let (ftpd, front) = serving_files();
    let cases: [(&[&str], u8, Duration); 5] = [
        (&["/a", "/c"], 2, LONG),
        (&["/a", "/b"], 2, LONG),
        (&["/"], 1, LONG),
        (&["/"], 2, Duration::from_millis(50)),
        (&["/"], 8, LONG),
    ];
    for (paths, connections, stall) in cases {
        let mut outage = Outage::of(&ftpd, &front, paths, connections).with(|options| {
            (options.timeouts.stall, options.timeouts.backoff) = (stall, Duration::from_millis(150));
        });
        let back = async {
            sleep(Duration::from_millis(700)).await;
            front.come_back();
        };
        outage.pull(back).await.unwrap();
        assert_eq!(outage.kept.warnings, [], "{paths:?} over {connections}");
        for (path, _) in FILES.iter().filter(|(path, _)| paths.contains(path) || paths.contains(&"/")) {
            let content = fs::read(ftpd.home.join(&path[1..])).unwrap();
            assert!(body(&outage.kept, path) == content, "{path} of {paths:?} over {connections}");
        }
    }
}

#[tokio::test]
async fn a_server_that_stays_away_fails_the_job_whatever_other_files_wait_for() {
    let (ftpd, front) = serving_files();
    for connections in [1, 2, 8] {
        let mut outage =
            Outage::of(&ftpd, &front, &["/"], connections).with(|options| options.timeouts.reconnects = 2);
        let error = outage.pull(async {}).await.unwrap_err();
        assert!(matches!(error, Error::Connection { .. }), "{connections}: {error}");
        front.come_back();
    }
}

#[tokio::test]
async fn a_job_is_cancelled_at_once_while_its_server_is_away() {
    let (ftpd, front) = serving_files();
    for connections in [1, 2] {
        let mut outage = Outage::of(&ftpd, &front, &["/"], connections)
            .with(|options| options.timeouts.backoff = Duration::from_millis(600));
        let cancel = outage.job.control.cancel_token().clone();
        let cancelling = async {
            sleep(Duration::from_millis(900)).await;
            cancel.cancel();
        };
        let cancelled = timeout(Duration::from_secs(8), outage.pull(cancelling)).await;
        let error = cancelled.expect("it goes on").unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{connections}: {error}");
        front.come_back();
    }
}

#[tokio::test]
async fn a_file_whose_first_byte_was_lost_is_begun_once() {
    let (ftpd, front) = serving_files();
    front.data.iter().for_each(|proxy| proxy.cut_each_after(0));
    let job = Job::new(&ftpd, &["/a"]).plain().through(&front);
    // The server does not notice.
    let job = job.with(|options| options.timeouts.idle = Duration::from_secs(2));
    let healing = async {
        while !job.noted("connecting again") {
            sleep(Duration::from_millis(2)).await;
        }
        front.data.iter().for_each(FaultProxy::heal);
    };
    let ((kept, _), ()) = tokio::join!(job.pull(), healing);
    assert!(body(&kept, "/a") == fs::read(ftpd.home.join("a")).unwrap());
}
