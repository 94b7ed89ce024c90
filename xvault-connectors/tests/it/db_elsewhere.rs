//! Dumps into servers that lack what the one had that they are of.

use xvault_connectors::Error;
use xvault_testkit::Postgres;
use xvault_testkit::databases::POSTGRES_SAMPLE;

use crate::db_load::{dump, load, of_postgres, trial};
use crate::db_support::Db;

#[tokio::test]
async fn tablespaces_that_a_server_lacks_stop_no_restore() {
    let (source, fresh) = (Postgres::start(), Postgres::shared());
    let made = "SET allow_in_place_tablespaces = on; CREATE TABLESPACE fast LOCATION ''";
    let _ = source.psql("postgres", made);
    let url = source.create_database();
    let _ = source.psql(&url, POSTGRES_SAMPLE);
    let sql = "CREATE TABLE placed (a int PRIMARY KEY USING INDEX TABLESPACE fast) TABLESPACE fast; \
               INSERT INTO placed VALUES (7); CREATE MATERIALIZED VIEW seen TABLESPACE fast AS SELECT a FROM placed";
    let _ = source.psql(&url, sql);
    for format in ["custom", "plain"] {
        let (kept, _) = Db::postgres(&source, &url).set("format", format).pull().await;
        let content = &kept.entries[1].1;
        for server in [fresh, &source] {
            let name = format!("placed {format}");
            load(&Db::postgres(server, &name).set("create", true), dump(content, None)).await.unwrap();
            assert_eq!(server.checksums(&name), source.checksums(&url), "{format}");
            assert_eq!(server.psql(&name, "SELECT * FROM seen"), "7\n");
        }
        let tried = trial(&Db::postgres(fresh, "none"), dump(content, None)).await;
        assert_eq!(tried.unwrap().tables, 10, "{format}");
    }
    // In a dump that somebody else made, they are still the server's lack.
    let other = &of_postgres("SET default_tablespace = fast;");
    let error = trial(&Db::postgres(fresh, "none"), dump(other, None)).await.unwrap_err();
    assert!(matches!(error, Error::Target(_)), "{error:?}");
    assert!(error.to_string().contains("\"default_tablespace\": \"fast\""), "{error}");
}
