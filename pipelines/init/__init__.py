"""`longtail init`: looks at the files of a user and writes the configuration that runs on them."""
