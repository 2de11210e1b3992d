"""Data: from files on a disk to records, splits, and batches that are the same for every candidate."""
