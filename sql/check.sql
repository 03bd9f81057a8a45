-- What assessments check asks of a database before a service runs on it. Reads catalogues and
-- settings only.
--
-- This text is what runs; the form is explained in responses.sql and in sql/README.md.


-- name: get_server_facts()^
-- What the answers rest on: server, encoding, settings of this role, and the process that answers.
-- The same process as the connection was made to, unless a pooler stands in between.
SELECT
    current_setting('server_version') AS postgresql_version,
    current_setting('server_version_num')::integer AS version_number,
    current_setting('server_encoding') AS encoding_name,
    current_setting('search_path') AS search_path,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_user::text AS role_name,
    pg_backend_pid() AS backend_pid,
    to_regclass('_yoyo_migration') IS NOT NULL AS has_migrations,
    coalesce(has_table_privilege(to_regclass('_yoyo_migration'), 'SELECT'), FALSE)
        AS may_read_migrations;


-- name: get_applied_migrations()
-- The ids of all that yoyo has applied to this database, the host's own among them.
SELECT migration_id
FROM _yoyo_migration
ORDER BY migration_id;


-- name: get_column_types()
-- The columns of both tables, as they are here.
SELECT
    a.attnum AS column_number,
    c.relname::text AS table_name,
    a.attname::text AS column_name,
    format_type(a.atttypid, a.atttypmod) AS type_name
FROM pg_attribute AS a
INNER JOIN pg_class AS c ON a.attrelid = c.oid
WHERE
    c.oid IN (to_regclass('assessment_responses'), to_regclass('assessment_scores'))
    AND a.attnum > 0
    AND NOT a.attisdropped
ORDER BY table_name, column_number;
