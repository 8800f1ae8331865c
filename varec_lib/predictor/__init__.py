"""Chapter 6: what is in this video?"""
