"""What was computed before: stage outputs by the hash of all that determines them.

`store` keeps entries on disk, `keys` says what determines a stage's output, `files` hashes input files, and
`settings` says where the cache is and how large it may grow.
"""
