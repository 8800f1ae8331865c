"""The diagrams of the course, drawn by code; each function returns a matplotlib `Figure`."""
