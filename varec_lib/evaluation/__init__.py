"""Chapter 5: how good is a model, and does it look at time?"""
