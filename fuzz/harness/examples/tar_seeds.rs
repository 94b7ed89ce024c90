//! Makes the seeds of `repack` with GNU tar: `tar_seeds fuzz/corpus`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// As a source calls it, and the same on every machine; `--blocking-factor` keeps seeds small.
const OPTIONS: [&str; 8] = [
    "--create",
    "--file=-",
    "--format=posix",
    "--sort=name",
    "--pax-option=delete=atime,delete=ctime",
    "--mtime=@1700000000",
    "--owner=web:1000",
    "--group=web:1000",
];

/// What is asked for in most seeds: `page.log` and `cache` are excluded.
const ASKED: &str = "srv/web\n*.log cache/\n";

fn main() -> Result<()> {
    let corpus =
        PathBuf::from(std::env::args_os().nth(1).ok_or("usage: tar_seeds CORPUS_DIR")?).join("repack");
    let source = tempfile::tempdir()?;
    make_tree(source.path())?;
    let tar = |names: &[&str]| tar(source.path(), names, None);
    // Hard links to `of` lead to `target` instead.
    let lying = |names: &[&str], of: &str, target: &str| tar_of_liar(source.path(), names, of, target);
    let seed = |name: &str, asked: &str, streams: &[Vec<u8>]| {
        fs::write(corpus.join(name), [asked.as_bytes(), &streams.concat()].concat())
    };
    let (web, orphan) = (tar(&["srv/web"])?, tar(&["srv/web/twin"])?);
    let orphan_again = tar(&["srv/web/page.log", "srv/web/twin"])?;
    seed("ok-plain", "srv/data\n\n", &[tar(&["srv/data"])?])?;
    seed("ok-paths", "srv/data srv/other\n\n", &[tar(&["srv/data", "srv/other"])?])?;
    seed("ok-all", "/\n*.log\n", &[tar(&["."])?, tar(&["./srv/web/twin"])?])?;
    seed("ok-orphan", ASKED, &[web.clone(), orphan.clone()])?;
    seed("ok-unnamed-excluded", ASKED, &[tar(&["srv/web/b", "srv/web/cache/page"])?])?;
    seed("bad-outside", "srv/data\n\n", &[tar(&["srv/data", "srv/other"])?])?;
    seed("bad-order", "srv/data srv/other\n\n", &[tar(&["srv/other", "srv/data"])?])?;
    seed("bad-twice", "srv/other\n\n", &[tar(&["srv/other", "srv/other"])?])?;
    seed("bad-orphan-missing", ASKED, std::slice::from_ref(&web))?;
    seed("bad-orphan-again", ASKED, &[web.clone(), orphan_again, orphan.clone()])?;
    seed("bad-cut", "srv/data\n\n", &[tar(&["srv/data"])?.drain(..1300).collect()])?;
    for (name, target) in [
        ("bad-link-to-symlink", "srv/data/link"),
        ("bad-link-to-directory", "srv/data/empty"),
        ("bad-link-to-later", "srv/data/third"),
        ("bad-link-to-outside", "etc/passwd"),
        ("bad-link-to-excluded", "srv/data/a.log"),
        ("bad-link-into-excluded", "srv/data/cache/x"),
        ("bad-link-to-itself", "srv/data/second"),
    ] {
        seed(name, "srv/data\n*.log cache/\n", &[lying(&["srv/data"], "srv/data/first", target)?])?;
    }
    let to_orphan = lying(&["srv/web"], "srv/web/b", "srv/web/twin")?;
    seed("ok-link-to-orphan", ASKED, &[to_orphan, tar(&["srv/web/twin", "srv/web/zwin"])?])?;
    Ok(())
}

/// `twin` is a second name of an excluded file, `second` and `zwin` of files that are kept.
fn make_tree(root: &Path) -> Result<()> {
    let srv = root.join("srv");
    for dir in ["web/cache", "data/empty"] {
        fs::create_dir_all(srv.join(dir))?;
    }
    for (name, body) in [
        ("web/b", "b\n"),
        ("web/cache/page", "cached\n"),
        ("web/page.log", "a log\n"),
        ("data/first", "content\n"),
        ("data/third", "3\n"),
        ("data/long", &"y".repeat(1100)),
        ("other", "another\n"),
    ] {
        fs::write(srv.join(name), body)?;
    }
    fs::hard_link(srv.join("web/page.log"), srv.join("web/twin"))?;
    fs::hard_link(srv.join("web/b"), srv.join("web/zwin"))?;
    fs::hard_link(srv.join("data/first"), srv.join("data/second"))?;
    std::os::unix::fs::symlink("../../etc/passwd", srv.join("data/link"))?;
    let made = Command::new("mkfifo").arg(srv.join("data/pipe")).status()?;
    if made.success() { Ok(()) } else { Err("mkfifo failed".into()) }
}

fn tar_of_liar(root: &Path, names: &[&str], of: &str, target: &str) -> Result<Vec<u8>> {
    tar(root, names, Some(format!("--transform=s,^{of}$,{target},RSh")))
}

fn tar(root: &Path, names: &[&str], lie: Option<String>) -> Result<Vec<u8>> {
    let mut command = Command::new("tar");
    command.args(OPTIONS).arg("--blocking-factor=1").args(lie).arg("--directory").arg(root);
    let output = command.args(names).output()?;
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8(output.stderr)?.into()) }
}
