"""Chapters 2 and 3: networks that turn a batch of clips into class scores."""
