"""What reads files of others, under coverage-guided fuzzing: `python -m tests.benchmarks fuzz`."""
