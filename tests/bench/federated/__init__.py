"""Federated training at full size through the parts that ship: see `python -m tests.bench.federated --help`."""
