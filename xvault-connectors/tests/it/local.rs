//! The local source against real file systems, at rest and changing under it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use xvault_connectors::source::LocalSource;
use xvault_connectors::{Control, Error, PullSummary, Source};
use xvault_core::snapshot::Evidence;
use xvault_core::{Dispose, Disposition, LocalSettings};
use xvault_testkit::{TreeOptions, assert_same_tree, trees};

use crate::unpack::Unpack;

fn source(paths: &[&Path], excludes: &[&str]) -> LocalSource {
    let paths = paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    let excludes = excludes.iter().map(|glob| (*glob).to_owned()).collect();
    LocalSource::new(&LocalSettings { paths, excludes }).unwrap()
}

/// A directory with `src` to be pulled and `out` to be unpacked into.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        Self { dir }
    }

    fn src(&self) -> PathBuf {
        self.dir.path().join("src")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// Where the entry for `path` was unpacked.
    fn unpacked(&self, path: &Path) -> PathBuf {
        self.out().join(path.strip_prefix("/").unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.src().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    async fn pull(&self, source: &mut LocalSource) -> (Unpack, Result<PullSummary, Error>) {
        let mut sink = Unpack::into_dir(&self.out());
        let pulled = sink.pull(source).await;
        (sink, pulled)
    }

    /// The paths of `sink` below `src`.
    fn below(&self, sink: &Unpack) -> Vec<String> {
        let src = format!("{}/", self.src().strip_prefix("/").unwrap().display());
        sink.paths().iter().filter_map(|path| path.strip_prefix(&src)).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn every_oddity_comes_through() {
    let bench = Bench::new();
    trees::oddities(&bench.src());
    std::os::unix::fs::chown(bench.src().join("names"), Some(1234), Some(5678)).unwrap();
    let (sink, pulled) = bench.pull(&mut source(&[&bench.src()], &[])).await;
    let summary = pulled.unwrap();
    let options = TreeOptions { owner: true, ..TreeOptions::default() };
    assert_same_tree(&bench.src(), &bench.unpacked(&bench.src()), &options);
    assert_eq!(sink.told(), [""; 0]);
    assert_eq!((summary.content.skipped, summary.content.hardlinks), (2, 2));
    let proven = Evidence::Walk { directories: summary.content.directories, files: summary.content.files };
    assert_eq!(summary.evidence, proven);
}

#[tokio::test]
async fn the_order_is_stable_and_excluded_directories_are_not_entered() {
    let bench = Bench::new();
    for name in ["b/z", "b/a", "b-", "a/1", "a/cache/x", "c.log", "keep.log", "\u{e9}", "Z"] {
        bench.write(name, name);
    }
    let mut source = source(&[&bench.src()], &["*.log", "!keep.log", "cache/"]);
    let (sink, pulled) = bench.pull(&mut source).await;
    pulled.unwrap();
    assert_eq!(bench.below(&sink), ["Z", "a", "a/1", "b", "b/a", "b/z", "b-", "keep.log", "\u{e9}"]);
}

#[tokio::test]
async fn a_store_inside_the_source_is_left_out_by_any_of_its_names() {
    let bench = Bench::new();
    for name in ["data/file", "data/store/tenants/x", "store-notes"] {
        bench.write(name, name);
    }
    symlink("data/store", bench.src().join("alias")).unwrap();
    let mut source =
        source(&[&bench.src()], &[]).leaving_out(bench.src().join("alias")).leaving_out("/missing");
    let (sink, pulled) = bench.pull(&mut source).await;
    pulled.unwrap();
    assert_eq!(bench.below(&sink), ["alias", "data", "data/file", "store-notes"]);
}

#[tokio::test]
async fn nested_and_repeated_paths_come_once() {
    let bench = Bench::new();
    bench.write("a/b/c", "c");
    bench.write("a/d", "d");
    let (src, a) = (bench.src(), bench.src().join("a"));
    let (b, c, dotted) = (a.join("b"), a.join("b/c"), src.join("./a/"));
    // The sink refuses a path that comes twice.
    let (sink, pulled) = bench.pull(&mut source(&[&b, &a, &c, &a, &dotted], &[])).await;
    pulled.unwrap();
    assert_eq!(bench.below(&sink), ["a", "a/b", "a/b/c", "a/d"]);
}

#[tokio::test]
async fn a_configured_link_is_followed_and_a_file_stands_alone() {
    let bench = Bench::new();
    bench.write("real/file", "1");
    bench.write("single", "2");
    symlink("real", bench.src().join("link")).unwrap();
    let paths = [bench.src().join("link"), bench.src().join("single")];
    let (sink, pulled) = bench.pull(&mut source(&[&paths[0], &paths[1]], &["*"])).await;
    pulled.unwrap();
    assert_eq!(bench.below(&sink), ["link", "single"]);
    let (sink, _) = bench.pull(&mut source(&[&paths[0]], &[])).await;
    assert_eq!(bench.below(&sink), ["link", "link/file"]);
}

#[tokio::test]
async fn a_path_behind_a_link_inside_another_is_refused() {
    let bench = Bench::new();
    bench.write("elsewhere/file", "1");
    fs::create_dir(bench.src().join("top")).unwrap();
    symlink("../elsewhere", bench.src().join("top/link")).unwrap();
    let paths = [bench.src().join("top"), bench.src().join("top/link")];
    let (_, pulled) = bench.pull(&mut source(&[&paths[0], &paths[1]], &[])).await;
    let error = pulled.unwrap_err().to_string();
    assert!(error.contains("top/link") && error.contains("src/elsewhere"), "{error}");
}

#[tokio::test]
async fn only_what_leads_below_an_allowed_directory_is_read() {
    let (allowed, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, out) = (allowed.path(), outside.path());
    fs::write(dir.join("own"), "a").unwrap();
    fs::write(out.join("secret"), "b").unwrap();
    symlink(out, dir.join("way-out")).unwrap();
    symlink(dir, out.join("way-in")).unwrap();
    // A sibling whose name merely begins the same.
    let sibling = dir.with_extension("sibling");
    fs::create_dir(&sibling).unwrap();
    let roots = vec![dir.canonicalize().unwrap()];
    let unpacked = tempfile::tempdir().unwrap();
    let refused = [
        out.to_owned(),
        out.join("secret"),
        dir.join("way-out"),
        dir.join("way-out/secret"),
        sibling.clone(),
    ];
    for path in refused {
        let mut source = source(&[&path], &[]).only_below(roots.clone());
        let probe = source.probe().await.unwrap();
        assert!(probe.paths[0].error.as_ref().unwrap().contains("may be backed up"), "{probe:?}");
        let pulled = Unpack::into_dir(unpacked.path()).pull(&mut source).await;
        assert!(matches!(pulled, Err(Error::NotAllowed(_))), "{}: {pulled:?}", path.display());
    }
    for path in [dir.to_owned(), dir.join("own"), out.join("way-in"), out.join("way-in/own")] {
        let mut source = source(&[&path], &[]).only_below(roots.clone());
        let unpacked = tempfile::tempdir().unwrap();
        Unpack::into_dir(unpacked.path()).pull(&mut source).await.unwrap();
    }
    fs::remove_dir(sibling).unwrap();
}

#[tokio::test]
async fn a_missing_path_is_named_before_anything_is_pulled() {
    let bench = Bench::new();
    bench.write("file", "1");
    let missing = bench.src().join("missing");
    let mut source = source(&[&bench.src(), &missing], &[]);
    let probe = source.probe().await.unwrap();
    assert_eq!((probe.paths[0].kind, probe.paths[1].kind), (Some("directory"), None));
    assert!(probe.paths[1].error.as_ref().unwrap().contains("does not exist"));
    let (sink, pulled) = bench.pull(&mut source).await;
    let error = pulled.unwrap_err();
    assert!(matches!(&error, Error::NotFound(what) if what.contains("src/missing")), "{error}");
    assert_eq!((error.disposition(), sink.entries.len()), (Disposition::Permanent, 0));
}

#[test]
fn bad_settings_are_named() {
    let settings =
        |path: &str, glob: &str| LocalSettings { paths: vec![path.into()], excludes: vec![glob.into()] };
    let error = LocalSource::new(&settings("relative", "*")).unwrap_err().to_string();
    assert!(error.contains("paths") && error.contains("relative"), "{error}");
    let error = LocalSource::new(&settings("/srv", "a[")).unwrap_err().to_string();
    assert!(error.contains("excludes") && error.contains("a["), "{error}");
}

/// More than the source reads ahead of its sink.
const FAR: usize = 8 << 20;

/// Pulls `src`, in which `a-first` holds the sink up until `change` is done.
async fn pull_while(bench: &Bench, change: impl FnOnce(&Path) + Send + 'static) -> Unpack {
    bench.write("a-first", vec![1; FAR]);
    let src = bench.src();
    let mut change = Some(change);
    let mut sink = Unpack::watched(&bench.out(), move |entry| {
        if entry.is_some_and(|entry| entry.path.name() == b"a-first") {
            change.take().unwrap()(&src);
        }
    });
    sink.pull(&mut source(&[&bench.src()], &[])).await.unwrap();
    sink
}

fn told(bench: &Bench, sink: &Unpack) -> Vec<String> {
    let src = format!("{}/", bench.src().strip_prefix("/").unwrap().display());
    sink.told().iter().map(|told| told.replace(&src, "")).collect()
}

#[tokio::test]
async fn what_vanishes_is_a_warning() {
    let bench = Bench::new();
    for name in ["b-file", "c-folder/inside", "d-stays"] {
        bench.write(name, name);
    }
    symlink("x", bench.src().join("b-link")).unwrap();
    let sink = pull_while(&bench, |src| {
        fs::remove_file(src.join("b-file")).unwrap();
        fs::remove_file(src.join("b-link")).unwrap();
        fs::remove_dir_all(src.join("c-folder")).unwrap();
    })
    .await;
    assert_eq!(told(&bench, &sink), ["vanished b-file", "vanished b-link", "vanished c-folder"]);
    assert_eq!(bench.below(&sink), ["a-first", "d-stays"]);
}

#[tokio::test]
async fn a_link_that_takes_a_place_is_never_followed() {
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    for name in ["b-folder/inside", "c-file"] {
        bench.write(name, name);
    }
    let sink = pull_while(&bench, move |src| {
        fs::remove_dir_all(src.join("b-folder")).unwrap();
        symlink(&outside, src.join("b-folder")).unwrap();
        fs::remove_file(src.join("c-file")).unwrap();
        symlink(outside.join("secret"), src.join("c-file")).unwrap();
    })
    .await;
    assert_eq!(told(&bench, &sink), ["vanished b-folder", "vanished c-file"]);
    assert_eq!(bench.below(&sink), ["a-first"]);
}

#[tokio::test]
async fn a_pipe_that_takes_a_place_does_not_block() {
    let bench = Bench::new();
    bench.write("b-file", "1");
    let sink = pull_while(&bench, |src| {
        fs::remove_file(src.join("b-file")).unwrap();
        let made = Command::new("mkfifo").arg(src.join("b-file")).status().unwrap();
        assert!(made.success());
    })
    .await;
    assert_eq!(bench.below(&sink), ["a-first"]);
}

#[tokio::test]
async fn shrinking_files_are_padded_and_growing_ones_cut() {
    let bench = Bench::new();
    for (name, size) in [("b-grows", FAR), ("c-shrinks", FAR), ("d-small-grows", 0)] {
        bench.write(name, vec![7; size]);
    }
    let src = bench.src();
    let mut sink = Unpack::watched(&bench.out(), move |entry| {
        let name = entry.map(|entry| String::from_utf8_lossy(entry.path.name()).into_owned());
        match name.as_deref() {
            Some("b-grows") => {
                let mut file = OpenOptions::new().append(true).open(src.join("b-grows")).unwrap();
                file.write_all(&[9; 5]).unwrap();
            }
            Some("c-shrinks") => {
                let file = OpenOptions::new().write(true).open(src.join("c-shrinks")).unwrap();
                file.set_len(FAR as u64 - 1000).unwrap();
            }
            _ => {}
        }
    });
    sink.pull(&mut source(&[&bench.src()], &[])).await.unwrap();
    assert_eq!(told(&bench, &sink), ["grew b-grows", "shrunk c-shrinks"]);
    let unpacked = bench.unpacked(&bench.src());
    assert!(fs::read(unpacked.join("b-grows")).unwrap() == vec![7; FAR]);
    let mut padded = vec![7; FAR - 1000];
    padded.resize(FAR, 0);
    assert!(fs::read(unpacked.join("c-shrinks")).unwrap() == padded);
}

#[tokio::test]
async fn sizes_around_a_chunk_come_whole() {
    let bench = Bench::new();
    let chunk = 256 * 1024;
    for size in [chunk - 1, chunk, chunk + 1, 2 * chunk, 2 * chunk + 1] {
        trees::random_file(&bench.src().join(format!("{size}")), size, size);
    }
    let (sink, pulled) = bench.pull(&mut source(&[&bench.src()], &[])).await;
    pulled.unwrap();
    assert_eq!(sink.told(), [""; 0]);
    assert_same_tree(&bench.src(), &bench.unpacked(&bench.src()), &TreeOptions::default());
}

#[tokio::test]
async fn deep_trees_cost_no_descriptors_and_too_long_paths_are_told() {
    let bench = Bench::new();
    let mut path = bench.src();
    for _ in 0..400 {
        fs::write(path.join("z"), "after the way back").unwrap();
        path.push("d");
        fs::create_dir(&path).unwrap();
    }
    let (sink, pulled) = bench.pull(&mut source(&[&bench.src()], &[])).await;
    let summary = pulled.unwrap();
    assert_eq!((summary.content.directories, summary.content.files), (401, 400));
    assert_eq!(sink.told(), [""; 0]);
    assert_same_tree(&bench.src(), &bench.unpacked(&bench.src()), &TreeOptions::default());
}

#[tokio::test]
async fn a_directory_moved_away_does_not_lead_the_walk_out_of_the_tree() {
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    // Deeper than directories are kept open: on the way back they are opened again from below.
    let deep = |levels| bench.src().join(vec!["d"; levels].join("/"));
    fs::create_dir_all(deep(100)).unwrap();
    fs::write(deep(100).join("hold"), vec![1; FAR]).unwrap();
    let (from, to) = (deep(20), outside.join("d"));
    let mut sink = Unpack::watched(&bench.out(), move |entry| {
        if entry.is_some_and(|entry| entry.path.name() == b"hold") {
            fs::rename(&from, &to).unwrap();
        }
    });
    let error = sink.pull(&mut source(&[&bench.src()], &[])).await.unwrap_err();
    assert!(error.to_string().contains("was moved while it was read"), "{error}");
    assert!(sink.paths().iter().all(|path| !path.contains("secret")));
}

#[tokio::test]
async fn a_path_too_long_for_any_archive_is_told_at_its_directory() {
    let bench = Bench::new();
    let script =
        "n=$(printf 'x%.0s' $(seq 250)); for i in $(seq 18); do mkdir $n && cd -P $n || exit 1; done";
    let made = Command::new("bash").args(["-c", script]).current_dir(bench.src()).status().unwrap();
    assert!(made.success());
    let (sink, pulled) = bench.pull(&mut source(&[&bench.src()], &[])).await;
    pulled.unwrap();
    assert_eq!(sink.warnings.len(), 1);
    assert_eq!(sink.warnings[0].code.as_str(), "bad_name");
    assert!(sink.warnings[0].message.contains("4096"), "{}", sink.warnings[0].message);
    let removed = Command::new("rm").arg("-rf").arg(bench.src()).status().unwrap();
    assert!(removed.success());
}

#[tokio::test]
async fn cancelling_stops_at_once() {
    let bench = Bench::new();
    bench.write("a", vec![1; 4 * FAR]);
    let cancel = CancellationToken::new();
    let control = Control::default().with_cancel(cancel.clone());
    let mut sink = Unpack::watched(&bench.out(), move |entry| {
        if entry.is_none() {
            cancel.cancel();
        }
    });
    let error = source(&[&bench.src()], &[]).pull(&mut sink, &control).await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
}

/// Root may read everything, so the pull runs once more in a process of somebody else.
#[test]
fn what_may_not_be_read_is_a_warning() {
    const CHILD: &str = "XVAULT_TEST_UNREADABLE";
    if let Some(src) = std::env::var_os(CHILD) {
        return pull_as_somebody_else(Path::new(&src));
    }
    let bench = Bench::new();
    for name in ["a-readable", "b-closed", "c-closed/inside", "d-closed/deep"] {
        bench.write(name, name);
    }
    for name in ["b-closed", "c-closed"] {
        fs::set_permissions(bench.src().join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    // Listed, but not to be entered.
    fs::set_permissions(bench.src().join("d-closed"), fs::Permissions::from_mode(0o444)).unwrap();
    let exe = bench.dir.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    for path in [bench.dir.path(), &exe] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut child = Command::new(&exe);
    child.args(["--exact", "local::what_may_not_be_read_is_a_warning"]).env(CHILD, bench.src());
    let output = child.uid(65534).gid(65534).current_dir("/").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::main(flavor = "current_thread")]
async fn pull_as_somebody_else(src: &Path) {
    let mut sink = Silent::default();
    let summary = source(&[src], &[]).pull(&mut sink, &Control::default()).await.unwrap();
    let src = format!("{}/", src.strip_prefix("/").unwrap().display());
    let seen: Vec<_> = sink.0.iter().map(|seen| seen.replace(&src, "")).collect();
    let expected = [
        "a-readable",
        "unreadable b-closed",
        "c-closed",
        "unreadable c-closed",
        "d-closed",
        "unreadable d-closed/deep",
    ];
    assert_eq!(seen[1..], expected);
    assert_eq!((summary.content.warnings, summary.content.files), (3, 1));
    let closed = format!("/{src}c-closed");
    let error = source(&[Path::new(&closed)], &[]).pull(&mut sink, &Control::default()).await.unwrap_err();
    assert!(error.to_string().contains("c-closed"), "{error}");
}

/// Notes what it is told: somebody else may write nowhere.
#[derive(Default)]
struct Silent(Vec<String>);

#[async_trait::async_trait]
impl xvault_core::EntrySink for Silent {
    async fn begin(&mut self, entry: xvault_core::Entry) -> Result<(), xvault_core::SinkError> {
        self.0.push(entry.path.to_string());
        Ok(())
    }

    async fn data(&mut self, _: bytes::Bytes) -> Result<(), xvault_core::SinkError> {
        Ok(())
    }

    async fn end(&mut self) -> Result<(), xvault_core::SinkError> {
        Ok(())
    }

    async fn warning(&mut self, warning: xvault_core::Warning) -> Result<(), xvault_core::SinkError> {
        self.0.push(format!("{} {}", warning.code.as_str(), warning.path));
        Ok(())
    }
}
