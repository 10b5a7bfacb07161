"""One file = one published method = one function; the file's name is its name on the command line."""
