//! `wp-config.php`: a program of somebody else's, which is followed and never run.

use xvault_connectors::wordpress::{ConfigFault, Layout, MAX_CONFIG_LEN, WpConfig};

use crate::Verdict;

const PATH: &[u8] = b"/srv/www/wp-config.php";
const ROOT: &[u8] = b"/srv/www";

/// Feeds `data` to [`WpConfig::read`] and [`Layout::read`].
///
/// # Panics
/// When it is read in two ways, when a value could break a line, or when an error is more than a sentence.
pub fn wp_config(data: &[u8]) -> Verdict {
    let read = WpConfig::read(data, PATH, ROOT);
    // What stands in front of PHP is text.
    let behind_text = WpConfig::read(&[b"text ", data].concat(), PATH, ROOT);
    if data.len() + 5 <= MAX_CONFIG_LEN {
        assert_eq!(shown(&read), shown(&behind_text), "text in front of it changes it");
    }
    match &read {
        Ok(config) => assert_plain(config),
        Err(fault) => assert_sentence(fault),
    }
    match Layout::read(data, PATH, ROOT, ROOT) {
        Ok(layout) => assert_places(&layout),
        Err(fault) => assert_sentence(&fault),
    }
    Verdict::of(&read)
}

fn shown(read: &Result<WpConfig, ConfigFault>) -> String {
    format!("{read:?}")
}

fn assert_plain(config: &WpConfig) {
    let WpConfig { name, user, host, table_prefix, .. } = config;
    for text in [name, user, &host.host, table_prefix] {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    assert!(host.port != Some(0) && !host.host.is_empty());
}

fn assert_places(layout: &Layout) {
    for folder in &layout.folders {
        let places = folder.place.as_ref().ok().into_iter().chain(&folder.guess);
        places.for_each(|place| assert!(place.starts_with('/'), "{folder:?}"));
    }
}

fn assert_sentence(fault: &ConfigFault) {
    let text = fault.to_string();
    assert!(text.len() < 500 && !text.chars().any(char::is_control), "{text:?}");
}
