"""The promises of this library, one file each, kept on a real PostgreSQL."""
