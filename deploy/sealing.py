"""What the application may add to and read, but never change: the audit of promotions and the recorded bundles.

The application makes its own tables, and who owns a table can switch its triggers off. So the superuser, who makes the
database, leaves a function there that takes these tables away from it: into a schema of their own, with nothing granted
but SELECT and INSERT. The migrations call it (:func:`ml.store.upgrade`); here it runs for tables that are there.
"""

from __future__ import annotations

import psycopg2
from psycopg2 import sql

AUDIT_SCHEMA = "audit"  # as in ml.store, which is too heavy for the runner to import; a test compares
TABLES = ("promotions", "bundles", "audit_log")
FUNCTIONS = ("promotions_are_final", "audit_is_final")
# SECURITY DEFINER: whoever calls it, it acts as the superuser who made it, and does only this.
_SEAL = """
CREATE OR REPLACE FUNCTION {schema}.seal() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $seal$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY {tables} LOOP
    IF to_regclass('public.' || name) IS NOT NULL AND to_regclass({schema_text} || '.' || name) IS NULL THEN
      EXECUTE format('ALTER TABLE public.%I OWNER TO CURRENT_USER', name);
      EXECUTE format('ALTER TABLE public.%I SET SCHEMA {schema}', name);
      EXECUTE format('REVOKE ALL ON {schema}.%I FROM PUBLIC, {role}', name);
      EXECUTE format('GRANT SELECT, INSERT ON {schema}.%I TO {role}', name);
    END IF;
  END LOOP;
  FOREACH name IN ARRAY {functions} LOOP
    IF to_regprocedure('public.' || name || '()') IS NOT NULL THEN
      EXECUTE format('ALTER FUNCTION public.%I() OWNER TO CURRENT_USER', name);
      EXECUTE format('ALTER FUNCTION public.%I() SET SCHEMA {schema}', name);
    END IF;
  END LOOP;
END $seal$
"""


def seal(connection: psycopg2.extensions.connection, database: str, role: str) -> None:
    """Leave the function in the application's database and run it; done again it changes nothing.

    ``connection`` is the superuser's, to that database. The database becomes the superuser's too (its owner could drop
    it, and every schema that belongs to its owner); the role may still connect, and make schemas and tables of its own.
    """
    names = {
        "schema": sql.Identifier(AUDIT_SCHEMA),
        "schema_text": sql.Literal(AUDIT_SCHEMA),
        "role": sql.Identifier(role),
        "database": sql.Identifier(database),
        "tables": sql.Literal(list(TABLES)),
        "functions": sql.Literal(list(FUNCTIONS)),
    }
    statements = (
        "ALTER DATABASE {database} OWNER TO CURRENT_USER",
        "GRANT ALL ON DATABASE {database} TO {role}",
        "GRANT ALL ON SCHEMA public TO {role}",
        "CREATE SCHEMA IF NOT EXISTS {schema}",
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        _SEAL,
        "REVOKE ALL ON FUNCTION {schema}.seal() FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION {schema}.seal() TO {role}",
        "SELECT {schema}.seal()",
    )
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(sql.SQL(statement).format(**names))
