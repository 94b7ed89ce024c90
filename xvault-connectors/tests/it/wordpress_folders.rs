//! Folders that are named beside sites: each says where one part of a site is, if it looks like that.

use std::fs;

use xvault_testkit::tools::{command, run};

use crate::wordpress::Site;
use crate::wordpress::has;
use crate::wordpress_elsewhere::{entry, lacking, notes, put, small, whole};

/// A folder in the account's home beside the sites.
fn name(site: &mut Site, folder: &str) {
    let folder = site.sshd.home.join(folder);
    site.settings.paths.push(folder.display().to_string());
}

#[tokio::test]
async fn a_folder_stands_for_one_part_of_a_site_that_it_looks_like() {
    let mut site = small();
    let (root, home) = (site.wordpress.root.clone(), site.sshd.home.clone());
    put(&root.join("wp-content/plugins/shop/shop.php"));
    fs::rename(root.join("wp-content/uploads"), home.join("media")).unwrap();
    fs::rename(root.join("wp-content"), home.join("content")).unwrap();
    put(&home.join("conf/nginx.conf"));
    let define = "define('WP_CONTENT_DIR', somewhere());\ndefine('UPLOADS', somewhere());\n$table_prefix";
    site.configure("$table_prefix", define);
    let (kept, _) = site.pull().await;
    assert_eq!(kept.warnings.len(), 2, "{:?}", kept.warnings);
    // One that says nothing of either.
    name(&mut site, "conf");
    let (kept, _) = site.pull().await;
    assert_eq!(kept.warnings.len(), 2, "{:?}", kept.warnings);
    assert!(has(&kept, &entry(&home.join("conf/nginx.conf"))));
    assert!(notes(&site).await.contains("it looks like no part of one"));
    name(&mut site, "content");
    lacking(&site, &["UPLOADS", "somewhere()"]).await;
    name(&mut site, "media");
    let kept = whole(&site).await;
    assert!(has(&kept, &entry(&home.join("content/plugins/shop/shop.php"))));
    assert!(notes(&site).await.contains("where UPLOADS is, is not known"));
    // Uploads are no content.
    site.settings.paths.retain(|path| !path.ends_with("/content"));
    lacking(&site, &["WP_CONTENT_DIR", "somewhere()"]).await;
}

#[tokio::test]
async fn one_folder_does_not_stand_for_two_sites() {
    let mut site = small();
    let (root, home) = (site.wordpress.root.clone(), site.sshd.home.clone());
    site.configure("$table_prefix", "define('UPLOADS', somewhere());\n$table_prefix");
    fs::rename(root.join("wp-content/uploads"), home.join("one")).unwrap();
    let _ = run(command("cp", ["-a"]).arg(&root).arg(home.join("www/second")));
    let _ = run(command("cp", ["-a"]).arg(home.join("one")).arg(home.join("two")));
    name(&mut site, "www/second");
    name(&mut site, "one");
    let (kept, _) = site.pull().await;
    let told = |text: &str| text.contains("of 2 such places, 1 may be what a folder beside the sites is");
    assert!(
        kept.warnings.len() == 2 && kept.warnings.iter().all(|it| told(&it.message)),
        "{:?}",
        kept.warnings
    );
    // They may share it.
    name(&mut site, "one");
    whole(&site).await;
    let _ = site.settings.paths.pop();
    name(&mut site, "two");
    let kept = whole(&site).await;
    assert!(has(&kept, &entry(&home.join("two"))));
}
