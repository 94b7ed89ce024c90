//! A real WordPress: installed into a directory and a database, and served by PHP's own server.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::Mariadb;
use crate::server::{Process, random_password, unused_port};
use crate::tools::{self, command, run};

const INSTALL: &str = include_str!("wordpress/install.php");
const NETWORK: &str = include_str!("wordpress/network.php");

/// What makes a network of sites of one.
const MULTISITE: &str = "define('MULTISITE', true);\ndefine('SUBDOMAIN_INSTALL', false);\ndefine('DOMAIN_CURRENT_SITE', '127.0.0.1');\n\
    define('PATH_CURRENT_SITE', '/');\ndefine('SITE_ID_CURRENT_SITE', 1);\ndefine('BLOG_ID_CURRENT_SITE', 1);\n";

/// An installed site. Its files and its database belong to whoever made the directory and the server.
#[derive(Debug, Clone)]
pub struct Wordpress {
    /// The document root.
    pub root: PathBuf,
    /// The port of the site's address, at which [`Wordpress::serve`] answers.
    pub port: u16,
    /// The database's name.
    pub database: String,
    /// The database's user, who may do everything with that database alone.
    pub user: String,
    /// That user's password, with quotes and a backslash in it.
    pub password: String,
    /// The database's port on 127.0.0.1.
    pub database_port: u16,
}

impl Wordpress {
    /// What its front page is called.
    pub const TITLE: &'static str = "Seen by xvault";

    /// Installs a site with some posts and uploads into the directory `root`, which is made, and a database of `mariadb`.
    ///
    /// # Panics
    /// When PHP or WordPress are missing, or the installation fails.
    #[must_use]
    pub fn install(mariadb: &Mariadb, root: &Path) -> Self {
        Self::install_kind(mariadb, root, false)
    }

    /// As [`Wordpress::install`], a network of two sites.
    ///
    /// # Panics
    /// As [`Wordpress::install`].
    #[must_use]
    pub fn install_network(mariadb: &Mariadb, root: &Path) -> Self {
        Self::install_kind(mariadb, root, true)
    }

    fn install_kind(mariadb: &Mariadb, root: &Path, is_network: bool) -> Self {
        copy(&distribution(), root);
        let database = mariadb.create_database();
        let site = Self {
            root: root.to_owned(),
            port: unused_port(),
            user: format!("wp_{database}"),
            database,
            password: format!("p'w\"\\ {}", random_password()),
            database_port: mariadb.port,
        };
        site.grant(mariadb);
        site.write_config(&site.config(""));
        let mode = if is_network { "network" } else { "" };
        site.php(INSTALL, &[&root.display().to_string(), &site.url(), "10", mode]);
        if is_network {
            site.write_config(&site.config(MULTISITE));
            site.php(NETWORK, &[&root.display().to_string()]);
        }
        site
    }

    /// Lets [`Wordpress::user`] into [`Wordpress::database`] on `mariadb`, on which both are made if need be.
    pub fn grant(&self, mariadb: &Mariadb) {
        let Self { database, user, password, .. } = self;
        let password = password.replace('\\', "\\\\").replace('\'', "\\'");
        let _ = mariadb.sql(
            "",
            &format!(
                "CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4; \
                 CREATE USER IF NOT EXISTS {user}@'%' IDENTIFIED BY '{password}'; GRANT ALL ON {database}.* TO {user}@'%'"
            ),
        );
    }

    fn php(&self, script: &str, args: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script.php");
        fs::write(&path, script).unwrap();
        let mut php = command("php", ["-d", "memory_limit=256M"]);
        let _ = run(php.arg(&path).args(args).current_dir(&self.root));
    }

    /// Where the site says that it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The `wp-config.php` of an ordinary site; `more` goes before its end.
    #[must_use]
    pub fn config(&self, more: &str) -> String {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        format!(
            "<?php\n/** The base configuration for WordPress */\ndefine( 'DB_NAME', '{}' );\ndefine( 'DB_USER', '{}' );\n\
             define( 'DB_PASSWORD', '{}' );\ndefine( 'DB_HOST', '127.0.0.1:{}' );\ndefine( 'DB_CHARSET', 'utf8mb4' );\n\
             define( 'DB_COLLATE', '' );\ndefine( 'AUTH_KEY', 'put your unique phrase here' );\n$table_prefix = 'wp_';\n\
             define( 'WP_DEBUG', false );\ndefine( 'WP_HTTP_BLOCK_EXTERNAL', true );\n\
             define( 'AUTOMATIC_UPDATER_DISABLED', true );\ndefine( 'DISABLE_WP_CRON', true );\n{more}\
             if ( ! defined( 'ABSPATH' ) ) {{\n\tdefine( 'ABSPATH', __DIR__ . '/' );\n}}\n\
             require_once ABSPATH . 'wp-settings.php';\n",
            self.database,
            self.user,
            quoted(&self.password),
            self.database_port
        )
    }

    /// Writes the site's `wp-config.php`.
    ///
    /// # Panics
    /// When the directory is not there.
    pub fn write_config(&self, text: &str) {
        fs::write(self.root.join("wp-config.php"), text).unwrap();
    }

    /// Gives all files to a user of the system, whom only it lets in.
    ///
    /// # Panics
    /// When that needs root.
    pub fn give_to(&self, (uid, gid): (u32, u32)) {
        let owner = format!("{uid}:{gid}");
        let _ = run(command("chown", ["-R", &owner]).arg(&self.root));
    }

    /// Serves the copy of the site in `root` at its port.
    ///
    /// # Panics
    /// When the port is lost to somebody else.
    #[must_use]
    pub fn serve(&self, root: &Path) -> WordpressServer {
        let port = self.port;
        let mut php = command("php", ["-S", &format!("127.0.0.1:{port}"), "-t"]);
        php.arg(root).current_dir(root).stdout(Stdio::null()).stderr(Stdio::null());
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let process = Process::start(&mut php, Signal::TERM, || TcpStream::connect(address).is_ok());
        WordpressServer { port, _process: process.expect("php -S serves the site") }
    }
}

/// PHP's own server at work; it ends on drop.
#[derive(Debug)]
pub struct WordpressServer {
    port: u16,
    _process: Process,
}

impl WordpressServer {
    /// Status and text of the front page.
    ///
    /// # Panics
    /// When nothing answers.
    #[must_use]
    pub fn front_page(&self) -> (u16, String) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let port = self.port;
        write!(stream, "GET / HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no answer: {answer:.200}")), answer)
    }
}

/// WordPress as `scripts/setup test` unpacks it.
fn distribution() -> PathBuf {
    let folder = tools::own_folder("wordpress").filter(|folder| folder.join("wp-settings.php").is_file());
    folder.expect("WordPress is missing: run `scripts/setup test`, which unpacks Debian package wordpress")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let _ = run(command("cp", ["-r", "--"]).arg(from.join(".")).arg(to));
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_answers_and_a_network_has_tables_of_two() {
        let (dir, mariadb) = (tempfile::tempdir().unwrap(), Mariadb::shared());
        let site = Wordpress::install(mariadb, &dir.path().join("one"));
        let (status, page) = site.serve(&site.root).front_page();
        assert!(status == 200 && page.contains(Wordpress::TITLE), "{status} {page}");
        let network = Wordpress::install_network(mariadb, &dir.path().join("two"));
        let titles = mariadb.sql(&network.database, "SELECT post_title FROM wp_2_posts");
        assert!(titles.contains("Only on the second"), "{titles}");
        assert!(network.root.join("wp-content/uploads/sites/2").is_dir());
    }
}
