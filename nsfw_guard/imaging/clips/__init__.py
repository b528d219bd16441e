"""Video files: their structure, their frames as players show them, and copies with covered frames."""
