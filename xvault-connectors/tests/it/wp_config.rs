//! Configurations of WordPress, as PHP itself reads them.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use xvault_connectors::wordpress::{ConfigFault, Layout, WpConfig, abspath_of};
use xvault_core::secret::ExposeSecret;
use xvault_testkit::tools::{command, run};

/// Prints what PHP has at the end: name, user, password, host and prefix, in hexadecimal.
const WITNESS: &str = r#"<?php
error_reporting(0);
define('ABSPATH', $argv[1] . '/');
ob_start();
require ABSPATH . 'wp-config.php';
ob_end_clean();
foreach (['DB_NAME', 'DB_USER', 'DB_PASSWORD', 'DB_HOST'] as $name) {
    echo defined($name) ? bin2hex((string) constant($name)) : '-', "\n";
}
echo isset($table_prefix) ? bin2hex((string) $table_prefix) : '-', "\n";
"#;

/// What is always set in the end, in front of what hands over to WordPress.
const REST: &str = "\nif (!defined('DB_NAME')) define('DB_NAME', 'shop');\nif (!defined('DB_USER')) { define('DB_USER', 'u'); }\n\
    defined('DB_PASSWORD') or define('DB_PASSWORD', 'secret');\ndefined('DB_HOST') || define('DB_HOST', 'localhost');\n\
    if (!isset($table_prefix)) $table_prefix = 'wp_';\nrequire_once ABSPATH . 'wp-settings.php';\n";

struct Php {
    dir: tempfile::TempDir,
}

impl Php {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("witness.php"), WITNESS).unwrap();
        // Whoever reads on behind the configuration is found out.
        fs::write(dir.path().join("wp-settings.php"), "<?php $table_prefix = $table_prefix; return;")
            .unwrap();
        Self { dir }
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    /// What PHP makes of `config`; `None`: an error.
    fn read(&self, config: &[u8]) -> Option<Vec<String>> {
        fs::write(self.root().join("wp-config.php"), config).unwrap();
        let mut php = command("php", ["-n", "-d", "display_errors=0"]);
        php.arg(self.root().join("witness.php")).arg(self.root()).env_clear();
        let output = php.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let values: Vec<String> = text.lines().map(str::to_owned).collect();
        (output.status.success() && values.len() == 5).then_some(values)
    }

    fn ours(&self, config: &[u8]) -> Result<WpConfig, ConfigFault> {
        let (root, path) = (self.root().to_str().unwrap(), self.root().join("wp-config.php"));
        WpConfig::read(config, path.to_str().unwrap().as_bytes(), root.as_bytes())
    }

    /// Asserts that what we make of `config` is what PHP makes of it, if we make something of it. Whether we do.
    fn agrees(&self, config: &[u8]) -> Result<bool, ConfigFault> {
        let ours = self.ours(config)?;
        let shown = String::from_utf8_lossy(config).into_owned();
        let Some(php) = self.read(config) else { return Ok(false) };
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let values = [&ours.name, &ours.user, ours.password.expose_secret(), &ours.table_prefix];
        let [name, user, password, prefix] = values.map(hex);
        assert_eq!([&name, &user, &password, &prefix], [&php[0], &php[1], &php[2], &php[4]], "{shown}");
        let host = String::from_utf8(unhex(&php[3])).unwrap();
        assert_eq!(xvault_connectors::wordpress::DbHost::parse(&host).as_ref(), Some(&ours.host), "{shown}");
        Ok(true)
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// What people write, a case for each construct.
const WRITTEN: [&str; 34] = [
    "<?php define('DB_NAME', 'it\\'s \\\\ \\n'); define(\"DB_PASSWORD\", \"a\\tb\\x41\\101\\u{1F600}\\$x\\\"\\'\");",
    "<?php /* define('DB_NAME', 'no'); */ # define('DB_NAME', 'no');\n// define('DB_NAME', 'no'); ?><?php define('DB_NAME', 'yes');",
    "<?php // a comment ends here ?> define('DB_NAME', 'text'); <?php define('DB_USER', 'x');",
    "\u{feff}<html><?php define('DB_NAME', 'behind html') ?>\n<?php $table_prefix = 'x_' ?>",
    "<?php\ndefine( 'DB_PASSWORD', <<<EOT\nline \\x41 \"q\" \\\" \\`\nEOT\n);",
    "<?php\ndefine( 'DB_USER', <<<'EOT'\nraw \\n $x {$y}\nEOT\n);",
    "<?php\ndefine( 'DB_PASSWORD', <<<EOT\n    in\n      dented\n    EOT\n);\ndefine('DB_NAME', <<<X\nX\n);",
    "<?php const DB_NAME = 'by const', DB_USER = 'two'; const A = DB_NAME . '_a'; define('DB_HOST', A);",
    "<?php $a = 'x'; $b = \"{$a}y$a-${a}\"; define('DB_NAME', $b . '.' . $a . 1 . 2);",
    "<?php define('DB_NAME', 'first'); define('DB_NAME', 'second');",
    "<?php define('DB_NAME', getenv('XV_NONE') ?: 'fallback'); define('DB_USER', $_ENV['XV_NONE'] ?? 'env');",
    "<?php define('DB_NAME', getenv('XV_NONE') ? getenv('XV_NONE') : 'long'); define('DB_USER', getenv('XV_NONE') !== false ? getenv('XV_NONE') : 'x');",
    "<?php define('DB_NAME', basename_of() ); function basename_of() { return 'unknown'; }",
    "<?php if (defined('ABSPATH')) { define('DB_NAME', 'in'); } else { define('DB_NAME', 'out'); }",
    "<?php if (!defined('NOPE')): define('DB_NAME', 'alt'); elseif (true): define('DB_NAME', 'b'); else: define('DB_NAME', 'c'); endif;",
    "<?php if (false) define('DB_NAME', 'a'); else if (true) define('DB_NAME', 'b'); else define('DB_NAME', 'c');",
    "<?php define('DB_USER', __DIR__); define('DB_PASSWORD', dirname(__FILE__, 2) . __LINE__); define('DB_NAME', dirname(__DIR__) . '/x');",
    "<?php $c = array('a' => 'x'); $d = ['k' => ['z' => 1]]; @ini_set('display_errors', 0); define('DB_NAME', 'after arrays');",
    "<?php foreach (['a', 'b'] as $k => $v) { $w = $v; } define('DB_NAME', 'after a loop'); while (false) { define('C', 'never'); }",
    "<?php if (isset($_SERVER['HTTP_X_FORWARDED_PROTO']) && $_SERVER['HTTP_X_FORWARDED_PROTO'] === 'https') { $_SERVER['HTTPS'] = 'on'; } define('DB_NAME', 'proxied');",
    "<?php DEFINE('DB_NAME', NULL); \\define('DB_USER', TRUE); define('DB_PASSWORD', 0x1F); define('DB_HOST', 'h:' . 017);",
    "<?php $table_prefix = 'a'; $table_prefix .= '_b_'; $x = $y = 'chain'; define('DB_NAME', $y);",
    "<?php $f = function ($a) use (&$table_prefix) { return $a; }; $g = fn($x) => $x; define('DB_NAME', 'closures'); class A { const DB = 1; function f() { return 'x'; } }",
    "<?php define('DB_NAME', 'a' . (true ? 'b' : 'c') . ('' ?: 'd') . (null ?? 'e')); define('DB_USER', (string) 12);",
    "<?php define('DB_USER', 'p\"w\\\\'); define('DB_PASSWORD', \"\\e[\\v\\f\\r\\400\\8\\xZ\\q{a}$ $1\");",
    "<?php #[Mine]\nfunction f() {} define('DB_NAME', 'attribute');",
    "<?php try { $q = 1; } catch (Exception $e) { } finally { } switch (1) { case 1: $r = 2; break; default: $r = 3; } define('DB_NAME', 'odd');",
    "<?php define('WP_DEBUG', false); if (WP_DEBUG && define('DB_NAME', 'no')) {} if (!WP_DEBUG || define('DB_NAME', 'no')) {} define('DB_NAME', 'yes');",
    "<?php unset($nothing); $o = new stdClass; $o->x = ['a']; define('DB_NAME', 'objects'); echo 'x', 'y'; print 'z';",
    "<?php define('DB_NAME', \"a\r\nb\" === \"x\" ? 'same' : 'other'); define('DB_HOST', '' == false ? 'empty:1' : 'x');",
    "<?php define('DB_NAME', 'x'); exit; define('DB_USER', 'never');",
    "<?php define('A', 'x'); define('DB_NAME', A . constant('A')); if (defined('B') or !defined('A')) { define('DB_USER', 'no'); }",
    "<?php declare(strict_types=1); define('DB_PASSWORD', <<<\"Q\"\n  two\n  lines Q1\nQ);",
    "<?php $n = 'n'; $t = \"{$n}_\"; $table_prefix = \"${t}p_\"; define('DB_NAME', 'b' . \"'{$n}'\");",
];

#[test]
fn what_people_write_is_read_as_php_reads_it() {
    let php = Php::new();
    let mut unread = Vec::new();
    for written in WRITTEN {
        let config =
            format!("{written}{}{REST}", if written.trim_end().ends_with("?>") { "<?php " } else { "" });
        match php.agrees(config.as_bytes()) {
            Ok(true) => {}
            Ok(false) => panic!("PHP does not take {config}"),
            Err(fault) => unread.push((written, fault)),
        }
    }
    // An unconditional call of a function is what can't be followed; `exit` leaves what is behind it unset.
    let lines: Vec<&str> = unread.iter().map(|(written, _)| *written).collect();
    assert_eq!(lines, [WRITTEN[12], WRITTEN[30]], "{unread:?}");
}

#[test]
fn what_is_not_followed_is_named_with_its_line_and_nothing_of_a_secret() {
    let cases = [
        ("<?php\ndefine('DB_NAME', getenv('WP_DB'));", 2, "environment variable `WP_DB`"),
        ("<?php\n\ndefine('DB_NAME', getenv_docker('X', 'hunter2'));", 3, "the call of getenv_docker()"),
        (
            "<?php\nif (getenv('STAGE') == 'x') { define('DB_NAME', 'a'); } else { define('DB_NAME', 'b'); }",
            2,
            "condition",
        ),
        (
            "<?php\nif (file_exists('local.php')) {\n include 'local.php';\n} else {\n define('DB_NAME', 'b');\n}",
            3,
            "another file is included",
        ),
        ("<?php\ndefine('DB_NAME', hunter2);", 2, "a constant that this file does not define"),
        ("<?php\ndefine('DB_NAME', \"x$hunter2\");", 2, "a variable that this file does not set"),
        ("<?php\n$c = ['n' => 'x'];\ndefine('DB_NAME', $c['n']);", 3, "an element of an array"),
        ("<?php\neval('hunter2');", 2, "the call of eval()"),
        ("<?php\n$$x = 1;", 2, "a variable whose name is a variable"),
        ("<?php\ndefine('DB_NAME', \"hunter2", 2, "a string without an end"),
        ("<?php\ndefine('DB_NAME' 'hunter2');", 2, "`,` is missing"),
        ("<?php /* hunter2", 1, "a comment without an end"),
        ("<?php\n if (true) {", 9, "a brace"),
        (
            "<?php\nforeach ($all as $k => $v) define($k, $v);\ndefine('DB_NAME', 'x');",
            2,
            "depends on a loop",
        ),
        ("<?php\n$_ENV['N'] = 'x';\ndefine('DB_NAME', $_ENV['N'] ?? 'y');", 2, "that the file itself sets"),
    ];
    for (config, line, part) in cases {
        let config = format!("{config}\n{REST}");
        let fault = WpConfig::read(config.as_bytes(), b"/w/wp-config.php", b"/w").unwrap_err();
        assert!(fault.line == line && fault.reason.contains(part), "{config}: {fault}");
        assert!(!fault.to_string().contains("hunter2"), "{fault}");
    }
    let missing =
        WpConfig::read(b"<?php define('DB_HOST', 'h'); include 'x.php';", b"/w/wp-config.php", b"/w");
    let missing = missing.unwrap_err();
    assert!(missing.line == 1 && missing.reason.contains("DB_NAME is not set"), "{missing}");
    assert!(missing.reason.contains("another file is included"), "{missing}");
    let long = vec![b' '; 300 << 10];
    assert!(WpConfig::read(&long, b"/w", b"/").unwrap_err().reason.contains("longer than"));
    let shown = format!("{:?}", WpConfig::read(format!("<?php {REST}").as_bytes(), b"/w", b"/").unwrap());
    assert!(!shown.contains("secret\"") && shown.contains("shop"), "{shown}");
}

#[test]
fn deep_and_swelling_files_are_refused_and_not_followed_to_the_end() {
    let php = |text: String| WpConfig::read(text.as_bytes(), b"/w", b"/").unwrap_err().reason;
    assert!(php(format!("<?php $x = {}1;", "(".repeat(50_000))).contains("deeply"));
    assert!(php(format!("<?php {}", "if (1) {".repeat(20_000))).contains("deeply"));
    assert!(php(format!("<?php $x = {}1;", "!".repeat(50_000))).contains("deeply"));
    let nested = "\"{$a[".repeat(1000);
    assert!(php(format!("<?php $x = {nested};")).contains("deeply"));
    let doubled = "$a .= $a;".repeat(60);
    assert!(php(format!("<?php $a = 'x'; {doubled}")).contains("more text"));
}

/// The sample that WordPress ships, filled in; and that of Debian, which includes another file.
#[test]
fn the_file_that_wordpress_ships_is_read() {
    let php = Php::new();
    let folder = std::env::home_dir().unwrap().join(".cache/xvault/tools");
    let tools = std::env::var_os("XVAULT_TOOLS").map_or(folder, Into::into);
    let sample = fs::read(tools.join("wordpress/wp-config-sample.php")).unwrap();
    assert!(php.agrees(&sample).unwrap());
    assert_eq!(php.ours(&sample).unwrap().name, "database_name_here");
}

fn name() -> BoxedStrategy<String> {
    prop_oneof!["DB_NAME", "DB_USER", "DB_PASSWORD", "DB_HOST", "A", "B"].prop_map(String::from).boxed()
}

fn variable() -> BoxedStrategy<String> {
    prop_oneof![Just("$a"), Just("$b"), Just("$table_prefix")].prop_map(String::from).boxed()
}

fn literal() -> BoxedStrategy<String> {
    let single = r"([a-z0-9 #/*$\x22{}?<>]|\\\\|\\'|\\n){0,8}".prop_map(|text| format!("'{text}'"));
    let double = r#"([a-z0-9 #/*'}?<>]|\\n|\\t|\\\\|\\\$|\\x4[0-9a-f]|\\1[0-7]{0,2}|\\u\{e[0-9]\}|\\"|\$a|\{\$b\}|\\q){0,8}"#
        .prop_map(|text| format!("\"{text}\""));
    let nowdoc = r"[a-z $\\'\x22]{0,8}".prop_map(|text| format!("<<<'E'\n{text}\nE\n"));
    let heredoc =
        r"[a-z '\x22]{0,6}(\\t|\$a|\{\$b\}|\\\\)?".prop_map(|text| format!("<<<E\n  {text}\n  y\nE\n"));
    prop_oneof![4 => single, 4 => double, 1 => nowdoc, 1 => heredoc, 1 => (0u32..70).prop_map(|n| n.to_string())].boxed()
}

fn expression() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        6 => literal(),
        2 => variable(),
        1 => Just("A".to_owned()),
        1 => prop_oneof!["true", "FALSE", "null", "__DIR__", "dirname\\(__FILE__\\)", "__LINE__", "PHP_EOL"],
        1 => Just("(getenv('XV_NONE') ?: 'e')".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            4 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} . {b}")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} ?: {b})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} ?? {b})")),
            1 => (condition_of(inner.clone()), inner.clone(), inner.clone()).prop_map(|(c, a, b)| format!("({c} ? {a} : {b})")),
            1 => inner.clone().prop_map(|a| format!("(string) {a}")),
            1 => inner.prop_map(|a| format!("( /* c */ {a} )")),
        ]
    })
    .boxed()
}

fn condition_of(inner: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let defined = name().prop_map(|name| format!("defined('{name}')"));
    let not = name().prop_map(|name| format!("!defined(\"{name}\")"));
    let set = variable().prop_map(|name| format!("isset({name})"));
    let equal = (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) === ({b})"));
    let loose = (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) == ({b})"));
    let both = (name(), inner).prop_map(|(n, a)| format!("(defined('{n}') && ({a}))"));
    prop_oneof![defined, not, set, equal, loose, both].boxed()
}

fn statement() -> BoxedStrategy<String> {
    let define = (name(), expression()).prop_map(|(name, value)| format!("define( '{name}', {value} );"));
    let constant = (name(), literal()).prop_map(|(name, value)| format!("const {name} = {value};"));
    let assign = (variable(), prop_oneof!["=", "\\.=", "\\?\\?="], expression())
        .prop_map(|(name, op, value)| format!("{name} {op} {value};"));
    let guard = (name(), expression())
        .prop_map(|(name, value)| format!("defined('{name}') or define('{name}', {value});"));
    let noise = prop_oneof![
        Just("# it's a comment\n"),
        Just("// \"another\n"),
        Just("/* 'and' */"),
        Just("@ini_set('x', 0);"),
        Just("?> html <?php "),
        Just(";"),
    ]
    .prop_map(String::from);
    let simple = prop_oneof![4 => define, 4 => assign, 1 => guard, 1 => noise];
    let block = proptest::collection::vec(simple.clone(), 1..3).prop_map(|all| all.join("\n"));
    let branch = (condition_of(expression()), block.clone(), block).prop_flat_map(|(c, a, b)| {
        prop_oneof![
            Just(format!("if ({c}) {{ {a} }} else {{ {b} }}")),
            Just(format!("if ({c}): {a} else: {b} endif;")),
            Just(format!("if ({c}) {{ {a} }} elseif (true) {{ {b} }}")),
        ]
    });
    prop_oneof![6 => simple, 1 => constant, 2 => branch].boxed()
}

/// Programs that nobody wrote. PHP is asked once for each: the seed is fixed, and the number small.
#[test]
fn what_nobody_wrote_is_read_as_php_reads_it_or_refused() {
    let (php, mut runner) = (Php::new(), TestRunner::deterministic());
    let program = proptest::collection::vec(statement(), 1..8).prop_map(|all| {
        format!("<?php\n$a = 'x'; $b = \"y\"; define('A', 'k');\n{}\n{REST}", all.join("\n"))
    });
    let (mut same, mut refused) = (0, Vec::new());
    for _ in 0..250 {
        let config = program.new_tree(&mut runner).unwrap().current();
        match php.agrees(config.as_bytes()) {
            Ok(agreed) => same += u32::from(agreed),
            Err(fault) => refused.push(fault),
        }
    }
    assert!(same > 100, "{same} of 250 were read; refused: {refused:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// Whatever the bytes are, there is an answer.
    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(prop_oneof![
        proptest::sample::select(&b"<?php>'\"$a{}()[];=.,\\\n #*/:!&|@define"[..]).prop_map(|byte| byte), any::<u8>(),
    ], 0..200)) {
        let _ = WpConfig::read(&[b"<?php ", bytes.as_slice()].concat(), b"/w/wp-config.php", b"/w");
    }
}

#[test]
fn a_configuration_knows_networks_and_what_it_takes_for_granted() {
    let read = |text: &str| {
        WpConfig::read(format!("<?php {text}{REST}").as_bytes(), b"/w/wp-config.php", b"/w").unwrap()
    };
    let plain = read("");
    assert_eq!((plain.multisite, plain.notes.len()), (Some(false), 0));
    let other = read("define('MULTISITE', true); define('DB_NAME', getenv('WP_NAME') ?: 'x');");
    assert_eq!(other.multisite, Some(true));
    assert!(other.notes.len() == 1 && other.notes[0].contains("`WP_NAME`"), "{:?}", other.notes);
    let behind = format!("<?php {REST}$table_prefix = 'late_'; eval('x');");
    let behind = WpConfig::read(behind.as_bytes(), b"/w/wp-config.php", b"/w").unwrap();
    assert_eq!(behind.table_prefix, "wp_", "what is behind WordPress is none of its configuration");
    let whole = "define('DB_NAME', 'x'); define('DB_USER', 'u'); define('DB_PASSWORD', 'p'); define('DB_HOST', 'h'); \
                 $table_prefix = 'wp_'; require ABSPATH . 'wp-settings.php';";
    let second = format!("<?php\nrequire __DIR__ . '/vendor/autoload.php'; {whole}");
    let second = WpConfig::read(second.as_bytes(), b"/w/wp-config.php", b"/w").unwrap();
    assert!(
        second.name == "x" && second.notes[0].contains("line 2: another file is included"),
        "{:?}",
        second.notes
    );
    // PHP itself is there: the tests above would be empty without it.
    let _ = run(&mut command("php", ["-v"]));
}

#[test]
fn a_configuration_tells_where_parts_of_its_site_lie_or_why_that_is_not_known() {
    let read = |text: &str| {
        let text = format!("<?php define('DB_NAME', 'shop'); {text}{REST}");
        Layout::read(text.as_bytes(), b"/w/wp-config.php", b"/w/wp", b"/w").unwrap()
    };
    assert_eq!(read(""), Layout::default());
    let known = read(
        "define('WP_CONTENT_DIR', dirname(ABSPATH) . '/app'); define('UPLOADS', 'media'); define('DB_CONFIG_FILE', '/c.php'); \
         define('CUSTOM_USER_TABLE', '`other`.users'); define('CUSTOM_USER_META_TABLE', 'shop.meta');",
    );
    let places: Vec<_> = known.folders.iter().map(|folder| folder.place.clone().unwrap()).collect();
    assert_eq!(places, ["/w/app", "/w/wp/media"]);
    assert_eq!(known.db_config, Some(Ok("/c.php".to_owned())));
    let [users] = &known.user_tables[..] else { panic!("{known:?}") };
    assert_eq!((users.constant, users.database.as_deref()), ("CUSTOM_USER_TABLE", Ok("other")));
    let guessed = read(
        "define('WP_CONTENT_DIR', $_SERVER['DOCUMENT_ROOT'] . '/app'); define('UPLOADS', somewhere()); \
         define('WP_PLUGIN_DIR', realpath(__DIR__ . '/../p')); define('CUSTOM_USER_TABLE', getenv('T')); \
         define('DB_CONFIG_FILE', somewhere());",
    );
    assert!(guessed.db_config.is_some_and(|path| path.is_err_and(|why| why.contains("somewhere()"))));
    let long = read(&format!("define('UPLOADS', '/{}');", "x".repeat(5000)));
    assert!(long.folders[0].place.as_ref().is_err_and(|why| why == "it is longer than 4096 bytes"));
    let guesses: Vec<_> = guessed.folders.iter().map(|f| (f.place.is_err(), f.guess.as_deref())).collect();
    assert_eq!(guesses, [(true, Some("/w/app")), (true, Some("/w/../p")), (true, None)]);
    assert!(
        guessed.user_tables[0]
            .database
            .as_ref()
            .is_err_and(|why| why.contains("line 1: the environment variable `T`"))
    );
    // A guess is for places alone.
    let name = "<?php define('DB_NAME', realpath('/x') . $_SERVER['DOCUMENT_ROOT']);";
    let fault = WpConfig::read(format!("{name}{REST}").as_bytes(), b"/w/wp-config.php", b"/w").unwrap_err();
    assert!(fault.reason.contains("realpath()"), "{fault}");
    assert!(read("include 'x.php';").included.is_some_and(|why| why.contains("another file")));
    let abspath =
        |text: &str| abspath_of(format!("<?php {text}{REST}").as_bytes(), b"/w/wp-config.php", b"/w");
    assert_eq!(
        abspath("if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/wp/');").as_deref(),
        Some("/w/wp/")
    );
    assert_eq!(abspath("define('ABSPATH', somewhere());").or(abspath("")), None);
}
