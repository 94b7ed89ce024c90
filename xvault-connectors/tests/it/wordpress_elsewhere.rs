//! Sites whose parts lie where nobody looks first: they are in the backup, or it says what is not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use xvault_connectors::Error;
use xvault_core::WarningCode;
use xvault_testkit::{Mariadb, Sshd};

use crate::ssh_support::Kept;
use crate::wordpress::{Site, fallback, has};

/// A file with its directories.
pub(crate) fn put(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
}

/// Moves something elsewhere, and leaves a link.
pub(crate) fn move_away(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(from, to).unwrap();
    symlink(to, from).unwrap();
}

pub(crate) fn entry(path: &Path) -> String {
    format!("files{}", path.display())
}

pub(crate) fn small() -> Site {
    Site::new(Sshd::builder().start()).small()
}

/// Everything is in it, and nothing is said to be missing.
pub(crate) async fn whole(site: &Site) -> Kept {
    let (kept, _) = site.pull().await;
    assert_eq!(kept.warnings, []);
    kept
}

/// The one warning of a partial snapshot, which the probe tells, too.
pub(crate) async fn lacking(site: &Site, told: &[&str]) -> (Kept, PathBuf) {
    let (kept, _) = site.pull().await;
    let [warning] = &kept.warnings[..] else { panic!("{told:?}: {:?}", kept.warnings) };
    assert!(told.iter().all(|part| warning.message.contains(part)), "{told:?}: {}", warning.message);
    assert_eq!(warning.code, WarningCode::Other);
    let path = PathBuf::from(format!("/{}", warning.path));
    (kept, path)
}

pub(crate) async fn notes(site: &Site) -> String {
    site.probe().await.notes.join("\n")
}

/// The site's WordPress is moved into a directory of its own, as its manual says: the new document root.
fn into_own_directory(site: &mut Site, abspath: &str) -> PathBuf {
    let (old, root) = (site.wordpress.root.clone(), site.sshd.home.join("site"));
    fs::create_dir(&root).unwrap();
    fs::rename(&old, root.join("wp")).unwrap();
    fs::write(root.join("index.php"), "<?php require __DIR__ . '/wp/wp-blog-header.php';").unwrap();
    fs::rename(root.join("wp/wp-config.php"), root.join("wp-config.php")).unwrap();
    site.wordpress.root.clone_from(&root);
    site.configure("__DIR__ . '/'", abspath);
    site.settings.paths = vec![root.display().to_string()];
    root
}

#[tokio::test]
async fn wordpress_in_a_directory_of_its_own_is_found_from_the_document_root() {
    for abspath in ["__DIR__ . '/wp/'", "somewhere()"] {
        let mut site = small();
        let root = into_own_directory(&mut site, abspath);
        let (uploads, data) = (root.join("wp/wp-content/uploads"), site.sshd.home.join("data/ups"));
        move_away(&uploads, &data);
        put(&root.join("wp/wp-content/cache/page.html"));
        let kept = whole(&site).await;
        let uploaded = |(entry, _): &(xvault_core::Entry, _)| {
            entry.path.to_string().contains("data/ups/") && entry.path.to_string().ends_with("file-3.txt")
        };
        assert!(kept.entries.iter().any(uploaded), "{abspath}");
        for part in ["index.php", "wp-config.php", "wp/wp-load.php", "wp/wp-content/plugins/akismet"] {
            assert!(has(&kept, &entry(&root.join(part))), "{abspath}: {part}");
        }
        assert!(!has(&kept, &entry(&root.join("wp/wp-content/cache"))), "{abspath}");
        let notes = notes(&site).await;
        assert!(notes.contains("WordPress 6.") && notes.contains("its own directory, `wp`"), "{notes}");
    }
}

#[tokio::test]
async fn a_document_root_whose_wordpress_cannot_be_told_is_partial_and_a_site_below_it_is_named() {
    let mut site = small();
    let root = into_own_directory(&mut site, "somewhere()");
    put(&root.join("old/wp-settings.php"));
    lacking(
        &site,
        &["where WordPress itself lies is not known", "/site/wp`", "/site/old`", "as the path of the site"],
    )
    .await;
    // One with a configuration of its own is another site.
    put(&root.join("old/wp-config.php"));
    whole(&site).await;
    fs::remove_dir_all(root.join("old")).unwrap();
    fs::rename(root.join("wp-config.php"), root.join("wp/wp-config.php")).unwrap();
    let error = site.error().await.to_string();
    assert!(
        error.contains("`wp-config.php` in `") && error.contains("/site/wp`, which is to be named instead"),
        "{error}"
    );
    assert!(matches!(site.error().await, Error::NotFound(_)));
    let probe = site.probe().await;
    assert!(probe.paths[0].error.as_ref().unwrap().contains("/site/wp`"), "{probe:?}");
}

#[tokio::test]
async fn content_whose_place_is_not_known_makes_the_snapshot_partial_unless_it_is_found() {
    let mut site = small();
    let root = site.wordpress.root.clone();
    let moved = root.parent().unwrap().join("content");
    put(&root.join("wp-content/plugins/shop/shop.php"));
    let define = |value: &str| {
        site.configure("$table_prefix", &format!("define('WP_CONTENT_DIR', {value});\n$table_prefix"));
    };
    // The usual place has it.
    define("somewhere()");
    whole(&site).await;
    assert!(notes(&site).await.contains("the usual place is in the backup"));
    fs::rename(root.join("wp-content"), &moved).unwrap();
    let (_, path) =
        lacking(&site, &["WP_CONTENT_DIR", "the call of somewhere()", "in `paths` beside the site"]).await;
    assert_eq!(path, Path::new(&format!("/{}", entry(&root.join("wp-config.php")))));
    assert!(notes(&site).await.contains("may not be in the backup"));
    // What WordPress brings with each of its versions is not the site's content.
    put(&root.join("wp-content/themes/twentytwentyfour/style.css"));
    put(&root.join("wp-content/plugins/hello.php"));
    lacking(&site, &["WP_CONTENT_DIR"]).await;
    // What is guessed and holds nothing else is no place of it.
    put(&root.join("app/plugins/hello.php"));
    define("$_SERVER['DOCUMENT_ROOT'] . '/app'");
    lacking(&site, &["WP_CONTENT_DIR", "DOCUMENT_ROOT"]).await;
    let there = entry(&moved.join("plugins/shop/shop.php"));
    for value in ["$_SERVER['DOCUMENT_ROOT'] . '/../content'", "realpath(__DIR__ . '/../content')"] {
        define(value);
        assert!(has(&whole(&site).await, &there), "{value}");
        assert!(notes(&site).await.contains("WP_CONTENT_DIR is taken for"), "{value}");
    }
    define("'/no/such/place'");
    lacking(&site, &["WP_CONTENT_DIR is `/no/such/place`", "in `paths` beside the site"]).await;
    // Whoever names the folder has said where it is.
    site.settings.paths.push(moved.display().to_string());
    assert!(has(&whole(&site).await, &there));
    assert!(notes(&site).await.contains("is no site, and is in the backup as a folder of the others"));
}

#[tokio::test]
async fn each_folder_of_content_is_known_or_told() {
    let site = small();
    let set = |constant: &str, value: &str| {
        site.configure("$table_prefix", &format!("define('{constant}', {value});\n$table_prefix"));
    };
    for (constant, name) in
        [("WP_PLUGIN_DIR", "plugins"), ("WPMU_PLUGIN_DIR", "mu-plugins"), ("UPLOADS", "uploads")]
    {
        let folder = site.wordpress.root.join("wp-content").join(name);
        let aside = site.wordpress.root.join(format!("{name}-aside"));
        put(&folder.join("own.php"));
        set(constant, "somewhere()");
        whole(&site).await;
        fs::rename(&folder, &aside).unwrap();
        lacking(&site, &[constant, "somewhere()", "as plain text"]).await;
        fs::rename(&aside, &folder).unwrap();
    }
    set("WP_LANG_DIR", "somewhere()");
    whole(&site).await;
}

#[tokio::test]
async fn content_that_an_included_file_moves_is_looked_for() {
    let site = small();
    let root = site.wordpress.root.clone();
    fs::write(root.join("more.php"), "<?php").unwrap();
    site.configure("define( 'WP_DEBUG'", "require __DIR__ . '/more.php';\ndefine( 'WP_DEBUG'");
    whole(&site).await;
    let (content, data) = (root.join("wp-content"), site.sshd.home.join("shared/uploads"));
    fs::rename(&content, root.join("app")).unwrap();
    put(&root.join("app/plugins/shop.php"));
    move_away(&root.join("app/uploads"), &data);
    let kept = whole(&site).await;
    assert!(has(&kept, &entry(&data)), "links in it are followed");
    fs::rename(root.join("app"), site.sshd.home.join("app")).unwrap();
    lacking(&site, &["wp-content", "another file is included", "may not be in the backup"]).await;
}

#[tokio::test]
async fn links_in_the_content_are_followed_and_those_that_are_not_are_told() {
    let mut site = small();
    let (root, home) = (site.wordpress.root.clone(), site.sshd.home.clone());
    let content = root.join("wp-content");
    let away = |name: &str| home.join("nas").join(name);
    for name in ["uploads/2026", "plugins/shop", "mu-plugins/must", "gallery"] {
        put(&content.join(name).join("own.txt"));
        move_away(&content.join(name), &away(name));
    }
    put(&away("object-cache.php"));
    symlink(away("object-cache.php"), content.join("object-cache.php")).unwrap();
    // What is left out stays out, and what leads to somewhere within needs nothing.
    put(&content.join("cache/page.html"));
    move_away(&content.join("cache"), &away("cache"));
    symlink("../plugins", content.join("uploads/inside")).unwrap();
    let kept = whole(&site).await;
    for name in [
        "uploads/2026/own.txt",
        "plugins/shop/own.txt",
        "mu-plugins/must/own.txt",
        "gallery/own.txt",
        "object-cache.php",
    ] {
        assert!(has(&kept, &entry(&away(name))), "{name}");
    }
    assert!(!has(&kept, &entry(&away("cache"))));
    assert!(notes(&site).await.contains("nas/uploads/2026` belongs to it and lies outside"));
    // Deeper than anybody looks before.
    let deep = content.join("uploads/2025/06");
    put(&deep.join("own.txt"));
    move_away(&deep, &away("06"));
    let (_, path) = lacking(&site, &["nas/06`", "not in the backup", "in `paths` beside the site"]).await;
    assert_eq!(path, Path::new(&format!("/{}", entry(&deep))));
    site.settings.paths.push(away("06").display().to_string());
    assert!(has(&whole(&site).await, &entry(&away("06/own.txt"))));
    site.settings.paths.pop();
    site.settings.excludes.push("/wp-content/uploads/2025/06".into());
    whole(&site).await;
}

#[tokio::test]
async fn a_link_that_leads_to_nothing_or_to_what_is_closed_is_told() {
    let site = small();
    let content = site.wordpress.root.join("wp-content");
    let link = content.join("uploads/old");
    let closed = tempfile::tempdir().unwrap();
    put(&closed.path().join("x"));
    for (target, told) in [
        (Path::new("/no/such/place"), "leads to nothing"),
        (closed.path(), "can't read"),
        (site.sshd.home.as_path(), "that the site itself lies in"),
    ] {
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
        symlink(target, &link).unwrap();
        lacking(&site, &["uploads/old`", told, "exclude it"]).await;
        assert!(notes(&site).await.contains(told));
        fs::remove_file(&link).unwrap();
    }
}

#[tokio::test]
async fn uploads_that_the_database_puts_elsewhere_are_in_the_backup_or_told() {
    let site = small();
    let (root, home, server) = (site.wordpress.root.clone(), site.sshd.home.clone(), Mariadb::shared());
    let set = |path: &str| {
        let sql =
            format!("REPLACE INTO wp_options (option_name, option_value) VALUES ('upload_path', '{path}')");
        let _ = server.sql(&site.wordpress.database, &sql);
    };
    let data = home.join("data/files");
    put(&data.join("2026/own.txt"));
    put(&home.join("nas/06/own.txt"));
    symlink(home.join("nas/06"), data.join("06")).unwrap();
    symlink(&data, root.join("files")).unwrap();
    for path in ["files".to_owned(), data.display().to_string()] {
        set(&path);
        let kept = whole(&site).await;
        assert!(has(&kept, &entry(&data.join("2026/own.txt"))), "{path}");
        assert!(has(&kept, &entry(&home.join("nas/06/own.txt"))), "{path}");
        assert!(notes(&site).await.contains("data/files` belongs to it"), "{path}");
    }
    // Of a site that came from another server.
    set("/home/old/wp-content/uploads");
    whole(&site).await;
    assert!(notes(&site).await.contains("`upload_path` in the database is `/home/old"));
    fs::remove_dir_all(root.join("wp-content/uploads")).unwrap();
    lacking(&site, &["`upload_path`", "/home/old", "in `paths` beside the site"]).await;
    for usual in ["wp-content/uploads", ""] {
        set(usual);
        whole(&site).await;
    }
}

#[tokio::test]
async fn rows_in_other_databases_are_told_unless_these_are_in_the_backup_too() {
    let site = small();
    let (own, other) = (site.wordpress.database.clone(), fallback(&site));
    let users = |value: &str| {
        site.configure("$table_prefix", &format!("define('CUSTOM_USER_TABLE', {value});\n$table_prefix"));
    };
    for value in ["'shared_users'".to_owned(), format!("'{own}.wp_users'")] {
        users(&value);
        whole(&site).await;
    }
    users(&format!("'{other}.wp_users'"));
    let (_, path) = lacking(&site, &["CUSTOM_USER_TABLE", &other, "of type `mysql`"]).await;
    assert_eq!(path, Path::new(&format!("/database/{own}.sql")));
    assert!(notes(&site).await.contains(&other));
    users("somewhere()");
    lacking(&site, &["CUSTOM_USER_TABLE", "somewhere()", "as plain text"]).await;
    site.configure("$table_prefix", "$table_prefix");
    // A drop-in alone may be of any kind; its configuration may name replicas.
    let root = &site.wordpress.root;
    let database = |name: &str| format!("<?php $wpdb->add_database(['host' => DB_HOST, 'name' => {name}]);");
    fs::write(root.join("db-config.php"), database("'second'")).unwrap();
    whole(&site).await;
    fs::write(root.join("wp-content/db.php"), "<?php").unwrap();
    lacking(&site, &["db-config.php", "db.php", "of type `mysql`"]).await;
    assert!(notes(&site).await.contains("db-config.php"));
    fs::write(root.join("db-config.php"), database("DB_NAME")).unwrap();
    whole(&site).await;
}

#[tokio::test]
async fn a_directory_that_the_site_itself_lies_in_is_no_content() {
    let site = small();
    put(&site.sshd.home.join("www/other/own.txt"));
    site.configure("$table_prefix", "define('WP_CONTENT_DIR', dirname(__DIR__));\n$table_prefix");
    let (kept, _) = lacking(&site, &["/www` is a directory that the site itself lies in"]).await;
    assert!(!has(&kept, &entry(&site.sshd.home.join("www/other"))));
}

#[tokio::test]
async fn a_drop_in_whose_configuration_is_not_found_is_told() {
    let site = small();
    let set = |value: &str| {
        site.configure("$table_prefix", &format!("define('DB_CONFIG_FILE', {value});\n$table_prefix"));
    };
    set("somewhere()");
    whole(&site).await;
    fs::write(site.wordpress.root.join("wp-content/db.php"), "<?php").unwrap();
    lacking(&site, &["DB_CONFIG_FILE", "somewhere()", "as plain text", "of type `mysql`"]).await;
    assert!(notes(&site).await.contains("DB_CONFIG_FILE"));
    set("'/no/such/config.php'");
    lacking(&site, &["`/no/such/config.php` (DB_CONFIG_FILE)", "let the account read it"]).await;
    set("__DIR__ . '/own.php'");
    fs::write(site.wordpress.root.join("own.php"), "<?php $x = ['name' => DB_NAME];").unwrap();
    whole(&site).await;
}

#[tokio::test]
async fn options_that_do_not_say_where_uploads_lie_make_the_snapshot_partial() {
    let site = small();
    let database = &site.wordpress.database;
    let sql = "RENAME TABLE wp_options TO real_options; CREATE VIEW wp_options AS SELECT option_id FROM real_options";
    let _ = Mariadb::shared().sql(database, sql);
    let (kept, _) = site.pull().await;
    let [warning] = &kept.warnings[..] else { panic!("{:?}", kept.warnings) };
    let told = |text: &str| {
        ["`upload_path`", "/wp-config.php is not known", "Unknown column", "define UPLOADS"]
            .iter()
            .all(|part| text.contains(part))
    };
    assert!(told(&warning.message), "{}", warning.message);
    assert_eq!(warning.path.to_string(), format!("database/{database}.sql"));
    assert!(site.probe().await.notes.iter().any(|note| told(note)));
    site.configure("$table_prefix", "define('UPLOADS', 'wp-content/uploads');\n$table_prefix");
    whole(&site).await;
}

#[tokio::test]
async fn more_places_than_are_looked_at_are_counted() {
    let mut site = small();
    let sql = "RENAME TABLE wp_options TO real_options; CREATE TABLE wp_options (option_name VARCHAR(20), option_value VARCHAR(99));
               INSERT wp_options SELECT 'upload_path', CONCAT('/nas/', seq) FROM seq_1_to_250";
    let _ = Mariadb::shared().sql(&site.wordpress.database, sql);
    lacking(&site, &["names 50 more places for uploads"]).await;
    assert!(notes(&site).await.contains("and 180 more such notes"));
    let uploads = site.wordpress.root.join("wp-content/uploads");
    fs::remove_dir_all(&uploads).unwrap();
    let (kept, _) = site.pull().await;
    assert_eq!(kept.warnings.len(), 101);
    assert!(kept.warnings[100].message.starts_with("and 101 more reasons"), "{:?}", kept.warnings[100]);
    // Below the content nothing is lost of what is not looked at.
    let _ = Mariadb::shared().sql(
        &site.wordpress.database,
        "UPDATE wp_options SET option_value = REPLACE(option_value, '/nas', 'wp-content/blogs.dir')",
    );
    put(&uploads.join("own.txt"));
    whole(&site).await;
    site.settings.dump_database = false;
    whole(&site).await;
}

#[tokio::test]
async fn a_folder_is_taken_for_one_of_the_sites_only_where_nothing_of_a_site_is_in_it() {
    let mut site = small();
    let home = site.sshd.home.clone();
    let empty = home.join("empty");
    fs::create_dir(&empty).unwrap();
    put(&home.join("half/wp-settings.php"));
    put(&home.join("above/site/wp-config.php"));
    put(&home.join("parts/wp-load.php"));
    let good = site.settings.paths.clone();
    for (name, told) in [
        ("empty", "wp-config.php"),
        ("half", "wp-config.php"),
        ("parts", "wp-config.php"),
        ("above", "above/site`"),
    ] {
        site.settings.paths = [good.clone(), vec![home.join(name).display().to_string()]].concat();
        let error = site.error().await;
        assert!(matches!(&error, Error::NotFound(what) if what.contains(told)), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_socket_that_lies_where_nobody_looks_first_is_found_by_the_settings_of_the_tools() {
    let site = small();
    let (socket, port) = (Mariadb::shared().socket(), site.wordpress.database_port);
    fs::set_permissions(socket.parent().unwrap(), fs::Permissions::from_mode(0o711)).unwrap();
    site.configure(&format!("127.0.0.1:{port}"), "localhost");
    let probe = site.probe().await;
    assert!(probe.paths[1].error.is_some(), "nothing listens at localhost:3306: {probe:?}");
    assert!(probe.notes.iter().any(|note| note.contains("as `localhost:/path/of/mysqld.sock`")), "{probe:?}");
    let settings = format!("[client]\nsocket={}\n", socket.display());
    fs::write(site.sshd.home.join(".my.cnf"), settings).unwrap();
    let kept = whole(&site).await;
    assert!(has(&kept, &format!("database/{}.sql", site.wordpress.database)));
}
