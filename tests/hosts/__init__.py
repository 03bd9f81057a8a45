"""What hosts bring: their tests, tools and tables."""
