SET search_path = pg_catalog;
SET TimeZone = 'UTC';
SELECT format('SELECT %L, count(*), md5(coalesce(string_agg(md5(t::text), '''' ORDER BY t::text COLLATE "C"), '''')) FROM %s t', 'table ' || encode(convert_to(c.oid::regclass::text, 'UTF8'), 'hex'), c.oid::regclass)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_%' ORDER BY c.oid::regclass::text COLLATE "C" \gexec
SELECT format('SELECT %L, last_value, is_called FROM %s', 'sequence ' || encode(convert_to(c.oid::regclass::text, 'UTF8'), 'hex'), c.oid::regclass)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND n.nspname NOT LIKE 'pg\_%' ORDER BY c.oid::regclass::text COLLATE "C" \gexec
SELECT 'column', md5(string_agg(concat_ws('/', c.oid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attcollation::regcollation, a.attstorage, pg_get_expr(d.adbin, d.adrelid)), E'\n' ORDER BY c.oid::regclass::text COLLATE "C", a.attname COLLATE "C"))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_%';
SELECT 'relation', md5(concat_ws('/', c.oid::regclass, c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.reloptions, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid)))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_%' ORDER BY 2;
SELECT 'index', md5(pg_get_indexdef(indexrelid)) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname NOT LIKE 'pg\_%' ORDER BY 2;
SELECT 'constraint', md5(concat_ws('/', conrelid::regclass, contypid::regtype, conname, pg_get_constraintdef(k.oid))) FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 2;
SELECT 'view', md5(concat_ws('/', c.oid::regclass, pg_get_viewdef(c.oid))) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 2;
SELECT 'routine', md5(pg_get_functiondef(p.oid)) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.prokind <> 'a' ORDER BY 2;
SELECT 'rule', md5(definition) FROM pg_rules WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 2;
SELECT 'trigger', md5(concat(tgenabled, pg_get_triggerdef(oid))) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 2;
SELECT 'policy', md5(concat_ws('/', polrelid::regclass, polname, polcmd, polpermissive, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))) FROM pg_policy ORDER BY 2;
SELECT 'type', md5(string_agg(enumlabel, E'\n' ORDER BY enumsortorder)) FROM pg_enum GROUP BY enumtypid ORDER BY 2;
SELECT 'comment', md5(concat_ws('/', pg_describe_object(classoid, objoid, objsubid), description)) FROM pg_description WHERE objoid >= 16384 ORDER BY 2;
SELECT 'object', oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid;
