"""Many runs of one notebook with other parameters: which ones, running them side by side, and what came of them."""
