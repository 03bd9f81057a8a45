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
    pg_catalog.pg_is_in_recovery() AS is_standby,
    pg_catalog.current_setting('autovacuum') = 'on'
    AND pg_catalog.current_setting('track_counts') = 'on' AS is_autovacuum_on,
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
    ) AS may_read_migrations,
    coalesce(
        pg_catalog.has_table_privilege(pg_catalog.to_regclass('yoyo_lock')::oid, 'SELECT'), FALSE
    ) AS may_read_lock;


-- name: get_applied_migrations()
-- The ids of all migrations that yoyo has applied to this database, the host's own among them.
SELECT migration_id
FROM _yoyo_migration
ORDER BY migration_id;


-- name: get_yoyo_locks()
-- The row by which yoyo keeps others from applying meanwhile; the sessions on this database that are
-- named as a deploy's, as docs/deploying.md has it; and those that may be one without the name: of
-- the role that owns the table, and older than the lock. Of others' sessions the age is not shown.
SELECT
    k.pid,
    pg_catalog.date_trunc('second'::text, k.ctime)::text AS locked_at,
    (
        SELECT pg_catalog.string_agg(a.pid::text, ', '::text ORDER BY a.pid)
        FROM pg_catalog.pg_stat_activity AS a
        WHERE a.datname = pg_catalog.current_database() AND a.application_name = 'yoyo'
    ) AS deploys,
    (
        SELECT pg_catalog.string_agg(a.pid::text, ', '::text ORDER BY a.pid)
        FROM pg_catalog.pg_stat_activity AS a
        WHERE
            a.datname = pg_catalog.current_database()
            AND a.pid <> pg_catalog.pg_backend_pid()
            AND a.usesysid = c.relowner
            AND coalesce(a.backend_start <= k.ctime AT TIME ZONE 'UTC'::text, TRUE)
    ) AS older_sessions
FROM yoyo_lock AS k
INNER JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass('yoyo_lock')::oid
ORDER BY k.pid;


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
-- The names of the constraints and indexes of both tables, and whether they are valid. A primary
-- key is both.
SELECT k.conname::text AS object_name, k.convalidated AS is_valid
FROM pg_catalog.pg_constraint AS k
WHERE
    k.conrelid IN (
        pg_catalog.to_regclass('assessment_responses')::oid,
        pg_catalog.to_regclass('assessment_scores')::oid
    )
UNION
SELECT c.relname::text AS object_name, i.indisvalid AS is_valid
FROM pg_catalog.pg_index AS i
INNER JOIN pg_catalog.pg_class AS c ON i.indexrelid = c.oid
WHERE
    i.indrelid IN (
        pg_catalog.to_regclass('assessment_responses')::oid,
        pg_catalog.to_regclass('assessment_scores')::oid
    );


-- name: get_table_facts()
-- Of both tables: how many rows PostgreSQL thinks there are (-1 where it has never counted), valid
-- indexes, and whether autovacuum passes the table by.
SELECT
    c.relname::text AS table_name,
    c.reltuples::bigint AS row_estimate,
    (
        SELECT coalesce(pg_catalog.array_agg(x.relname::text), '{}'::text[])
        FROM pg_catalog.pg_index AS i
        INNER JOIN pg_catalog.pg_class AS x ON i.indexrelid = x.oid
        WHERE i.indrelid = c.oid AND i.indisvalid
    ) AS index_names,
    exists(
        SELECT 1
        FROM pg_catalog.pg_options_to_table(c.reloptions) AS o
        WHERE o.option_name = 'autovacuum_enabled' AND NOT o.option_value::boolean
    ) AS is_autovacuum_off
FROM pg_catalog.pg_class AS c
WHERE
    c.oid IN (
        pg_catalog.to_regclass('assessment_responses')::oid,
        pg_catalog.to_regclass('assessment_scores')::oid
    )
ORDER BY table_name;


-- name: get_identity_columns()
-- The identity columns of both tables, the largest value stored in each, from the end of its primary
-- key, and the largest that it can give. Not pg_sequence_last_value: its lock stays until the
-- caller's transaction ends.
SELECT
    c.relname::text AS table_name,
    a.attname::text AS column_name,
    s.seqmax AS max_value,
    CASE a.attname::text
        WHEN 'response_id'
            THEN (
                SELECT pg_catalog.max(r.response_id)
                FROM assessment_responses AS r
            )
        WHEN 'score_id' THEN (
            SELECT pg_catalog.max(o.score_id)
            FROM assessment_scores AS o
        )
    END AS largest
FROM pg_catalog.pg_sequence AS s
INNER JOIN pg_catalog.pg_depend AS d ON s.seqrelid = d.objid
INNER JOIN pg_catalog.pg_class AS c ON d.refobjid = c.oid
INNER JOIN pg_catalog.pg_attribute AS a ON c.oid = a.attrelid AND d.refobjsubid = a.attnum
WHERE
    c.oid IN (
        pg_catalog.to_regclass('assessment_responses')::oid,
        pg_catalog.to_regclass('assessment_scores')::oid
    )
    AND d.classid = 'pg_catalog.pg_class'::regclass::oid
    AND d.refclassid = 'pg_catalog.pg_class'::regclass::oid
ORDER BY table_name, column_name;


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
