"""Opening a dataset's source: a folder, a zip or a tar, here or behind a URL, read without trusting a word of it."""
