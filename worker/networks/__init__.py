"""Networks of every library behind one `build(spec, classes)`."""
