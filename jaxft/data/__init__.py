"""From files to batches of ids: readers, text rules, vocabularies, the token store, splits and batches."""
