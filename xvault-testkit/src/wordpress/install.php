<?php
// php install.php ROOT URL POSTS [network]: installs a site, with posts and uploads that dumps and copies get wrong.
[$_, $root, $url, $posts] = $argv;
$network = ($argv[4] ?? '') === 'network';
$_SERVER['HTTP_HOST'] = parse_url($url, PHP_URL_HOST) . ':' . parse_url($url, PHP_URL_PORT);
$_SERVER['REQUEST_URI'] = '/';
$_SERVER['SERVER_PROTOCOL'] = 'HTTP/1.1';
define('WP_INSTALLING', true);
define('WP_SITEURL', $url);
define('WP_HOME', $url);
require $root . '/wp-load.php';
require_once ABSPATH . 'wp-admin/includes/upgrade.php';
function wp_new_blog_notification(...$ignored) {}
add_filter('pre_wp_mail', '__return_true');
wp_install("Seen by xvault", 'admin', 'admin@example.test', true, '', wp_slash('adm1n-pw'));
$uploads = wp_upload_dir();
wp_mkdir_p($uploads['path']);
foreach (["it's \"quoted\"", "emoji \u{1F600}", "line\nbreak", "percent %20 & hash #"] as $name) {
    file_put_contents($uploads['path'] . "/$name.txt", "upload $name\n");
}
for ($i = 0; $i < (int) $posts; $i++) {
    $file = $uploads['path'] . "/file-$i.txt";
    file_put_contents($file, "upload $i\n" . str_repeat(chr(65 + $i % 26), 1000));
    $id = wp_insert_post(['post_title' => "Post №$i \u{1F600}", 'post_content' => "<p>Body ' \" \\ $i</p>", 'post_status' => 'publish', 'post_author' => 1]);
    add_post_meta($id, 'm', ['a' => $i, 'b' => 'ü']);
    wp_insert_attachment(['post_title' => "file-$i", 'post_mime_type' => 'text/plain', 'post_status' => 'inherit'], $file, $id);
}
if ($network) {
    global $wpdb;
    foreach ($wpdb->tables('ms_global') as $table => $name) {
        $wpdb->$table = $name;
    }
    install_network();
    populate_network(1, '127.0.0.1', 'admin@example.test', 'A network', '/', false);
}
