"""What the commands of scripts/bench share: servers, engines, usage of processes, results, reports.

Python's standard library alone. Whatever is started here is stopped here, by its process id.
"""
