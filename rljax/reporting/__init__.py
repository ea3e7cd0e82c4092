"""What a run leaves behind for its reader: metric files, a progress bar, a summary, a report.

Nothing here knows models, devices or JAX: the loop hands over plain numbers and text.
"""
