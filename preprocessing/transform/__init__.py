"""TF-Transform: the preprocessing_fn, the schema, counts and relations of features."""
