"""The predictor as a page: in JupyterLab as a widget, and as a web page of its own (notebook 06)."""
