"""Migrations, queries, rights, pools and poolers."""
