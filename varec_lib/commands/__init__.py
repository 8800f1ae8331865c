"""One file per command of `varec`: its `Options`, which are its flags, and `run(options)`, which returns the status.

What a command needs is imported when it runs, so that `--help` does not wait for torch.
"""
