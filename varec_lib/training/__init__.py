"""Chapter 4: from a configuration to a trained model in an experiment folder."""
