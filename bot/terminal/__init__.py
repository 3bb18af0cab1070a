"""The terminal face: the conversation drawn as chat, by hand or by a scripted person, and the command line."""
