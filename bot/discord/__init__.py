"""Discord: the same journey, at home there. Everything that a press needs is in the database, under the ids its custom_id carries."""
