"""What a run depended on and brought, on record: to compare two runs, and to run one again."""
