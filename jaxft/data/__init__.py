"""From raw text to batches of ids: readers, tokens and vocabularies, streams and length buckets."""
