//! What the user calls a source: a path, or a URL.

use std::path::Path;

use anyhow::{Context, bail};
use percent_encoding::percent_decode_str;
use xvault::core::{LocalSettings, SourceSettings, SshSettings};

use crate::args::{LoginArgs, SourceArgs};
use crate::flags::refuse_foreign;
use crate::{database, ftp, wordpress};

/// The settings that `args` describe, validated.
pub(crate) fn settings(args: &SourceArgs, current_dir: &Path) -> anyhow::Result<SourceSettings> {
    let settings = match args.source.split_once("://") {
        None => local(args, current_dir)?,
        Some(("sftp", rest)) => SourceSettings::Sftp(source(args, rest)?),
        Some(("ssh", rest)) => SourceSettings::Ssh(source(args, rest)?),
        Some(("wordpress+ssh", rest)) => {
            SourceSettings::Wordpress(wordpress::source(args, source(args, rest)?))
        }
        Some((scheme @ ("ftp" | "ftps"), rest)) => {
            let settings = ftp::source(args, scheme, rest)?;
            if settings.paths.is_empty() {
                bail!("the URL names no path: write {}, or add --path", example(&args.source))
            }
            SourceSettings::Ftp(settings)
        }
        Some((scheme @ ("postgres" | "postgresql" | "mysql"), rest)) => database::source(args, scheme, rest)?,
        Some(("file", _)) => bail!("a directory of this machine is given as a plain path, without file://"),
        Some((scheme, _)) => {
            bail!(
                "{scheme}:// is no kind of source: use a path, sftp://, ssh://, ftp://, ftps://, postgres://, mysql:// or wordpress+ssh://"
            )
        }
    };
    refuse_foreign(settings.kind(), args.database.via.as_deref(), args.flags())?;
    args.hooks.refuse_idle()?;
    if settings.hooks().is_none() && !args.hooks.hooks().is_empty() {
        bail!("--before and --after are run on an SSH server: {} has none", args.source)
    }
    settings.validate()?;
    Ok(settings)
}

fn local(args: &SourceArgs, current_dir: &Path) -> anyhow::Result<SourceSettings> {
    if !current_dir.join(&args.source).exists() {
        refuse_scp(&args.source, "ssh")?;
    }
    let absolute = |path: &String| {
        let path = current_dir.join(path);
        let text = path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?;
        Ok(lexically_clean(text))
    };
    let paths =
        std::iter::once(&args.source).chain(&args.paths).map(absolute).collect::<anyhow::Result<_>>()?;
    Ok(SourceSettings::Local(LocalSettings { paths, excludes: args.excludes.clone() }))
}

/// Refuses what `scp` would take for a place on a server.
fn refuse_scp(typed: &str, scheme: &str) -> anyhow::Result<()> {
    let Some(url) = url_of_scp(typed, scheme) else { return Ok(()) };
    bail!("{typed} is not here: for a server write {url}, for a new directory of this machine ./{typed}")
}

/// The URL of `user@host:path`, if it is that: it has an `@`, or ends with `:`, before the first `/`.
fn url_of_scp(typed: &str, scheme: &str) -> Option<String> {
    let colon = typed.find("]:").map(|bracket| bracket + 1).or_else(|| typed.find(':'));
    let (server, path) = typed.split_at(colon.or_else(|| typed.find('/'))?);
    let path = path.strip_prefix(':').unwrap_or(path);
    let ends_with_colon = colon.is_some() && (path.is_empty() || path.starts_with('/'));
    if server.contains('/') || !(server.contains('@') || ends_with_colon) {
        return None;
    }
    let user = if server.contains('@') { "" } else { "user@" };
    let home = if path.starts_with('/') { "" } else { "/~/" };
    Some(format!("{scheme}://{user}{server}{home}{path}"))
}

/// Drops `.`, doubled and trailing slashes; `..` takes the component before it along, as a shell's `cd` does.
fn lexically_clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn source(args: &SourceArgs, rest: &str) -> anyhow::Result<SshSettings> {
    let mut settings = ssh(&args.source, rest, &args.login)?;
    settings.paths.extend(args.paths.iter().cloned());
    settings.excludes.clone_from(&args.excludes);
    settings.hooks = args.hooks.hooks();
    if settings.paths.is_empty() {
        bail!("the URL names no path: write {}, or add --path", example(&args.source))
    }
    Ok(settings)
}

/// The server and directory of a restore, where `url` is one: `sftp://user@host:port/dir`.
pub(crate) fn target(url: &str, login: &LoginArgs) -> anyhow::Result<Option<SshSettings>> {
    let settings = match url.split_once("://") {
        None if Path::new(url).exists() => return Ok(None),
        None => return refuse_scp(url, "sftp").map(|()| None),
        Some(("sftp", rest)) => ssh(url, rest, login)?,
        Some((scheme, _)) => {
            bail!("{scheme}:// is no place to restore to: use a directory, sftp://, postgres:// or mysql://")
        }
    };
    if settings.paths.is_empty() {
        bail!("the URL names no directory: write {}", example(url))
    }
    SourceSettings::Sftp(settings.clone()).validate()?;
    Ok(Some(settings))
}

fn ssh(url: &str, rest: &str, login: &LoginArgs) -> anyhow::Result<SshSettings> {
    let account = account(url, rest)?;
    let paths = account.path.into_iter().collect();
    Ok(SshSettings {
        port: account.port.unwrap_or_else(SshSettings::default_port),
        use_password: login.ssh_key.is_none() && login.password_file.is_some(),
        host_key: login.host_key.clone(),
        ..SshSettings::new(account.host, account.username, paths)
    })
}

/// What a URL says of an account and its files.
pub(crate) struct Account {
    pub(crate) username: String,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) path: Option<String>,
}

/// Reads `user@host:port/path`, which is `rest` of `url`.
pub(crate) fn account(url: &str, rest: &str) -> anyhow::Result<Account> {
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let Some((username, server)) = authority.rsplit_once('@') else {
        bail!("the URL names no account: write {}", example(url))
    };
    if username.contains(':') {
        bail!(
            "a password does not belong into the URL, where `ps` and the shell's history show it: use --password-file or XVAULT_PASSWORD"
        )
    }
    let (host, port) = host_and_port(server)?;
    let path = if path.is_empty() { None } else { Some(remote_path(path)?) };
    Ok(Account { username: decode(username)?, host, port, path })
}

fn example(source: &str) -> String {
    let scheme = source.split("://").next().unwrap_or("sftp");
    format!("{scheme}://user@host/path")
}

pub(crate) fn host_and_port(server: &str) -> anyhow::Result<(String, Option<u16>)> {
    let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match server.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    let port = match port {
        None => None,
        Some(port) => Some(port.parse().with_context(|| format!("`{port}` is no port"))?),
    };
    if host.is_empty() {
        bail!("the URL names no host")
    }
    Ok((host.to_owned(), port))
}

/// `/~/docs` and `/~` are relative to the home, everything else is absolute.
fn remote_path(path: &str) -> anyhow::Result<String> {
    let path = decode(path)?;
    Ok(match path.strip_prefix("/~") {
        Some("" | "/") => ".".to_owned(),
        Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/').to_owned(),
        _ => path,
    })
}

pub(crate) fn decode(text: &str) -> anyhow::Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.with_context(|| format!("`{text}` is not UTF-8 once its %-escapes are read"))?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        source: SourceArgs,
    }

    fn read(line: &[&str]) -> anyhow::Result<SourceSettings> {
        let line = Line::try_parse_from(std::iter::once(&"xvault").chain(line)).unwrap();
        settings(&line.source, Path::new("/home/me"))
    }

    fn read_ssh(line: &[&str]) -> SshSettings {
        match read(line).unwrap() {
            SourceSettings::Ssh(settings) | SourceSettings::Sftp(settings) => settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_relative_path_starts_here() {
        let SourceSettings::Local(settings) = read(&["../you/./docs/", "--path", "x"]).unwrap() else {
            panic!()
        };
        assert_eq!(settings.paths, ["/home/you/docs", "/home/me/x"]);
        for path in ["./web@shop:/srv", "missing/web@shop:/srv", "12:30", "me@home", "docs/missing"] {
            let SourceSettings::Local(settings) = read(&[path]).unwrap() else { panic!() };
            assert!(settings.paths[0].ends_with(path.trim_start_matches("./")), "{settings:?}");
        }
        let here = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(here.path().join("web@shop:/srv")).unwrap();
        let line = Line::try_parse_from(["xvault", "web@shop:/srv"]).unwrap();
        assert!(super::settings(&line.source, here.path()).is_ok(), "what is here is meant");
    }

    #[test]
    fn a_url_gives_every_part() {
        let s = read_ssh(&["sftp://w%40b@[::1]:2222/srv/a%20b", "--path", "/etc", "--exclude", "*.log"]);
        assert_eq!((s.username.as_str(), s.host.as_str(), s.port), ("w@b", "::1", 2222));
        assert_eq!(s.paths, ["/srv/a b", "/etc"]);
        assert_eq!(s.excludes, ["*.log"]);
        assert_eq!(read_ssh(&["ssh://u@h/~/docs"]).paths, ["docs"]);
        assert_eq!(read_ssh(&["ssh://u@h/~"]).paths, ["."]);
        assert_eq!(read_ssh(&["ssh://u@h", "--path", "/x"]).port, 22);
    }

    #[test]
    fn ftp_is_encrypted_unless_somebody_says_otherwise() {
        let read = |line: &[&str]| match read(line).unwrap() {
            SourceSettings::Ftp(settings) => settings,
            other => panic!("{other:?}"),
        };
        let pin = ["AB"; 32].join(":");
        let s = read(&[
            "ftp://w%40b@h/a%20b",
            "--path",
            "x",
            "--exclude",
            "*.log",
            "--certificate",
            &pin,
            "--connections",
            "3",
        ]);
        assert_eq!((s.username.as_str(), s.port(), s.tls_mode.as_str()), ("w@b", 21, "explicit"));
        assert_eq!(
            (s.paths, s.excludes, s.max_connections),
            (vec!["/a b".into(), "x".into()], vec!["*.log".into()], 3)
        );
        assert_eq!(s.tls_fingerprint.as_ref(), Some(&pin));
        let s = read(&["ftps://u@[::1]/~/www"]);
        assert_eq!((s.host.as_str(), s.port(), s.tls_mode.as_str()), ("::1", 990, "implicit"));
        assert_eq!((s.paths, s.use_password), (vec!["www".into()], true));
        let s = read(&["ftp://anonymous@h:2121/", "--plain-ftp"]);
        assert_eq!((s.tls_mode.as_str(), s.port(), s.use_password), ("disable", 2121, false));
    }

    #[test]
    fn a_site_is_an_account_and_its_document_roots() {
        let read = |line: &[&str]| match read(line).unwrap() {
            SourceSettings::Wordpress(settings) => settings,
            other => panic!("{other:?}"),
        };
        let s = read(&["wordpress+ssh://www@h:2222/var/www/html", "--path", "two", "--exclude", "*.log"]);
        assert_eq!((s.username.as_str(), s.host.as_str(), s.port), ("www", "h", 2222));
        assert_eq!((s.paths, s.excludes), (vec!["/var/www/html".into(), "two".into()], vec!["*.log".into()]));
        assert_eq!((s.default_excludes, s.dump_database, s.ssh_mode), (true, true, None));
        let flags = ["--no-default-excludes", "--files-only", "--database-tools", "tunnel"];
        let s = read(&[&["wordpress+ssh://www@h/~/site"], &flags[..]].concat());
        assert_eq!((s.default_excludes, s.dump_database), (false, false));
        assert_eq!((s.paths, s.ssh_mode), (vec!["site".into()], Some(xvault::core::source::SshMode::Tunnel)));
    }

    #[test]
    fn commands_around_a_backup_need_an_ssh_server() {
        let flags = ["--before", "sync", "--after", "true", "--hook-timeout", "5", "--hook-failure", "warn"];
        let through = ["--via", "ssh://w@s"];
        for url in ["ssh://u@h/x", "sftp://u@h/x", "wordpress+ssh://u@h/x"] {
            let read = read(&[&[url], &flags[..]].concat()).unwrap();
            let before = read.hooks().and_then(|hooks| hooks.before.clone()).unwrap();
            assert_eq!((before.command.as_str(), before.timeout_seconds), ("sync", 5), "{url}");
        }
        for url in ["mysql://u@h/x", "postgres://u@h/x"] {
            assert!(read(&[&[url], &flags[..], &through[..]].concat()).unwrap().hooks().is_some());
            let error = read(&[&[url], &flags[..]].concat()).unwrap_err().to_string();
            assert!(error.contains("hooks"), "{error}");
        }
        for url in ["/etc", "ftp://u@h/x"] {
            let error = read(&[&[url], &flags[..]].concat()).unwrap_err().to_string();
            assert!(error.contains("are run on an SSH server"), "{error}");
        }
        for flags in [["--hook-timeout", "60"], ["--hook-failure", "warn"]] {
            for url in ["ssh://u@h/x", "/etc"] {
                let error = read(&[&[url], &flags[..]].concat()).unwrap_err();
                assert!(error.is::<crate::WrongUsage>() && error.to_string().contains(flags[0]), "{error}");
            }
        }
    }

    #[test]
    fn a_flag_that_would_do_nothing_is_refused() {
        let all = ["local", "ssh", "sftp", "wordpress+ssh", "ftp", "ftps", "postgres", "mysql"];
        for (flag, words, takers) in [
            ("--via ssh://u@s", "--via is for databases", "postgres mysql"),
            ("--tls disable", "--tls is for databases", "postgres mysql"),
            ("--tls-ca /dev/null", "is for databases and FTP", "ftp ftps postgres mysql"),
            ("--allow-outdated-tools", "databases and WordPress", "wordpress+ssh postgres mysql"),
            ("--table t", "is for databases", "postgres mysql"),
            ("--exclude-table t", "is for databases", "postgres mysql"),
            ("--schema s", "is for PostgreSQL", "postgres"),
            ("--exclude-schema s", "is for PostgreSQL", "postgres"),
            ("--lock-timeout 3", "is for PostgreSQL", "postgres"),
            ("--plain-sql", "is for PostgreSQL", "postgres"),
            ("--globals", "is for PostgreSQL", "postgres"),
            ("--certificate x", "is for FTP", "ftp ftps"),
            ("--accept-new-certificate", "is for FTP", "ftp ftps"),
            ("--known-certificates f", "is for FTP", "ftp ftps"),
            ("--plain-ftp", "is for FTP", "ftp ftps"),
            ("--connections 2", "is for FTP", "ftp ftps"),
            ("--files-only", "is for WordPress", "wordpress+ssh"),
            ("--no-default-excludes", "is for WordPress", "wordpress+ssh"),
            ("--database-tools remote", "is for WordPress", "wordpress+ssh"),
            ("--ssh-key k", "is for SSH servers", "ssh sftp wordpress+ssh"),
            ("--host-key x", "is for SSH servers", "ssh sftp wordpress+ssh"),
            ("--known-hosts f", "is for SSH servers", "ssh sftp wordpress+ssh"),
            ("--accept-new-host-key", "is for SSH servers", "ssh sftp wordpress+ssh"),
            ("--password-file p", "is for servers", "ssh sftp wordpress+ssh ftp ftps postgres mysql"),
            ("--exclude x", "is for files", "local ssh sftp wordpress+ssh ftp ftps"),
        ] {
            for scheme in all {
                let url = if scheme == "local" { "/etc".to_owned() } else { format!("{scheme}://u@h/x") };
                let line: Vec<&str> = std::iter::once(url.as_str()).chain(flag.split(' ')).collect();
                let refused = read(&line).err().filter(anyhow::Error::is::<crate::WrongUsage>);
                let takes = takers.split(' ').any(|taker| taker == scheme);
                assert_eq!(refused.is_none(), takes, "{scheme} {flag}: {refused:?}");
                assert!(refused.is_none_or(|error| error.to_string().contains(words)), "{scheme} {flag}");
            }
        }
        let through =
            ["--via", "ssh://u@s", "--ssh-key", "k", "--ssh-password-file", "p", "--known-hosts", "f"];
        assert!(read(&[&["mysql://u@h"], &through[..]].concat()).is_ok());
    }

    #[test]
    fn each_bad_url_is_told_what_is_wrong() {
        let cases = [
            ("sftp://host/path", "no account"),
            ("sftp://user@host", "no path"),
            ("wordpress+ssh://user@host", "no path"),
            ("wordpress+ssh://user:hunter2@host/path", "password"),
            ("sftp://user:hunter2@host/path", "password"),
            ("sftp://user@host:abc/path", "`abc` is no port"),
            ("sftp://user@/path", "names no host"),
            ("ftp://user@:21/path", "names no host"),
            ("postgres://user@/db", "names no host"),
            ("postgres://user@host/db?sslmode=disable", "--tls"),
            ("mysql://user@host?ssl=1", "--tls"),
            ("web@shop.example:/srv/www", "write ssh://web@shop.example/srv/www,"),
            ("web@shop.example:www", "write ssh://web@shop.example/~/www,"),
            ("web@shop.example/srv", "write ssh://web@shop.example/srv,"),
            ("shop.example:/srv", "write ssh://user@shop.example/srv,"),
            ("shop.example:", "write ssh://user@shop.example/~/,"),
            ("web@[::1]:/srv", "write ssh://web@[::1]/srv,"),
            ("gopher://user@host/path", "gopher://"),
            ("ftp://host/path", "no account"),
            ("ftp://user@host", "no path"),
            ("ftps://user:hunter2@host/path", "password"),
            ("ftp://user@host/a%0d%0aDELE", "line break"),
            ("file:///etc", "plain path"),
            ("sftp://user@host/a/../b", "paths"),
            ("sftp://user@host/%ff", "UTF-8"),
        ];
        for (url, part) in cases {
            let error = format!("{:#}", read(&[url]).unwrap_err());
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
