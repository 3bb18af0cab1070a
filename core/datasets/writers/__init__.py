"""One module per format that datasets are written in; each is a function from records to files."""
