//! Links in a site's content, however they are reached and wherever they lead to: what they lead to is in the backup, or told.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use xvault_testkit::Sshd;

use crate::wordpress::Site;
use crate::wordpress_elsewhere::{entry, lacking, move_away, put, small, whole};

/// A link, and the directories above it.
fn link(target: impl AsRef<Path>, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

/// The links that are told, each with what is said of it.
async fn told(site: &Site) -> Vec<(PathBuf, String)> {
    let (kept, _) = site.pull().await;
    kept.warnings.into_iter().map(|it| (PathBuf::from(it.path.to_string()), it.message)).collect()
}

#[tokio::test]
async fn links_are_told_however_the_content_is_reached() {
    for (place, define, is_linked) in [
        ("../content", "define('WP_CONTENT_DIR', __DIR__ . '/../content');", false),
        ("app/content", "", true),
    ] {
        let site = small();
        let (root, nas) = (site.wordpress.root.clone(), site.sshd.home.join("nas"));
        let (usual, content) = (root.join("wp-content"), root.join("app").join("..").join(place));
        fs::create_dir(root.join("app")).unwrap();
        fs::rename(&usual, &content).unwrap();
        let content = content.canonicalize().unwrap();
        if is_linked {
            symlink(place, &usual).unwrap();
        }
        site.configure("$table_prefix", &format!("{define}\n$table_prefix"));
        whole(&site).await;
        let (deep, flat) = (content.join("uploads/2025/06"), content.join("uploads/old"));
        put(&deep.join("own.txt"));
        move_away(&deep, &nas.join("06"));
        let (_, path) = lacking(&site, &["nas/06`", "not in the backup"]).await;
        assert_eq!(path, Path::new(&format!("/{}", entry(&deep))), "{place}");
        fs::remove_file(&deep).unwrap();
        // What is told before the files are pulled is told once.
        symlink("/no/such/place", &flat).unwrap();
        lacking(&site, &["uploads/old`", "leads to nothing"]).await;
    }
}

#[tokio::test]
async fn a_link_that_leads_outside_by_way_of_another_is_told() {
    let mut site = small();
    let (root, home) = (site.wordpress.root.clone(), site.sshd.home.clone());
    let deep = root.join("wp-content/uploads/2025");
    put(&home.join("nas/x/own.txt"));
    put(&home.join("other/own.txt"));
    put(&root.parent().unwrap().join("keep/own.txt"));
    put(&root.join("plain/own.txt"));
    // None of WordPress's, so nobody looks where it leads to.
    symlink(home.join("nas"), root.join("inner")).unwrap();
    put(&deep.join("06/own.txt"));
    for (name, target) in
        [("c", "../../../plain"), ("d", "06/../c"), ("e", "gone/x"), ("06/s", "../../../../plain")]
    {
        link(target, &deep.join(name));
    }
    whole(&site).await;
    link("../../../inner/x", &deep.join("a"));
    link("../../../inner/../other", &deep.join("b"));
    // The same text leads elsewhere from elsewhere.
    fs::remove_file(deep.join("06/s")).unwrap();
    link("../../../../keep", &deep.join("06/s"));
    put(&root.join("keep/own.txt"));
    fs::hard_link(deep.join("06/s"), deep.join("s")).unwrap();
    let told = told(&site).await;
    let ends = ["nas/x`", "home/other`", "www/keep`"];
    let ends = ends.map(|end| end.strip_prefix("home").unwrap_or(end));
    assert_eq!(told.len(), 3, "{told:?}");
    for ((path, message), (name, end)) in told.iter().zip(["a", "b", "s"].iter().zip(ends)) {
        assert_eq!(path, Path::new(&entry(&deep.join(name))), "{message}");
        assert!(message.contains(end) && message.contains("in `paths` beside the site"), "{message}");
    }
    for name in ["nas", "other", "www/keep"] {
        site.settings.paths.push(home.join(name).display().to_string());
    }
    whole(&site).await;
    // A folder beside the site is content, too.
    link(home.join("apart"), &home.join("other/away"));
    put(&home.join("apart/own.txt"));
    lacking(&site, &["apart`", "not in the backup"]).await;
}

#[tokio::test]
async fn more_links_than_are_asked_about_at_once_are_all_looked_at() {
    let site = small();
    let (root, home) = (site.wordpress.root.clone(), site.sshd.home.clone());
    let modules = root.join("wp-content/plugins/shop/node_modules/.bin");
    put(&home.join("nas/x"));
    put(&modules.join("../tool/run.js"));
    symlink(home.join("nas"), root.join("inner")).unwrap();
    for number in 0..2000 {
        symlink("../tool/run.js", modules.join(format!("tool-{number:04}"))).unwrap();
    }
    whole(&site).await;
    let first = modules.join("tool-0000-first");
    symlink(root.join("inner/x"), &first).unwrap();
    let (_, path) = lacking(&site, &["nas/x`"]).await;
    assert_eq!(path, Path::new(&format!("/{}", entry(&first))));
    for number in 0..250 {
        symlink(root.join("inner/x"), modules.join(format!("away-{number:04}"))).unwrap();
    }
    let told = told(&site).await;
    assert_eq!(told.len(), 201);
    assert!(told[200].1.starts_with("and 51 more links in the content lead outside"), "{:?}", told[200]);
}

#[tokio::test]
async fn links_that_the_server_is_not_asked_about_are_told() {
    let (mut site, other) = (small(), Sshd::builder().start());
    let deep = site.wordpress.root.join("wp-content/uploads/2025");
    put(&deep.join("own.txt"));
    put(&site.sshd.home.join("nas/x"));
    symlink("own.txt", deep.join("a")).unwrap();
    symlink("own.txt", deep.join("b")).unwrap();
    site.settings.dump_database = false;
    whole(&site).await;
    symlink(site.sshd.home.join("nas"), deep.join("c")).unwrap();
    // Once for a look, and once for the files.
    site.settings.port = crate::ssh_support::turning(site.sshd.port, 2, other.port);
    let told = told(&site).await;
    let [(outside, end), (inside, count)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        [outside, inside],
        [&deep.join("c"), &deep.join("a")].map(|path| Path::new(&entry(path)).to_owned()).each_ref()
    );
    assert!(end.contains("nas`, as far as its text says"), "{end}");
    assert!(count.starts_with("of 2 links in the content"), "{count}");
}

#[tokio::test]
async fn a_link_to_what_is_away_is_told_and_one_to_the_running_system_is_none_of_the_content() {
    let site = small();
    let uploads = site.wordpress.root.join("wp-content/uploads");
    for (number, target) in
        ["/dev/stdout", "/dev/null", "/proc/1/fd/1", "/proc/self/fd/2", "/dev/gone"].iter().enumerate()
    {
        symlink(target, uploads.join(format!("log-{number}"))).unwrap();
        link(target, &uploads.join(format!("2025/log-{number}")));
    }
    whole(&site).await;
    link("/nas/2025/06", &uploads.join("2025/06"));
    let (_, path) = lacking(&site, &["`/nas/2025/06`, where the account sees nothing"]).await;
    assert_eq!(path, Path::new(&format!("/{}", entry(&uploads.join("2025/06")))));
}
