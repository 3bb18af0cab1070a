"""The engine room: takes jobs from the queue and trains. Knows the core; never the bot."""
