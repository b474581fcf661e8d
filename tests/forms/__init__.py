"""Model forms that users bring: small ones, given sane weights and saved as users save theirs.

`table.FORMS` lists them. `tests.benchmarks forms` compiles and measures all; tests/contract/test_forms.py
compiles some.
"""
