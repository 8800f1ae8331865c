"""Chapter 1: from a folder of videos to batches of clips."""
