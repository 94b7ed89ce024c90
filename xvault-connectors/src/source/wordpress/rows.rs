//! Rows of a site that lie in other databases than the one that `wp-config.php` names.

use xvault_core::entry::display_name;

use super::content::Ground;
use super::locate::{joined, read};
use crate::Error;
use crate::ssh::sftp::{Reply, Request, Sftp};
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
    let mut told = Vec::new();
    for path in there(sftp, &places(ground, bases)).await? {
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

/// As the drop-ins look for it.
fn places(ground: &Ground<'_>, bases: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let core = ground.core.unwrap_or(ground.root);
    let above = core.iter().rposition(|byte| *byte == b'/').and_then(|cut| core.get(..cut));
    let set = ground.layout.db_config.iter().map(|path| path.as_bytes().to_vec());
    let usual = std::iter::once(core).chain(above).map(|folder| joined(folder, CONFIG));
    let content = bases.iter().flat_map(|base| [joined(base, CONFIG), joined(base, CLUSTER)]);
    set.chain(usual).chain(content).collect()
}

async fn there(sftp: &mut Sftp, paths: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Error> {
    let asked: Vec<_> = paths.iter().map(|path| Request::Stat(path)).collect();
    let replies = sftp.call_all(&asked).await?;
    let there = paths.iter().zip(replies).filter(|(_, reply)| matches!(reply, Reply::Attrs(_)));
    let mut there: Vec<_> = there.map(|(path, _)| path.clone()).collect();
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
