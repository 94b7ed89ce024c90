//! Logins, tokens and who they belong to.

use crate::world::World;

async fn everybody_is_who_they_are(world: World) {
    let acme = world.tenant("acme").await;
    let me = world.operator.get("/api/v1/auth/me").await.expect(200);
    assert_eq!((&me["role"], &me["tenant_id"]), (&"operator".into(), &serde_json::Value::Null));
    for (caller, role) in [(&acme.owner, "owner"), (&acme.admin, "admin"), (&acme.member, "member")] {
        let me = caller.get("/api/v1/auth/me").await.expect(200);
        assert_eq!((&me["role"], &me["tenant_id"]), (&role.into(), &acme.id.as_str().into()));
        assert_eq!(
            (&me["user"]["email"], &me["api_key"]),
            (&caller.email.as_str().into(), &serde_json::Value::Null)
        );
    }
    world.nobody().get("/api/v1/auth/me").await.refused(401, "unauthorized");
}

on_both_engines!(everybody_is_who_they_are);
