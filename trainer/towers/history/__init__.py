"""From the items of a user's past to columns of the query: one encoder a file, behind a registry."""
