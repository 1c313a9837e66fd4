"""What a training reads: item table, vocabularies, examples, input pipelines."""
