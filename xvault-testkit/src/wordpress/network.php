<?php
// php network.php ROOT: adds a second site with an upload to a network.
[$_, $root] = $argv;
$_SERVER['HTTP_HOST'] = '127.0.0.1';
$_SERVER['REQUEST_URI'] = '/';
$_SERVER['SERVER_PROTOCOL'] = 'HTTP/1.1';
require $root . '/wp-load.php';
require_once ABSPATH . 'wp-admin/includes/upgrade.php';
add_filter('pre_wp_mail', '__return_true');
$id = wpmu_create_blog('127.0.0.1', '/second/', 'Second site', 1);
if (is_wp_error($id)) {
    fwrite(STDERR, $id->get_error_message());
    exit(1);
}
switch_to_blog($id);
wp_insert_post(['post_title' => 'Only on the second', 'post_content' => 'x', 'post_status' => 'publish', 'post_author' => 1]);
$uploads = wp_upload_dir();
wp_mkdir_p($uploads['path']);
file_put_contents($uploads['path'] . '/second.txt', 'of the second site');
