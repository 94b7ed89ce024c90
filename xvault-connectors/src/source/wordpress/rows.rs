//! Rows of a site that lie in other databases than the one that `wp-config.php` names.

use xvault_core::entry::display_name;

use super::ask;
use super::content::Ground;
use super::locate::read;
use super::paths::joined;
use crate::Error;
use crate::ssh::sftp::Sftp;
use crate::wordpress::{MAX_CONFIG_LEN, UserTable, is_of_one_database};

/// What puts itself in the place of WordPress's own way to its database.
const DROP_IN: &[u8] = b"db.php";

/// What such drop-ins are set up by: HyperDB and LudicrousDB, and W3 Total Cache.
const CONFIG: &[u8] = b"db-config.php";
const CLUSTER: &[u8] = b"db-cluster-config.php";

/// What makes the site keep rows in several databases, a sentence each. `has`: whether a name lies in its directory of content.
pub(super) async fn look(
    sftp: &mut Sftp,
    ground: &Ground<'_>,
    bases: &[Vec<u8>],
    has: impl Fn(&[u8]) -> bool,
) -> Result<Vec<String>, Error> {
    if !has(DROP_IN) {
        return Ok(Vec::new());
    }
    let set = ground.layout.db_config.as_ref();
    let mut told = Vec::new();
    if let Some(Err(why)) = set {
        told.push(format!(
            "which databases the drop-in `db.php` keeps rows in is not known, as wp-config.php tells the place of its configuration by \
             what can't be followed (DB_CONFIG_FILE: {why}): define it as plain text, or back those databases up by a source of type \
             `mysql`"
        ));
    }
    let set = set.and_then(|path| path.as_ref().ok()).map(|path| path.as_bytes().to_vec());
    let there = there(sftp, set.iter().cloned().chain(places(ground, bases)).collect()).await?;
    if let Some(set) = set.filter(|set| !there.contains(set)) {
        told.push(format!(
            "which databases the drop-in `db.php` keeps rows in is not known: its configuration, `{}` (DB_CONFIG_FILE), is nothing \
             that the account sees: let the account read it, or back those databases up by a source of type `mysql`",
            display_name(&set)
        ));
    }
    for path in there {
        let source = read(sftp, &path, MAX_CONFIG_LEN).await;
        let is_one = match &source {
            Ok(source) => is_of_one_database(source),
            Err(Error::Unreadable(_) | Error::SiteConfig { .. }) => false,
            Err(_) => source.map(|_| false)?,
        };
        if !is_one {
            told.push(format!(
                "`{}` sets up more databases than the one that wp-config.php names, by the drop-in `db.php`: their rows are not in \
                 the backup; back them up by a source of type `mysql`",
                display_name(&path)
            ));
        }
    }
    Ok(told)
}

/// Where the drop-ins look for it unless they are told.
fn places(ground: &Ground<'_>, bases: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let core = ground.core.unwrap_or(ground.root);
    let above = core.iter().rposition(|byte| *byte == b'/').and_then(|cut| core.get(..cut));
    let usual = std::iter::once(core).chain(above).map(|folder| joined(folder, CONFIG));
    let content = bases.iter().flat_map(|base| [joined(base, CONFIG), joined(base, CLUSTER)]);
    usual.chain(content).collect()
}

async fn there(sftp: &mut Sftp, paths: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Error> {
    let there = ask::are_there(sftp, &paths).await?;
    let there = paths.into_iter().zip(there).filter(|(_, is_there)| *is_there);
    let mut there: Vec<_> = there.map(|(path, _)| path).collect();
    there.dedup();
    Ok(there)
}

/// What is lost of tables of users that lie in other databases; `dumped`: those that are in the backup.
pub(super) fn of_users<'a>(tables: &[UserTable], dumped: impl Fn(&str) -> bool + 'a) -> Vec<String> {
    let sentence = |table: &UserTable| match &table.database {
        Ok(database) if dumped(database) => None,
        Ok(database) => Some(format!(
            "{} lies in the database `{}`, which is not in the backup: back it up by a source of type `mysql`",
            table.constant,
            database.escape_debug()
        )),
        Err(why) => Some(format!(
            "which database {} lies in is not known from wp-config.php ({why}): define it as plain text, or back that database up \
             by a source of type `mysql`",
            table.constant
        )),
    };
    tables.iter().filter_map(sentence).collect()
}
