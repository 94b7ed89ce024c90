//! Where parts of a site lie that are not where they usually do, as far as its `wp-config.php` says.

use super::config::{ConfigFault, abspath, follow};
use super::php::State;

/// Where content can lie elsewhere than in the document root.
const FOLDERS: [&str; 5] = ["WP_CONTENT_DIR", "WP_PLUGIN_DIR", "WPMU_PLUGIN_DIR", "UPLOADS", "WP_LANG_DIR"];

/// No path and no name of a table is longer, in bytes.
const MAX_TEXT_LEN: usize = 4096;

/// Tables of users, which several sites may share.
const USER_TABLES: [&str; 2] = ["CUSTOM_USER_TABLE", "CUSTOM_USER_META_TABLE"];

/// What a `wp-config.php` says of where parts of its site lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Folders of content that are set.
    pub folders: Vec<Folder>,
    /// Tables that lie in other databases than the site's, or may.
    pub user_tables: Vec<UserTable>,
    /// `DB_CONFIG_FILE`: where a drop-in for several databases has its own configuration, an absolute path; or why that is not known.
    pub db_config: Option<Result<String, String>>,
    /// The first file that is included and not followed, which may set any of these.
    pub included: Option<String>,
}

/// A constant that says where a part of the content lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Its name.
    pub constant: &'static str,
    /// An absolute path; or why it is not known: the line, and the construct.
    pub place: Result<String, String>,
    /// The path if the document root is what PHP has for it, where only that makes it unknown.
    pub guess: Option<String>,
}

/// A constant that names a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTable {
    /// Its name.
    pub constant: &'static str,
    /// The database in front of the table's name; or why that is not known.
    pub database: Result<String, String>,
}

impl Layout {
    /// Reads the file `source`, which lies at `path`, of the site whose WordPress lies in `core` and whose document root is
    /// `root`: absolute paths. It need not tell where the site's database is.
    ///
    /// # Errors
    /// Names the line that can't be followed.
    pub fn read(source: &[u8], path: &[u8], core: &[u8], root: &[u8]) -> Result<Self, ConfigFault> {
        let core = abspath(core);
        let known = follow(source, path, Some(&core), None)?;
        let guessed = follow(source, path, Some(&core), Some(root))?;
        let own = text(&known, "DB_NAME").and_then(Result::ok);
        let tables = USER_TABLES.into_iter().filter_map(|constant| {
            let database = database_of(text(&known, constant)?, own.as_deref())?;
            Some(UserTable { constant, database })
        });
        let db_config = text(&known, "DB_CONFIG_FILE");
        Ok(Self {
            user_tables: tables.collect(),
            folders: FOLDERS.iter().filter_map(|name| folder(&known, &guessed, name, &core)).collect(),
            db_config: db_config.map(|file| Ok(absolute(&core, &file?))),
            included: known.included.as_ref().map(ToString::to_string),
        })
    }
}

/// The directory that the file `source` at `path` takes for WordPress's own where nobody has told it. `root`: the document root.
#[must_use]
pub fn abspath_of(source: &[u8], path: &[u8], root: &[u8]) -> Option<String> {
    let state = follow(source, path, None, Some(root)).ok()?;
    text(&state, "ABSPATH")?.ok().filter(|path| path.starts_with('/'))
}

/// `UPLOADS` is relative to WordPress's own directory.
fn folder(known: &State, guessed: &State, constant: &'static str, core: &[u8]) -> Option<Folder> {
    let place = text(known, constant)?.map(|text| absolute(core, &text));
    let guess = match &place {
        Ok(_) => None,
        Err(_) => text(guessed, constant)?.ok().map(|text| absolute(core, &text)),
    };
    Some(Folder { constant, place, guess })
}

fn absolute(core: &[u8], text: &str) -> String {
    if text.starts_with('/') { text.to_owned() } else { format!("{}{text}", String::from_utf8_lossy(core)) }
}

/// That of a table `other.wp_users`. `None`: it is the site's own.
fn database_of(table: Result<String, String>, own: Option<&str>) -> Option<Result<String, String>> {
    let table = match table {
        Ok(table) => table,
        Err(why) => return Some(Err(why)),
    };
    let (database, _) = table.split_once('.')?;
    let database = database.trim_matches(['`', ' ']);
    (own != Some(database)).then(|| Ok(database.to_owned()))
}

/// The text of a constant that is set or may be; or why it is not known.
fn text(state: &State, name: &str) -> Option<Result<String, String>> {
    let text = state.constant(name)?.value.to_text().map_err(|why| why.to_string());
    Some(text.and_then(|text| match String::from_utf8(text.to_vec()) {
        Ok(text) if text.len() <= MAX_TEXT_LEN => Ok(text),
        Ok(_) => Err(format!("it is longer than {MAX_TEXT_LEN} bytes")),
        Err(_) => Err("it is not UTF-8".to_owned()),
    }))
}
