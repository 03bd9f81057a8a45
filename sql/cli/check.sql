-- What assessments check asks of a database before a service runs on it. Reads catalogues and
-- settings only.
--
-- This text is what runs; the form is explained in submissions.sql and in sql/README.md.


-- name: get_server_facts()^
-- The server, its encoding, this role's settings, the schema that it creates tables in, and the
-- backend that answers: the one that the client connected to, unless a pooler stands in between.
SELECT
    pg_catalog.current_setting('server_version') AS postgresql_version,
    pg_catalog.current_setting('server_version_num')::integer AS version_number,
    pg_catalog.current_setting('server_encoding') AS encoding_name,
    pg_catalog.current_setting('search_path') AS search_path,
    pg_catalog.current_setting('synchronous_commit') AS synchronous_commit,
    pg_catalog.current_setting('transaction_read_only') = 'on' AS is_read_only,
    current_user::text AS role_name,
    pg_catalog.current_schema()::text AS schema_name,
    coalesce(
        pg_catalog.has_schema_privilege(pg_catalog.current_schema()::text, 'CREATE'::text), FALSE
    ) AS may_create,
    pg_catalog.pg_backend_pid() AS backend_pid,
    pg_catalog.to_regclass('_yoyo_migration') IS NOT NULL AS has_migrations,
    coalesce(
        pg_catalog.has_table_privilege(
            pg_catalog.to_regclass('_yoyo_migration')::oid, 'SELECT'
        ),
        FALSE
    ) AS may_read_migrations;


-- name: get_applied_migrations()
-- The ids of all migrations that yoyo has applied to this database, the host's own among them.
SELECT migration_id
FROM _yoyo_migration
ORDER BY migration_id;


-- name: get_users_tables()
-- The table users that is found through search_path, first, and up to four others that may hold the
-- host's users by their names: with the primary key, and what 0001 asks of users.user_id. Without
-- a primary key of one column, only the first.
SELECT
    c.relname::text AS table_name,
    k.attname::text AS key_name,
    pg_catalog.quote_ident(n.nspname::text)
    || '.'::text
    || pg_catalog.quote_ident(c.relname::text) AS qualified_name,
    coalesce(c.oid = pg_catalog.to_regclass('users')::oid, FALSE) AS is_found,
    pg_catalog.format_type(k.atttypid, k.atttypmod) AS key_type,
    pg_catalog.format_type(u.atttypid, u.atttypmod) AS user_id_type,
    exists(
        SELECT 1
        FROM pg_catalog.pg_index AS i
        WHERE
            i.indrelid = c.oid
            AND i.indisunique
            AND i.indimmediate
            AND i.indisvalid
            AND i.indpred IS NULL
            AND i.indexprs IS NULL
            AND i.indnkeyatts = 1
            AND i.indkey[0] = u.attnum
    ) AS is_unique,
    coalesce(
        pg_catalog.has_column_privilege(c.oid, u.attnum, 'REFERENCES'::text), FALSE
    ) AS may_reference
FROM pg_catalog.pg_class AS c
INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN pg_catalog.pg_index AS p ON c.oid = p.indrelid AND p.indisprimary AND p.indnkeyatts = 1
LEFT JOIN pg_catalog.pg_attribute AS k ON c.oid = k.attrelid AND k.attnum = p.indkey[0]
LEFT JOIN pg_catalog.pg_attribute AS u ON c.oid = u.attrelid AND u.attname = 'user_id'
WHERE
    c.oid = pg_catalog.to_regclass('users')::oid
    OR (
        c.relname::text ~ '^(.+_)?users?$'::text
        AND n.nspname::text !~ '^pg_'::text
        AND k.attname IS NOT NULL
    )
ORDER BY is_found DESC, c.relname = 'users' DESC, qualified_name
LIMIT 5;


-- name: get_column_types()
-- The columns of both tables, with the types that they have here.
SELECT
    a.attnum AS column_number, c.relname::text AS table_name, a.attname::text AS column_name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name
FROM pg_catalog.pg_attribute AS a
INNER JOIN pg_catalog.pg_class AS c ON a.attrelid = c.oid
WHERE
    c.oid IN (
        pg_catalog.to_regclass('assessment_responses')::oid,
        pg_catalog.to_regclass('assessment_scores')::oid
    )
    AND a.attnum > 0
    AND NOT a.attisdropped
ORDER BY table_name, column_number;


-- name: get_constraints_and_indexes()
-- The names of the validated constraints and valid indexes of both tables.
SELECT k.conname::text AS object_name
FROM pg_catalog.pg_constraint AS k
WHERE
    k.conrelid IN (
        pg_catalog.to_regclass('assessment_responses')::oid,
        pg_catalog.to_regclass('assessment_scores')::oid
    )
    AND k.convalidated
UNION
SELECT c.relname::text AS object_name
FROM pg_catalog.pg_index AS i
INNER JOIN pg_catalog.pg_class AS c ON i.indexrelid = c.oid
WHERE
    i.indrelid IN (
        pg_catalog.to_regclass('assessment_responses')::oid,
        pg_catalog.to_regclass('assessment_scores')::oid
    )
    AND i.indisvalid;


-- name: get_triggers()
-- The triggers of the host's that may change or drop a row of either table before it is stored.
SELECT c.relname::text AS table_name, t.tgname::text AS trigger_name
FROM pg_catalog.pg_trigger AS t
INNER JOIN pg_catalog.pg_class AS c ON t.tgrelid = c.oid
WHERE
    c.oid IN (
        pg_catalog.to_regclass('assessment_responses')::oid,
        pg_catalog.to_regclass('assessment_scores')::oid
    )
    AND NOT t.tgisinternal
    AND t.tgenabled <> 'D'
    -- The bits of ROW and BEFORE.
    AND t.tgtype::integer & 3 = 3
ORDER BY table_name, trigger_name;


-- name: get_creators()
-- Who may create objects in a schema on the search_path, beside its owner, the owner of the tables
-- and superusers.
SELECT n.nspname::text AS schema_name, coalesce(r.rolname::text, 'PUBLIC') AS role_name
FROM pg_catalog.pg_namespace AS n
CROSS JOIN
    LATERAL pg_catalog.aclexplode(
        coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))
    ) AS a
LEFT JOIN pg_catalog.pg_roles AS r ON a.grantee = r.oid
WHERE
    n.nspname = any(pg_catalog.current_schemas(FALSE))
    AND a.privilege_type = 'CREATE'
    AND a.grantee <> n.nspowner
    AND r.rolsuper IS NOT TRUE
    AND NOT EXISTS (
        SELECT 1
        FROM pg_catalog.pg_class AS c
        WHERE
            c.oid = pg_catalog.to_regclass('assessment_responses')::oid
            AND c.relowner = a.grantee
    )
ORDER BY schema_name, role_name;
