//! WordPress on the command line: `wordpress+ssh://`.

use clap::{Args, ValueEnum};
use xvault::core::source::SshMode;
use xvault::core::{SshSettings, WordpressSettings};

use crate::args::SourceArgs;
use crate::flags::{Flag, WORDPRESS};

/// What of a site is backed up, and how.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct WordpressArgs {
    /// Where the tools run that dump the database [default: on the server when it has them, else here, through a tunnel]
    #[arg(long, value_name = "WHERE", help_heading = "WordPress")]
    pub(crate) database_tools: Option<ToolsArg>,
    /// Keep caches, upgrade folders, logs and backups of other plugins, too
    #[arg(long, help_heading = "WordPress")]
    pub(crate) no_default_excludes: bool,
    /// Leave the database out
    #[arg(long, help_heading = "WordPress")]
    pub(crate) files_only: bool,
}

impl WordpressArgs {
    /// Its flags, and what each is for.
    pub(crate) fn flags(&self) -> [Flag; 3] {
        let Self { database_tools, no_default_excludes, files_only } = self;
        [
            Flag::new("--database-tools", WORDPRESS, database_tools.is_some()),
            Flag::new("--no-default-excludes", WORDPRESS, *no_default_excludes),
            Flag::new("--files-only", WORDPRESS, *files_only),
        ]
    }
}

/// `--database-tools`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ToolsArg {
    /// On the server
    Remote,
    /// Here, through a tunnel
    Tunnel,
}

/// The sites of an account.
pub(crate) fn source(args: &SourceArgs, account: SshSettings) -> WordpressSettings {
    let SshSettings { host, port, username, paths, use_password, excludes, host_key, hooks } = account;
    WordpressSettings {
        port,
        use_password,
        excludes,
        host_key,
        hooks,
        default_excludes: !args.wordpress.no_default_excludes,
        dump_database: !args.wordpress.files_only,
        ssh_mode: args.wordpress.database_tools.map(|tools| match tools {
            ToolsArg::Remote => SshMode::Remote,
            ToolsArg::Tunnel => SshMode::Tunnel,
        }),
        ..WordpressSettings::new(host, username, paths)
    }
}
